# SPDX-License-Identifier: MIT
"""Notes beside new mails: the history that a mail brings along, for who runs the queue.

Only that process writes the journal of states, but any may put a mail, change it, or revive a dead
letter. Each note has an id of its own. The journal names the note it has taken in, so that one
which a power cut brings back does not count again, however the two are out of step.
"""

from __future__ import annotations

import contextlib
import os

import attrs
import orjson

from smtpmailer.core.names import is_file_name
from smtpmailer.core.queuestate import MailState, state_from_json, state_to_json
from smtpmailer.errors import StoreError
from smtpmailer.stores.atomic import make_directory, read_regular, unlink
from smtpmailer.stores.commit import Batch
from smtpmailer.stores.scratch import Scratch

__all__ = ["Note", "Notes"]


@attrs.frozen
class Note:
    """A state, and the id of the note that holds it."""

    id: str
    state: MailState


class Notes:
    """A directory of notes, each named as its mail."""

    def __init__(self, directory: str, scratch: Scratch) -> None:
        """Use this absolute path; ``prepare`` makes it."""
        self.directory = directory
        self._scratch = scratch

    def prepare(self) -> None:
        """Make the directory; raises OSError."""
        make_directory(self.directory)

    def write(self, batch: Batch, stack: contextlib.ExitStack, state: MailState) -> str:
        """Write a note that nobody sees yet, as ``Scratch.write`` does; gives its path."""
        note = {"id": self._scratch.fresh_id(), "state": state_to_json(state)}
        return self._scratch.write(batch, stack, orjson.dumps(note))

    def publish(self, batch: Batch, path: str, name: str) -> None:
        """Make what ``write`` gave the note of a mail; before that mail has its name."""
        os.rename(path, self._path(name))
        batch.directories.add(self.directory)

    def read(self, name: str) -> Note | None:
        """Give a mail's note; None when it has none, or one that was never written to its end."""
        try:
            value = orjson.loads(read_regular(self._path(name)))
            return Note(str(value["id"]), state_from_json(value["state"]))
        except (OSError, StoreError, KeyError, TypeError, ValueError):
            return None

    def any(self) -> bool:
        """Whether there may be notes at all; most queues have none."""
        try:
            with os.scandir(self.directory) as entries:
                return any(True for _ in entries)
        except OSError:
            return True

    def remove(self, name: str) -> None:
        """Remove a mail's note, if it has one; one that can't be removed does no harm."""
        with contextlib.suppress(OSError):
            unlink(self._path(name))

    def names(self) -> list[str]:
        """Give the names of all mails that have a note; raises OSError."""
        with os.scandir(self.directory) as entries:
            return [entry.name for entry in entries if is_file_name(entry.name)]

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)
