# SPDX-License-Identifier: MIT
"""Passwords to check, on a clock that stands still and with hashes that take as long as wanted."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

import bcrypt
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from smtpmailer.core.grants import EVERYTHING, Grant
from smtpmailer.core.keys import Key
from smtpmailer.core.standing import Standing
from smtpmailer.interfaces import IThreads
from smtpmailer.services.auth import PasswordAuth

__all__ = ["NEWS", "OTHER", "PEER", "SHOP", "SINGLE", "AuthCase", "Hashing", "hash_of"]

_T = TypeVar("_T")
PEER = "192.0.2.1"
OTHER = "198.51.100.7"


def hash_of(password: str) -> str:
    """Hash as cheaply as bcrypt allows."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode("ascii")


SINGLE = Key(hash=hash_of("pässword"), grant=EVERYTHING)
SHOP = Key(
    hash=hash_of("shop-secret"),
    grant=Grant(
        name="shop",
        networks=(ipaddress.ip_network("192.0.2.0/24"),),
        requests=frozenset({"ping", "sendMail", "queueMail"}),
        mails_per_minute=2,
    ),
)
NEWS = Key(hash=hash_of("news:secret"), grant=Grant(name="news"))


@implementer(IThreads)
class Hashing:
    """Runs work at once, or when told to; each run is one slow hash."""

    def __init__(self) -> None:
        self.runs = 0
        self.slow = False
        self.waiting: list[Callable[[], object]] = []

    def run(self, work: Callable[[], _T]) -> Deferred[_T]:
        self.runs += 1
        if not self.slow:
            return maybeDeferred(work)
        done: Deferred[_T] = Deferred()
        self.waiting.append(lambda: maybeDeferred(work).chainDeferred(done))
        return done

    def finish(self) -> None:
        """Do what waits, and what comes of that."""
        while self.waiting:
            self.waiting.pop(0)()


class AuthCase(SynchronousTestCase):
    """Passwords, and a clock that stands still.

    Unless told otherwise each address has one connection.
    """

    def setUp(self) -> None:
        self.standings: defaultdict[str, Standing] = defaultdict(Standing)
        self.clock = Clock()
        self.hashing = Hashing()
        self.auth = PasswordAuth(
            [SINGLE, SHOP, NEWS], self.hashing, self.clock, secret=b"k" * 32, remember=60
        )

    def ask(
        self, password: object, peer: str = PEER, standing: Standing | None = None
    ) -> Deferred[Grant | None]:
        return self.auth.check(password, peer, standing or self.standings[peer])

    def granted(self, password: object, peer: str = PEER) -> Grant:
        """Give what a right password allows; its answer does not wait."""
        grant = self.successResultOf(self.ask(password, peer))
        assert grant is not None
        return grant

    def refused_after(self, password: object, peer: str = PEER) -> float:
        """Give how long a wrong password's answer takes."""
        answer = self.ask(password, peer)
        began = self.clock.seconds()
        results: list[Any] = []
        answer.addCallback(results.append)
        while not results and self.clock.seconds() < began + 100:
            self.clock.advance(0.25)
        self.assertEqual(results, [None])
        return self.clock.seconds() - began
