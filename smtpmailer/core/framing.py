# SPDX-License-Identifier: MIT
"""Cut a byte stream into whole JSON documents, however it arrives.

A document ends where its braces close; nothing else separates one from the next. Each byte is
looked at once, so the cost is linear in the bytes received. Brackets inside strings don't count,
and a backslash hides the quote or backslash behind it, also when a cut falls between the two.
"""

from __future__ import annotations

import re
import sys
from typing import Any, Final

import orjson

from smtpmailer.core.documents import Document, kept_bytes, read
from smtpmailer.errors import BadDocumentError, FramingError, LimitError

__all__ = ["MAX_VALUES", "Framer", "received"]

#: Values that a document may hold; a mail with 1,000 of everything has some 10,000.
MAX_VALUES: Final = 100_000

#: Bytes of an unfinished document that are put together into one.
_BLOCK: Final = 256 * 1024

#: So many values are counted one by one.
_FEW: Final = 50
#: A container takes no more for each of its members, but for small ones.
_MEMBER_BYTES: Final = 64

_NOT_BLANK: Final = re.compile(rb"[^ \t\r\n]")
_OPENERS: Final = b"{["
_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C
_COMMA: Final = 0x2C
_CLOSER_OF: Final = {0x7B: 0x7D, 0x5B: 0x5D}
# A string up to its end or the chunk's, a bracket or comma, or a control character that JSON lacks.
_TOKEN: Final = re.compile(rb'"[^"]*"?|[{}\[\],]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]')
_ENDS: Final = (b"}", b"}\n", b"}\r\n")


