# SPDX-License-Identifier: MIT
"""Tests for whole messages: the table, what each setting does, and what can't be built."""

from __future__ import annotations

import re
from email import policy
from email.parser import BytesParser

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.mime import ENCODINGS, Letterhead, MessageOptions, Stamp, compose
from smtpmailer.core.model import Address, Capabilities, FilePart, LoadedFile
from smtpmailer.errors import AddressError, MessageError, NoRecipientError
from tests.messages import CASES, STAMP, MessageCase, differences, parse, unstuff

OLD = Capabilities()
EIGHT_BIT = Capabilities(eight_bit=True)
UTF8 = Capabilities(eight_bit=True, smtputf8=True)

_readable = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))
_texts = st.text(_readable, min_size=1)
_bodies = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(".\r\n "))


def wire_faults(wire: bytes, capabilities: Capabilities) -> list[str]:
    """Say what no server may ever get from us."""
    lines = wire.split(b"\r\n")
    rules = {
        "a bare CR or LF": re.search(rb"[\r\n]", b"".join(lines)) is not None,
        "a NUL": b"\0" in wire,
        "a line over 998 octets": max(map(len, lines)) > 999,
        "an unstuffed dot": any(re.match(rb"\.(?!\.)", line) for line in lines),
        "no final CRLF": not wire.endswith(b"\r\n"),
        "a raw 8-bit body": not capabilities.eight_bit and not wire.isascii(),
    }
    return [what for what, broken in rules.items() if broken]


def encoding_of(options: MessageOptions, body: str, capabilities: Capabilities) -> str:
    """Give the Content-Transfer-Encoding that a body goes out with."""
    case = MessageCase(name="", body=body, options=options)
    return str(parse(case.compose().wire(capabilities).data)["Content-Transfer-Encoding"])


class TableTests(SynchronousTestCase):
    """Every message of the table."""

    def test_the_table_is_large_and_its_names_differ(self) -> None:
        self.assertGreaterEqual(len(CASES), 40)
        self.assertEqual(len({case.name for case in CASES}), len(CASES))

    def test_what_arrives_is_what_was_sent_and_sound_on_the_wire(self) -> None:
        for case in CASES:
            mail = case.compose()
            self.assertEqual(mail.envelope.needs_smtputf8, case.smtputf8)
            for capabilities in (UTF8,) if case.smtputf8 else (OLD, EIGHT_BIT):
                wire = mail.wire(capabilities).data
                self.assertEqual(wire_faults(wire, capabilities), [], case.name)
                self.assertEqual(differences(case, unstuff(wire)), [], case.name)

    def test_the_oracle_sees_a_difference(self) -> None:
        case = MessageCase(name="", subject="right", files=CASES[0].files)
        wire = case.compose().wire(EIGHT_BIT).data
        for altered in (
            attrs.evolve(case, subject="wrong"),
            attrs.evolve(case, body="wrong"),
            attrs.evolve(case, to=()),
            attrs.evolve(case, cc=(Address(email="a@x.org"),)),
            attrs.evolve(case, files=()),
            attrs.evolve(case, charset="iso-8859-1"),
        ):
            self.assertEqual(len(differences(altered, wire)), 1)

    @settings(deadline=None, max_examples=60, derandomize=True)
    @given(_texts, _texts, _bodies, _texts, st.sampled_from(ENCODINGS), st.booleans())
    def test_any_texts_come_through(
        self,
        subject: str,
        name: str,
        body: str,
        file_name: str,
        encoding: str,
        eight_bit: bool,  # noqa: FBT001
    ) -> None:
        part = FilePart(path="/x/y", name=f"x{file_name}x")
        case = MessageCase(
            name="",
            subject=subject,
            to=(Address(email="a@x.org", name=name),),
            body=body,
            files=(LoadedFile(part=part, content=body.encode()),),
            options=MessageOptions(html=False, encoding=encoding),
        )
        capabilities = Capabilities(eight_bit=eight_bit)
        wire = case.compose().wire(capabilities).data
        self.assertEqual(wire_faults(wire, capabilities), [])
        self.assertEqual(differences(case, unstuff(wire)), [])


