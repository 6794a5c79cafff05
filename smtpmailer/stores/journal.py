# SPDX-License-Identifier: MIT
"""The journal of mail states: appended to, synced in groups, rewritten when it has grown.

One line a record: a CRC-32 of the rest in 8 hex digits, a space, a JSON array of a name and what
is known. The last record of a name counts.

    {...}    a state (``core.queuestate``), with "claimed": true while the mail is being delivered,
             and in "note" the id of the note that was taken in (``stores.notes``)
    null     nothing is known any more
    "done"   the mail was delivered to everybody: its file may lie there still after a crash, and
             is to be removed, not sent

A line is written at the end of what counts, so that the rest of one which a full disk or a crash
cut off is overwritten. Space is reserved ahead: a queue on a full disk can still record what it
delivers, and so make room. The lines for which there is space are written together when they are
to be synced: a write by itself costs more than all else about a record.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import zlib
from collections.abc import Iterator
from typing import Any, Final

import orjson

from smtpmailer.core.queuestate import FRESH, MailState, state_from_json, state_to_json
from smtpmailer.errors import StoreError
from smtpmailer.stores.atomic import open_new, sync_directory, unlink, write_all

__all__ = ["Journal", "JournalReader", "States"]

_DONE: Final = "done"

#: A journal is rewritten when it is at least so large and mostly outdated.
MIN_REWRITE_BYTES: Final = 4 * 1024 * 1024

#: So much space is reserved at a time, and again when less than a quarter is left.
_RESERVE_BYTES: Final = 1024 * 1024
#: Of use is even so little: a hundred records.
_LEAST_BYTES: Final = 16 * 1024

# <linux/falloc.h>
_KEEP_SIZE: Final = 1

_libc = ctypes.CDLL(None, use_errno=True)
# Where file offsets have 32 bits by default, the C library has another call for 64.
_fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate


class States:
    """What a journal's records come to."""

    def __init__(self) -> None:
        """Know nothing."""
        self._live: dict[str, bytes] = {}
        self._notes: dict[str, str] = {}
        self._done: set[str] = set()
        self._live_bytes = 0

    def __iter__(self) -> Iterator[str]:
        """Give the names that have a state."""
        return iter(list(self._live))

    def __contains__(self, name: object) -> bool:
        """Whether a name has a state."""
        return name in self._live

    def is_done(self, name: str) -> bool:
        """Whether the mail of this name was delivered, though its file may lie there still."""
        return name in self._done

    def is_claimed(self, name: str) -> bool:
        """Whether the mail was being delivered when its state was written."""
        raw = self._live.get(name)
        return raw is not None and orjson.loads(raw).get("claimed") is True

    def note_of(self, name: str) -> str:
        """Give the id of the note that a mail's state was taken from; empty without one."""
        return self._notes.get(name, "")

    def state(self, name: str) -> MailState:
        """Give a mail's state; FRESH when nothing is known, held when it can't be understood."""
        raw = self._live.get(name)
        try:
            return FRESH if raw is None else state_from_json(orjson.loads(raw))
        except (KeyError, TypeError, ValueError):
            # Whole, but of another version. To send the mail might be to send it again.
            return MailState(held="its history can't be understood")

    def _take(self, name: str, what: Any, raw: bytes = b"") -> None:
        """Learn what a record says; ``raw`` is ``what`` as JSON, where that is at hand."""
        old = self._live.pop(name, None)
        if old is not None:
            self._live_bytes -= _length(name, old)
        self._done.discard(name)
        self._notes.pop(name, None)
        if what == _DONE:
            self._done.add(name)
        elif what is not None:
            raw = raw or orjson.dumps(what)
            self._live[name] = raw
            self._live_bytes += _length(name, raw)
            if note := what.get("note"):
                self._notes[name] = note

    def _clear(self) -> None:
        self._live.clear()
        self._notes.clear()
        self._done.clear()
        self._live_bytes = 0


