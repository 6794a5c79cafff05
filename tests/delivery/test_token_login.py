# SPDX-License-Identifier: MIT
"""Logins with access tokens: XOAUTH2 and OAUTHBEARER, and what follows when one is refused."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import DeliveryResult, Encryption, Outcome, Route
from smtpmailer.core.oauth import OAuth2, Token, TokenGrant
from smtpmailer.delivery.auth import choose_token_logins
from smtpmailer.delivery.connecting import Link
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.sender import Sender
from smtpmailer.delivery.tls import ClientTls
from smtpmailer.delivery.tokens import Tokens
from smtpmailer.errors import TokenError
from tests.delivery.certificates import issue
from tests.delivery.hostile import mail, plain_route
from tests.delivery.network import Network, StrictServer

_IDENTITY = issue("192.0.2.1")
_SOURCE = OAuth2(token_endpoint="https://login.test/t", client_id="c", refresh_token="r")
_ROUTE = plain_route(
    user="me@x.example", oauth2=_SOURCE, encryption=Encryption.STARTTLS, verify=False, port=587
)
_REASON = "SMTP Error: Could not authenticate."
_WHY = b64encode(b'{"status":"400","schemes":"Bearer"}').decode()


class TokenServer(StrictServer):
    """Takes logins with tokens; each token that comes is noted in ``seen``.

    It wants ``right``. It refuses the others after a challenge, or at once if ``blunt``.
    """

    def __init__(self, rig: LoginCase) -> None:
        offer = (f"AUTH {rig.offer}",) if rig.offer else ()
        super().__init__(
            extensions=("STARTTLS",),
            tls_extensions=("PIPELINING", *offer),
            tls=_IDENTITY.options(),
        )
        self._rig = rig
        self._refusing = False

    def on_AUTH(self, text: str) -> None:
        mechanism, *initial = text.split()[1:]
        self._rig.mechanisms.append(mechanism)
        if initial:
            self._judge(b64decode(initial[0]))
        else:
            self.reply("334 ")

    def on_login_answer(self, line: bytes) -> None:
        if self._refusing:
            self._rig.dismissals.append(b64decode(line))
            self.reply(f"{self._rig.code} 5.7.8 {self._rig.says}")
        else:
            self._judge(b64decode(line))

    def on_QUIT(self, text: str) -> None:
        if not self._rig.lingers:
            super().on_QUIT(text)

    def _judge(self, message: bytes) -> None:
        rig = self._rig
        rig.messages.append(message)
        token = message.partition(b"auth=Bearer ")[2].partition(b"\1")[0].decode()
        if token in rig.right:
            self.reply("235 2.7.0 welcome")
        elif rig.blunt:
            self.reply(f"{rig.code} 5.7.3 {rig.says}")
        else:
            self._refusing = True
            self.reply(f"334 {_WHY}")


class LoginCase(SynchronousTestCase):
    """A sender, servers that want tokens, and a source whose tokens are ``t1``, ``t2``..."""

    offer = "PLAIN XOAUTH2 OAUTHBEARER"
    blunt = lingers = False
    code = 535
    says = "not accepted"
    life = 3600.0

    def setUp(self) -> None:
        self.right: set[str] = {"t1"}
        self.mechanisms: list[str] = []
        self.messages: list[bytes] = []
        self.dismissals: list[bytes] = []
        self.given = 0
        self.name: Callable[[int], str] = lambda number: f"t{number}"
        self.fetch: Callable[[TokenGrant], Deferred[Any]] = self.give
        self.network = Network(lambda: TokenServer(self))
        reactor = self.network.reactor
        tls, tokens = ClientTls(), Tokens(self.ask, reactor)
        self.tokens = tokens
        self.network.sender = Sender(
            reactor,
            600,
            PoolLimits(connections=2),
            connect=lambda route: Link(reactor, route, tls, tokens),
        )

    def ask(self, grant: TokenGrant) -> Deferred[Any]:
        return self.fetch(grant)

    def give(self, grant: TokenGrant) -> Deferred[Any]:
        self.given += 1
        return succeed((Token(text=self.name(self.given), life=self.life), grant))

    def deliver(self, route: Route = _ROUTE) -> DeliveryResult:
        self.network.results.clear()
        self.network.send(route=route)
        self.network.settle()
        for _ in range(3):
            if not self.network.results:
                self.network.advance(1)
        return self.network.results[0]

    def assert_refused(self, result: DeliveryResult, words: str) -> None:
        (outcome,) = result.outcomes
        self.assertEqual((outcome.outcome, result.reason), (Outcome.TEMPORARY, _REASON))
        self.assertIn(words, outcome.reply)
        self.assertTrue(result.untaken)


class MechanismTests(LoginCase):
    """What is said, by mechanism."""

    def test_the_standards_mechanism_comes_first(self) -> None:
        self.assertTrue(self.deliver().delivered)
        self.assertEqual(self.mechanisms, ["OAUTHBEARER"])
        expected = b"n,a=me@x.example,\1host=192.0.2.1\1port=587\1auth=Bearer t1\1\1"
        self.assertEqual(self.messages, [expected])

    def test_xoauth2_says_what_google_and_microsoft_want(self) -> None:
        self.offer = "LOGIN XOAUTH2"
        self.assertTrue(self.deliver().delivered)
        self.assertEqual(self.messages, [b"user=me@x.example\1auth=Bearer t1\1\1"])

    def test_a_user_can_not_end_the_name(self) -> None:
        (login, _) = choose_token_logins("XOAUTH2 OAUTHBEARER", "a=b,c", "t", "h", 1)
        self.assertEqual((login.initial or b"").split(b"\1")[0], b"n,a=a=3Db=2Cc,")

    def test_a_long_token_waits_until_it_is_asked_for(self) -> None:
        long = "t" * 2000
        self.right = {long}
        self.name = lambda _: long
        for offer in ("XOAUTH2", "OAUTHBEARER"):
            self.offer = offer
            self.network.servers.clear()
            self.assertTrue(self.deliver(attrs.evolve(_ROUTE, user=offer)).delivered)
            self.assertIn(f"AUTH {offer}", self.network.servers[-1].commands)
            self.assertIn(long.encode(), self.messages[-1])

    def test_a_password_is_not_tried_in_its_place(self) -> None:
        self.offer = "PLAIN LOGIN"
        self.assert_refused(
            self.deliver(), "no login with an access token is offered (PLAIN LOGIN)"
        )
        self.assertEqual(self.mechanisms, [])

    def test_without_tls_no_token_is_sent(self) -> None:
        self.network.make = lambda: StrictServer(extensions=("AUTH XOAUTH2",))
        result = self.deliver(attrs.evolve(_ROUTE, encryption=Encryption.NONE))
        self.assert_refused(result, "no login with an access token is offered")
        self.assertNotIn("AUTH", " ".join(self.network.servers[-1].commands))

    def test_a_mechanism_that_is_not_wanted_after_all_is_followed_by_the_other(self) -> None:
        self.blunt, self.code, self.right = True, 504, set()
        self.assert_refused(self.deliver(), "504")
        self.assertEqual(self.mechanisms[:2], ["OAUTHBEARER", "XOAUTH2"])

    def test_logins_do_not_show_their_tokens(self) -> None:
        shown = repr(choose_token_logins("XOAUTH2 OAUTHBEARER", "u", "tell-nobody", "h", 1))
        self.assertNotIn("tell-nobody", shown)


class RefusalTests(LoginCase):
    """A refused token is replaced once, then it is a refused login."""

    def test_a_refused_token_is_replaced_and_tried_again(self) -> None:
        for offer, dismissal in (("XOAUTH2", b""), ("OAUTHBEARER", b"\1")):
            with self.subTest(offer):
                self.setUp()
                self.right, self.offer = {"t2"}, offer
                self.assertTrue(self.deliver().delivered)
                self.assertEqual((self.given, self.dismissals), (2, [dismissal]))
                self.assertEqual(len(self.network.open), 1)

    def test_a_server_may_refuse_without_a_challenge(self) -> None:
        self.blunt, self.right = True, {"t2"}
        self.assertTrue(self.deliver().delivered)
        self.assertEqual((self.given, self.dismissals), (2, []))

    def test_when_the_next_one_is_refused_too_that_is_told(self) -> None:
        self.right = set()
        result = self.deliver()
        self.assert_refused(result, "access token refused: 535 5.7.8 not accepted")
        self.assertEqual(self.given, 2)
        self.assertEqual(self.network.open, [])

    def test_mails_that_follow_cost_the_source_nothing_for_a_minute(self) -> None:
        self.right = set()
        for _ in range(3):
            self.assert_refused(self.deliver(), "access token refused")
        self.assertEqual(self.given, 2)
        self.network.advance(60)
        self.deliver()
        self.assertEqual(self.given, 3)

    def test_a_token_that_is_refused_and_the_same_again_is_not_tried_twice(self) -> None:
        self.right, self.name = set(), lambda _: "always"
        self.assert_refused(self.deliver(), "access token refused")
        self.assertEqual((self.given, len(self.messages)), (2, 1))

    def test_no_more_than_two_tokens_are_tried_even_if_there_are_more(self) -> None:
        self.right = set()

        # As if others had got a new one each time.
        def refused(*_: object) -> bool:
            self.tokens._sources.clear()
            return True

        self.patch(self.tokens, "refused", refused)
        self.assert_refused(self.deliver(), "access token refused")
        self.assertEqual(len(self.messages), 2)

    def test_a_server_in_trouble_says_nothing_about_the_token(self) -> None:
        self.blunt, self.code, self.right = True, 454, set()
        self.assert_refused(self.deliver(), "login refused: 454")
        self.assertEqual(self.given, 1)

    def test_a_source_that_gives_no_token_is_a_refused_login_without_a_connection(self) -> None:
        self.fetch = lambda _: fail(TokenError("invalid_grant: the user said no"))
        said = "no access token: invalid_grant: the user said no"
        self.assert_refused(self.deliver(), said)
        self.assertEqual(self.network.servers, [])

    def test_a_source_that_fails_when_a_token_was_refused_is_told(self) -> None:
        self.right = set()
        first = self.give

        def once(grant: TokenGrant) -> Deferred[Any]:
            self.fetch = lambda _: fail(TokenError("invalid_grant"))
            return first(grant)

        self.fetch = once
        self.assert_refused(self.deliver(), "no access token: invalid_grant")
        self.network.advance(60)
        self.assertEqual(self.network.open, [])

    def test_tokens_are_in_no_result_and_no_log(self) -> None:
        self.right, self.says = set(), "no such token as tell-nobody-2 here"
        self.name = lambda number: f"tell-nobody-{number}"
        with capturedLogs() as logs:
            result = self.deliver()
        seen = repr((result, result.dialogue, logs))
        self.assertNotIn("tell-nobody", seen)
        for message in self.messages:
            self.assertNotIn(b64encode(message).decode(), seen)


class PoolTests(LoginCase):
    """Sessions belong to the source of tokens, not to the token."""

    def test_a_new_token_does_not_cost_the_session(self) -> None:
        self.life = 100.0
        self.right = {"t1", "t2"}
        for _ in range(5):
            self.assertTrue(self.deliver().delivered)
            self.network.advance(20)
        self.assertEqual((len(self.network.servers), self.given), (1, 1))
        for _ in range(2):
            self.network.send(mail(), _ROUTE)
        self.network.settle()
        self.assertEqual((len(self.network.servers), self.given), (2, 2))
        # Both went over the session that was there: that of the new token came later.
        self.assertEqual([len(server.mails) for server in self.network.servers], [7, 0])

    def test_many_sessions_share_one_request(self) -> None:
        asking: list[Deferred[Any]] = []

        def ask(_: TokenGrant) -> Deferred[Any]:
            asking.append(Deferred())
            return asking[-1]

        self.fetch = ask
        for _ in range(2):
            self.network.send(mail(), _ROUTE)
        self.network.settle()
        self.assertEqual((len(asking), self.network.servers), (1, []))
        asking[0].callback((Token(text="t1"), TokenGrant.of(_SOURCE)))
        self.network.settle()
        self.assertEqual(len(self.network.servers), 2)
        self.assertEqual(self.network.outcomes, [Outcome.DELIVERED] * 2)

    def test_who_gives_up_waiting_for_a_token_leaves_nothing_behind(self) -> None:
        self.fetch = lambda _: Deferred()
        sending = self.network.send(mail(), _ROUTE)
        self.network.settle()
        self.assertEqual(self.network.sender.sessions, 1)
        sending.cancel()
        self.assertEqual((len(self.network.results), self.network.sender.sessions), (1, 0))

    def test_who_gives_up_before_the_second_connection_makes_none(self) -> None:
        self.lingers, self.right = True, set()
        sending = self.network.send(mail(), _ROUTE)
        self.network.settle()
        sending.cancel()
        self.network.advance(10)
        self.assertEqual((len(self.network.results), self.network.sender.sessions), (1, 0))
        self.assertEqual((self.given, len(self.network.servers)), (1, 1))

    def test_a_server_that_lingers_is_not_waited_for_long(self) -> None:
        self.lingers, self.right = True, {"t2"}
        self.network.send(mail(), _ROUTE)
        self.network.settle()
        self.network.advance(5)
        self.assertEqual(self.network.outcomes, [Outcome.DELIVERED])

    def test_who_gives_up_between_two_tokens_leaves_nothing_behind(self) -> None:
        self.right = set()
        first = self.give

        def once(grant: TokenGrant) -> Deferred[Any]:
            self.fetch = lambda _: Deferred()
            return first(grant)

        self.fetch = once
        sending = self.network.send(mail(), _ROUTE)
        self.network.settle()
        sending.cancel()
        self.network.advance(10)
        self.assertEqual((len(self.network.results), self.network.sender.sessions), (1, 0))
        self.assertEqual(self.network.open, [])
