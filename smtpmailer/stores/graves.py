# SPDX-License-Identifier: MIT
"""A directory of mails that are not to be sent: dead letters, or what could not be read.

DIRECTORY/mail_*.json       the mails, as they were in the queue
DIRECTORY/.records/NAME     what is known about each, as JSON
"""

from __future__ import annotations

import contextlib
import itertools
import os

import attrs

from smtpmailer.core.names import is_file_name, variant_of
from smtpmailer.core.queuestate import MailState
from smtpmailer.errors import NoSuchMailError, StoreError
from smtpmailer.stores.atomic import make_directory, move, read_regular, unlink
from smtpmailer.stores.commit import Batch

__all__ = ["Burial", "Graves"]


class Graves:
    """The steps on such a directory; all blocking, for a thread. All may raise OSError."""

    def __init__(self, directory: str) -> None:
        """Use this absolute path; ``prepare`` makes it."""
        self._directory = directory
        self._records = os.path.join(directory, ".records")

    def prepare(self) -> None:
        """Make the directories that are missing."""
        make_directory(self._records)

    def has(self, name: str) -> bool:
        """Whether a mail of this name lies here."""
        return os.path.lexists(self._path(name))

    def take(self, batch: Batch, name: str, source: str, record: str) -> None:
        """Take a mail's file and the file of its record; the record first.

        Where a mail of this name lies already, both stay: the new one gets a name of its own.
        """
        names = (variant_of(name, number) for number in itertools.count(2))
        free = next(each for each in itertools.chain([name], names) if not self.has(each))
        move(record, os.path.join(self._records, free))
        move(source, self._path(free))
        batch.directories.update((self._records, self._directory))

    def replace(self, name: str, source: str) -> None:
        """Give a mail that is here new content, from a file."""
        move(source, self._path(name))

    def give(self, batch: Batch, name: str, target: str) -> None:
        """Give a mail's file away; raises NoSuchMailError."""
        try:
            move(self._path(name), target)
        except FileNotFoundError:
            raise NoSuchMailError(name) from None
        self._forget(name)
        batch.directories.update((self._records, self._directory))

    def remove(self, batch: Batch, name: str) -> bool:
        """Remove a mail; tells whether it was there."""
        if not unlink(self._path(name)):
            return False
        self._forget(name)
        batch.directories.update((self._records, self._directory))
        return True

    def names(self) -> list[str]:
        """Give the names of all mails, ascending."""
        with os.scandir(self._directory) as entries:
            return sorted(entry.name for entry in entries if is_file_name(entry.name))

    def read(self, name: str) -> tuple[bytes, bytes]:
        """Give a mail's content and its record (empty when it has none); raises NoSuchMailError."""
        try:
            content = read_regular(self._path(name))
        except FileNotFoundError:
            raise NoSuchMailError(name) from None
        try:
            return content, read_regular(os.path.join(self._records, name))
        except (OSError, StoreError):
            return content, b""

    def _forget(self, name: str) -> None:
        """Remove a record; one that stays behind counts for nothing without its mail."""
        with contextlib.suppress(OSError):
            unlink(os.path.join(self._records, name))

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)


@attrs.frozen
class Burial:
    """A claimed mail to be buried: where, its state, its record, its new content unless None."""

    name: str
    content: bytes | None = attrs.field(repr=False)
    state: MailState
    graves: Graves
    record: bytes
