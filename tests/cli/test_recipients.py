# SPDX-License-Identifier: MIT
"""Tests of reading recipients."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.cli.recipients import (
    Recipient,
    RecipientFileError,
    parse_recipient,
    read_recipients,
)


class RecipientTests(SynchronousTestCase):
    """An address, with a name or without."""

    def test_forms(self) -> None:
        for text, item in (
            ("a@b.test", "a@b.test"),
            (" a@b.test ", "a@b.test"),
            ("<a@b.test>", "a@b.test"),
            ("Ada Löwe <a@b.test>", ["a@b.test", "Ada Löwe"]),
            ('"Löwe, Ada \\"L\\"" <a@b.test>', ["a@b.test", 'Löwe, Ada "L"']),
            ('"" <a@b.test>', "a@b.test"),
            ("not an address", "not an address"),
        ):
            self.assertEqual(parse_recipient(text).item, item, text)


class FileTests(SynchronousTestCase):
    """A file of recipients."""

    def test_every_form_of_a_line(self) -> None:
        text = (
            "\ufeff# staff\n\na@b.test\r\nAda Löwe <c@d.test>\nLöwe, Ada <e@f.test>\n"
            'g@h.test, Grace\n"i@j.test","Hopper, Grace",extra\nk@l.test;Karl\n'
        )
        self.assertEqual(
            [recipient.item for recipient in read_recipients(text)],
            [
                "a@b.test",
                ["c@d.test", "Ada Löwe"],
                ["e@f.test", "Löwe, Ada"],
                ["g@h.test", "Grace"],
                ["i@j.test", "Hopper, Grace"],
                ["k@l.test", "Karl"],
            ],
        )

    def test_a_head_line_is_skipped_at_the_top_only(self) -> None:
        self.assertEqual(
            read_recipients("Email,Name\na@b.test,Ada\n"),
            (Recipient(email="a@b.test", name="Ada"),),
        )
        self.assertRaises(RecipientFileError, read_recipients, "a@b.test\nemail,name\n")

    def test_nobody_gets_a_mail_twice(self) -> None:
        """The domain's case does not count, the local part's does."""
        found = read_recipients("a@B.test,First\na@b.test,Second\nA@b.test\n")
        self.assertEqual([one.email for one in found], ["a@B.test", "A@b.test"])
        self.assertEqual(found[0].name, "First")

    def test_every_faulty_line_is_named(self) -> None:
        error = self.assertRaises(RecipientFileError, read_recipients, "a@b.test\nx\n\ny,z\n")
        self.assertEqual(str(error), "line 2 is no address: x\nline 4 is no address: y,z")

    def test_a_file_of_something_else_is_told_briefly(self) -> None:
        error = self.assertRaises(RecipientFileError, read_recipients, "x\n" * 1000)
        self.assertEqual(len(str(error).splitlines()), 21)
        self.assertIn("and 980 lines more", str(error))

    def test_an_empty_file_is_a_fault(self) -> None:
        self.assertRaises(RecipientFileError, read_recipients, "# nobody\n")
