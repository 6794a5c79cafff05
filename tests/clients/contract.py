# SPDX-License-Identifier: MIT
"""What the client in every language does, against live services."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import bcrypt

from tests.clients.languages import Call, Language
from tests.delivery.certificates import authority, issue
from tests.integration.scripted import ScriptedService
from tests.integration.servers import Received, parse
from tests.integration.service import Service, until

__all__ = ["ClientContract", "OneCallContract"]

_PASSWORD = 'pässwörd " \\ $x'
_KEY = "N7SNJsGAY1hku3PBjpqgDw=="
_SUBJECT = '"Grüße" \\ 100 % <€> $x'
_BODY = 'Grüße "an" alle\\\n\n.\n..\tEnde\n'
_LARGE = "Zeilen mit Q und R am Anfang\nQ\nR\n" * 30_000
_PONG = {"status": "success", "data": None, "message": "pong"}


def mail(**fields: Any) -> dict[str, Any]:
    """Give a mail object."""
    to = [["ada@example.org", "Ada Löwe"], "bob@example.org"]
    whole = {"to": to, "ccList": [], "bccList": [], "subject": _SUBJECT, "body": _BODY}
    return whole | fields


def unused_port() -> int:
    """Give a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def saying(**answer: Any) -> Callable[[socket.socket], None]:
    """Make a handler that answers so, whatever it is asked."""

    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(json.dumps(_PONG | answer, separators=(",", ":")).encode() + b"\n")
        connection.recv(65536)

    return handle


def hang_up(connection: socket.socket) -> None:
    """Close without an answer."""
    connection.recv(65536)


def patient(connection: socket.socket) -> None:
    """Answer once the client has said that there is nothing more to come."""
    while connection.recv(65536):
        pass
    connection.sendall(b'{"status":"success","data":null,"message":"heard all"}\n')


def silent(connection: socket.socket) -> None:
    """Never come to the end of an answer, until the client has gone."""
    connection.recv(65536)
    pause = threading.Event()
    while True:
        connection.sendall(b" ")
        pause.wait(0.05)


