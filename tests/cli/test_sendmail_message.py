# SPDX-License-Identifier: MIT
"""Tests of what sendmail reads out of messages."""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.cli.recipients import Recipient
from smtpmailer.cli.sendmail_message import (
    Body,
    File,
    Message,
    UncarriableError,
    body_text,
    read_message,
)
from smtpmailer.cli.sendmail_text import decode_bytes, decode_header, people


def person(email: str, name: str = "") -> Recipient:
    """Give a recipient."""
    return Recipient(email=email, name=name)


class HeaderTests(SynchronousTestCase):
    """What header fields say."""

    def test_addresses_subject_and_text_of_a_plain_message(self) -> None:
        message = read_message(
            b"From: Me <me@b.test>\nTo: a@b.test,\n c@d.test\nCc: e@f.test\nBcc: g@h.test\n"
            b"Reply-To: i@j.test\nSubject: Hello\n there\n\nHi\n"
        )
        self.assertEqual(
            message,
            Message(
                sender=person("me@b.test", "Me"),
                to=(person("a@b.test"), person("c@d.test")),
                cc=(person("e@f.test"),),
                bcc=(person("g@h.test"),),
                reply_to=(person("i@j.test"),),
                subject="Hello there",
                bodies=(Body(text="Hi\n"),),
            ),
        )

    def test_crlf_is_the_same(self) -> None:
        message = read_message(b"To: a@b.test\r\nSubject: Hello\r\n\r\nHi\r\nthere\r\n")
        self.assertEqual(message.subject, "Hello")
        self.assertEqual(message.bodies, (Body(text="Hi\nthere\n"),))

    def test_a_message_without_header_is_text(self) -> None:
        message = read_message(b"Backup is done\nor so\n")
        self.assertEqual((message.to, message.subject), ((), "(no subject)"))
        self.assertEqual(message.bodies, (Body(text="Backup is done\nor so\n"),))

    def test_fields_are_found_in_any_case_and_number(self) -> None:
        message = read_message(b"TO: a@b.test\nto: c@d.test\nSUBJECT: x\nsubject: y\n\n")
        self.assertEqual([each.email for each in message.to], ["a@b.test", "c@d.test"])
        self.assertEqual(message.subject, "x")

    def test_encoded_words_are_decoded_and_8_bit_is_taken_as_it_is(self) -> None:
        for raw, text in (
            (b"=?utf-8?Q?Gr=C3=BC=C3=9Fe_an?= alle", "Grüße an alle"),
            (b"=?utf-8?B?R3LDvA==?=\n =?utf-8?B?w59l?=", "Grüße"),
            (b"=?utf-8?B?R3LD?= =?UTF-8?B?vMOfZQ==?=", "Grüße"),  # a character cut in two
            (b"=?iso-8859-1*de?q?Gr=FC=DFe?=", "Grüße"),
            (b"=?utf-8?q?a?= =?iso-8859-1?q?=FC?=", "aü"),
            ("Grüße".encode(), "Grüße"),
            ("Grüße".encode("latin-1"), "Grüße"),
            (b"=?x-none?q?Gr=C3=BC?=", "Grü"),
            (b"=?utf-8?B?R3LDvA=?=", "Grü"),
            (b"=?utf-8?B?A?=", "A"),
            (b"=?utf-8?Q?a=0D=0ABcc:_x?= b", "a Bcc: x b"),
            (b"a =?utf-8?Q?b?=c", "a bc"),
        ):
            self.assertEqual(read_message(b"Subject: " + raw + b"\n\n").subject, text, raw)

    def test_people_in_all_forms(self) -> None:
        for text, found in (
            ("a@b.test", [person("a@b.test")]),
            ("<a@b.test>", [person("a@b.test")]),
            ("root (Cron Daemon)", [person("root", "Cron Daemon")]),
            ("Ada Löwe <a@b.test>", [person("a@b.test", "Ada Löwe")]),
            ('"Löwe, Ada" <a@b.test>, c', [person("a@b.test", "Löwe, Ada"), person("c")]),
            (r'"a \"b\" c" <a@b.test>', [person("a@b.test", 'a "b" c')]),
            ("=?utf-8?q?L=C3=B6we=2C_Ada?= <a@b.test>", [person("a@b.test", "Löwe, Ada")]),
            ('"=?utf-8?q?L=C3=B6we?=" <a@b.test>', [person("a@b.test", "Löwe")]),
            ("Ada (a, b) <a@b.test>", [person("a@b.test", "Ada")]),
            ('"a,b"@c.test', [person('"a,b"@c.test')]),
            ("a@[IPv6:::1], b@c.test", [person("a@[IPv6:::1]"), person("b@c.test")]),
            ("team: a@b.test, c@d.test; e@f.test", list(map(person, ["a@b.test", "c@d.test",
                                                                      "e@f.test"]))),
            ("undisclosed-recipients:;", []),
            (" , <>,", []),
        ):  # fmt: skip
            self.assertEqual(people(text), found, text)

    def test_what_is_left_out_is_named(self) -> None:
        message = read_message(
            b"From: a@b.test, c@d.test\nDate: x\nMessage-ID: <x@y>\nX-Mailer: PHP\n"
            b"In-Reply-To: <z@y>\nList-Unsubscribe: <u>\nMIME-Version: 1.0\n\n"
        )
        missed = ("In-Reply-To", "List-Unsubscribe", "From: c@d.test")
        self.assertEqual(message.missed, missed)
        self.assertEqual(message.left_out, ("Date", "Message-ID", "X-Mailer", *missed))

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.binary(max_size=200) | st.text(alphabet=' "(),:;<>@[\\]a=?q\n', max_size=40))
    def test_any_input_is_read(self, raw: bytes | str) -> None:
        data = raw if isinstance(raw, bytes) else b"To: " + raw.encode() + b"\nSubject: x\n\n"
        try:
            message = read_message(data)
        except UncarriableError:
            return
        for each in (*message.to, *message.cc):
            self.assertNotIn("\n", each.email + each.name)
        self.assertNotIn("\n", message.subject)
        self.assertTrue(body_text(message.bodies, html=True))


