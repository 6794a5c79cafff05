# SPDX-License-Identifier: MIT
"""Encryption around a store of requests' answers, as around the queue: they name recipients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from smtpmailer.core.once import Kept
from smtpmailer.core.queued import MailDocument
from smtpmailer.errors import CipherError
from smtpmailer.interfaces import IOnceStore
from smtpmailer.stores.sealed import QueueCipher

__all__ = ["SealedOnceStore"]


@implementer(IOnceStore)
class SealedOnceStore:
    """A store whose answers are sealed on the way in and opened on the way out.

    One that can't be opened any more is handed out empty: there was an answer, whatever it was.
    """

    def __init__(self, store: IOnceStore, cipher: QueueCipher) -> None:
        """Wrap ``store``."""
        self._store = store
        self._cipher = cipher

    def claim(self, place: str, note: Mapping[str, Any]) -> Deferred[Kept | None]:
        """Claim, and open what is kept there."""
        return self._store.claim(place, note).addCallback(self._open)

    def _open(self, kept: Kept | None) -> Kept | None:
        if kept is None or kept.answer is None:
            return kept
        try:
            return attrs.evolve(kept, answer=self._cipher.open(kept.answer))
        except (CipherError, ValueError):
            return attrs.evolve(kept, answer={})

    def answer(self, place: str, note: Mapping[str, Any], answer: MailDocument) -> Deferred[None]:
        """Seal and keep."""
        return self._store.answer(place, note, self._cipher.seal(answer))

    def release(self, place: str) -> Deferred[None]:
        """Release."""
        return self._store.release(place)

    def leave(self, place: str) -> None:
        """Leave."""
        self._store.leave(place)

    def stop(self) -> Deferred[None]:
        """Stop the store."""
        return self._store.stop()
