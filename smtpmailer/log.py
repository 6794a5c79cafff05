# SPDX-License-Identifier: MIT
"""Log events to lines: one event, one line, nothing in it that could forge another."""

from __future__ import annotations

import re
import syslog
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from zope.interface import implementer

__all__ = ["LEVELS", "LineObserver", "escape", "severity", "syslog_writer"]

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


@implementer(ILogObserver)
class LineObserver:
    """Writes each event of at least ``lowest`` as ``time [level] namespace: text``."""

    def __init__(self, write: Callable[[str, str], None], lowest: str) -> None:
        """``write`` gets the level and the line without its end."""
        self._write = write
        self._lowest = LEVELS.index(lowest)

    def __call__(self, event: LogEvent) -> None:
        """Write one event."""
        level = severity(event)
        if LEVELS.index(level) < self._lowest:
            return
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        if not text:
            return
        when = datetime.fromtimestamp(event["log_time"], tz=UTC)
        source = event.get("log_namespace", "-")
        stamp = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._write(level, f"{stamp} [{level}] {escape(source)}: {escape(text)}")


def syslog_writer(identity: str) -> Callable[[str, str], None]:
    """Make a writer that hands lines to the machine's syslog, with the right severity."""
    syslog.openlog(identity, syslog.LOG_PID, syslog.LOG_MAIL)

    def write(level: str, line: str) -> None:
        syslog.syslog(_SYSLOG[level], line)

    return write
