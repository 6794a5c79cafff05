# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.core.oauth: what is asked for tokens, and what the answers say."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.oauth import USUAL_LIFE, OAuth2, Token, TokenGrant, faults, read_output
from smtpmailer.errors import TokenError

_SOURCE = OAuth2(
    token_endpoint="https://login.test/token",
    client_id="client & co",
    client_secret="client-secret",
    scope="a b",
    refresh_token="first-refresh",
)
_CLIENT = attrs.evolve(_SOURCE, refresh_token="")


def _answer(**fields: Any) -> bytes:
    return json.dumps({"access_token": "abc", "token_type": "Bearer", **fields}).encode()


class FormTests(SynchronousTestCase):
    """The request to a token server."""

    def form(self, source: OAuth2) -> dict[str, list[str]]:
        return parse_qs(TokenGrant.of(source).form().decode("ascii"), strict_parsing=True)

    def test_a_refresh_token_is_asked_with(self) -> None:
        expected = {
            "grant_type": ["refresh_token"],
            "refresh_token": ["first-refresh"],
            "client_id": ["client & co"],
            "client_secret": ["client-secret"],
            "scope": ["a b"],
        }
        self.assertEqual(self.form(_SOURCE), expected)

    def test_without_one_the_client_asks_for_itself(self) -> None:
        expected = {
            "grant_type": ["client_credentials"],
            "client_id": ["client & co"],
            "client_secret": ["client-secret"],
            "scope": ["a b"],
        }
        self.assertEqual(self.form(_CLIENT), expected)

    def test_what_is_empty_is_left_out(self) -> None:
        public = attrs.evolve(_SOURCE, client_secret="", scope="")
        self.assertEqual(set(self.form(public)), {"grant_type", "refresh_token", "client_id"})


class AnswerTests(SynchronousTestCase):
    """What a token server answers."""

    def read(self, body: bytes, status: int = 200) -> tuple[Token, TokenGrant]:
        return TokenGrant.of(_SOURCE).read(status, body)

    def refused(self, body: bytes, status: int = 200) -> str:
        error = self.assertRaises(TokenError, self.read, body, status)
        return str(error)

    def test_a_token_is_given_with_its_life(self) -> None:
        for said, life in (
            (3600, 3600),
            ("3600", 3600),
            (1.5, 1.5),
            (10**12, 31_536_000),
            ("1e400", 31_536_000),
        ):
            token, _ = self.read(_answer(expires_in=said))
            self.assertEqual(token, Token(text="abc", life=life))

    def test_without_a_life_that_makes_sense_it_is_a_short_one(self) -> None:
        senseless: tuple[Any, ...] = (None, 0, -5, "soon", [], {}, True, "nan", 10**400)
        for said in senseless:
            self.assertEqual(self.read(_answer(expires_in=said))[0].life, USUAL_LIFE, said)
        self.assertEqual(self.read(_answer())[0].life, USUAL_LIFE)

    def test_a_new_refresh_token_takes_the_place_of_the_old_one(self) -> None:
        _, grant = self.read(_answer(refresh_token="second-refresh"))
        self.assertIn(b"refresh_token=second-refresh", grant.form())
        self.assertEqual(self.read(_answer())[1], TokenGrant.of(_SOURCE))

    def test_a_client_that_asks_for_itself_goes_on_to_do_so(self) -> None:
        grant = TokenGrant.of(_CLIENT)
        self.assertEqual(grant.read(200, _answer(refresh_token="x"))[1], grant)

    def test_a_refusal_says_why(self) -> None:
        body = json.dumps({"error": "invalid_grant", "error_description": "expired"}).encode()
        said = "the token server refuses (HTTP 400): invalid_grant: expired"
        self.assertEqual(self.refused(body, 400), said)
        self.assertIn("(HTTP 503): it does not say why", self.refused(b"<html>", 503))
        self.assertIn("it does not say why", self.refused(b'{"error": 5}', 400))

    def test_what_holds_no_token_is_none(self) -> None:
        for body in (
            b"",
            b"[]",
            b"{}",
            b'{"access_token": 5}',
            b'{"access_token": ""}',
            b"[" * 9999,
        ):
            self.assertIn("no access_token", self.refused(body))
        self.assertIn("of the kind 'mac'", self.refused(_answer(token_type="mac")))
        self.assertEqual(self.read(_answer(token_type="bearer"))[0].text, "abc")

    def test_a_token_can_not_end_a_line_or_a_field(self) -> None:
        for bad in ("a b", "a\r\nRCPT", "a\1", "a\0", "ä"):
            self.assertNotIn(bad, self.refused(_answer(access_token=bad)))

    @given(st.binary(max_size=60), st.integers(100, 599))
    @settings(deadline=None, max_examples=100, derandomize=True)
    def test_any_answer_is_a_token_or_a_refusal(self, body: bytes, status: int) -> None:
        with self.assertRaises(TokenError):
            self.read(body, status)

    def test_a_token_that_came_with_a_fault_is_not_shown(self) -> None:
        told = _answer(
            error="no", error_description="for a/b+c and a%2Fb%2Bc", access_token="a/b+c"
        )
        self.assertIn("no: for *** and ***", self.refused(told, 400))
        self.assertIn("of the kind '***'", self.refused(_answer(token_type="abc")))
        renewed = _answer(token_type="x second", refresh_token="second")
        self.assertIn("of the kind 'x ***'", self.refused(renewed))

    def test_secrets_are_known_as_forms_have_them_too(self) -> None:
        source = attrs.evolve(_SOURCE, client_secret="a/b c", refresh_token="1//r")
        grant = TokenGrant(source=source, refresh_token="2//r")
        expected = {"a/b c", "a%2Fb+c", "a%2fb+c", "a/b%20c", "a%2Fb%20c", "a%2fb%20c"}
        expected |= {form for n in "12" for form in (f"{n}//r", f"{n}%2F%2Fr", f"{n}%2f%2fr")}
        self.assertEqual(set(grant.secrets), expected)
        self.assertEqual(TokenGrant.of(OAuth2(token_endpoint="https://x.test")).secrets, ())

    def test_secrets_are_not_shown(self) -> None:
        shown = repr((_SOURCE, TokenGrant.of(_SOURCE), self.read(_answer())))
        for secret in ("client-secret", "first-refresh", "abc"):
            self.assertNotIn(secret, shown)