class BodyTests(SynchronousTestCase):
    """One body out of whatever there is."""

    def body(self, message: EmailMessage | bytes, *, html: bool) -> str:
        """Read a message; give its body."""
        raw = message if isinstance(message, bytes) else message.as_bytes(policy=SMTP)
        return body_text(read_message(raw).bodies, html=html)

    def test_the_charset_is_honoured_and_a_wrong_one_survived(self) -> None:
        for charset, encoded in (
            ("utf-8", "Grüße"),
            ("iso-8859-1", "Grüße"),
            ("windows-1252", "10 €"),
            ("utf-16", "Grüße"),
        ):
            raw = f"Content-Type: text/plain; charset={charset}\n\n".encode()
            self.assertEqual(decode_bytes(encoded.encode(charset), charset), encoded)
            if charset != "utf-16":
                self.assertEqual(self.body(raw + encoded.encode(charset), html=False), encoded)
        for charset in ("us-ascii", "ANSI_X3.4-1968", "x-none", "rot13"):
            raw = f"Content-Type: text/plain; charset={charset}\n\nGrüße".encode()
            self.assertEqual(self.body(raw, html=False), "Grüße")

    def test_transfer_encodings_are_undone(self) -> None:
        for encoding, text in (("base64", "R3LDvMOfZQ=="), ("quoted-printable", "Gr=C3=BC=C3=9Fe")):
            raw = (
                f"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: {encoding}"
                f"\n\n{text}"
            )
            self.assertEqual(self.body(raw.encode(), html=False), "Grüße")

    def test_plain_text_becomes_html_that_looks_the_same(self) -> None:
        body = self.body(b'\n1 < 2 & "x"\n  indented\n', html=True)
        self.assertEqual(
            body,
            '<pre style="white-space: pre-wrap">1 &lt; 2 &amp; "x"\n  indented\n</pre>\n',
        )

    def test_html_is_not_made_plain_text(self) -> None:
        raw = b"Content-Type: text/html\n\n<p>Hi</p>"
        self.assertEqual(self.body(raw, html=True), "<p>Hi</p>")
        error = self.assertRaises(UncarriableError, self.body, raw, html=False)
        self.assertIn("HTML only", str(error))

    def test_of_alternatives_the_one_is_taken_that_the_service_sends(self) -> None:
        message = EmailMessage()
        message.set_content("plain\n")
        message.add_alternative("<p>rich</p>\n", subtype="html")
        self.assertEqual(self.body(message, html=True), "<p>rich</p>\n")
        self.assertEqual(self.body(message, html=False), "plain\n")

    def test_texts_one_behind_the_other_are_joined(self) -> None:
        message = EmailMessage()
        message.make_mixed()
        for text, subtype in (("a <\n", "plain"), ("<p>b</p>\n", "html"), ("c\n", "plain")):
            part = EmailMessage()
            part.set_content(text, subtype=subtype)
            message.attach(part)
        html = self.body(message, html=True)
        self.assertRegex(html, r"\A<pre[^>]*>a &lt;\n</pre>\n<p>b</p>\n<pre[^>]*>c\n</pre>\n\Z")

    def test_no_text_is_still_a_body(self) -> None:
        for html in (True, False):
            self.assertTrue(self.body(b"Subject: x\n\n", html=html))
        self.assertEqual(body_text([], html=False), "\n")


