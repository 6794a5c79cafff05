# SPDX-License-Identifier: MIT
"""The service as a process: what clients write, and what an SMTP server that is not ours gets."""

from __future__ import annotations

import json
import socket
import ssl
from pathlib import Path
from typing import Any, cast

import bcrypt

from tests.delivery.certificates import authority, issue
from tests.integration.servers import AioServer, Received, parse
from tests.integration.service import Service, ServiceTestCase, mail_to, read_answer, until

SENT = {"status": "success", "data": None, "message": "mail sent successfully"}
PONG = {"status": "success", "data": None, "message": "pong"}
PING = b'{"ping":null}'
PNG = bytes.fromhex("89504e470d0a1a0a") + bytes(range(256)) * 4


def arrived(server: AioServer, count: int = 1) -> list[Received]:
    """Wait for so many mails, and give all that arrived."""
    until(f"{count} mails arrived", lambda: len(server.received) >= count)
    return server.received


class SendMailTests(ServiceTestCase):
    """From a request to what the SMTP server has."""

    def test_a_mail_with_attachment_and_inline_image_arrives_exactly(self) -> None:
        server = self.server()
        service = self.service(server, ATTACHMENT_DIRS="files/")
        (service.folder / "files").mkdir()
        (service.folder / "files/Übersicht.pdf").write_bytes(b"%PDF-1.4\r\n.\r\n\0\xff")
        (service.folder / "files/logo.png").write_bytes(PNG)
        request = mail_to(
            subject="Grüße 🎉",
            body='<p>Hallo Zoë</p>\n.\n<img src="cid:logo">\n',
            to=[["zoe@example.org", "Zoë Müller"]],
            bccList=["hidden@example.org"],
            replyTo=[["reply@example.org", "返信"]],
            attachments=[["Übersicht.pdf"]],
            embedded=[["logo.png", "logo", "Logo.png"]],
        )
        self.assertEqual(service.ask(request), SENT)
        (mail,) = server.received
        self.assertEqual(mail.sender, "service@example.org")
        self.assertEqual(mail.recipients, ("zoe@example.org", "hidden@example.org"))
        self.assertNotIn(b"hidden@", mail.content)
        message = parse(mail.content)
        self.assertEqual(message["Subject"], "Grüße 🎉")
        self.assertEqual(message["From"], "The Service <service@example.org>")
        self.assertEqual(message["To"], "Zoë Müller <zoe@example.org>")
        self.assertEqual(message["Reply-To"], "返信 <reply@example.org>")
        parts = [part for part in message.walk() if not part.is_multipart()]
        text, image, file = parts
        self.assertEqual(text.get_content_type(), "text/html")
        body = cast(bytes, text.get_payload(decode=True)).decode().replace("\r\n", "\n")
        self.assertEqual(body, request["sendMail"]["body"])
        self.assertEqual((image["Content-ID"], image.get_filename()), ("<logo>", "Logo.png"))
        self.assertEqual(image.get_payload(decode=True), PNG)
        self.assertEqual(file.get_filename(), "Übersicht.pdf")
        self.assertEqual(file.get_payload(decode=True), b"%PDF-1.4\r\n.\r\n\0\xff")
        self.assertEqual(service.ask({"status": None})["data"], {"sent": 1, "failed": 0})

    def test_a_file_that_may_not_be_attached_is_an_error_before_any_connection(self) -> None:
        service = self.service(SMTP_PORT=1, ATTACHMENT_DIRS="files/")
        for path in ("missing.pdf", "../.env"):
            answer = service.ask(mail_to(attachments=[[path]]))
            self.assertEqual(answer["message"], "failed to send mail")
            self.assertIn(path, answer["data"])

    def test_the_detail_of_a_mail_names_its_recipients_and_replies(self) -> None:
        service = self.service(self.server())
        answer = service.ask(mail_to() | {"id": 7, "detail": True})
        self.assertEqual(list(answer), ["status", "data", "message", "id", "detail"])
        (recipient,) = answer["detail"]["recipients"]
        self.assertEqual(recipient["address"], "user@example.org")
        self.assertEqual((recipient["outcome"], recipient["code"]), ("delivered", 250))

    def test_no_server_is_the_contracts_reason(self) -> None:
        answer = self.service(SMTP_PORT=1).ask(mail_to())
        self.assertEqual(answer["data"], "SMTP Error: Could not connect to SMTP host.")

    def test_a_slow_server_delays_nobody_else(self) -> None:
        slow, quick = self.server(), self.server()
        slow.hold()
        service = self.service(slow)
        with service.connect() as waiting, waiting.makefile("rb") as answers:
            waiting.sendall(json.dumps(mail_to()).encode() * 50)
            until("all sessions wait", lambda: slow.waiting == 10)  # SMTP_MAX_CONNECTIONS
            self.assertEqual(service.ask({"ping": 1}), PONG)
            self.assertEqual(service.ask(mail_to(smtpPort=quick.port)), SENT)
            slow.release()
            self.assertEqual([read_answer(answers) for _ in range(50)], [SENT] * 50)


