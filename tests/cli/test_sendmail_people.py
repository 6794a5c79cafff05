# SPDX-License-Identifier: MIT
"""Tests of whom a message goes to."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.cli.recipients import Recipient
from smtpmailer.cli.sendmail_message import Message
from smtpmailer.cli.sendmail_people import (
    Directory,
    NobodyError,
    Recipients,
    addressed,
    listed,
    read_aliases,
)
from smtpmailer.cli.sendmail_text import people

NOWHERE = Directory()


def group(text: str) -> tuple[Recipient, ...]:
    """Read recipients."""
    return tuple(people(text))


class DirectoryTests(SynchronousTestCase):
    """Local names become addresses."""

    def emails(self, directory: Directory, name: str) -> list[str]:
        """Resolve a name."""
        return [each.email for each in directory.resolve(Recipient(email=name))]

    def test_addresses_stay_as_they_are(self) -> None:
        directory = Directory(domain="b.test", aliases={"ada": "x@y.test", "ada@c.test": "z"})
        self.assertEqual(self.emails(directory, "ada@c.test"), ["ada@c.test"])

    def test_a_name_is_an_alias_or_gets_the_domain(self) -> None:
        directory = Directory(domain="b.test", aliases={"root": "Admin, ops@c.test", "admin": "a"})
        self.assertEqual(self.emails(directory, "ROOT"), ["a@b.test", "ops@c.test"])
        self.assertEqual(self.emails(directory, "Eve"), ["Eve@b.test"])

    def test_an_alias_of_itself_ends(self) -> None:
        directory = Directory(domain="b.test", aliases={"a": "b", "b": "a, c@d.test"})
        self.assertEqual(self.emails(directory, "a"), ["a@b.test", "c@d.test"])

    def test_the_name_of_a_person_is_kept_unless_the_alias_has_one(self) -> None:
        directory = Directory(aliases={"root": "a@b.test, Ops <c@d.test>"})
        self.assertEqual(
            directory.resolve(Recipient(email="root", name="Root")),
            (
                Recipient(email="a@b.test", name="Root"),
                Recipient(email="c@d.test", name="Ops"),
            ),
        )

    def test_a_name_without_a_domain_is_nobody(self) -> None:
        error = self.assertRaises(NobodyError, self.emails, NOWHERE, "root")
        self.assertIn("root is no mail address", str(error))
        self.assertIn("--domain", str(error))

    def test_what_only_a_mail_server_can_deliver_to_is_refused(self) -> None:
        for target in ('"|/usr/bin/procmail"', "|x", "/var/mail/x", ":include:/x", '"/dev/null"'):
            directory = Directory(domain="b.test", aliases={"x": target})
            error = self.assertRaises(NobodyError, self.emails, directory, "x")
            self.assertIn(target, str(error))

    def test_aliases_5(self) -> None:
        text = (
            "# comment\n\npostmaster:    root\nRoot: ada@b.test,\n  ops@c.test\n"
            '"web master" : a\nbroken\nnews:\n\tusenet\n'
        )
        self.assertEqual(
            read_aliases(text),
            {
                "postmaster": "root",
                "root": "ada@b.test, ops@c.test",
                "web master": "a",
                "news": "usenet",
            },
        )


class SortingTests(SynchronousTestCase):
    """Lists and envelope."""

    message = Message(
        to=group("Ada <a@b.test>, c@d.test"), cc=group("e@F.test"), bcc=group("g@h.test")
    )

    def test_with_t_everybody_in_the_header_and_who_is_named_besides(self) -> None:
        self.assertEqual(
            listed(self.message, group("i@j.test"), NOWHERE),
            Recipients(
                to=self.message.to, cc=self.message.cc, bcc=group("g@h.test, i@j.test"), hidden=()
            ),
        )

    def test_without_t_exactly_those_who_are_named(self) -> None:
        """A header is only shown: who is in it and not named gets nothing."""
        named = group("a@B.test, e@f.test, i@j.test, g@h.test")
        self.assertEqual(
            addressed(self.message, named, NOWHERE),
            Recipients(
                to=group("Ada <a@b.test>"),
                cc=group("e@F.test"),
                bcc=group("i@j.test, g@h.test"),
                hidden=("c@d.test",),
            ),
        )

    def test_nobody_is_listed_twice(self) -> None:
        message = Message(to=group("a@b.test"), cc=group("a@b.test"))
        found = addressed(message, group("a@b.test, a@b.test"), NOWHERE)
        self.assertEqual((found.to, found.cc, found.bcc), (group("a@b.test"), (), ()))

    def test_several_recipients_of_a_message_without_any_don_t_see_each_other(self) -> None:
        found = addressed(Message(), group("a@b.test, c@d.test"), NOWHERE)
        self.assertEqual(found, Recipients(bcc=group("a@b.test, c@d.test")))

    def test_one_alone_may_be_seen(self) -> None:
        found = addressed(Message(), group("a@b.test"), NOWHERE)
        self.assertEqual(found, Recipients(to=group("a@b.test")))

    def test_one_who_is_not_in_the_header_stays_hidden(self) -> None:
        found = addressed(Message(to=group("list@b.test")), group("a@b.test"), NOWHERE)
        self.assertEqual(found, Recipients(bcc=group("a@b.test"), hidden=("list@b.test",)))

    def test_local_names_in_header_and_envelope_are_the_same(self) -> None:
        directory = Directory(aliases={"root": "a@b.test"})
        found = addressed(Message(to=group("root, eve")), group("root"), directory)
        self.assertEqual(found, Recipients(to=group("a@b.test"), hidden=("eve",)))
