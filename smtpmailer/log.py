# SPDX-License-Identifier: MIT
"""Log events to lines, as text or JSON: one event, one line, nothing that could forge another."""

from __future__ import annotations

import json
import math
import re
import syslog
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from zope.interface import implementer

from smtpmailer.core.settings import Settings

__all__ = [
    "FORMATS",
    "LEVELS",
    "LineObserver",
    "escape",
    "hidden_levels",
    "json_line",
    "severity",
    "syslog_writer",
    "text_line",
]

#: MAILER_LOG_LEVEL's words, least severe first.
LEVELS: Final = ("debug", "info", "notice", "warning", "error")

_OF_TWISTED: Final = {
    LogLevel.debug: "debug",
    LogLevel.info: "info",
    LogLevel.warn: "warning",
    LogLevel.error: "error",
    LogLevel.critical: "error",
}
_SYSLOG: Final = {
    "debug": syslog.LOG_DEBUG,
    "info": syslog.LOG_INFO,
    "notice": syslog.LOG_NOTICE,
    "warning": syslog.LOG_WARNING,
    "error": syslog.LOG_ERR,
}
# What the legacy log adds to an event, and what says how it is shown.
_HIDDEN: Final = frozenset({"format", "isError", "message", "notice", "more", "system"})
# C0, DEL, C1, the line and paragraph separators, the marks that reorder text, lone surrogates.
_UNSAFE: Final = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escape(text: str) -> str:
    r"""Write control characters as ``\xNN`` or ``\uNNNN``, so that a text stays one line."""
    return _UNSAFE.sub(
        lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text
    )


def severity(event: LogEvent) -> str:
    """Tell an event's level in MAILER_LOG_LEVEL's words; ``notice=True`` lifts info to notice."""
    level = _OF_TWISTED.get(event.get("log_level", LogLevel.info), "info")
    return "notice" if level == "info" and event.get("notice") else level


def text_line(event: LogEvent, level: str, text: str) -> str:
    """Write an event as ``time [level] namespace: text``."""
    source = escape(event.get("log_namespace", "-"))
    process = f"{event['process']} " if "process" in event else ""
    return f"{_time(event)} [{level}] {process}{source}: {escape(text)}"


def json_line(event: LogEvent, level: str, text: str) -> str:
    """Write an event as a JSON object: ``time``, ``level``, ``source``, ``text``, and its fields.

    Those are what the event says besides, under their own names: texts, numbers and booleans;
    anything else is left out, as are the logger's own.
    """
    line: dict[str, Any] = {
        "time": _time(event),
        "level": level,
        "source": event.get("log_namespace", "-"),
        "text": text,
    }
    for name, value in event.items():
        told = name in line or name in _HIDDEN or name.startswith("log_")
        if not told and isinstance(value, str | bool | int | float):
            line[name] = value if _is_json(value) else str(value)
    return json.dumps(line)


def _is_json(value: object) -> bool:
    """JSON has no infinity, nor what is no number."""
    return not isinstance(value, float) or math.isfinite(value)


def _time(event: LogEvent) -> str:
    when = datetime.fromtimestamp(event["log_time"], tz=UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


#: What MAILER_LOG_FORMAT may say.
FORMATS: Final[Mapping[str, Callable[[LogEvent, str, str], str]]] = {
    "text": text_line,
    "json": json_line,
}


def hidden_levels(settings: Settings) -> frozenset[str]:
    """Give the levels, in MAILER_LOG_LEVEL's words, of which nothing is written."""
    if not settings.mailer_log:
        return frozenset(LEVELS)
    return frozenset(LEVELS[: LEVELS.index(settings.mailer_log_level)])


@implementer(ILogObserver)
class LineObserver:
    """Writes each event of at least ``lowest`` as one line."""

    def __init__(
        self,
        write: Callable[[str, str], None],
        lowest: str,
        line: Callable[[LogEvent, str, str], str] = text_line,
    ) -> None:
        """``write`` gets the level and the line without its end; ``line`` makes that."""
        self._write = write
        self._lowest = LEVELS.index(lowest)
        self._line = line

    def __call__(self, event: LogEvent) -> None:
        """Write one event."""
        level = severity(event)
        if LEVELS.index(level) < self._lowest:
            return
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        if text:
            self._write(level, self._line(event, level, text))


def syslog_writer(identity: str) -> Callable[[str, str], None]:
    """Make a writer that hands lines to the machine's syslog, with the right severity."""
    syslog.openlog(identity, syslog.LOG_PID, syslog.LOG_MAIL)

    def write(level: str, line: str) -> None:
        syslog.syslog(_SYSLOG[level], line)

    return write
