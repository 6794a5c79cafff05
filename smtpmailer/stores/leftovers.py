# SPDX-License-Identifier: MIT
"""Mails that the predecessor stranded: found, named, and taken into the queue when asked to.

Compat: it left them in QUEUE_PROCESS_DIR (a crash, a failed requeue), beside its directories as
``mailmail_*`` (the setting without its trailing slash), and under names with a negative time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from typing import Final

import attrs

from smtpmailer.core.names import is_file_name, make_file_name
from smtpmailer.errors import NoSuchMailError, StoreError
from smtpmailer.stores.atomic import move, read_regular, unlink
from smtpmailer.stores.commit import Batch
from smtpmailer.stores.folder import QueueFolder

__all__ = ["Leftover", "find_leftovers", "rescue"]

#: A time of which only the sign is wrong.
_NEGATIVE: Final = re.compile(r"mail_0*-[0-9]+\.[0-9]+_([a-z0-9]+)\.json")

#: What the predecessor put beside its directory began so, whatever the directory is called now.
_USUAL: Final = "mail"


@attrs.frozen(kw_only=True)
class Leftover:
    """A stranded mail: its path, why it is none of the queue's, the name it would wait under."""

    path: str
    why: str
    name: str


def find_leftovers(folder: QueueFolder) -> list[Leftover]:
    """Find them all, in order of their names; blocking. Raises OSError."""
    return sorted(_find(folder), key=lambda leftover: leftover.name)


def rescue(folder: QueueFolder, batch: Batch, leftover: Leftover) -> Generator[None, None, None]:
    """Take one into the queue; an operation for ``stores.commit``.

    Nobody knows whether it was sent. Raises NoSuchMailError when it is gone or, by now, being
    delivered, StoreError when another mail of its name waits.
    """
    yield
    if not _is_stranded(folder, leftover):
        raise NoSuchMailError(leftover.path)
    if folder.waits(leftover.name):
        if read_regular(leftover.path) != read_regular(folder.waiting(leftover.name)):
            raise StoreError(f"there is another mail {leftover.name} already")
        # Copied from another file system; then something came between.
        unlink(leftover.path)
    else:
        move(leftover.path, folder.waiting(leftover.name))
    batch.directories.update((folder.paths.waiting, os.path.dirname(leftover.path)))
    yield


def _is_stranded(folder: QueueFolder, leftover: Leftover) -> bool:
    """Whether a mail lies where it lay, and nobody has it in hand; names must not change."""
    if not os.path.lexists(leftover.path):
        return False
    ours = leftover.path == folder.claimed(leftover.name)
    return not (ours and leftover.name in folder.journalled())


def _find(folder: QueueFolder) -> Iterator[Leftover]:
    waiting, claimed = folder.paths.waiting, folder.paths.claimed
    entries = _entries(claimed)
    # The journal is read after the directory: a mail is in it before it is in the other.
    ours = folder.journalled()
    for entry in entries:
        if is_file_name(entry) and entry not in ours:
            path = folder.claimed(entry)
            yield Leftover(path=path, name=entry, why="was being sent when the service ended")
    yield from _named_negative(claimed, entries)
    yield from _named_negative(waiting, _entries(waiting))
    for above in {os.path.dirname(waiting), os.path.dirname(claimed)}:
        yield from _beside(above, {os.path.basename(waiting), os.path.basename(claimed), _USUAL})


def _beside(above: str, prefixes: set[str]) -> Iterator[Leftover]:
    try:
        entries = _entries(above)
    except PermissionError:
        # What we may not look through, the predecessor could not write to.
        return
    for entry in entries:
        path = os.path.join(above, entry)
        for prefix in prefixes:
            name = entry.removeprefix(prefix)
            if name != entry and (name := _proper_name(path, name)):
                yield Leftover(path=path, name=name, why="lies beside the queue's directory")


def _named_negative(directory: str, entries: list[str]) -> Iterator[Leftover]:
    for entry in entries:
        if not is_file_name(entry):
            path = os.path.join(directory, entry)
            if name := _proper_name(path, entry):
                yield Leftover(path=path, name=name, why="is named after a negative time")


def _proper_name(path: str, name: str) -> str:
    """Give the name that a file is to have, in place of a negative time that of its writing."""
    if is_file_name(name):
        return name
    match = _NEGATIVE.fullmatch(name)
    try:
        return make_file_name(os.lstat(path).st_mtime, match[1]) if match else ""
    except FileNotFoundError:
        return ""


def _entries(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