class SmtpSecurityTests(ServiceTestCase):
    """TLS and logins with a server whose certificate is of our own authority."""

    def setUp(self) -> None:
        super().setUp()
        folder = self.mktemp()
        Path(folder).mkdir()
        self.ca_file = str(Path(folder, "ca.pem").absolute())
        Path(self.ca_file).write_bytes(authority().cert_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*issue("localhost", issuer=authority()).write(folder))
        self.smtp = self.server(tls=context)

    def secure_service(self, **values: object) -> Service:
        settings = {
            "SMTP_HOST": "localhost",
            "SMTP_ENCRYPTION": "tls",
            "SMTP_USER": "user",
            "SMTP_PASSWORD": "right",
            "SMTP_CA_FILE": self.ca_file,
        }
        return self.service(self.smtp, **(settings | values))

    def test_starttls_and_a_login_carry_the_mail(self) -> None:
        self.assertEqual(self.secure_service().ask(mail_to()), SENT)
        self.assertEqual([mail.user for mail in self.smtp.received], ["user"])

    def test_a_wrong_password_is_the_contracts_reason_and_never_shown(self) -> None:
        service = self.secure_service(SMTP_PASSWORD="wrong-secret")
        answer = service.ask(mail_to() | {"detail": True})
        self.assertEqual(answer["data"], "SMTP Error: Could not authenticate.")
        self.assertNotIn("wrong-secret", json.dumps(answer) + service.output())
        self.assertEqual(self.smtp.received, [])

    def test_an_unknown_authority_is_the_contracts_reason_and_the_detail_says_why(self) -> None:
        answer = self.secure_service(SMTP_CA_FILE="").ask(mail_to() | {"detail": True})
        self.assertEqual(answer["data"], "SMTP Error: Could not connect to SMTP host.")
        self.assertIn("SMTP_CA_FILE", answer["detail"]["recipients"][0]["reply"])
        self.assertEqual((self.smtp.logins, self.smtp.received), ([], []))

    def test_a_name_that_the_certificate_lacks_is_refused(self) -> None:
        answer = self.secure_service(SMTP_HOST="127.0.0.1").ask(mail_to())
        self.assertEqual(answer["data"], "SMTP Error: Could not connect to SMTP host.")
        self.assertEqual((self.smtp.logins, self.smtp.received), ([], []))

    def test_an_own_host_never_gets_the_configured_credentials(self) -> None:
        other = self.server()
        service = self.secure_service()
        requests = (
            mail_to(smtpHost="localhost"),
            mail_to(smtpHost="LOCALHOST", smtpUser="me"),
        )
        for request in requests:
            service.ask(request)
        self.assertNotIn("right", json.dumps(self.smtp.logins))
        self.assertNotIn("right", service.output())
        clear = self.service(other, SMTP_USER="user", SMTP_PASSWORD="right")
        self.assertEqual(clear.ask(mail_to(smtpHost="127.0.0.1", smtpPort=other.port)), SENT)
        self.assertEqual(other.logins, [])
        self.assertEqual(clear.ask(mail_to()), SENT)
        self.assertEqual(other.logins, [("user", "right")])


