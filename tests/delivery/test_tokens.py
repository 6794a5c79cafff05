# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.delivery.tokens: one request for many, ahead of time, and not too often."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.oauth import OAuth2, Token, TokenGrant
from smtpmailer.delivery import tokens
from smtpmailer.delivery.tokens import FETCH_LIMIT, Tokens
from smtpmailer.errors import TokenError

_SOURCE = OAuth2(token_endpoint="https://login.test/t", client_id="c", refresh_token="r0")
_FILE = OAuth2(token_file="/token")


class TokensCase(SynchronousTestCase):
    """Tokens whose sources are the test."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[TokenGrant] = []
        self.asking: list[Deferred[tuple[Token, TokenGrant]]] = []
        self.tokens = Tokens(self.fetch, self.clock)

    def fetch(self, grant: TokenGrant) -> Deferred[tuple[Token, TokenGrant]]:
        self.asked.append(grant)
        self.asking.append(Deferred())
        return self.asking[-1]

    def give(self, text: str, life: float = 3600, refresh_token: str = "") -> None:
        """Answer the oldest request."""
        grant = self.asked[-1]
        if refresh_token:
            grant = TokenGrant(source=grant.source, refresh_token=refresh_token)
        self.asking.pop(0).callback((Token(text=text, life=life), grant))

    def refuse(self, why: str = "invalid_grant") -> None:
        self.asking.pop(0).errback(TokenError(why))

    def have(self, text: str, life: float = 3600, source: OAuth2 = _SOURCE) -> None:
        """Get a first token."""
        waiting = self.tokens.token(source)
        self.give(text, life)
        self.assertEqual(self.successResultOf(waiting), text)

    def now(self, source: OAuth2 = _SOURCE) -> str:
        return self.successResultOf(self.tokens.token(source))


class KeepingTests(TokensCase):
    """A token serves all until it nears its end."""

    def test_one_request_serves_all_who_wait(self) -> None:
        waiting = [self.tokens.token(_SOURCE) for _ in range(3)]
        self.give("a")
        self.assertEqual([self.successResultOf(each) for each in waiting], ["a"] * 3)
        self.assertEqual((self.now(), len(self.asked)), ("a", 1))

    def test_each_source_has_its_own(self) -> None:
        other = OAuth2(token_endpoint="https://login.test/t", client_id="other")
        self.have("a")
        self.have("b", source=other)
        self.assertEqual((self.now(), self.now(other)), ("a", "b"))

    def test_a_new_one_is_asked_for_ahead_while_the_old_one_serves(self) -> None:
        self.have("a")
        self.clock.advance(3600 - 300 - 1)
        self.assertEqual((self.now(), len(self.asked)), ("a", 1))
        self.clock.advance(1)
        self.assertEqual([self.now(), self.now()], ["a", "a"])
        self.assertEqual(len(self.asked), 2)
        self.give("b")
        self.assertEqual(self.now(), "b")

    def test_near_its_end_a_token_is_not_used(self) -> None:
        self.have("a")
        self.clock.advance(3600 - 30)
        waiting = self.tokens.token(_SOURCE)
        self.assertNoResult(waiting)
        self.give("b")
        self.assertEqual(self.successResultOf(waiting), "b")

    def test_a_short_life_is_used_too(self) -> None:
        self.have("a", 10)
        self.clock.advance(7)
        self.assertEqual((self.now(), len(self.asked)), ("a", 1))
        self.clock.advance(0.5)
        self.assertEqual((self.now(), len(self.asked)), ("a", 2))
        self.clock.advance(1.5)
        self.assertNoResult(self.tokens.token(_SOURCE))

    def test_a_new_refresh_token_is_used_the_next_time(self) -> None:
        waiting = self.tokens.token(_SOURCE)
        self.give("a", refresh_token="r1")
        self.successResultOf(waiting)
        self.clock.advance(3600)
        self.tokens.token(_SOURCE)
        self.assertEqual([grant.refresh_token for grant in self.asked], ["r0", "r1"])

    def test_a_file_is_read_for_each_login(self) -> None:
        self.have("a", source=_FILE)
        self.have("b", source=_FILE)
        self.assertEqual(len(self.asked), 2)

    def test_who_waits_no_longer_ends_nothing_for_the_others(self) -> None:
        first, second = self.tokens.token(_SOURCE), self.tokens.token(_SOURCE)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.give("a")
        self.assertEqual(self.successResultOf(second), "a")

    def test_sources_of_the_past_are_forgotten(self) -> None:
        self.patch(tokens, "_MOST", 2)
        for number in range(5):
            self.tokens.token(OAuth2(token_file=str(number)))
        self.assertEqual(len(self.tokens._sources), 2)

    def test_tokens_are_not_shown(self) -> None:
        with capturedLogs() as logs:
            self.have("tell-nobody")
        self.assertNotIn("tell-nobody", repr(logs) + repr(self.tokens._sources))
        (line,) = [formatEvent(event) for event in logs]
        self.assertEqual(line, "a new access token from login.test, client c, good for 3600 s")


class FailureTests(TokensCase):
    """A source that fails is left alone for a while."""

    def ask_in_vain(self) -> str:
        """Ask, and be refused."""
        waiting = self.tokens.token(_SOURCE)
        self.refuse()
        return str(self.failureResultOf(waiting, TokenError).value)

    def test_all_who_wait_are_told_why(self) -> None:
        waiting = [self.tokens.token(_SOURCE) for _ in range(2)]
        with capturedLogs() as logs:
            self.refuse("invalid_grant: expired")
        for each in waiting:
            self.assertIn("expired", str(self.failureResultOf(each, TokenError).value))
        (line,) = [formatEvent(event) for event in logs]
        said = "no access token from login.test, client c: invalid_grant: expired"
        self.assertEqual(line, said)

    def test_pauses_grow_and_end(self) -> None:
        for pause in (5, 10, 20, 40, 80, 160, 300, 300):
            self.assertEqual(self.ask_in_vain(), "invalid_grant")
            self.clock.advance(pause - 0.5)
            told = self.failureResultOf(self.tokens.token(_SOURCE), TokenError)
            self.assertEqual(str(told.value), "invalid_grant (asked again in 0 s)")
            self.clock.advance(0.5)
        self.have("a")
        self.clock.advance(3600)
        self.ask_in_vain()
        self.clock.advance(5)
        self.have("b")

    def test_a_failure_ahead_of_the_end_costs_nobody_his_token(self) -> None:
        self.have("a")
        self.clock.advance(3400)
        self.assertEqual(self.now(), "a")
        self.refuse()
        self.assertEqual((self.now(), len(self.asked)), ("a", 2))
        self.clock.advance(5)
        self.assertEqual((self.now(), len(self.asked)), ("a", 3))

    def test_silence_is_a_failure(self) -> None:
        waiting = self.tokens.token(_SOURCE)
        self.clock.advance(FETCH_LIMIT)
        said = str(self.failureResultOf(waiting, TokenError).value)
        self.assertEqual(said, "the token server login.test gave no token within 30 s")

    def test_clients_learn_of_no_path_and_no_program(self) -> None:
        command = OAuth2(token_command=("/opt/secret/tool", "-x"))
        for source, word in ((_FILE, "file"), (command, "command")):
            told = f"the token {word} gives no token (see the log)"
            waiting = self.tokens.token(source)
            with capturedLogs() as logs:
                self.refuse(f"{source.name} is empty")
            self.assertIn(f"{source.name} is empty", formatEvent(logs[0]))
            self.assertEqual(str(self.failureResultOf(waiting, TokenError).value), told)
            again = self.failureResultOf(self.tokens.token(source), TokenError)
            self.assertEqual(str(again.value), f"{told} (asked again in 5 s)")
            self.clock.advance(5)
            waiting = self.tokens.token(source)
            self.clock.advance(FETCH_LIMIT)
            self.asking.clear()
            late = str(self.failureResultOf(waiting, TokenError).value)
            self.assertEqual(late, f"the token {word} gave no token within 30 s")

    def test_what_a_failure_holds_back_from_clients_is_in_the_log(self) -> None:
        waiting = self.tokens.token(_SOURCE)
        with capturedLogs() as logs:
            self.asking.pop(0).errback(TokenError("cannot read /ca.pem", told="no certificates"))
        self.assertIn("cannot read /ca.pem", formatEvent(logs[0]))
        self.assertEqual(str(self.failureResultOf(waiting, TokenError).value), "no certificates")

    def test_a_fault_of_our_own_is_logged_and_told_without_its_words(self) -> None:
        waiting = self.tokens.token(_SOURCE)
        self.asking.pop(0).errback(ZeroDivisionError("secret"))
        self.assertNotIn("secret", str(self.failureResultOf(waiting, TokenError).value))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class RefusalTests(TokensCase):
    """A token that a server refuses is replaced, but not for ever."""

    def test_a_refused_token_is_replaced_once_for_all(self) -> None:
        self.have("a")
        self.assertTrue(self.tokens.refused(_SOURCE, "a"))
        waiting = self.tokens.token(_SOURCE)
        self.assertTrue(self.tokens.refused(_SOURCE, "a"))
        self.give("b")
        self.assertEqual(self.successResultOf(waiting), "b")
        self.assertTrue(self.tokens.refused(_SOURCE, "a"))
        self.assertEqual((self.now(), len(self.asked)), ("b", 2))

    def test_where_the_next_one_is_refused_too_none_is_asked_for_within_a_minute(self) -> None:
        self.have("a")
        self.assertTrue(self.tokens.refused(_SOURCE, "a"))
        self.have("b")
        self.clock.advance(59)
        self.assertFalse(self.tokens.refused(_SOURCE, "b"))
        self.assertEqual(self.now(), "b")
        self.clock.advance(1)
        self.assertTrue(self.tokens.refused(_SOURCE, "b"))
        self.have("c")
