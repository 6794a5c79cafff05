# SPDX-License-Identifier: MIT
"""The queue contract, run against each store as it is and sealed."""

from __future__ import annotations

import itertools
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.ciphers import KEY_BYTES
from smtpmailer.core.queuestate import MailState
from smtpmailer.interfaces import IDeadLetters, IMailSearch, IQueue
from smtpmailer.stores.memory import MemoryQueueStore
from smtpmailer.stores.sealed import QueueCipher, SealedDeadLetters, SealedQueueStore, SealedSearch
from tests.stores.contract import QueueContract
from tests.stores.queues import NOW, Place, make_place, name_at, tried_state
from tests.stores.search_contract import SearchContract


def make_cipher(method: str = "AES128", *, whole: bool = False) -> QueueCipher:
    """Make a cipher whose nonces count."""
    counter = itertools.count()
    return QueueCipher(
        method=method,
        keys=(bytes(range(KEY_BYTES[method])),),
        whole=whole,
        make_nonce=lambda size: next(counter).to_bytes(size, "big"),
    )


class HasteContract:
    """Of stores that keep the times in memory: a waiting mail can be called."""

    def test_a_called_mail_is_due_and_its_state_untouched(self: Any) -> None:
        state = tried_state(next_at=NOW + 60)
        name = self.put(state=state)
        self.run_queue()
        calls: list[None] = []
        self.queue.watch(lambda: calls.append(None))
        self.assertTrue(self.queue.hasten(name, NOW))
        self.assertEqual((self.queue.next_due(), len(calls)), (NOW, 1))
        self.assertEqual([mail.state for mail in self.claim()], [state])

    def test_a_call_never_lets_a_mail_wait_longer(self: Any) -> None:
        name = self.put()
        self.assertTrue(self.queue.hasten(name, NOW + 60))
        self.assertEqual(self.queue.next_due(), NOW)

    def test_who_is_held_claimed_or_gone_is_not_called(self: Any) -> None:
        held, claimed = self.put(NOW + 9, 1, MailState(held="in doubt")), self.put(number=2)
        self.run_queue()
        self.claim()
        for name in (held, claimed, name_at(NOW, 3), "nonsense"):
            self.assertFalse(self.queue.hasten(name, NOW), name)
        self.assertIsNone(self.queue.next_due())


class MemoryTests(HasteContract, QueueContract, SearchContract, SynchronousTestCase):
    """The store in memory."""

    def setUp(self) -> None:
        self.memory = MemoryQueueStore()
        self.queue: IQueue = self.memory
        self.dead: IDeadLetters = self.memory
        self.search: IMailSearch = self.memory

    def spoil(self, name: str) -> None:
        mail = self.memory._waiting[name]
        self.memory._waiting[name] = type(mail)(b'{"subject": "Hel')


class SealedMemoryTests(MemoryTests):
    """The store in memory, the whole document encrypted."""

    def setUp(self) -> None:
        super().setUp()
        cipher = make_cipher("XChaCha20", whole=True)
        self.queue = SealedQueueStore(self.memory, cipher)
        self.dead = SealedDeadLetters(self.memory, cipher)
        self.search = SealedSearch(self.memory, cipher)


class FileTests(HasteContract, QueueContract, SearchContract, SynchronousTestCase):
    """The file queue."""

    def setUp(self) -> None:
        self.place: Place = make_place(self)
        files, _ = self.place.make_queue()
        self.queue: IQueue = files.store
        self.dead: IDeadLetters = files.dead
        self.search: IMailSearch = files.search
        self.successResultOf(self.queue.start())
        self.addCleanup(lambda: self.successResultOf(self.queue.stop()))

    def spoil(self, name: str) -> None:
        (self.place.waiting / name).write_bytes(b'{"subject": "Hel')


class SealedFileTests(FileTests):
    """The file queue, passwords encrypted."""

    cipher = make_cipher()

    def setUp(self) -> None:
        super().setUp()
        self.queue = SealedQueueStore(self.queue, self.cipher)
        self.dead = SealedDeadLetters(self.dead, self.cipher)
        self.search = SealedSearch(self.search, self.cipher)


class WholeSealedFileTests(SealedFileTests):
    """The file queue, whole documents encrypted."""

    cipher = make_cipher("AES256", whole=True)
