# SPDX-License-Identifier: MIT
"""Where a queue in Redis keeps what.

    queue:NAME          text         a waiting mail
    index:queue         sorted set   NAMEs of the waiting mails as JSON texts, score 0
    temp:NAME           text         a mail that the predecessor sends, or stranded

    claimed:NAME        text         a mail that one of our nodes delivers
    due                 sorted set   waiting NAMEs, by when each is due (infinity: held)
    leases              sorted set   claimed NAMEs, by when each lease ends
    owners              hash         claimed NAMEs, each with the token of its claim
    states              hash         NAMEs, waiting or claimed, with the history of each mail
    missing             sorted set   NAMEs that an index names and no key holds, since when
    dead:NAME           hash         a dead letter: ``mail`` and ``record``
    index:dead          sorted set   as index:queue, of the dead letters
    quarantine:NAME     hash         as dead:NAME, of mails that can't be read
    index:quarantine    sorted set   as index:queue, of those

All times are Redis's own, in Unix seconds. Compat: the first three are the predecessor's, byte by
byte; the others are ours, and it looks at none of them. A claimed mail does not lie under
``temp:`` because the predecessor sends what it finds there.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

import attrs

from smtpmailer.core.names import is_name
from smtpmailer.core.redisvalues import compatible_json

__all__ = ["Graves", "Node", "QueueKeys", "member", "names_of"]


@attrs.frozen
class Node:
    """One process among those that share a queue; ``unique`` sets it apart for ever."""

    host: str
    process: int
    unique: str

    def __str__(self) -> str:
        """Give the id that its claims carry."""
        return f"{self.host}:{self.process}:{self.unique}"

    @classmethod
    def own(cls, unique: str) -> Node:
        """Give the one that this process is."""
        return cls(socket.gethostname(), os.getpid(), unique)


@attrs.frozen
class Graves:
    """Where mails lie that are not to be sent: dead letters, or the quarantine."""

    index: str
    mails: str

    def mail(self, name: str) -> str:
        """Give the key of one."""
        return self.mails + name


@attrs.frozen
class QueueKeys:
    """The names of the keys under a prefix (REDIS_KEY_PREFIX)."""

    prefix: str

    def queue(self, name: str) -> str:
        """Give the key of a waiting mail; without a name, what such keys begin with."""
        return f"{self.prefix}queue:{name}"

    def temp(self, name: str) -> str:
        """Give the key of a mail that the predecessor has in hand."""
        return f"{self.prefix}temp:{name}"

    def claimed(self, name: str) -> str:
        """Give the key of a claimed mail; without a name, what such keys begin with."""
        return f"{self.prefix}claimed:{name}"

    @property
    def index(self) -> str:
        """The index of waiting mails."""
        return f"{self.prefix}index:queue"

    @property
    def due(self) -> str:
        """When each waiting mail is due."""
        return f"{self.prefix}due"

    @property
    def leases(self) -> str:
        """When each lease ends."""
        return f"{self.prefix}leases"

    @property
    def owners(self) -> str:
        """Whose each claim is."""
        return f"{self.prefix}owners"

    @property
    def states(self) -> str:
        """What happened to each mail so far; nothing for most."""
        return f"{self.prefix}states"

    @property
    def missing(self) -> str:
        """The names without a mail."""
        return f"{self.prefix}missing"

    @property
    def dead(self) -> Graves:
        """The dead letters."""
        return Graves(f"{self.prefix}index:dead", f"{self.prefix}dead:")

    @property
    def quarantine(self) -> Graves:
        """What could not be read."""
        return Graves(f"{self.prefix}index:quarantine", f"{self.prefix}quarantine:")


def member(name: str) -> str:
    """Give a name as an index holds it."""
    return compatible_json(name)


def names_of(members: Iterable[bytes]) -> tuple[str, ...]:
    """Give the names that members of an index stand for; what is no name is left out."""
    texts = (each[1:-1].decode("ascii", "replace") for each in members)
    return tuple(text for text in texts if is_name(text))