class HeaderTests(SynchronousTestCase):
    """The fields a mail has, and those it never has."""

    def test_date_and_message_id_come_from_the_stamp(self) -> None:
        sender = Address(email="me@B\u00fccher.example")
        message = parse(MessageCase(name="", sender=sender).compose().wire(OLD).data)
        self.assertEqual(str(message["Date"]), "Tue, 14 Nov 2023 22:13:20 +0000")
        expected = f"<{STAMP.unique}@xn--bcher-kva.example>"
        self.assertEqual(str(message["Message-ID"]), expected)

    def test_a_letterhead_stands_for_who_a_mail_is_from(self) -> None:
        for case in CASES:
            known = compose(
                case.request,
                body=case.body,
                sender=Letterhead.of(case.sender),
                files=case.files,
                stamp=STAMP,
                options=case.options,
            )
            mail = case.compose()
            self.assertEqual(known.envelope, mail.envelope)
            self.assertEqual(known.wire(UTF8).data, mail.wire(UTF8).data)

    def test_a_letterhead_that_can_not_be_written_says_why(self) -> None:
        self.assertRaises(AddressError, Letterhead.of, Address(email="nobody"))
        bad = Address(email="a@x.org", name="a\nb")
        self.assertRaises(MessageError, Letterhead.of, bad)

    def test_every_attempt_gives_the_same_bytes(self) -> None:
        case = CASES[0]
        self.assertEqual(case.compose().wire(OLD).data, case.compose().wire(OLD).data)
        self.assertEqual(case.compose().mail_id, STAMP.unique)

    def test_bcc_is_in_the_envelope_only(self) -> None:
        hidden = Address(email="hidden@example.org", name="Hidden")
        mail = MessageCase(name="", bcc=(hidden,)).compose()
        self.assertEqual(mail.envelope.recipients, ("user@example.org", "hidden@example.org"))
        self.assertNotIn(b"idden", mail.wire(OLD).data)

    def test_a_mail_to_bcc_only_says_undisclosed_recipients(self) -> None:
        mail = MessageCase(name="", to=(), bcc=(Address(email="a@x.org"),)).compose()
        self.assertIn(b"\r\nTo: undisclosed-recipients:;\r\n", mail.wire(OLD).data)

    def test_a_mail_to_cc_only_has_no_to(self) -> None:
        mail = MessageCase(name="", to=(), cc=(Address(email="a@x.org"),)).compose()
        self.assertNotIn(b"\r\nTo:", mail.wire(OLD).data)
        self.assertIn(b"\r\nCc: a@x.org\r\n", mail.wire(OLD).data)

    def test_recipients_are_unique_over_to_cc_and_bcc(self) -> None:
        texts = ("a@X.org", "a@x.ORG", "A@x.org")
        people = tuple(Address(email=email) for email in texts)
        mail = MessageCase(name="", to=people, cc=people, bcc=people).compose()
        self.assertEqual(mail.envelope.recipients, ("a@x.org", "A@x.org"))
        message = parse(mail.wire(OLD).data)
        self.assertEqual(str(message["To"]), "a@x.org, A@x.org")
        self.assertNotIn("Cc", message)

    def test_an_encoded_word_of_the_callers_makes_no_header(self) -> None:
        """CVE-2024-6923."""
        evil = "=?utf-8?Q?=0D=0AX-Injected:_yes?="
        part = FilePart(path="/x", name=evil)
        case = MessageCase(
            name="",
            subject=evil,
            to=(Address(email="a@x.org", name=evil),),
            sender=Address(email="b@x.org", name=evil),
            files=(LoadedFile(part=part, content=b""),),
        )
        wire = case.compose().wire(OLD).data
        reread = BytesParser(policy=policy.SMTP).parsebytes(wire).as_bytes()
        for message in (wire, reread):
            self.assertNotRegex(message, rb"(?m)^X-Injected")