class ClientContract:
    """Mix into a ServiceTestCase."""

    language: ClassVar[Language]

    def running_service(self: Any, **values: object) -> Service:
        """Start a service with a password and a queue that is worked on at once."""
        self.smtp = self.server(eager=True)
        hashed = bcrypt.hashpw(_PASSWORD.encode(), bcrypt.gensalt(4)).decode("ascii")
        service: Service = self.service(
            self.smtp,
            MAILER_AUTH=True,
            MAILER_AUTH_HASH=hashed,
            MAILER_QUEUE=True,
            QUEUE_SEND_IMMEDIATELY=True,
            SECRET_KEY=_KEY,
            MAIL_HTML=False,
            **values,
        )
        return service

    def made(self: Any, calls: Mapping[str, Call]) -> dict[str, dict[str, Any]]:
        """Make all calls at the same time; give what came of each."""
        results: dict[str, dict[str, Any]] = self.language.make(calls)
        return results

    def arrived(self: Any, count: int) -> list[Received]:
        """Wait for so many mails; give what arrived."""
        until(f"{count} mails arrive", lambda: len(self.smtp.received) >= count)
        mails: list[Received] = list(self.smtp.received)
        self.assertEqual(len(mails), count)
        return mails

    def check_mail(self: Any, received: Received, subject: str, body: str) -> None:
        """Compare a mail with what was handed in."""
        message = parse(received.content)
        self.assertEqual(received.recipients, ("ada@example.org", "bob@example.org"))
        self.assertEqual(message["Subject"], subject)
        self.assertEqual(message["To"], "Ada Löwe <ada@example.org>, bob@example.org")
        self.assertEqual(message.get_content().replace("\r\n", "\n"), body)

    def check_unreachable(self: Any, result: dict[str, Any], *, maybe_done: bool) -> None:
        """Check that a call tells of no answer, and whether it may have been carried out."""
        self.assertIn("unreachable", result)
        self.assertEqual(result["maybeDone"], maybe_done, result)

    def test_plain_with_a_password(self: Any) -> None:
        service = self.running_service()
        right = {"host": "127.0.0.1", "port": service.port, "auth": _PASSWORD, "timeout": 20}
        results = self.made(
            {
                "sent": Call(client=right, call="sendMail", argument=mail()),
                "queued": Call(client=right, call="queueMail", argument=mail(subject="queued")),
                "forgotten": Call(
                    client=right,
                    call="forget",
                    argument={"queueMail": mail(subject="forgotten", body=_LARGE)},
                ),
                "asked": Call(client=right, call="request", argument={"ping": None, "id": "x"}),
                "faulty": Call(client=right, call="sendMail", argument=mail(to=["nobody"])),
            }
        )
        self.assertIn("done", results["sent"], results)
        self.assertRegex(results["queued"].get("done") or str(results), r"\Amail_[\w.]+\.json\Z")
        self.assertEqual(results["forgotten"], {"done": None})
        self.assertIn("done", results["asked"])
        self.assertIn("to->0", results["faulty"]["refused"]["data"])
        self.assertIn("invalid payload", results["faulty"]["text"])
        by_subject = {str(parse(each.content)["Subject"]): each for each in self.arrived(3)}
        self.check_mail(by_subject[_SUBJECT], _SUBJECT, _BODY)
        self.check_mail(by_subject["queued"], "queued", _BODY)
        self.check_mail(by_subject["forgotten"], "forgotten", _LARGE)

    def test_tls_is_spoken_with_who_is_trusted_only(self: Any) -> None:
        service, trust = self.tls_service()
        other = str(Path(self.mktemp()).absolute())
        Path(other).write_bytes(issue("Other CA", is_ca=True).cert_pem)
        right = {
            "host": "127.0.0.1",
            "port": service.port,
            "auth": _PASSWORD,
            "timeout": 20,
            "tls": True,
            "caFile": trust,
        }
        clients = {
            "sent": right,
            "named": right | {"serverName": "mail.internal"},
            "misnamed": right | {"serverName": "other.internal"},
            "misplaced": right | {"serverName": "192.0.2.1"},
            "mistrusted": right | {"caFile": other},
            "plain": {key: right[key] for key in ("host", "port", "auth", "timeout")},
        }
        calls = {
            name: Call(client=client, call="sendMail", argument=mail(subject=name))
            for name, client in clients.items()
        }
        large = {"queueMail": mail(subject="forgotten", body=_LARGE)}
        calls["forgotten"] = Call(client=right, call="forget", argument=large)
        results = self.made(calls)
        for name in ("sent", "named", "forgotten"):
            self.assertIn("done", results[name], (name, results[name]))
        for name in ("misnamed", "misplaced", "mistrusted"):
            self.check_unreachable(results[name], maybe_done=False)
        self.assertIn("speaks TLS only", results["plain"]["refused"]["data"])
        by_subject = {str(parse(each.content)["Subject"]): each for each in self.arrived(3)}
        self.check_mail(by_subject["sent"], "sent", _BODY)
        self.check_mail(by_subject["forgotten"], "forgotten", _LARGE)
        self.assertIn("named", by_subject)

    def test_what_is_forgotten_over_tls_arrives_whole(self: Any) -> None:
        """Unread session tickets must not make the end a reset, which takes data with it."""
        heard: list[int] = []

        def slow(connection: socket.socket) -> None:
            threading.Event().wait(0.3)
            heard.append(sum(map(len, iter(lambda: connection.recv(65536), b""))))

        cert, key, trust = self.certificates()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        with ScriptedService(slow, tls=context) as service:
            client = {"host": "127.0.0.1", "port": service.port, "tls": True, "caFile": trust}
            request = {"queueMail": mail(body=_LARGE)}
            results = self.made({"": Call(client=client, call="forget", argument=request)})
            until("it is read", lambda: heard)
        self.assertEqual(results, {"": {"done": None}})
        self.assertGreater(heard[0], len(_LARGE))

    def certificates(self: Any) -> tuple[str, str, str]:
        """Make a certificate; give the files of it, of its key, and of whom to trust."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        cert, key = issue("127.0.0.1", "mail.internal", issuer=authority()).write(str(folder))
        trust = folder / "ca.pem"
        trust.write_bytes(authority().cert_pem)
        return cert, key, str(trust)

    def tls_service(self: Any) -> tuple[Service, str]:
        """Start a service that speaks TLS; give it and the file of whom to trust."""
        cert, key, trust = self.certificates()
        service = self.running_service(MAILER_PROTO="ssl", MAILER_SSL_CERT=cert, MAILER_SSL_KEY=key)
        return service, trust

    def test_no_answer_is_told_from_nothing_sent(self: Any) -> None:
        with (
            ScriptedService(silent) as mute,
            ScriptedService(saying(id="another's")) as confused,
            ScriptedService(saying(status="what")) as stranger,
            ScriptedService(hang_up) as dead,
        ):
            ports = {
                "mute": mute.port,
                "confused": confused.port,
                "stranger": stranger.port,
                "dead": dead.port,
                "nobody": unused_port(),
            }
            results = self.made(
                {
                    name: Call(
                        client={"host": "127.0.0.1", "port": port, "timeout": 0.5},
                        call="queueMail",
                        argument=mail(),
                    )
                    for name, port in ports.items()
                }
            )
        for name, result in results.items():
            self.check_unreachable(result, maybe_done=name != "nobody")


class OneCallContract(ClientContract):
    """Of clients whose connections are for one call each."""

    def test_a_plain_service_is_told_that_nothing_more_will_come(self: Any) -> None:
        with ScriptedService(patient) as service:
            client = {"host": "127.0.0.1", "port": service.port, "timeout": 10}
            results = self.made({"": Call(client=client, call="sendMail", argument=mail())})
        self.assertIn("done", results[""])
