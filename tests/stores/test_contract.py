# SPDX-License-Identifier: MIT
"""The queue contract, run against each store as it is and sealed."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.ciphers import KEY_BYTES
from smtpmailer.interfaces import IDeadLetters, IQueue
from smtpmailer.stores.memory import MemoryQueueStore
from smtpmailer.stores.sealed import QueueCipher, SealedDeadLetters, SealedQueueStore
from tests.stores.contract import QueueContract
from tests.stores.queues import Place, make_place


def make_cipher(method: str = "AES128", *, whole: bool = False) -> QueueCipher:
    """Make a cipher whose nonces count."""
    counter = itertools.count()
    return QueueCipher(
        method=method,
        keys=(bytes(range(KEY_BYTES[method])),),
        whole=whole,
        make_nonce=lambda size: next(counter).to_bytes(size, "big"),
    )


class MemoryTests(QueueContract, SynchronousTestCase):
    """The store in memory."""

    def setUp(self) -> None:
        self.memory = MemoryQueueStore()
        self.queue: IQueue = self.memory
        self.dead: IDeadLetters = self.memory

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


class FileTests(QueueContract, SynchronousTestCase):
    """The file queue."""

    def setUp(self) -> None:
        self.place: Place = make_place(self)
        files, _ = self.place.make_queue()
        self.queue: IQueue = files.store
        self.dead: IDeadLetters = files.dead
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


class WholeSealedFileTests(SealedFileTests):
    """The file queue, whole documents encrypted."""

    cipher = make_cipher("AES256", whole=True)
