# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.runner on a queue that several nodes run."""

from __future__ import annotations

from typing import Any

import attrs

from smtpmailer.core.queued import StoredMail
from smtpmailer.core.queuestate import MailState
from tests.services.queueing import NOW
from tests.test_runner import RunnerCase

DOUBT = MailState(in_doubt=("user@example.test",), in_doubt_since=NOW - 3600)


class AbandonedTests(RunnerCase):
    """What another node had claimed is judged like a claim of a dead process."""

    def setUp(self) -> None:
        super().setUp()
        claim = self.memory.claim
        self.abandoned: set[str] = set()

        def claim_abandoned(now: float, limit: int) -> Any:
            return claim(now, limit).addCallback(self.give_up)

        self.patch(self.memory, "claim", claim_abandoned)

    def give_up(self, mails: tuple[StoredMail, ...]) -> tuple[StoredMail, ...]:
        """Mark those in ``abandoned``, once, as a store does."""
        given = []
        for mail in mails:
            given.append(attrs.evolve(mail, abandoned=mail.name in self.abandoned))
            self.abandoned.discard(mail.name)
        return tuple(given)

    def test_it_is_settled_first_and_sent_with_the_crash_counted(self) -> None:
        name = self.put(DOUBT)
        other = self.put()
        self.abandoned = {name}
        self.start(at_once=True)
        crashes = [e for e in self.events if "was being delivered when the service died" in str(e)]
        self.assertEqual(len(crashes), 1)
        self.pass_time(3)
        self.assertEqual(len(self.server.sent), 2)
        self.assertEqual(self.names(), [])
        self.assertNotEqual(name, other)

    def test_one_that_every_node_dies_of_becomes_a_dead_letter(self) -> None:
        name = self.put(MailState(crashes=5))
        self.abandoned = {name}
        self.start(at_once=True)
        self.pass_time(3)
        self.assertEqual(self.server.sent, [])
        self.assertEqual(self.successResultOf(self.letters.page_failed(9, 0)).names, (name,))
