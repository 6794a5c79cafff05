# SPDX-License-Identifier: MIT
"""What the processes of one service share: memory with a lock on it, and a passage."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import socket
from typing import Final

import attrs

from smtpmailer.core.board import BOARD_CELLS, CELL_BYTES, Board
from smtpmailer.core.tallies import RATES_CELLS, TALLY_CELLS, SharedRates, SharedTally

__all__ = [
    "SHARED_BYTES",
    "ProcessLock",
    "Shared",
    "alone",
    "make_memory",
    "make_passage",
    "open_shared",
]

_RATES_AT: Final = BOARD_CELLS
_TALLY_AT: Final = _RATES_AT + RATES_CELLS
_PACES_AT: Final = _TALLY_AT + TALLY_CELLS
_CELLS: Final = _PACES_AT + RATES_CELLS
#: The size of the memory. What is never written takes no room.
SHARED_BYTES: Final = _CELLS * CELL_BYTES


@attrs.frozen(kw_only=True)
class Shared:
    """What lies in the memory.

    ``rates`` are those of keys, ``paces`` those of accounts with SMTP servers: clients may name
    many of these, which must not crowd out the keys.
    """

    board: Board
    tally: SharedTally
    rates: SharedRates
    paces: SharedRates


class ProcessLock(contextlib.AbstractContextManager[None]):
    """Lets one process at a time in; a process that dies inside lets go of it.

    It is held for microseconds, so it is waited for.
    """

    def __init__(self, descriptor: int) -> None:
        """Lock this file, which stays open."""
        self._descriptor = descriptor

    def __enter__(self) -> None:
        """Wait for the lock."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        """Let go of the lock."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN)


def make_memory() -> int:
    """Make the memory, all zeros; gives its file descriptor. It is gone with the last user."""
    descriptor = os.memfd_create("smtpmailer", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, SHARED_BYTES)
    return descriptor


def make_passage() -> tuple[socket.socket, socket.socket]:
    """Give the two ends of what connections go through: where they are put in, and taken out."""
    giving, taking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    giving.setblocking(False)
    taking.setblocking(False)
    return giving, taking


def open_shared(descriptor: int) -> Shared:
    """Look into the memory; the descriptor has to stay open."""
    memory = mmap.mmap(descriptor, SHARED_BYTES)
    return _lay_out(memoryview(memory), ProcessLock(descriptor))


def alone() -> Shared:
    """Give the same for a service of one process."""
    return _lay_out(memoryview(mmap.mmap(-1, SHARED_BYTES)), contextlib.nullcontext())


def _lay_out(memory: memoryview, lock: contextlib.AbstractContextManager[object]) -> Shared:
    cells = memory.cast("q")

    def rates(start: int) -> SharedRates:
        part = slice(start, start + RATES_CELLS)
        return SharedRates(cells[part], memory.cast("d")[part], lock)

    return Shared(
        board=Board(cells[:_RATES_AT], lock),
        tally=SharedTally(cells[_TALLY_AT:_PACES_AT], lock),
        rates=rates(_RATES_AT),
        paces=rates(_PACES_AT),
    )