class Journal(States):
    """The journal of the process that runs the queue; for one thread at a time."""

    def __init__(self, path: str) -> None:
        """Use this file; ``open`` reads it."""
        super().__init__()
        self._path = path
        self._handle = -1
        # Where the next line begins, and the lines before that which are not written yet.
        self._bytes = 0
        self._unwritten: list[bytes] = []
        self._reserved = 0
        self._rewrite_at = 0
        self._distrusted = False
        self.damaged = 0

    @property
    def path(self) -> str:
        """Give the file."""
        return self._path

    @property
    def is_open(self) -> bool:
        """Whether it can be written: whether this process runs the queue."""
        return self._handle >= 0

    def open(self) -> None:
        """Read what is there, and be ready to go on behind it; raises OSError.

        ``damaged`` then counts the records that were lost to a damage of the file.
        """
        self.close()
        self._clear()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(self._path, flags, 0o600)
        try:
            with open(handle, "rb", closefd=False) as file:
                self._bytes, self.damaged = _read(file.read(), self._take)
        except OSError:
            os.close(handle)
            raise
        self._handle = handle
        self._reserved = 0
        self._set_limit()

    def fileno(self) -> int:
        """Give the descriptor to sync after ``record``, all that it was told written.

        Raises OSError when that could not be written: then it may be lost, see ``distrust``.
        """
        self._write_out()
        return self._handle

    def record(self, name: str, state: MailState, *, claimed: bool, note: str = "") -> None:
        """Note a mail's state; durable when ``fileno`` has been asked for and synced.

        ``note`` is the id of the note that it comes from, empty to keep the one known. Raises
        OSError when there is no space; nothing is changed then.
        """
        what = state_to_json(state) if state is not FRESH else {}
        if claimed:
            what["claimed"] = True
        if note := note or self.note_of(name):
            what["note"] = note
        self._append(name, what)

    def record_done(self, name: str) -> None:
        """Note that a mail was delivered to everybody; as ``record``."""
        self._append(name, _DONE)

    def forget(self, name: str) -> None:
        """Write that nothing is known about a name any more, if anything was; as ``record``.

        Written at once, as nobody waits until it is durable.
        """
        if name in self._live or name in self._done:
            self._append(name, None)
            self._write_out()

    def drop(self, name: str) -> None:
        """Leave a name out of the next rewrite, without a record now."""
        self._take(name, None)

    def done_names(self) -> list[str]:
        """Give the names of the mails that are done, and not yet dropped."""
        return list(self._done)

    def distrust(self) -> None:
        """Say that a sync failed: what was appended may be lost, whatever a second sync says.

        The next record begins a fresh file.
        """
        self._distrusted = True

    def wants_rewrite(self) -> bool:
        """Whether a rewrite is due: the file is large and mostly outdated."""
        return self._bytes > self._rewrite_at

    def rewrite(self) -> None:
        """Begin a fresh, synced file with what counts; raises OSError.

        Then the old file still stands, and is good for as much again before the next try is due. If
        only the directory's sync failed, the new file goes on, and the next record tries again.
        """
        if self._handle < 0:
            raise StoreError("this process does not run the queue")
        # The next try, should this one fail; a full disk is not to be tried at every record.
        self._rewrite_at = self._bytes + MIN_REWRITE_BYTES
        temporary = f"{self._path}.tmp"
        unlink(temporary)
        lines = [_line(name, raw) for name, raw in self._live.items()]
        lines += [_line(name, orjson.dumps(_DONE)) for name in self._done]
        data = b"".join(lines)
        handle = open_new(temporary)
        try:
            reserved = _reserve(handle, 0, len(data) + _RESERVE_BYTES)
            write_all(handle, data, 0)
            os.fsync(handle)
            os.rename(temporary, self._path)
        except OSError:
            os.close(handle)
            with contextlib.suppress(OSError):
                unlink(temporary)
            raise
        # From here on the old file has no name: what is written there is lost.
        old, self._handle = self._handle, handle
        os.close(old)
        self._unwritten.clear()
        self._bytes = len(data)
        self._reserved = reserved
        self._set_limit()
        self._distrusted = True
        sync_directory(os.path.dirname(self._path))
        self._distrusted = False

    def close(self) -> None:
        """Close the file; nothing can be recorded then."""
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                self._write_out()
            self._unwritten.clear()
            os.close(self._handle)
            self._handle = -1

    def _set_limit(self) -> None:
        self._rewrite_at = max(MIN_REWRITE_BYTES, 4 * self._live_bytes)

    def _append(self, name: str, what: Any) -> None:
        if self._handle < 0:
            raise StoreError("this process does not run the queue")
        if self._distrusted:
            self.rewrite()
        raw = orjson.dumps(what)
        line = _line(name, raw)
        end = self._bytes + len(line)
        if end > self._reserved - _RESERVE_BYTES // 4:
            reserved = _reserve(self._handle, self._bytes, end + _RESERVE_BYTES)
            self._reserved = max(self._reserved, reserved)
        if end > self._reserved:
            # There may be no space; whoever asked for it is the one to be told.
            self._write_out()
            # Should it fail half-way: the next line overwrites what was written.
            write_all(self._handle, line, self._bytes)
        else:
            self._unwritten.append(line)
        self._bytes = end
        self._take(name, what, raw)

    def _write_out(self) -> None:
        if self._unwritten:
            data = b"".join(self._unwritten)
            # Should it fail half-way: the next try overwrites what was written.
            write_all(self._handle, data, self._bytes - len(data))
            self._unwritten.clear()


