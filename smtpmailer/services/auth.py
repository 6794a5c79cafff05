# SPDX-License-Identifier: MIT
"""Is this request allowed: whose password it carries, and what that password is good for.

A password is compared with MAILER_AUTH_HASH and with the keys' hashes. Each comparison costs tens
of milliseconds on purpose, so a right password is remembered for a short time as a keyed hash, and
so is a wrong one: who repeats it costs nothing. What is to be compared waits in ``HashQueue``, and
the answer to what was wrong, missing or no text at all waits as ``Penalties`` says.

A password in the form ``name:password`` is compared with the hash of the key of that name. One
without a name is compared with MAILER_AUTH_HASH and then with the first keys, a few in all: the
number of keys does not decide what a wrong password costs.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from smtpmailer.core.bucket import Bucket
from smtpmailer.core.grants import Grant
from smtpmailer.core.keys import Key
from smtpmailer.core.passwords import MAX_PASSWORD_BYTES
from smtpmailer.core.replies import MISSING
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import BusyError
from smtpmailer.interfaces import IAuth, IThreads
from smtpmailer.services.hashqueue import HashQueue
from smtpmailer.services.penalties import Penalties, address_of

__all__ = ["PasswordAuth"]

#: A password without a key's name is compared with no more hashes.
_TRIED: Final = 8
#: Wrong passwords that are remembered.
_WRONG: Final = 1000
#: A key's name and a colon may stand in front of a password.
_MAX_TEXT: Final = MAX_PASSWORD_BYTES + 65
_MAILS: Final = ("sendMail", "queueMail")


@implementer(IAuth)
class PasswordAuth:
    """Knows passwords by their hashes.

    A right password is remembered for ``remember`` seconds after each use, and as long as the
    keys stay what they are. ``secret`` (bytes, fresh for each process) is the key of the hashes
    by which passwords are remembered. ``clock`` is monotonic.
    """

    _log = Logger()

    def __init__(
        self,
        keys: Sequence[Key],
        threads: IThreads,
        clock: IReactorTime,
        *,
        secret: bytes,
        remember: float = 60.0,
    ) -> None:
        """Know these keys; that of MAILER_AUTH_HASH has no name, and comes first."""
        self._clock = clock
        self._secret = secret
        self._remember = remember
        self._penalties = Penalties(clock)
        self._queue = HashQueue(threads, self._penalties.failures)
        self._keys: tuple[Key, ...] = ()
        # Right passwords' digests, with what they allow and until when that is remembered.
        self._right: dict[bytes, tuple[Grant, float]] = {}
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        # Who waits for a comparison that is under way.
        self._asked: dict[bytes, list[Deferred[Grant | None]]] = {}
        self._buckets: dict[str, Bucket] = {}
        self.use(keys)

    def use(self, keys: Sequence[Key]) -> None:
        """Know these keys from now on, and forget every password."""
        self._keys = tuple(keys)
        names = {key.grant.name for key in keys}
        self._buckets = {name: bucket for name, bucket in self._buckets.items() if name in names}
        self.forget()

    def forget(self) -> None:
        """Remember no password any more: each has to be compared with the hashes again."""
        self._right = {}
        self._wrong = OrderedDict()
        # Comparisons under way are those of the old keys.
        self._asked = {}

    def check(self, password: object, peer: str) -> Deferred[Grant | None]:
        """Fire with what the password allows; see IAuth. At once when it is remembered."""
        digest = self._digest(password)
        if digest is not None:
            grant = self._remembered(digest)
            if grant is not None and grant.allows_peer(peer):
                return succeed(grant)
        return self._check(password, digest, peer)

    def admit(self, grant: Grant, request: str) -> str:
        """Give why a request of this name is refused now, or an empty text; see IAuth."""
        if not grant.allows_request(request):
            return "its key is not for this request"
        rate = grant.mails_per_minute
        if rate is None or request not in _MAILS:
            return ""
        bucket = self._buckets.get(grant.name)
        if bucket is None or bucket.size != rate:
            bucket = self._buckets[grant.name] = Bucket(rate, rate / 60)
        fine = bucket.take(self._clock.seconds())
        return "" if fine else f"its key is for {rate} mails a minute"

    def stop(self) -> None:
        """Delay no answer any longer."""
        self._penalties.stop()

    @returns_deferred
    async def _check(self, password: object, digest: bytes | None, peer: str) -> Grant | None:
        came_at = self._clock.seconds()
        why = "no password" if password is MISSING else "wrong password"
        try:
            grant = await self._identify(password, digest, peer)
        except BusyError as busy:
            grant, why = None, f"password not looked at, {busy}"
        if grant is not None:
            if grant.allows_peer(peer):
                return grant
            why = f"key {grant.name} is not for this address"
        await self._penalties.refuse(peer, why, came_at)
        return None

    async def _identify(self, password: object, digest: bytes | None, peer: str) -> Grant | None:
        """Give what a password allows, None when it is wrong; raises BusyError."""
        if digest is None or not isinstance(password, str):
            return None
        address = address_of(peer)
        while True:
            grant = self._remembered(digest)
            if grant is not None or digest in self._wrong:
                return grant
            if self._penalties.exhausted(address):
                raise BusyError("too many wrong ones came before")
            asked = self._asked
            grant = await self._ask(address, password, digest)
            if asked is self._asked:
                return grant
            # All was forgotten meanwhile: that was the answer of the old keys.

    def _ask(self, address: str, password: str, digest: bytes) -> Deferred[Grant | None]:
        """Have a password compared, once however many ask for it."""
        answer: Deferred[Grant | None] = Deferred()
        waiting = self._asked.setdefault(digest, [])
        waiting.append(answer)
        if len(waiting) == 1:
            self._compare(address, password, digest)
        return answer

    def _compare(self, address: str, password: str, digest: bytes) -> None:
        """Look for the password's key, and tell all who wait for that."""
        asked = self._asked
        candidates = self._candidates(password)

        def done(found: Any) -> None:
            result = found
            if not isinstance(found, Failure):
                result = None if found is None else candidates[found][1].grant
                if asked is self._asked:
                    self._remember_result(digest, result)
            for answer in asked.pop(digest):
                answer.callback(result)

        self._queue.find(address, [(text, key.hash) for text, key in candidates]).addBoth(done)

    def _candidates(self, password: str) -> list[tuple[str, Key]]:
        """Give what to compare: texts with keys."""
        name, colon, rest = password.partition(":")
        named = [(rest, key) for key in self._keys if colon and name == key.grant.name != ""]
        if named:
            return named + [(password, key) for key in self._keys if not key.grant.name]
        return [(password, key) for key in self._keys[:_TRIED]]

    def _remember_result(self, digest: bytes, grant: Grant | None) -> None:
        now = self._clock.seconds()
        if grant is None:
            self._wrong[digest] = None
            if len(self._wrong) > _WRONG:
                self._wrong.popitem(last=False)
            return
        self._right = {known: entry for known, entry in self._right.items() if entry[1] > now}
        self._right[digest] = (grant, now + self._remember)

    def _remembered(self, digest: bytes) -> Grant | None:
        entry = self._right.get(digest)
        now = self._clock.seconds()
        if entry is None or now >= entry[1]:
            return None
        self._right[digest] = (entry[0], now + self._remember)
        return entry[0]

    def _digest(self, password: object) -> bytes | None:
        """Give the keyed hash by which a password is known; None for what can't be one."""
        if not isinstance(password, str) or not 0 < len(password) <= _MAX_TEXT:
            return None
        data = password.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, key=self._secret).digest()
