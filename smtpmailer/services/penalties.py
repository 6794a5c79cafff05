# SPDX-License-Identifier: MIT
"""Wrong passwords by client address: how many, how long their answers wait, what the log says."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Final

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from smtpmailer.core.bucket import Lines
from smtpmailer.core.grants import host_of

__all__ = ["Penalties", "address_of"]

#: Seconds that the answer to an address's first wrong password waits; doubled for each further
#: one up to the ceiling.
_FIRST_DELAY: Final = 1.0
_CEILING: Final = 10.0
#: Wrong passwords are forgotten so many seconds after the last one.
_FORGET: Final = 900.0
#: Addresses that are remembered; beyond that the one whose last wrong password is oldest goes.
_ADDRESSES: Final = 10_000
#: Answers that are delayed at a time, of one address and of all; further ones go out at once.
_DELAYED_PER_ADDRESS: Final = 1000
_DELAYED: Final = 10_000
#: An address's passwords are looked at while fewer of its refusals than this are delayed.
_LOOKED_AT: Final = 32
#: After its first lines an address gets one in so many seconds.
_LINE_EVERY: Final = 60.0
#: Customers of providers have a network of this size (RFC 6177), and all addresses in it.
_IPV6_PREFIX: Final = 64


@attrs.define
class _Record:
    """What is known about one address."""

    failures: int = 0
    last: float = 0.0
    logged: float = 0.0
    delayed: int = 0


class Penalties:
    """Counts wrong passwords per address, and delays what answers them."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        """Know nobody yet."""
        self._clock = clock
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._delayed: dict[Deferred[None], IDelayedCall] = {}
        self._lines = Lines()
        self._stopped = False

    def failures(self, address: str) -> int:
        """Give how many wrong passwords came from an address lately."""
        record = self._records.get(address)
        if record is None or self._clock.seconds() - record.last >= _FORGET:
            return 0
        return record.failures

    def exhausted(self, address: str) -> bool:
        """Whether so many refusals of this address are on their way that no more is looked at."""
        record = self._records.get(address)
        return record is not None and record.delayed >= _LOOKED_AT

    def refuse(self, peer: str, why: str, came_at: float) -> Deferred[None]:
        """Count a wrong password; fires when it may be answered.

        The time counts from ``came_at``: how long the password was looked at does not show.
        """
        now = self._clock.seconds()
        address = address_of(peer)
        record = self._record(address, now)
        self._report(peer, why, record, now)
        delay = min(_CEILING, _FIRST_DELAY * 2.0 ** min(record.failures - 1, 10))
        wait = max(0.0, came_at + delay - now)
        crowded = record.delayed >= _DELAYED_PER_ADDRESS or len(self._delayed) >= _DELAYED
        if self._stopped or crowded:
            return succeed(None)
        record.delayed += 1
        answer: Deferred[None] = Deferred()
        self._delayed[answer] = self._clock.callLater(wait, self._release, answer, record)
        return answer.addCallback(lambda _: None)

    def stop(self) -> None:
        """Answer at once, what waits now and what comes."""
        self._stopped = True
        waiting, self._delayed = self._delayed, {}
        for answer, timer in waiting.items():
            timer.cancel()
            answer.callback(None)

    def _release(self, answer: Deferred[None], record: _Record) -> None:
        record.delayed -= 1
        del self._delayed[answer]
        answer.callback(None)

    def _record(self, address: str, now: float) -> _Record:
        record = self._records.pop(address, None)
        if record is None:
            record = _Record(logged=now - _LINE_EVERY)
        elif now - record.last >= _FORGET:
            record.failures = 0
        record.failures += 1
        record.last = now
        self._records[address] = record
        if len(self._records) > _ADDRESSES:
            self._records.popitem(last=False)
        return record

    def _report(self, peer: str, why: str, record: _Record, now: float) -> None:
        """Log the first, second, fourth ... of an address; and one in a while."""
        rare = record.failures & (record.failures - 1) == 0
        if not rare and now - record.logged < _LINE_EVERY:
            return
        more = self._lines.next(now)
        if more is None:
            return
        record.logged = now
        self._log.warn(
            "unauthorized request from {peer}: {why}; {count} from there lately{more}",
            peer=peer,
            why=why,
            count=record.failures,
            more=more,
        )


def address_of(peer: str) -> str:
    """Give what counts as one address: an IPv4 address, an IPv6 network of one customer."""
    host = host_of(peer)
    if isinstance(host, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((host.packed, _IPV6_PREFIX), strict=False))
    return peer if host is None else str(host)