class JournalReader(States):
    """Another process's journal, read as it grows; for any thread."""

    def __init__(self, path: str) -> None:
        """Read this file when ``refresh`` is called."""
        super().__init__()
        self._path = path
        self._handle = -1
        self._offset = 0
        self._guard = threading.Lock()

    def read_state(self, name: str) -> tuple[MailState, str]:
        """Read what is new, and give a mail's state and its note's id; raises OSError."""
        with self._guard:
            self._refresh()
            return self.state(name), self.note_of(name)

    def names(self) -> set[str]:
        """Read what is new, and give the names that have a state or are done; raises OSError."""
        with self._guard:
            self._refresh()
            return {*self._live, *self._done}

    def close(self) -> None:
        """Close the file and forget what was read."""
        with self._guard:
            self._restart(-1)

    def _refresh(self) -> None:
        if self._handle < 0 or not self._is_current():
            try:
                handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                handle = -1
            self._restart(handle)
        if self._handle >= 0:
            size = os.fstat(self._handle).st_size
            data = os.pread(self._handle, max(size - self._offset, 0), self._offset)
            end, _ = _read(data, self._take)
            self._offset += end

    def _is_current(self) -> bool:
        """Whether the file was not begun anew; it is kept open, so its number is not used again."""
        try:
            return os.path.samestat(os.fstat(self._handle), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _restart(self, handle: int) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = handle
        self._offset = 0
        self._clear()


def _read(data: bytes, take: Any) -> tuple[int, int]:
    """Give each record to ``take``; gives where the last one ends, and how many were damaged.

    What follows the last good record was never synced, so nobody relied on it.
    """
    end = damaged = bad = start = 0
    while (stop := data.find(b"\n", start)) >= 0:
        crc, rest = data[start : start + 8], data[start + 9 : stop]
        start = stop + 1
        if crc == b"%08x" % zlib.crc32(rest):
            take(*orjson.loads(rest))
            end = start
            damaged += bad
            bad = 0
        else:
            bad += 1
    return end, damaged


def _length(name: str, raw: bytes) -> int:
    """Give the length of a record's line: the two, and what stands around them."""
    return len(name) + len(raw) + 15


def _line(name: str, raw: bytes) -> bytes:
    rest = b'["%s",%s]' % (name.encode("ascii"), raw)
    return b"%08x %s\n" % (zlib.crc32(rest), rest)


def _reserve(handle: int, start: int, end: int) -> int:
    """Reserve space behind the end of a file, less where so much can't be had.

    Gives up to where, 0 when there is none.
    """
    length = end - start
    while length >= _LEAST_BYTES:
        wanted = ctypes.c_int64(length)
        if _fallocate(handle, _KEEP_SIZE, ctypes.c_int64(start), wanted) == 0:
            return start + length
        length //= 2
    return 0