class FramingTests(ServiceTestCase):
    """The ways in which clients in the field write."""

    def setUp(self) -> None:
        super().setUp()
        self.smtp = self.server()
        self.mailer = self.service(self.smtp)

    def test_every_way_to_end_a_request(self) -> None:
        pretty = json.dumps({"ping": {"a": [1, {"b": None}]}}, indent=4).encode()
        for data in (PING, PING + b"\n", PING + b"\r\n", b"\n\n" + pretty, pretty + b"\n"):
            self.assertEqual(self.mailer.exchange(data), [PONG], data)

    def test_two_in_one_segment_are_answered_in_order(self) -> None:
        mail = json.dumps(mail_to()).encode()
        for between in (b"", b"\n", b"\r\n"):
            answers = self.mailer.exchange(mail + between + PING, answers=2)
            self.assertEqual(answers, [SENT, PONG])

    def test_byte_by_byte(self) -> None:
        with self.mailer.connect() as connection, connection.makefile("rb") as answers:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in json.dumps(mail_to()).encode():
                connection.sendall(bytes([byte]))
            self.assertEqual(read_answer(answers), SENT)
            connection.sendall(PING)
            self.assertEqual(read_answer(answers), PONG)

    def test_a_half_closed_client_is_answered_though_the_smtp_server_is_slow(self) -> None:
        self.smtp.hold()
        with self.mailer.connect() as connection, connection.makefile("rb") as answers:
            connection.sendall(json.dumps(mail_to()).encode())
            connection.shutdown(socket.SHUT_WR)
            until("the mail waits", lambda: self.smtp.waiting)
            self.smtp.release()
            self.assertEqual(read_answer(answers), SENT)
            self.assertEqual(answers.read(), b"")

    def test_fire_and_forget_sends_the_mail(self) -> None:
        for number in range(10):
            with self.mailer.connect() as connection:
                connection.sendall(json.dumps(mail_to(f"user{number}@example.org")).encode())
        recipients = sorted(mail.recipients[0] for mail in arrived(self.smtp, 10))
        self.assertEqual(recipients, sorted(f"user{n}@example.org" for n in range(10)))

    def test_a_reset_connection_does_not_cancel_its_mail(self) -> None:
        self.smtp.hold()
        with self.mailer.connect() as connection:
            connection.sendall(json.dumps(mail_to()).encode())
            until("the mail waits", lambda: self.smtp.waiting)
            linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.smtp.release()
        self.assertEqual(len(arrived(self.smtp)), 1)

    def test_malformed_input_is_answered_and_the_connection_closed(self) -> None:
        with self.mailer.connect() as connection, connection.makefile("rb") as answers:
            connection.sendall(b'{"ping":nope}')
            answer = read_answer(answers)
            self.assertEqual(answer["message"], "invalid payload")
            self.assertIn("malformed JSON at byte", answer["data"])


class GateTests(ServiceTestCase):
    """Requests that this service can't carry out, and those it must not."""

    def test_services_that_are_off_answer_their_gate(self) -> None:
        service = self.service()
        for name, gate in (("getQueueList", "queue"), ("addTemplate", "template")):
            answer = service.ask({name: None})
            self.assertEqual(answer["message"], f"{gate} service is not enabled")

    def test_the_password_opens_and_nothing_else_does(self) -> None:
        secret = bcrypt.hashpw("pässword".encode(), bcrypt.gensalt(4)).decode()
        service = self.service(MAILER_AUTH=True, MAILER_AUTH_HASH=secret)
        refused = {"status": "error", "data": None, "message": "unauthorized request"}
        wrong: tuple[Any, ...] = ("passwort", "", None, 5)
        for password in wrong:
            self.assertEqual(service.ask({"ping": 1, "auth": password}), refused)
        for data in (PING, b"{}", b'{"ping":', b"nonsense"):
            with service.connect() as connection, connection.makefile("rb") as answers:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                self.assertEqual(read_answer(answers), refused, data)
        self.assertEqual(service.ask({"auth": "pässword", "ping": 1}), PONG)
        self.assertNotIn("pässword", service.output())
