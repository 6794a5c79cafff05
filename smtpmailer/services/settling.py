# SPDX-License-Identifier: MIT
"""Ends claims, whatever the store says to that."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from smtpmailer.core.queued import Settlement
from smtpmailer.errors import NoSuchMailError, StoreError, ThreadsStoppedError
from smtpmailer.interfaces import IQueueRun
from smtpmailer.services.telling import name_fields

__all__ = ["Settler"]

#: So often a mail is tried to be buried before it goes back into the queue.
_BURIALS: Final = 3

#: Seconds until such a mail's turn comes again.
_BURIAL_PAUSE: Final = 60.0

#: Seconds until a store that could not do its work is asked again.
_PAUSE: Final = 2.0


class Settler:
    """Settles the claims of one queue."""

    _log = Logger()

    def __init__(
        self,
        run: IQueueRun,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
        goes_on: Callable[[], bool],
    ) -> None:
        """``now`` gives Unix seconds; once ``goes_on`` says no, nothing is asked again."""
        self._run = run
        self._clock = clock
        self._now = now
        self._goes_on = goes_on

    async def settle(self, name: str, settlement: Settlement) -> None:
        """Settle a claim, however often the store has to be asked; never fails.

        When the service stops meanwhile the mail stays claimed; the next start finds it, in doubt
        where it may have been delivered. A mail that can't be buried goes back into the queue: a
        directory of dead letters that is full or gone holds up nobody else.
        """
        for tries in itertools.count(1):
            if tries > _BURIALS and (settlement.dead or settlement.corrupt):
                settlement = _postponed(settlement, self._now())
            try:
                await self._run.settle(name, settlement)
            except NoSuchMailError:
                text = "mail {name} vanished while it was being sent"
                self._log.warn(text, **name_fields(name), outcome="vanished")
                return
            except (StoreError, ThreadsStoppedError) as error:
                text = "mail {name} can't be settled: {why}"
                self._log.error(text, **name_fields(name), why=str(error))
                if not self._goes_on():
                    return
                await deferLater(self._clock, _PAUSE)
            except Exception:  # noqa: BLE001 - no claim is left behind, whatever happened
                self._log.failure("mail {name} can't be settled", **name_fields(name))
                if not self._goes_on() or tries > _BURIALS:
                    return
                settlement = _postponed(settlement, self._now())
            else:
                return


def _postponed(settlement: Settlement, now: float) -> Settlement:
    """Give the settlement that returns a mail to the queue as it was, for later."""
    state = attrs.evolve(settlement.state, next_at=now + _BURIAL_PAUSE)
    return Settlement(at=now, state=state)
