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
from smtpmailer.core.standing import Standing

__all__ = ["Penalties", "address_of"]

#: Seconds that the answer to an address's first wrong password waits; doubled for each further
#: one up to the ceiling.
_FIRST_DELAY: Final = 1.0
_CEILING: Final = 10.0
#: Wrong passwords are forgotten so many seconds after the last one.
_FORGET: Final = 900.0
#: Addresses that are remembered; beyond that the one whose last wrong password is oldest goes.
_ADDRESSES: Final = 10_000
#: So many answers to one connection are delayed at a time: then no more of its requests begin. It
#: is only one where so many are delayed for the connections of its address.
_PER_CONNECTION: Final = 8
_CROWD: Final = 1000
#: Answers that are delayed at a time in all; further ones go out at once.
_DELAYED: Final = 10_000
#: While so many refusals of an address are delayed, it is exhausted.
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
    """Counts wrong passwords per address, and delays what answers them.

    A connection with delayed answers is soon held: it can't make the service refuse more.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        """Know nobody yet."""
        self._clock = clock
        self._records: OrderedDict[str, _Record] = OrderedDict()
        # By connection, each answer with its timer and its address's record.
        self._delayed: dict[Standing, dict[Deferred[None], tuple[IDelayedCall, _Record]]] = {}
        self._in_all = 0
        self._lines = Lines()
        self._stopped = False

    def failures(self, address: str) -> int:
        """Give how many wrong passwords came from an address lately."""
        record = self._records.get(address)
        if record is None or self._clock.seconds() - record.last >= _FORGET:
            return 0
        return record.failures

    def exhausted(self, address: str) -> bool:
        """Whether so many refusals of this address are on their way that it has to wait."""
        record = self._records.get(address)
        return record is not None and record.delayed >= _LOOKED_AT

    def refuse(self, peer: str, why: str, came_at: float, standing: Standing) -> Deferred[None]:
        """Count a wrong password for its address; fires when it may be answered.

        The time counts from ``came_at``: how long the password was looked at does not show.
        For a connection that has left nothing waits while its address is exhausted: who closes it
        after each guess would else fill the service with connections.
        """
        now = self._clock.seconds()
        address = address_of(peer)
        record = self._record(address, now)
        self._report(peer, why, record, now)
        delay = min(_CEILING, _FIRST_DELAY * 2.0 ** min(record.failures - 1, 10))
        wait = max(0.0, came_at + delay - now)
        useless = standing.left and record.delayed >= _LOOKED_AT
        if self._stopped or useless or self._in_all >= _DELAYED:
            return succeed(None)
        answer: Deferred[None] = Deferred()
        timer = self._clock.callLater(wait, self._release, standing, answer)
        self._delayed.setdefault(standing, {})[answer] = timer, record
        self._in_all += 1
        record.delayed += 1
        self._hold(standing, record)
        return answer

    def stop(self) -> None:
        """Answer at once, what waits now and what comes."""
        self._stopped = True
        for standing, answers in tuple(self._delayed.items()):
            for answer in tuple(answers):
                self._hurry(standing, answer)

    def leave(self, standing: Standing) -> None:
        """Delay nothing of this connection any longer if its address is exhausted."""
        for answer, (_, record) in tuple(self._delayed.get(standing, {}).items()):
            if record.delayed >= _LOOKED_AT:
                self._hurry(standing, answer)

    def _hurry(self, standing: Standing, answer: Deferred[None]) -> None:
        timer, _ = self._delayed[standing][answer]
        timer.cancel()
        self._release(standing, answer)

    def _release(self, standing: Standing, answer: Deferred[None]) -> None:
        answers = self._delayed[standing]
        _, record = answers.pop(answer)
        if not answers:
            del self._delayed[standing]
        self._in_all -= 1
        record.delayed -= 1
        self._hold(standing, record)
        answer.callback(None)

    def _hold(self, standing: Standing, record: _Record) -> None:
        limit = 1 if record.delayed >= _CROWD else _PER_CONNECTION
        standing.held = len(self._delayed.get(standing, ())) >= limit

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
