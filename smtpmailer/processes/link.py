# SPDX-License-Identifier: MIT
"""The end of the control channel in a process that has a supervisor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.logger import Logger

from smtpmailer.errors import ControlError
from smtpmailer.processes.channel import Channel, Ears
from smtpmailer.processes.child import adopt_channel

__all__ = ["Duties", "Link"]


@attrs.frozen(kw_only=True)
class Duties:
    """What the supervisor can order and ask.

    ``retire`` parts with all connections and ends; ``stop`` ends within so many seconds, None for
    as long as it takes. ``answers`` go by question.
    """

    retire: Callable[[], None]
    stop: Callable[[float | None], None]
    reload: Callable[[], None]
    answers: Mapping[str, Callable[[], Any]]


class Link(Service):
    """Does what the supervisor says, and ends when there is no supervisor any more."""

    _log = Logger()

    def __init__(self, reactor: Any, descriptor: int, duties: Duties, stop_limit: float) -> None:
        """``descriptor`` is our end of the channel; ``stop_limit`` is in seconds."""
        self.setName("link")
        self._reactor = reactor
        self._descriptor = descriptor
        self._duties = duties
        self._stop_limit = stop_limit
        self._channel = Channel(reactor, Ears(asked=self._asked, told=self._told, lost=self._lost))

    def startService(self) -> None:
        """Open the channel."""
        super().startService()
        adopt_channel(self._reactor, self._descriptor, self._channel)

    def ready(self) -> None:
        """Tell the supervisor that this process serves."""
        self._channel.tell("ready")

    def _asked(self, what: str, _values: Mapping[str, Any]) -> Any:
        answer = self._duties.answers.get(what)
        if answer is None:
            raise ControlError(f"this process can't answer {what[:40]!r}")
        return answer()

    def _told(self, what: str, values: Mapping[str, Any]) -> None:
        if what == "retire":
            self._duties.retire()
        elif what == "stop":
            limit = values.get("limit")
            self._duties.stop(None if limit is None else float(limit))
        elif what == "reload":
            self._duties.reload()

    def _lost(self) -> None:
        if self.running:
            self._log.error("the supervisor is gone, so this process ends")
            self._duties.stop(self._stop_limit)