class TextTests(SynchronousTestCase):
    """What MAIL_HTML, MAIL_CHARSET and MAIL_ENCODING do."""

    def test_html_or_plain(self) -> None:
        for html, kind in ((True, "text/html"), (False, "text/plain")):
            wire = MessageCase(name="", options=MessageOptions(html=html)).compose().wire(OLD).data
            self.assertEqual(parse(wire).get_content_type(), kind)

    def test_ascii_goes_as_7bit_unless_an_encoding_is_asked_for(self) -> None:
        for encoding in ENCODINGS:
            expected = encoding if encoding in {"base64", "quoted-printable"} else "7bit"
            options = MessageOptions(encoding=encoding)
            for capabilities in (OLD, EIGHT_BIT):
                self.assertEqual(encoding_of(options, "plain", capabilities), expected)

    def test_8bit_goes_only_where_the_server_offers_it(self) -> None:
        for encoding in ("8bit", "binary"):
            options = MessageOptions(encoding=encoding)
            self.assertEqual(encoding_of(options, "\u00fc", EIGHT_BIT), "8bit")
            self.assertEqual(encoding_of(options, "\u00fc", OLD), "quoted-printable")

    def test_7bit_falls_back_to_quoted_printable(self) -> None:
        options = MessageOptions(encoding="7bit")
        self.assertEqual(encoding_of(options, "\u00fc", EIGHT_BIT), "quoted-printable")

    def test_long_lines_are_quoted_printable_and_nul_is_base64(self) -> None:
        for encoding in ("7bit", "8bit", "binary"):
            options = MessageOptions(encoding=encoding)
            self.assertEqual(encoding_of(options, "x" * 998, EIGHT_BIT), "7bit")
            self.assertEqual(encoding_of(options, "x" * 999, EIGHT_BIT), "quoted-printable")
            # 500 characters, yet 1,000 octets.
            self.assertEqual(encoding_of(options, "\u00fc" * 500, EIGHT_BIT), "quoted-printable")
            self.assertEqual(encoding_of(options, "\0", EIGHT_BIT), "base64")

    def test_a_character_the_charset_lacks_makes_the_mail_utf8(self) -> None:
        for charset, body, expected in (
            ("us-ascii", "a", "us-ascii"),
            ("us-ascii", "\u00fc", "utf-8"),
            ("iso-8859-1", "\u00fc", "iso-8859-1"),
            ("iso-8859-1", "\u20ac", "utf-8"),
            ("utf-8", "a", "utf-8"),
        ):
            options = MessageOptions(charset=charset)
            wire = MessageCase(name="", body=body, options=options).compose().wire(EIGHT_BIT).data
            self.assertEqual(parse(wire).get_content_charset(), expected)
            self.assertIn(body.encode(expected), wire)

    def test_other_settings_are_refused(self) -> None:
        self.assertRaises(ValueError, MessageOptions, charset="utf-16")
        self.assertRaises(ValueError, MessageOptions, encoding="x-uuencode")


class StructureTests(SynchronousTestCase):
    """How parts are nested."""

    def shape(self, *cids: str | None) -> list[str]:
        files = tuple(
            LoadedFile(part=FilePart(path="/x/a.png", name="", content_id=cid), content=b"x")
            for cid in cids
        )
        message = parse(
            MessageCase(name="", body="\u00fc", files=files).compose().wire(EIGHT_BIT).data
        )
        return [part.get_content_type() for part in message.walk()]

    def test_mixed_goes_around_related(self) -> None:
        mixed, related = "multipart/mixed", "multipart/related"
        self.assertEqual(self.shape(), ["text/html"])
        self.assertEqual(self.shape(None), [mixed, "text/html", "image/png"])
        self.assertEqual(self.shape("a"), [related, "text/html", "image/png"])
        self.assertEqual(
            self.shape(None, "a"), [mixed, related, "text/html", "image/png", "image/png"]
        )

    def test_an_8bit_text_makes_all_around_it_8bit(self) -> None:
        """RFC 2045 section 6.4."""
        case = next(case for case in CASES if case.name == "file: inline and attached")
        for capabilities, expected in ((EIGHT_BIT, "8bit"), (OLD, None)):
            message = parse(case.compose().wire(capabilities).data)
            seen = {p["Content-Transfer-Encoding"] for p in message.walk() if p.is_multipart()}
            self.assertEqual(seen, {expected})

    def test_a_boundary_never_occurs_in_the_text(self) -> None:
        body = f"=_m0_{STAMP.unique} =_m1_{STAMP.unique}"
        file = LoadedFile(part=FilePart(path="/x", name=""), content=b"")
        wire = MessageCase(name="", body=body, files=(file,)).compose().wire(OLD).data
        self.assertEqual(parse(wire).get_boundary(), f"=_m2_{STAMP.unique}")

    def test_a_file_without_any_name_gets_one(self) -> None:
        for path, expected in (("/srv/a.pdf", "a.pdf"), ("/srv/\x01", "attachment")):
            file = LoadedFile(part=FilePart(path=path, name=""), content=b"")
            (part,) = parse(
                MessageCase(name="", files=(file,)).compose().wire(OLD).data
            ).iter_attachments()
            self.assertEqual(part.get_filename(), expected)

    def test_the_path_tells_the_type_when_the_name_does_not(self) -> None:
        file = LoadedFile(part=FilePart(path="/srv/a.pdf", name="Invoice"), content=b"")
        wire = MessageCase(name="", files=(file,)).compose().wire(OLD).data
        self.assertIn(b"Content-Type: application/pdf; name=Invoice\r\n", wire)


