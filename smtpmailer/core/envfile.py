# SPDX-License-Identifier: MIT
"""The text of an env file (PHP INI, typed) to a dict.

Compat: reads what PHP's ``parse_ini_string(..., INI_SCANNER_TYPED)`` reads, minus its accidents.
Where PHP evaluates an expression, puts in a constant, glues strings together or gives up, a value
is the literal text as written. ``#`` begins a comment line too; PHP would make it part of a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from smtpmailer.errors import EnvFileError

__all__ = ["Scalar", "parse"]

Scalar: TypeAlias = str | int | bool | None

_NOTHING: Final = re.compile(r"[ \t]*(?:[;#][^\n]*|\[[^\]\n]*\][ \t]*(?:;[^\n]*)?)?(?:\n|\Z)")
_KEY: Final = re.compile(r"[ \t]*([^=;\n]*?)[ \t]*=[ \t]*")
_QUOTED: Final = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'([^']*)'", re.DOTALL)
_TAIL: Final = re.compile(r"[ \t]*(?:;[^\n]*)?(?:\n|\Z)")
#: Double quotes keep a semicolon in a bare value; an apostrophe is only a character there.
_BARE: Final = re.compile(r"((?:\"[^\"\n]*\"|[^;\n])*)(?:;[^\n]*)?(?:\n|\Z)")
_MIXED: Final = re.compile(r"((?:\"[^\"\n]*\"|'[^'\n]*'|[^;\n])*)(?:;[^\n]*)?(?:\n|\Z)")
_LINE: Final = re.compile(r"[^\n]*(?:\n|\Z)")
_ESCAPE_OR_NAME: Final = re.compile(r"\\(?P<plain>[\"'\\])|\\.|\$\{(?P<name>[^}\n]*)\}", re.DOTALL)
_NAME: Final = re.compile(r"\$\{(?P<name>[^}\n]*)\}")
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]*")
_INT64: Final = range(-(2**63), 2**63)
_WORDS: Final[Mapping[str, bool | None]] = {
    **dict.fromkeys(("true", "on", "yes"), True),
    **dict.fromkeys(("false", "off", "no", "none"), False),
    "null": None,
}


def parse(text: str, environ: Mapping[str, str]) -> dict[str, Scalar]:
    """Read all entries; a later key wins, section names do not count.

    ``${NAME}`` outside single quotes becomes ``environ``'s NAME, or nothing where it has none.
    Raises EnvFileError, a line for each fault: an open quote, or a line that is no entry.
    """
    reader = _Reader(text, environ)
    entries = dict(reader.entries())
    if reader.faults:
        raise EnvFileError("\n".join(reader.faults))
    return entries


class _Reader:
    """A position in a text, and what was wrong before it."""

    def __init__(self, text: str, environ: Mapping[str, str]) -> None:
        self._text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        self._environ = environ
        self._at = 0
        self.faults: list[str] = []

    def entries(self) -> Iterator[tuple[str, Scalar]]:
        """Give key and value of each entry."""
        while self._at < len(self._text):
            if self._take(_NOTHING):
                continue
            start = self._at
            key = self._take(_KEY)
            if key is None or not key[1]:
                self._fault(start, "is no entry: write KEY = value, or ; in front of a comment")
                self._take(_LINE)
            else:
                yield key[1], self._value()

    def _value(self) -> Scalar:
        """Read from behind the equals sign to the end of the value's last line."""
        start = self._at
        if self._text[start : start + 1] not in {'"', "'"}:
            return self._typed(self._rest(_BARE))
        quoted = self._take(_QUOTED)
        if quoted and self._take(_TAIL):
            single: str | None = quoted[2]
            return self._unescaped(quoted[1]) if single is None else single
        if quoted is None or "\n" in quoted[0]:
            self._fault(start, f"opens a quote {self._text[start]} that is not closed properly")
            self._at = len(self._text)
            return None
        self._at = start
        return self._rest(_MIXED)

    def _typed(self, raw: str) -> Scalar:
        """Give a bare word its type."""
        if raw.lower() in _WORDS:
            return _WORDS[raw.lower()]
        # 20 characters hold any 64-bit integer; longer ones need not be computed.
        if _INTEGER.fullmatch(raw) and len(raw) <= 20 and int(raw) in _INT64:  # noqa: PLR2004
            return int(raw)
        return _NAME.sub(self._replacement, raw)

    def _unescaped(self, raw: str) -> str:
        return _ESCAPE_OR_NAME.sub(self._replacement, raw)

    def _replacement(self, match: re.Match[str]) -> str:
        groups = match.groupdict()
        if groups["name"] is not None:
            return self._environ.get(groups["name"], "")
        return groups["plain"] or match[0]

    def _rest(self, pattern: re.Pattern[str]) -> str:
        found = self._take(pattern)
        assert found is not None  # both patterns match anywhere
        rest: str = found[1]
        return rest.strip(" \t")

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()
        return found

    def _fault(self, at: int, what: str) -> None:
        self.faults.append(f"line {self._text.count(chr(10), 0, at) + 1} {what}")
