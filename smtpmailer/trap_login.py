# SPDX-License-Identifier: MIT
"""Who may log in to the mail trap: anybody, or one user with one password."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.cred.checkers import ICredentialsChecker, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import (
    CramMD5Credentials,
    IAnonymous,
    IUsernamePassword,
    UsernamePassword,
)
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, succeed
from twisted.mail.interfaces import IChallengeResponse, IMessageDelivery
from twisted.mail.smtp import LOGINCredentials
from zope.interface import Interface, implementer

__all__ = ["Guest", "challengers", "make_portal"]


def make_portal(user: str | None, password: str) -> Portal:
    """Make the portal that lets ``user`` in, or anybody (also without a login) when it is None."""
    if user is None:
        return Portal(_Realm(), [_Anybody()])
    # Its name warns of keeping passwords in memory; here they came from the command line.
    one = InMemoryUsernamePasswordDatabaseDontUse()
    one.addUser(user.encode("utf-8"), password.encode("utf-8"))
    return Portal(_Realm(), [one])


def challengers(host: bytes, *, cram: bool) -> dict[bytes, Callable[[], Any]]:
    """Give the AUTH mechanisms; CRAM-MD5 can't be checked without knowing the password."""
    offered: dict[bytes, Callable[[], Any]] = {b"PLAIN": _Plain, b"LOGIN": LOGINCredentials}
    if cram:
        offered[b"CRAM-MD5"] = lambda: CramMD5Credentials(host)
    return offered


@implementer(IMessageDelivery)
class Guest:
    """A client that was let in: may send from anybody to anybody. ``user`` is None unnamed."""

    def __init__(self, user: str | None) -> None:
        self.user = user

    def validateFrom(self, helo: tuple[bytes, bytes], origin: Any) -> Any:  # noqa: ARG002
        """Take every sender."""
        return origin

    def validateTo(self, user: Any) -> Any:
        """Take every recipient."""
        return user

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:  # noqa: ARG002
        """Add nothing: mails are kept as they came."""
        return b""


@implementer(IRealm)
class _Realm:
    def requestAvatar(
        self,
        avatarId: bytes | tuple[()],  # noqa: N803
        mind: object,  # noqa: ARG002
        *interfaces: type[Interface],  # noqa: ARG002
    ) -> tuple[type[Interface], Guest, Callable[[], None]]:
        user = avatarId.decode("utf-8", "replace") if isinstance(avatarId, bytes) else ""
        return IMessageDelivery, Guest(user or None), lambda: None


@implementer(ICredentialsChecker)
class _Anybody:
    credentialInterfaces = (IUsernamePassword, IAnonymous)  # noqa: N815

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        named = IUsernamePassword.providedBy(credentials)
        return succeed(bytes(credentials.username) if named else b"")


@implementer(IChallengeResponse)
class _Plain(UsernamePassword):
    """AUTH PLAIN (RFC 4616); a malformed response is a ValueError."""

    def __init__(self) -> None:
        super().__init__(b"", b"")

    def getChallenge(self) -> bytes:
        return b""

    def setResponse(self, response: bytes) -> None:
        _, self.username, self.password = response.split(b"\0")

    def moreChallenges(self) -> bool:
        return False
