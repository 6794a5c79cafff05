# SPDX-License-Identifier: MIT
"""A running service that logs in with access tokens, beside a token server and an SMTP server."""

from __future__ import annotations

import json
import ssl
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.delivery.certificates import authority, issue
from tests.integration.queue_service import QueueServiceCase, mail
from tests.integration.service import Service, until
from tests.integration.token_server import TokenThread

_SECRETS = ("client-secret-1", "refresh-token-1", "access-token-1", "access-token-2")


def _token(number: int) -> tuple[int, Any]:
    return 200, {"access_token": f"access-token-{number}", "expires_in": 3600}


class TokenServiceTests(QueueServiceCase):
    """Mails go out with tokens, whatever becomes of these; no log shows one."""

    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="smtpmailer-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        issuer = authority()
        (self.folder / "ca.pem").write_bytes(issuer.cert_pem)
        chain, key = issue("127.0.0.1", issuer=issuer).write(folder.name)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(chain, key)
        taken = frozenset({"access-token-2", "from-command"})
        self.smtp = self.server(eager=True, tls=self.context, tokens=taken)

    def token_server(self, *answers: tuple[int, Any]) -> TokenThread:
        server = TokenThread(self.context, *answers)
        self.addCleanup(server.stop)
        return server

    def with_tokens(self, server: TokenThread) -> Service:
        return self.running(
            SMTP_ENCRYPTION="tls",
            SMTP_CA_FILE=self.folder / "ca.pem",
            SMTP_USER="me@example.org",
            SMTP_OAUTH2_TOKEN_ENDPOINT=server.url,
            SMTP_OAUTH2_CLIENT_ID="client",
            SMTP_OAUTH2_CLIENT_SECRET="client-secret-1",
            SMTP_OAUTH2_REFRESH_TOKEN="refresh-token-1",
            SMTP_OAUTH2_SCOPE="https://mail.test/",
            MAILER_LOG_LEVEL="debug",
        )

    def assert_no_secrets(self, service: Service, *answers: object) -> None:
        seen = service.output() + repr(answers)
        for secret in _SECRETS:
            self.assertNotIn(secret, seen)

    def test_a_token_that_is_refused_is_refreshed_and_serves_all_mails_then(self) -> None:
        tokens = self.token_server(_token(1), _token(2))
        service = self.with_tokens(tokens)
        answers = [service.ask({"sendMail": mail()}) for _ in range(3)]
        self.assertEqual({answer["message"] for answer in answers}, {"mail sent successfully"})
        self.enqueue(service, mail())
        until("four mails are there", lambda: len(self.smtp.received) == 4)
        self.assertEqual({each.user for each in self.smtp.received}, {"me@example.org"})
        seen = [token for _, token in self.smtp.logins]
        self.assertEqual(seen, ["access-token-1", "access-token-2"])
        expected = {
            "grant_type": "refresh_token",
            "refresh_token": "refresh-token-1",
            "client_id": "client",
            "client_secret": "client-secret-1",
            "scope": "https://mail.test/",
        }
        self.assertEqual(tokens.asked, [expected, expected])
        self.assert_no_secrets(service, answers)

    def test_a_refused_refresh_is_a_refused_login_that_says_why(self) -> None:
        why = {"error": "invalid_grant", "error_description": "refresh-token-1 is revoked"}
        tokens = self.token_server((400, why), _token(2))
        service = self.with_tokens(tokens)
        answer = service.ask({"sendMail": mail(), "detail": True})
        self.assertEqual(answer["message"], "failed to send mail")
        self.assertEqual(answer["data"], "SMTP Error: Could not authenticate.")
        (outcome,) = answer["detail"]["recipients"]
        self.assertIn(
            "no access token: the token server refuses (HTTP 400): invalid_grant", str(outcome)
        )
        self.assertIn("queueName", answer["detail"])
        self.assertEqual(self.smtp.logins, [])
        self.assert_no_secrets(service, answer)

    def test_an_account_may_get_its_token_from_a_command(self) -> None:
        accounts = self.folder / "accounts.json"
        accounts.touch(mode=0o600)
        account = {
            "name": "office",
            "host": "127.0.0.1",
            "port": self.smtp.port,
            "user": "office@example.org",
            "caFile": str(self.folder / "ca.pem"),
            "oauth2": {"tokenCommand": [sys.executable, "-c", "print('from-command')"]},
        }
        accounts.write_text(json.dumps([account]), "utf-8")
        service = self.running(SMTP_ACCOUNTS_FILE=accounts)
        answer = service.ask({"sendMail": mail(account="office")})
        self.assertEqual(answer["message"], "mail sent successfully", answer)
        self.assertEqual(self.smtp.logins, [("office@example.org", "from-command")])
        self.assertNotIn("from-command", service.output())
