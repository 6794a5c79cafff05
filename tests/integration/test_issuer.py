# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.delivery.issuer: real HTTPS, real processes, real files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.process import ProcessReader
from twisted.internet.task import deferLater
from twisted.internet.tcp import Client
from twisted.trial.unittest import TestCase

from smtpmailer.core.oauth import OAuth2, Token, TokenGrant
from smtpmailer.coroutines import returns_deferred
from smtpmailer.delivery import issuer
from smtpmailer.delivery.issuer import Issuer
from smtpmailer.delivery.tls import ClientTls
from smtpmailer.errors import TokenError
from smtpmailer.threads import InlineThreads
from tests.delivery.certificates import authority, issue
from tests.integration.token_server import TokenPage, token_site
from tests.ports import free_port

_reactor: Any = reactor


class IssuerCase(TestCase):
    """An issuer of tokens, and what it gives."""

    timeout = 30

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.issuer = Issuer(
            reactor,
            threads=InlineThreads(),
            tls=ClientTls(),
            environment={"PATH": "/usr/bin:/bin", "MARK": "seen"},
        )

    @returns_deferred
    async def gives(self, source: OAuth2, token: Token) -> None:
        """Let a source give this token."""
        given, _ = await self.issuer.fetch(TokenGrant.of(source))
        self.assertEqual(given, token)

    @returns_deferred
    async def refuses(self, source: OAuth2, *words: str) -> str:
        """Let a source give none, and say these words; gives all that it says."""
        try:
            await self.issuer.fetch(TokenGrant.of(source))
        except TokenError as error:
            for each in words:
                self.assertIn(each, str(error))
            await self.rest()
            return str(error)
        raise AssertionError("there is a token")

    @returns_deferred
    async def rest(self) -> None:
        """Wait until connections and processes have ended."""
        while any(isinstance(each, Client | ProcessReader) for each in _reactor.getReaders()):
            await deferLater(_reactor, 0)


