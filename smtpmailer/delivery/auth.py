# SPDX-License-Identifier: MIT
"""SMTP logins: which mechanism to use and what to say in it (RFC 4954)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import attrs

__all__ = ["Login", "choose_logins", "choose_token_logins"]

#: Under TLS the password is safe on its way: the mechanism that needs no second trip comes first.
#: Without TLS the one which does not send it comes first.
_ORDER_UNDER_TLS = ("PLAIN", "LOGIN", "CRAM-MD5")
_ORDER_WITHOUT_TLS = ("CRAM-MD5", "PLAIN", "LOGIN")


@attrs.define
class Login:
    """One attempt to log in: ``initial`` goes with the AUTH command, then answers follow."""

    name: str
    initial: bytes | None = attrs.field(repr=False)
    _answers: list[Callable[[bytes], bytes]] = attrs.field(repr=False)

    def answer(self, challenge: bytes) -> bytes | None:
        """Give the answer to the next decoded challenge; None when no more are due."""
        return self._answers.pop(0)(challenge) if self._answers else None


def choose_logins(offered: str, user: str, password: str, *, secure: bool) -> list[Login]:
    """Give the logins to try, best first, out of the AUTH parameters of the EHLO reply."""
    names = offered.upper().split()
    order = _ORDER_UNDER_TLS if secure else _ORDER_WITHOUT_TLS
    makers = {"PLAIN": _plain, "LOGIN": _login, "CRAM-MD5": _cram_md5}
    credentials = user.encode(), password.encode()
    if b"\0" in b"".join(credentials):
        makers.pop("PLAIN")  # NUL separates its fields (RFC 4616).
    return [makers[name](*credentials) for name in order if name in names and name in makers]


def choose_token_logins(offered: str, user: str, token: str, host: str, port: int) -> list[Login]:
    """Give the logins with an access token to try, the standard's first; see ``choose_logins``."""
    names = offered.upper().split()
    bearer = f"auth=Bearer {token}\1\1".encode()
    # RFC 5801 section 4: these would end the name in the header.
    name = user.replace("=", "=3D").replace(",", "=2C").encode()
    where = f"host={host}\1port={port}\1".encode()
    logins = (
        _with_token("OAUTHBEARER", b"n,a=" + name + b",\1" + where + bearer, b"\1"),
        _with_token("XOAUTH2", b"user=" + user.encode() + b"\1" + bearer, b""),
    )
    return [login for login in logins if login.name in names]


def _with_token(name: str, message: bytes, dismissal: bytes) -> Login:
    """RFC 7628, and Google's and Microsoft's XOAUTH2.

    A challenge that says something is the reason of a refusal, whose reply comes after
    ``dismissal`` (RFC 7628 section 3.2.3). One that does not asks for the message.
    """

    def respond(challenge: bytes) -> bytes:
        return dismissal if challenge else message

    return Login(name, message, [respond, lambda _: dismissal])


def _plain(user: bytes, password: bytes) -> Login:
    """RFC 4616; a server that ignores the initial response asks for it again."""
    message = b"\0" + user + b"\0" + password
    return Login("PLAIN", message, [lambda _: message])


def _login(user: bytes, password: bytes) -> Login:
    """Answer user, then password: prompts differ from server to server, their order does not."""
    return Login("LOGIN", None, [lambda _: user, lambda _: password])


def _cram_md5(user: bytes, password: bytes) -> Login:
    """RFC 2195."""

    def respond(challenge: bytes) -> bytes:
        return user + b" " + hmac.new(password, challenge, hashlib.md5).hexdigest().encode()

    return Login("CRAM-MD5", None, [respond])