class AddressTests(SynchronousTestCase):
    """Addresses outside ASCII (RFC 6531)."""

    def test_domains_go_as_a_labels_in_envelope_and_header(self) -> None:
        person = (Address(email="a@B\u00fccher.example"),)
        mail = MessageCase(name="", to=person, reply_to=person, sender=person[0]).compose()
        self.assertFalse(mail.envelope.needs_smtputf8)
        self.assertEqual(mail.envelope.sender, "a@xn--bcher-kva.example")
        self.assertEqual(mail.envelope.recipients, ("a@xn--bcher-kva.example",))
        self.assertEqual(mail.wire(OLD).data.count(b"a@xn--bcher-kva.example\r\n"), 3)

    def test_utf8_local_parts_need_smtputf8_wherever_they_stand(self) -> None:
        person = Address(email="j\u00fcrgen@example.org")
        plain = MessageCase(name="")
        for case in (
            attrs.evolve(plain, to=(person,)),
            attrs.evolve(plain, bcc=(person,)),
            attrs.evolve(plain, reply_to=(person,)),
            attrs.evolve(plain, sender=person),
        ):
            mail = case.compose()
            self.assertTrue(mail.envelope.needs_smtputf8)
            self.assertRaises(AddressError, mail.wire, EIGHT_BIT)
            shown = person.email.encode() in mail.wire(UTF8).data
            self.assertEqual(shown, not case.bcc)


class RefusalTests(SynchronousTestCase):
    """What can't be built fails in compose, and says why."""

    def test_nobody_to_send_to(self) -> None:
        self.assertRaises(NoRecipientError, MessageCase(name="", to=()).compose)

    def test_bad_addresses(self) -> None:
        bad = (Address(email="nobody"),)
        for case in (
            MessageCase(name="", to=bad),
            MessageCase(name="", cc=bad),
            MessageCase(name="", bcc=bad),
            MessageCase(name="", reply_to=bad),
            MessageCase(name="", sender=bad[0]),
        ):
            self.assertRaises(AddressError, case.compose)

    def test_line_breaks_and_nul_in_any_header_text(self) -> None:
        for bad in ("a\rX: y", "a\nX: y", "a\r\nX: y", "a\0"):
            person = Address(email="a@x.org", name=bad)
            for case, what in (
                (MessageCase(name="", subject=bad), "subject"),
                (MessageCase(name="", sender=person), "display name"),
                (MessageCase(name="", to=(person,)), "display name"),
                (MessageCase(name="", reply_to=(person,)), "display name"),
                (MessageCase(name="", files=_files(name=bad)), "file name"),
                (MessageCase(name="", files=_files(path=f"/x/{bad}")), "file name"),
                (MessageCase(name="", files=_files(content_id=bad)), "cid"),
            ):
                error = self.assertRaises(MessageError, case.compose)
                self.assertIn(f"the {what}", str(error))

    def test_a_cid_is_plain_ascii_text_without_brackets(self) -> None:
        for cid in ("", " a", "a ", "a<b", "a>b", "\u00fc", "a\tb", "x" * 253):
            error = self.assertRaises(
                MessageError, MessageCase(name="", files=_files(content_id=cid)).compose
            )
            self.assertIn("printable ASCII", str(error))
        for cid in ("a", "logo 1", "part1.abc@example.org", "x" * 252):
            MessageCase(name="", files=_files(content_id=cid)).compose()

    def test_a_message_is_no_larger_than_allowed_once_it_is_encoded(self) -> None:
        case = MessageCase(name="", body="x" * 1000)
        size = len(unstuff(case.compose().wire(OLD).data))
        for limit in (0, size, size + 1):
            attrs.evolve(case, options=MessageOptions(max_bytes=limit)).compose()
        small = attrs.evolve(case, options=MessageOptions(max_bytes=size - 1))
        error = self.assertRaises(MessageError, small.compose)
        self.assertIn(f"{size} bytes", str(error))
        self.assertIn("MAIL_MAX_SIZE", str(error))

    def test_half_a_surrogate_pair_in_the_body(self) -> None:
        for body in ("\ud800", "a\udfffb", "\u00fc\ud800\n.", "\U0001f389\udc00"):
            for encoding in ENCODINGS:
                options = MessageOptions(encoding=encoding)
                case = MessageCase(name="", body=body, options=options)
                self.assertIn("surrogate", str(self.assertRaises(MessageError, case.compose)))

    def test_a_stamp_is_fit_for_message_id_and_boundary(self) -> None:
        for unique in ("", "a b", "a@b", "a\r\nb", ".a", "a.", "a..b", "\u00fc", "x" * 57):
            self.assertRaises(ValueError, Stamp, unique=unique, epoch_seconds=0.0)
        file = _files()
        mail = compose(
            MessageCase(name="").request,
            body="",
            sender=Address(email="a@x.org"),
            files=file,
            stamp=Stamp(unique="x" * 56, epoch_seconds=0.0),
            options=MessageOptions(),
        )
        self.assertLessEqual(len(str(parse(mail.wire(OLD).data).get_boundary())), 70)


def _files(
    path: str = "/x/a.png", name: str = "", content_id: str | None = None
) -> tuple[LoadedFile, ...]:
    part = FilePart(path=path, name=name, content_id=content_id)
    return (LoadedFile(part=part, content=b"x"),)
