# SPDX-License-Identifier: MIT
"""Templates: what their names may be, and how values are put in place of their tags."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Final

import attrs

from smtpmailer.errors import MessageError, RequestInvalidError

__all__ = ["MAX_CHARACTERS", "Filled", "TemplateRules", "fill", "is_template_name", "render"]

#: No text made from a template is longer, whatever the settings say.
MAX_CHARACTERS: Final = 256 * 1024 * 1024

#: So many names are told at most; the answer to a large request stays small.
_MAX_NAMED: Final = 100

#: A file system takes no longer name.
_MAX_NAME_BYTES: Final = 255
_UNFIT: Final = re.compile(r"\A\.|\.\.|[/\\\x00-\x1f\x7f-\x9f]")

#: What stands between tags and looks like the name of something to be put in.
_KEY: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,255}")


def is_template_name(text: str) -> bool:
    r"""Whether a text is a plain file name.

    It has 1 to 255 bytes of UTF-8, no separator (``/`` or ``\\``), no control character, no
    ``..``, and does not begin with a dot.
    """
    if not text or _UNFIT.search(text):
        return False
    try:
        return len(text.encode("utf-8")) <= _MAX_NAME_BYTES
    except UnicodeEncodeError:
        return False


@attrs.frozen(kw_only=True)
class TemplateRules:
    """How templates are filled; ``limit`` is the longest text in characters.

    ``escape_html`` writes ``& < > " '`` of values as HTML has them. ``strict`` refuses tags
    without a value and values without a tag.
    """

    opening: str = attrs.field(default="{{", validator=attrs.validators.min_len(1))
    closing: str = attrs.field(default="}}", validator=attrs.validators.min_len(1))
    escape_html: bool = False
    strict: bool = False
    limit: int = MAX_CHARACTERS


@attrs.frozen(kw_only=True)
class Filled:
    """A filled template.

    ``missing`` are the names in tags that had no value, ``unused`` those of values that had no
    tag: in order, each once, at most 100 of each.
    """

    text: str = attrs.field(repr=False)
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def render(template: str, values: Mapping[str, str], rules: TemplateRules) -> str:
    """Fill a template; raises RequestInvalidError for what ``strict`` forbids, else as ``fill``."""
    filled = fill(template, values, rules)
    if rules.strict and (filled.missing or filled.unused):
        faults = []
        if filled.missing:
            faults.append(f"The required properties ({', '.join(filled.missing)}) are missing")
        if filled.unused:
            names = ", ".join(filled.unused)
            faults.append(f"Additional object properties are not allowed: {names}")
        raise RequestInvalidError({"replaceContent": faults})
    return filled.text


def fill(template: str, values: Mapping[str, str], rules: TemplateRules) -> Filled:
    """Put values in place of the tags that name them, in one pass.

    What a value holds is not looked at again. A tag is the opening text, a name exactly as it is
    in ``values``, and the closing text; a tag without a value stays as it is. A name that holds
    the opening or closing text itself is never found. Takes time linear in template and result.

    Raises MessageError when the result is longer than the limit.
    """
    filling = _Filling(template, values, rules)
    at = 0
    while (first := template.find(rules.opening, at)) >= 0:
        end = template.find(rules.closing, first + len(rules.opening))
        if end < 0:
            break
        # Of several openings before a closing the last one belongs to it. Those before it are
        # done with then, which keeps the time linear.
        opening = template.rfind(rules.opening, first, end)
        filled = filling.take(opening, template[opening + len(rules.opening) : end], end)
        at = end + len(rules.closing) if filled else opening + 1
    return filling.finish()


class _Filling:
    """The pieces of a text so far; ``_size`` is their length in characters."""

    def __init__(self, template: str, values: Mapping[str, str], rules: TemplateRules) -> None:
        self._template = template
        self._values = values
        self._rules = rules
        self._pieces: list[str] = []
        self._size = 0
        self._done = 0
        self._used: dict[str, str] = {}
        self._missing: dict[str, None] = {}

    def take(self, start: int, key: str, end: int) -> bool:
        """Put in the value of a tag from ``start`` to the closing at ``end``, if it has one."""
        if key not in self._values:
            if len(self._missing) < _MAX_NAMED and _KEY.fullmatch(key):
                self._missing[key] = None
            return False
        if key not in self._used:
            value = self._values[key]
            self._used[key] = html.escape(value) if self._rules.escape_html else value
        self._add(self._template[self._done : start])
        self._add(self._used[key])
        self._done = end + len(self._rules.closing)
        return True

    def finish(self) -> Filled:
        """Give the whole."""
        self._add(self._template[self._done :])
        unused = [key for key in self._values if key not in self._used]
        return Filled(
            text="".join(self._pieces),
            missing=tuple(self._missing),
            unused=tuple(unused[:_MAX_NAMED]),
        )

    def _add(self, piece: str) -> None:
        self._size += len(piece)
        if self._size > self._rules.limit:
            raise MessageError(
                f"the text from the template is longer than {self._rules.limit} characters "
                "(MAIL_MAX_SIZE)"
            )
        self._pieces.append(piece)
