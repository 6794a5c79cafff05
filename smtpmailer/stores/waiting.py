# SPDX-License-Identifier: MIT
"""The names of the mails that wait in a directory, kept true against all who change it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

from smtpmailer.core.dueindex import DueIndex
from smtpmailer.core.names import is_file_name
from smtpmailer.core.queuestate import MailState
from smtpmailer.stores.folder import QueueFolder

__all__ = ["WaitingNames", "due_of_state"]


#: What happened to the file of a hidden name: it may have come, it went.
_CAME: Final = 1
_WENT: Final = 2


class WaitingNames:
    """An index of the queue's directory; lives on the reactor's thread.

    Names that an operation of ours has in hand are hidden: taken out, or not in the directory
    yet. Whatever happens to their files meanwhile is looked at when they are shown again.
    """

    def __init__(self, folder: QueueFolder) -> None:
        """Begin empty; ``begin`` and ``load`` fill it."""
        self._folder = folder
        self._listeners: list[Callable[[], None]] = []
        self.index = DueIndex()
        # Each hidden name, with what happened to its file.
        self._hidden: dict[str, int] = {}
        # Names that changed while the directory is being read for the first time.
        self._early: set[str] | None = None

    def __contains__(self, name: object) -> bool:
        """Whether a name is known, hidden or not."""
        return name in self.index or name in self._hidden

    def listen(self, appeared: Callable[[], None]) -> None:
        """Call ``appeared`` whenever a mail has appeared."""
        self._listeners.append(appeared)

    def begin(self) -> None:
        """Collect what happens from now on, until ``load``."""
        self._early = set()

    def read(self) -> DueIndex:
        """Read the directory; for a thread. Raises OSError."""
        index = DueIndex(self._folder.names())
        for name in self._folder.notes.names():
            if name in index:
                index.add(name, due_of_state(self._folder.state(name)))
        return index

    def load(self, index: DueIndex) -> None:
        """Go on with what ``read`` gave, and what happened since ``begin``."""
        self.index = index
        for name in self._hidden:
            self.index.discard(name)
        early, self._early = self._early or set(), None
        for name in early:
            self.look(name)

    def hide(self, names: Iterable[str]) -> None:
        """Take names into hand, each once."""
        for name in names:
            self._hidden[name] = 0
            self.index.discard(name)

    def show(self, name: str, due: float | None, *, present: bool) -> None:
        """Let a name out of hand; in the queue, due at ``due`` (None: its own time), or gone."""
        happened = self._hidden.pop(name, 0)
        # Ours are among these events: each mail that is claimed goes, each that is put comes. Only
        # one that speaks against what is said here is worth a look.
        if happened & (_WENT if present else _CAME):
            present = self._folder.waits(name)
        if present:
            self.add(name, due)

    def add(self, name: str, due: float | None) -> None:
        """Say that a mail is in the queue."""
        self.index.add(name, due)
        self._tell()

    def hasten(self, name: str, due: float) -> bool:
        """Let a mail be due at ``due`` if it is not before; tells whether it is in the queue."""
        if not self.index.hasten(name, due):
            return False
        self._tell()
        return True

    def tell(self, name: str, came: bool) -> None:  # noqa: FBT001 - as the watch calls it
        """Hear from the watch that a file may have come, or went; look where that is news.

        It tells all in order. So what is known to be gone needs no look when it went, whether it
        has come again or not: that will be told, too. And the other way round.
        """
        if self._early is None and name in self._hidden:
            self._hidden[name] |= _CAME if came else _WENT
        elif self._early is not None or (name in self.index) != came:
            self.look(name)

    def look(self, name: str) -> None:
        """Look whether a name that somebody touched is there, whatever the order of events."""
        if self._early is not None:
            self._early.add(name)
        elif name in self._hidden:
            self._hidden[name] = _CAME | _WENT
        elif not is_file_name(name):
            return
        elif not self._folder.waits(name):
            self.index.discard(name)
        elif name not in self.index:
            self.add(name, due_of_state(self._folder.quick_state(name)))

    def _tell(self) -> None:
        for appeared in self._listeners:
            appeared()


def due_of_state(state: MailState) -> float | None:
    """Give when a mail is due; infinity when it is held, None for its own time."""
    return math.inf if state.held else state.next_at
