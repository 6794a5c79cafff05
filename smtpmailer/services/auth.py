# SPDX-License-Identifier: MIT
"""Is this request allowed: whose password it carries, and what that password is good for.

A password is compared with MAILER_AUTH_HASH and with the keys' hashes. Each comparison costs tens
of milliseconds on purpose, so a right password is remembered for a short time as a keyed hash, and
so is a wrong one: who repeats it costs nothing. What is to be compared waits in ``HashQueue``, and
the answer to what was wrong, missing or no text at all waits as ``Penalties`` says. Both judge a
request by its address, and among those of one address by its connection's ``Standing``.

A password in the form ``name:password`` is compared with the hash of the key of that name. One
without a name is compared with MAILER_AUTH_HASH and then with the first keys, a few in all: the
number of keys does not decide what a wrong password costs.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from smtpmailer.core.grants import Grant
from smtpmailer.core.keys import Key
from smtpmailer.core.passwords import MAX_PASSWORD_BYTES
from smtpmailer.core.replies import MISSING
from smtpmailer.core.standing import Standing
from smtpmailer.core.tallies import SharedRates, own_rates
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import BusyError
from smtpmailer.interfaces import IAuth, IThreads
from smtpmailer.services.hashqueue import Asker, HashQueue
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
        rates: SharedRates | None = None,
        remember: float = 60.0,
    ) -> None:
        """Know these keys; that of MAILER_AUTH_HASH has no name, and comes first.

        ``rates`` count the mails of each key; without them only this process counts.
        """
        self._clock = clock
        self._secret = secret
        self._remember = remember
        self._penalties = Penalties(clock)
        self._queue = HashQueue(threads, self._penalties.failures, clock.seconds)
        self._keys: tuple[Key, ...] = ()
        # Right passwords' digests, with what they allow and until when that is remembered.
        self._right: dict[bytes, tuple[Grant, float]] = {}
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._rates = rates or own_rates()
        self.use(keys)

    def use(self, keys: Sequence[Key]) -> None:
        """Know these keys from now on, and forget every password."""
        self._keys = tuple(keys)
        self.forget()

    def forget(self) -> None:
        """Remember no password any more: each has to be compared with the hashes again."""
        self._right = {}
        self._wrong = OrderedDict()
        # Comparisons under way are those of the old keys.
        self._queue.forget()

    def check(self, password: object, peer: str, standing: Standing) -> Deferred[Grant | None]:
        """Fire with what the password allows; see IAuth. At once when it is remembered."""
        digest = self._digest(password)
        grant = self._granted(digest, peer, standing)
        if grant is not None:
            return succeed(grant)
        return self._check(password, digest, peer, standing)

    def known(self, password: object, peer: str, standing: Standing) -> Grant | None:
        """Give what a password allows that is remembered as right; see IAuth."""
        return self._granted(self._digest(password), peer, standing)

    def admit(self, grant: Grant, request: str) -> str:
        """Give why a request of this name is refused now, or an empty text; see IAuth."""
        if not grant.allows_request(request):
            return "its key is not for this request"
        rate = grant.mails_per_minute
        if rate is None or request not in _MAILS:
            return ""
        fine = self._rates.take(grant.name, rate, self._clock.seconds())
        return "" if fine else f"its key is for {rate} mails a minute"

    def leave(self, standing: Standing) -> None:
        """Prefer others to this connection, for which perhaps nobody waits; see IAuth."""
        standing.left = True
        self._queue.leave(standing)
        self._penalties.leave(standing)

    def stop(self) -> None:
        """Delay no answer any longer."""
        self._penalties.stop()

    @returns_deferred
    async def _check(
        self, password: object, digest: bytes | None, peer: str, standing: Standing
    ) -> Grant | None:
        came_at = self._clock.seconds()
        why = "no password" if password is MISSING else "wrong password"
        try:
            grant = await self._identify(password, digest, peer, standing)
        except BusyError as busy:
            why = f"password not looked at, {busy}"
        else:
            if grant is not None and grant.allows_peer(peer):
                standing.right = True
                return grant
            if grant is not None:
                why = f"key {grant.name} is not for this address"
            standing.wrong += 1
        await self._penalties.refuse(peer, why, came_at, standing)
        return None

    async def _identify(
        self, password: object, digest: bytes | None, peer: str, standing: Standing
    ) -> Grant | None:
        """Give what a password allows, None when it is wrong; raises BusyError."""
        if digest is None or not isinstance(password, str):
            return None
        address = address_of(peer)
        while True:
            grant = self._remembered(digest)
            if grant is not None or digest in self._wrong:
                return grant
            if standing.wrong and self._penalties.exhausted(address):
                raise BusyError("too many wrong ones came before")
            keys, candidates = self._keys, self._candidates(password)
            pairs = [(text, key.hash) for text, key in candidates]
            found = await self._queue.find(Asker(address, standing), digest, pairs)
            if keys is self._keys:
                grant = None if found is None else candidates[found][1].grant
                self._remember_result(digest, grant)
                return grant
            # All was forgotten meanwhile: that was the answer of the old keys.

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

    def _granted(self, digest: bytes | None, peer: str, standing: Standing) -> Grant | None:
        """Give what a remembered password allows this client; None when it has to be checked."""
        grant = None if digest is None else self._remembered(digest)
        if grant is None or not grant.allows_peer(peer):
            return None
        standing.right = True
        return grant

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
