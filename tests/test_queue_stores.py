# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.queue_stores: requests' keys are forgotten in time, and not too often."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.queue_stores import OnceStore, open_once_store
from smtpmailer.threads import InlineThreads
from tests.stores.once_contract import ANSWER, NOTE, PLACE
from tests.stores.queues import SHM
from tests.surroundings import settings

_DAY = 86_400


class OnceStoreTests(SynchronousTestCase):
    """Processes that share a directory sweep it within a minute of their start, or one of them."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(dir=SHM)
        self.addCleanup(directory.cleanup)
        self.queue = directory.name
        self.directory = Path(directory.name, ".smtpmailer", "once")
        self.clock = Clock()

    def start(self) -> OnceStore:
        """Start a process's store and what sweeps it."""
        values = settings(QUEUE_DIR=self.queue, MAILER_ONCE_KEEP=_DAY)
        stores = open_once_store(values, self.clock, None, InlineThreads())
        for service in stores.services:
            service.startService()
            self.addCleanup(service.stopService)
        return stores

    def keep_old(self, stores: OnceStore) -> None:
        """Keep an answer that is due to be forgotten."""
        self.successResultOf(stores.store.claim(PLACE, NOTE))
        self.successResultOf(stores.store.answer(PLACE, NOTE, ANSWER))
        old = time.time() - _DAY - 1
        os.utime(self.directory / PLACE, (old, old))

    def test_an_old_key_is_forgotten_within_a_minute_of_the_start(self) -> None:
        self.keep_old(self.start())
        self.clock.advance(60)
        self.assertFalse((self.directory / PLACE).exists())

    def test_what_was_swept_lately_is_left_alone(self) -> None:
        self.keep_old(self.start())
        self.clock.advance(60)
        self.keep_old(self.start())
        self.clock.advance(60)
        self.assertTrue((self.directory / PLACE).exists())

    def test_each_interval_it_is_swept_again(self) -> None:
        self.keep_old(self.start())
        self.clock.advance(60)
        self.keep_old(self.start())
        swept = time.time() - 3600
        os.utime(self.directory / "swept", (swept, swept))
        self.clock.advance(60)
        self.assertFalse((self.directory / PLACE).exists())