class OutputTests(SynchronousTestCase):
    """What files and commands give."""

    def test_a_token_may_stand_alone_or_in_json(self) -> None:
        self.assertEqual(read_output(" abc\n"), Token(text="abc"))
        self.assertEqual(read_output(_answer(expires_in=60).decode()), Token(text="abc", life=60))

    def test_what_is_no_token_is_refused_without_being_shown(self) -> None:
        for text in ("", "\n", "my secret", "{}", "{"):
            error = self.assertRaises(TokenError, read_output, text)
            self.assertNotIn("secret", str(error))


class FaultTests(SynchronousTestCase):
    """A source is whole, and only one."""

    def faults(self, **fields: Any) -> list[str]:
        return [f"{field} {text}" for field, text in faults(OAuth2(**fields), str.upper)]

    def fault(self, **fields: Any) -> str:
        (fault,) = self.faults(**fields)
        return fault

    def test_each_way_may_be_used(self) -> None:
        for source in (
            _SOURCE,
            _CLIENT,
            attrs.evolve(_SOURCE, client_secret=""),
            OAuth2(token_file="/t"),
            OAuth2(token_command=("t",)),
        ):
            self.assertEqual(list(faults(source, str)), [])

    def test_there_is_one_way_and_not_two(self) -> None:
        one = "TOKEN_ENDPOINT or TOKEN_FILE or TOKEN_COMMAND"
        said = f"token_endpoint has to be set: tokens come from one of {one}"
        self.assertEqual(self.fault(client_id="x"), said)
        said = "token_command can't be set beside TOKEN_FILE"
        self.assertIn(said, self.fault(token_file="/t", token_command=("t",)))
        said = "client_id goes with TOKEN_ENDPOINT, not with TOKEN_FILE"
        self.assertEqual(self.fault(token_file="/t", client_id="x"), said)

    def test_a_token_server_is_reached_over_https_only(self) -> None:
        for url in (
            "http://login.test/token",
            "login.test",
            "https://",
            "https://a:b@login.test/",
            "https://login.test/#x",
            "https://login.test:x/",
            "https://login.test:0/",
            "https://lögin.test/",
            "https://login.test/a b",
        ):
            fault = self.fault(token_endpoint=url, client_id="c", client_secret="s")
            self.assertIn("has to be a URL such as https://", fault)

    def test_a_token_server_has_to_know_who_asks(self) -> None:
        url = "https://login.test/token"
        self.assertIn("client_id has to be set", self.fault(token_endpoint=url, client_secret="s"))
        fault = self.fault(token_endpoint=url, client_id="c")
        self.assertIn("refresh_token has to be set, or CLIENT_SECRET", fault)

    def test_a_source_has_a_name_for_the_log(self) -> None:
        self.assertEqual(_SOURCE.name, "login.test, client client & co")
        self.assertEqual(OAuth2(token_file="/t").name, "/t")
        self.assertEqual(OAuth2(token_command=("prog", "arg")).name, "prog")