class Framer:
    """Collects bytes and gives whole documents; one for each connection.

    After a fault that leaves no way to find the next document, ``error`` says what is wrong and
    everything fed later is ignored.
    """

    def __init__(self, limit_bytes: int, max_depth: int, max_values: int = MAX_VALUES) -> None:
        """Refuse what is longer than ``limit_bytes``, deeper than ``max_depth``, or too many.

        ``max_values`` is how many values a document may hold: each takes many times the memory of
        its text. (What arrives in one piece may hold more; it is short.)
        """
        self._limit_bytes = limit_bytes
        self._max_depth = max_depth
        self._max_values = max_values
        self._values = 0
        # An unfinished document: whole blocks, and what comes behind them. (One buffer that grows
        # to many megabytes leaves holes in the heap as large as itself.)
        self._blocks: list[bytes] = []
        self._buffer = bytearray()
        self._pending = 0
        self._closers = bytearray()
        self._in_string = False
        self._escaped = False
        self.error: FramingError | LimitError | None = None

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished document are kept."""
        return self._pending

    @property
    def unfinished(self) -> bytes:
        """What is kept of an unfinished document."""
        return b"".join([*self._blocks, self._buffer])

    def feed(self, data: bytes) -> list[Document]:
        """Take the next bytes and give the documents they complete, in order.

        Documents completed before a fault are given all the same; then look at ``error``.
        """
        whole = self.whole(data)
        return self.cut(data) if whole is None else [received(data, whole)]

    def cut(self, data: bytes) -> list[Document]:
        """Do what ``feed`` does with bytes that ``whole`` has nothing to give for."""
        documents: list[Document] = []
        try:
            self._cut(data, documents)
        except (FramingError, LimitError) as error:
            self._stop(error)
        return documents

    def finish(self) -> None:
        """Say that no more bytes come.

        Raises FramingError when a document is unfinished.
        """
        if self._pending:
            fault = _malformed(self._pending, "unexpected end of input")
            self._stop(fault)
            raise fault

    def whole(self, data: bytes) -> dict[str, Any] | None:
        """Try the common case, one request in one segment, without scanning it.

        Gives its value; after None the bytes have to be given to ``cut``.
        """
        if (
            self._pending
            or not data.startswith(b"{")
            or not data.endswith(_ENDS)
            or len(data) > self._limit_bytes
            or self.error is not None
            # Most requests have few brackets, and looking for one is fast.
            or (len(data) > self._max_depth and _has_more(data, b"{[", self._max_depth))
        ):
            return None
        try:
            value: dict[str, Any] = orjson.loads(data)
        except orjson.JSONDecodeError:
            return None
        return value

    def _cut(self, data: bytes, documents: list[Document]) -> None:
        """Append what ``data`` completes to ``documents`` and keep the rest."""
        masked = self._mask(data)
        start = 0
        while self.error is None:
            if not self._closers:
                start = self._begin(data, start)
                if start < 0:
                    return
            end = self._find_end(masked, start)
            self._check_size(self._pending + (end if end >= 0 else len(data)) - start)
            if end < 0:
                self._keep(data[start:])
                return
            documents.append(self._take(data[start:end]))
            start = end

    def _mask(self, data: bytes) -> bytes:
        """Blot out escaped quotes and backslashes, so that every quote left is a delimiter."""
        masked = data
        if self._escaped and data:
            self._escaped = False
            if data[0] in (_QUOTE, _BACKSLASH):
                masked = b"_" + data[1:]
        if _BACKSLASH in masked:
            masked = masked.replace(rb"\\", b"__").replace(rb"\"", b"__")
            self._escaped = masked[-1] == _BACKSLASH
        return masked

    @staticmethod
    def _begin(data: bytes, start: int) -> int:
        """Find where the next document begins; -1 when only blanks are left."""
        found = _NOT_BLANK.search(data, start)
        if found is None:
            return -1
        if found.group() not in (b"{", b"["):
            raise FramingError("not a JSON object", empty=True)
        return found.start()

    def _find_end(self, masked: bytes, start: int) -> int:
        """Find the index behind the document's last bracket; -1 when it is not there yet."""
        position = start
        if self._in_string:
            position = masked.find(b'"', start) + 1
            if not position:
                return -1
            self._in_string = False
        closers = self._closers
        for token in _TOKEN.finditer(masked, position):
            first = masked[token.start()]
            if first == _QUOTE:
                closed = token.end() - token.start() > 1 and masked[token.end() - 1] == _QUOTE
                self._in_string = not closed
            elif first == _COMMA:
                self._count_value()
            elif first in _OPENERS:
                closers.append(_CLOSER_OF[first])
                self._check_depth()
                self._count_value()
            elif closers[-1] != first:
                offset = self._pending + token.start() - start
                raise _malformed(offset, f"unexpected {_show(first)}")
            else:
                closers.pop()
                if not closers:
                    return token.end()
        return -1

    def _take(self, tail: bytes) -> Document:
        """Parse the document that ``tail`` completes."""
        values, self._values = self._values, 0
        if not self._pending:
            return read(tail, values)
        whole = b"".join([*self._blocks, self._buffer, tail])
        self._drop()
        return read(whole, values)

    def _keep(self, piece: bytes) -> None:
        """Keep a part of an unfinished document."""
        self._buffer += piece
        self._pending += len(piece)
        if len(self._buffer) >= _BLOCK:
            self._blocks.append(bytes(self._buffer))
            self._buffer = bytearray()

    def _drop(self) -> None:
        """Keep nothing of the document any more."""
        self._blocks = []
        self._buffer = bytearray()
        self._pending = 0

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._limit_bytes:
            raise LimitError(
                f"request is larger than {self._limit_bytes} bytes (MAILER_MAX_REQUEST_SIZE)",
                "invalid payload",
            )

    def _check_depth(self) -> None:
        if len(self._closers) > self._max_depth:
            raise LimitError(
                f"request is nested deeper than {self._max_depth} levels", "invalid payload"
            )

    def _count_value(self) -> None:
        self._values += 1
        if self._values > self._max_values:
            raise LimitError(
                f"request holds more than {self._max_values} values", "invalid payload"
            )

    def _stop(self, error: FramingError | LimitError) -> None:
        self.error = error
        self._drop()


def _has_more(data: bytes, characters: bytes, most: int) -> bool:
    """Whether data holds these characters more often than that; they are rare in a request."""
    found = 0
    for character in characters:
        at = data.find(character)
        while at >= 0:
            found += 1
            if found > most:
                return True
            at = data.find(character, at + 1)
    return False


def received(data: bytes, value: dict[str, Any]) -> Document:
    """Make the document of a request that came in one segment."""
    return Document(value, None, kept_bytes(data, _count_values(data, value)))


def _count_values(data: bytes, value: dict[str, Any]) -> int:
    """Tell how many values a document holds, about."""
    containers: list[dict[str, Any] | list[Any]] = [value]
    found = 0
    for container in containers:
        # One whose keys were repeated keeps the room of them all.
        found += max(len(container), sys.getsizeof(container) // _MEMBER_BYTES)
        if found > _FEW:
            # Each but the first stands behind a comma; to count these takes a while in a mail.
            return data.count(b",")
        members = container.values() if isinstance(container, dict) else container
        containers += [each for each in members if isinstance(each, dict | list)]
    return found


def _malformed(offset: int, why: str) -> FramingError:
    return FramingError(str(BadDocumentError(offset, why)))


def _show(byte: int) -> str:
    return f"'{chr(byte)}'" if chr(byte).isprintable() else f"control character 0x{byte:02x}"