class FileTests(SynchronousTestCase):
    """Attachments and embedded images."""

    def test_attachments_are_files_with_names(self) -> None:
        message = EmailMessage()
        message.set_content("see there")
        message.add_attachment(b"%PDF\r\n.\r\n", "application", "pdf", filename="Übersicht.pdf")
        message.add_attachment("a,b\n", subtype="csv", filename="../../etc/x")
        message.add_attachment(b"?", "image", "png")
        read = read_message(message.as_bytes())
        self.assertEqual([body.text for body in read.bodies], ["see there\n"])
        self.assertEqual(
            read.files,
            (
                File(name="Übersicht.pdf", content=b"%PDF\r\n.\r\n"),
                File(name="x.csv", content=b"a,b\n"),
                File(name="attachment.png", content=b"?"),
            ),
        )

    def test_names_in_all_encodings(self) -> None:
        for field in (
            b"filename*=utf-8''%C3%BCbersicht.txt",
            b'filename="=?utf-8?q?=C3=BCbersicht.txt?="',
            'filename="übersicht.txt"'.encode(),
            'filename="übersicht.txt"'.encode("latin-1"),
            b'filename="C:\\\\docs\\\\=?utf-8?q?=C3=BCbersicht?=.txt"',
        ):
            raw = b"Content-Type: text/plain\nContent-Disposition: attachment; " + field + b"\n\nx"
            self.assertEqual([file.name for file in read_message(raw).files], ["übersicht.txt"])

    def test_images_of_the_html_keep_their_ids(self) -> None:
        message = EmailMessage()
        message.set_content("<img src='cid:logo'>", subtype="html")
        message.add_related(b"png", "image", "png", cid="<logo>", filename="logo.png")
        read = read_message(message.as_bytes())
        self.assertEqual(read.files, (File(name="logo.png", content=b"png", cid="logo"),))

    def test_what_the_html_does_not_show_is_attached(self) -> None:
        message = EmailMessage()
        message.set_content("<p>Hi</p>", subtype="html")
        message.add_related(b"%PDF", "application", "pdf", filename="a.pdf")
        read = read_message(message.as_bytes())
        self.assertEqual(read.files, (File(name="a.pdf", content=b"%PDF"),))

    def test_a_forwarded_message_is_a_file(self) -> None:
        inner = EmailMessage()
        inner["Subject"] = "inner"
        inner.set_content("text")
        message = EmailMessage()
        message.set_content("see below")
        message.add_attachment(inner)
        (file,) = read_message(message.as_bytes()).files
        self.assertEqual(file.name, "attachment.eml")
        self.assertTrue(file.content.startswith(b"Subject: inner\n"))

    def test_what_a_new_message_would_break_is_refused(self) -> None:
        for raw, why in (
            (b'Content-Type: multipart/signed; boundary="x"\n\n--x\n\na\n--x--\n', "signed"),
            (b'Content-Type: multipart/encrypted; boundary="x"\n\n--x\n\na\n--x--\n', "signed"),
            (b"Content-Type: application/pkcs7-mime\n\nx", "signed"),
            (b"Resent-To: a@b.test\n\nx", "resent"),
        ):
            error = self.assertRaises(UncarriableError, read_message, raw)
            self.assertIn(why, str(error))

    def test_endless_nesting_is_refused(self) -> None:
        for depth in (60, 3000):
            raw = b"".join(
                b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n)
                for n in range(depth)
            )
            error = self.assertRaises(UncarriableError, read_message, raw + b"\nx")
            self.assertIn("nested", str(error))

    def test_broken_mime_is_text(self) -> None:
        for field in (b"multipart/mixed", b'multipart/mixed; boundary="x"'):
            read = read_message(b"Content-Type: " + field + b"\n\nno boundary\n")
            self.assertEqual(
                (body_text(read.bodies, html=False), read.files), ("no boundary\n", ())
            )


class DecodeTests(SynchronousTestCase):
    """Decoding never fails."""

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.text(alphabet="=?utf-8qQbB_ A\n\udcc3\udcbc", max_size=60))
    def test_any_field_is_one_line_of_text(self, value: str) -> None:
        text = decode_header(value)
        self.assertNotIn("\n", text)
        text.encode()