class ServerTests(IssuerCase):
    """A token server, over HTTPS only, and only the right one."""

    def setUp(self) -> None:
        super().setUp()
        self.trust = self.folder / "ca.pem"
        self.trust.write_bytes(authority().cert_pem)
        self.page = TokenPage()
        self.port = self.serve(issue("127.0.0.1", issuer=authority()))

    def serve(self, identity: Any) -> int:
        port = token_site(reactor, self.page, identity)
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def source(self, **fields: Any) -> OAuth2:
        known = {
            "token_endpoint": f"https://127.0.0.1:{self.port}/token?tenant=a",
            "client_id": "id",
            "client_secret": "client-secret",
            "scope": "https://mail.test/.default",
            "ca_file": str(self.trust),
        }
        return OAuth2(**(known | fields))

    def not_asked(self, _: object) -> None:
        self.assertEqual(self.page.asked, [])

    def test_a_clients_own_token(self) -> Deferred[None]:
        def check(_: None) -> None:
            expected = {
                "grant_type": "client_credentials",
                "client_id": "id",
                "client_secret": "client-secret",
                "scope": "https://mail.test/.default",
            }
            self.assertEqual(self.page.asked, [expected])
            (headers,) = self.page.headers
            self.assertEqual(headers["content-type"], "application/x-www-form-urlencoded")
            self.assertEqual(headers["accept"], "application/json")

        return self.gives(self.source(), Token(text="token-1", life=3600)).addCallback(check)

    def test_a_users_token_and_the_next_refresh_token(self) -> Deferred[None]:
        self.page.answer = lambda number: {
            "access_token": f"token-{number}",
            "refresh_token": f"refresh-{number}",
        }
        return self._refresh_twice()

    @returns_deferred
    async def _refresh_twice(self) -> None:
        grant = TokenGrant.of(self.source(refresh_token="refresh-0"))
        for number in (1, 2):
            token, grant = await self.issuer.fetch(grant)
            self.assertEqual(token.text, f"token-{number}")
        asked = [form["refresh_token"] for form in self.page.asked]
        self.assertEqual(asked, ["refresh-0", "refresh-1"])

    def test_a_refusal_says_why_without_secrets(self) -> Deferred[str]:
        self.page.status = 400
        self.page.answer = lambda _: {
            "error": "invalid_grant",
            "error_description": "refresh-0 of client-secret\r\nis expired",
        }
        said = "the token server refuses (HTTP 400): invalid_grant: *** of *** is expired"
        return self.refuses(self.source(refresh_token="refresh-0"), said)

    def test_a_redirect_is_not_followed(self) -> Deferred[None]:
        self.page.status = 302
        refused = self.refuses(self.source(), "refuses (HTTP 302)")
        return refused.addCallback(lambda _: self.assertEqual(len(self.page.asked), 1))

    def test_an_answer_of_any_length_is_not_read(self) -> Deferred[str]:
        self.page.answer = lambda _: b" " * 2**20
        said = "the token server 127.0.0.1: its answer is over 65536 bytes"
        return self.refuses(self.source(), said)

    def test_who_does_not_wait_for_an_answer_ends_the_connection(self) -> Deferred[None]:
        self.page.answer = lambda _: None
        return self._hang_up()

    @returns_deferred
    async def _hang_up(self) -> None:
        asked = self.issuer.fetch(TokenGrant.of(self.source()))
        while not self.page.asked:
            await deferLater(_reactor, 0)
        asked.cancel()
        failed = await self.assertFailure(asked, TokenError)
        self.assertEqual(str(failed), "the token server 127.0.0.1: no answer in time")
        await self.rest()

    def test_a_server_that_does_not_hear_of_the_end_is_left(self) -> Deferred[None]:
        self.page.answer = lambda _: None
        self.page.begin = b" " * 2**17
        return self._leave()

    @returns_deferred
    async def _leave(self) -> None:
        refused = self.refuses(self.source(), "its answer is over 65536 bytes")
        try:
            await refused.addTimeout(5, _reactor)
        finally:
            for transport in self.page.silent:
                transport.abortConnection()

    def test_a_server_that_is_not_trusted_is_told_nothing(self) -> Deferred[None]:
        said = ("the token server 127.0.0.1: the certificate's", " (SMTP_CA_FILE, caFile)")
        return self.refuses(self.source(ca_file=""), *said).addCallback(self.not_asked)

    def test_a_certificate_for_another_name_is_refused(self) -> Deferred[None]:
        self.port = self.serve(issue("192.0.2.1", issuer=authority()))
        said = "the certificate is for 192.0.2.1, not for 127.0.0.1"
        return self.refuses(self.source(), said).addCallback(self.not_asked)

    def test_a_server_that_is_away_is_named(self) -> Deferred[str]:
        self.port = free_port()
        return self.refuses(self.source(), "the token server 127.0.0.1: Connection was refused")

    def test_a_trust_file_that_can_not_be_used_is_named(self) -> Deferred[str]:
        return self.refuses(self.source(ca_file="/missing.pem"), "cannot read /missing.pem")

    def test_clients_do_not_learn_where_a_trust_file_is(self) -> Deferred[None]:
        return self._tells("the token server 127.0.0.1: its certificate can't be verified")

    @returns_deferred
    async def _tells(self, words: str) -> None:
        asked = self.issuer.fetch(TokenGrant.of(self.source(ca_file="/missing.pem")))
        error: Any = await self.assertFailure(asked, TokenError)
        self.assertEqual(error.told, f"{words} (see the log)")


class CommandTests(IssuerCase):
    """A command writes a token."""

    def command(self, code: str, *arguments: str) -> OAuth2:
        return OAuth2(token_command=(sys.executable, "-c", code, *arguments))

    def test_its_output_is_the_token(self) -> Deferred[None]:
        source = self.command("import sys; print(sys.argv[1])", "a;b$c")
        return self.gives(source, Token(text="a;b$c"))

    def test_its_output_may_tell_a_life(self) -> Deferred[None]:
        source = self.command('print(\'{"access_token": "abc", "expires_in": 60}\')')
        return self.gives(source, Token(text="abc", life=60))

    def test_it_has_the_environment_it_was_given_and_no_input(self) -> Deferred[None]:
        names = "[key for key in os.environ if key in ('MARK', 'PATH', 'HOME')]"
        code = f"import os, sys; print('+'.join(sorted({names})) + sys.stdin.read())"
        return self.gives(self.command(code), Token(text="MARK+PATH"))

    def test_when_it_fails_its_output_counts_for_nothing(self) -> Deferred[str]:
        source = self.command("print('secret'); raise SystemExit(3)")
        return self.refuses(source, f"{sys.executable} failed: it ended with status 3")

    def test_a_signal_that_ends_it_is_told(self) -> Deferred[str]:
        source = self.command("import os; os.kill(os.getpid(), 15)")
        return self.refuses(source, f"{sys.executable} failed: signal 15 ended it")

    def test_what_it_writes_instead_of_a_token_is_not_shown(self) -> Deferred[None]:
        refused = self.refuses(self.command("print('my secret')"), "holds blanks")
        return refused.addCallback(lambda said: self.assertNotIn("secret", said))

    def test_a_flood_ends_it(self) -> Deferred[str]:
        source = self.command("while True: print('x' * 1000)")
        return self.refuses(source, "wrote more than 65536 bytes")

    def test_a_program_that_is_not_there_is_named(self) -> Deferred[str]:
        said = "there is no program no-such-program to get a token from"
        return self.refuses(OAuth2(token_command=("no-such-program",)), said)

    def test_what_it_leaves_behind_does_not_keep_its_token_back(self) -> Deferred[None]:
        self.patch(issuer, "_REST_LIMIT", 0.1)
        source = OAuth2(token_command=("/bin/sh", "-c", "echo abc; sleep 3 & exit 0"))
        given = self.gives(source, Token(text="abc"))
        return given.addTimeout(2.5, _reactor)

    def test_what_it_has_started_ends_with_it(self) -> Deferred[None]:
        return self._end_all(f"sleep 60 & echo $! > {self.folder}/pid; wait")

    @returns_deferred
    async def _end_all(self, script: str) -> None:
        asked = self.issuer.fetch(TokenGrant.of(OAuth2(token_command=("/bin/sh", "-c", script))))
        while not (child := _read(self.folder / "pid")).endswith("\n"):
            await deferLater(_reactor, 0.01)
        asked.cancel()
        await self.assertFailure(asked, CancelledError)
        while "Z" not in (status := _read(Path("/proc", child.strip(), "stat"))) and status:
            await deferLater(_reactor, 0.01)
        await self.rest()

    def test_who_does_not_wait_for_it_ends_it(self) -> Deferred[None]:
        asked = self.issuer.fetch(TokenGrant.of(self.command("import time; time.sleep(60)")))
        asked.cancel()
        ended = self.assertFailure(asked, CancelledError)
        return ended.addCallback(lambda _: self.rest())


def _read(path: Path) -> str:
    """Give what a file holds that may not be there."""
    try:
        return path.read_text("ascii")
    except OSError:
        return ""


class FileTests(IssuerCase):
    """A file holds a token."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.folder / "token"
        self.source = OAuth2(token_file=str(self.path))

    def test_it_is_read(self) -> Deferred[None]:
        self.path.write_text("abc\n", "utf-8")
        return self.gives(self.source, Token(text="abc"))

    def test_a_file_that_is_not_there_is_named(self) -> Deferred[str]:
        said = f"{self.path} cannot be read: No such file or directory"
        return self.refuses(self.source, said)

    def test_an_empty_file_is_named(self) -> Deferred[str]:
        self.path.touch()
        return self.refuses(self.source, f"{self.path}: there is no token in it")
