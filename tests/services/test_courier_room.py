# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.courier: mails with files share the memory for them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from smtpmailer.core.model import (
    Address,
    DeliveryResult,
    FilePart,
    MailRequest,
    Outcome,
    OutgoingMail,
    Route,
)
from smtpmailer.errors import AddressError, AttachmentError
from smtpmailer.interfaces import ISender
from smtpmailer.services.courier import Courier
from smtpmailer.services.room import MemoryRoom
from tests.services.parts import DEFAULTS, STAMP, Files, WatchedThreads, result_of

MB = 2**20


@implementer(ISender)
class SlowSender:
    """Takes mails, and ends their deliveries when told to."""

    def __init__(self) -> None:
        self.open: list[Deferred[DeliveryResult]] = []
        self.mails: list[weakref.ref[OutgoingMail]] = []

    def send(self, mail: OutgoingMail, _route: Route) -> Deferred[DeliveryResult]:
        done: Deferred[DeliveryResult] = Deferred()
        self.mails.append(weakref.ref(mail))
        self.open.append(done)
        return done

    def end(self) -> None:
        self.open.pop(0).callback(result_of(Outcome.DELIVERED, "user@example.org"))


class CourierRoomTests(SynchronousTestCase):
    """Room for two mails with a file of 1 MB each, which take 4 MB."""

    def setUp(self) -> None:
        self.files, self.sender, self.room = Files(), SlowSender(), MemoryRoom(8 * MB)
        self.files.contents = {"a": bytes(MB)}
        self.loads = 0
        load = self.files.load

        def counted(parts: tuple[FilePart, ...]) -> object:
            self.loads += 1
            return load(parts)

        counting: Callable[..., object] = counted
        self.patch(self.files, "load", counting)
        self.courier = Courier(
            DEFAULTS,
            attachments=self.files,
            sender=self.sender,
            threads=WatchedThreads(),
            room=self.room,
        )

    def deliver(self, to: str = "user@example.org", path: str = "a") -> Deferred[DeliveryResult]:
        parts = (FilePart(path=path, name="a.bin"),) if path else ()
        request = MailRequest(to=(Address(email=to),), subject="s", body="b", attachments=parts)
        return self.courier.deliver(request, STAMP)

    def test_mails_wait_with_their_files_unread_until_others_are_sent(self) -> None:
        results = [self.deliver() for _ in range(5)]
        # The double reads files to measure them.
        self.assertEqual((len(self.sender.open), self.loads - 5), (2, 2))
        for left in (2, 2, 2, 1, 0):
            self.sender.end()
            self.assertEqual(len(self.sender.open), left)
        for result in results:
            self.assertTrue(self.successResultOf(result).delivered)
        self.assertEqual(self.room.taken, 0)

    def test_what_a_mail_held_is_gone_before_the_next_one_is_read(self) -> None:
        gc.disable()
        self.addCleanup(gc.enable)
        self.room.limit = 4 * MB
        load, alive = self.files.load, []

        def noted(parts: tuple[FilePart, ...]) -> object:
            alive.append([mail() is not None for mail in self.sender.mails])
            return load(parts)

        results = [self.deliver() for _ in range(3)]
        loading: Callable[..., object] = noted
        self.patch(self.files, "load", loading)
        for _ in results:
            self.sender.end()
        self.assertEqual(alive, [[False], [False, False]])

    def test_mails_without_files_do_not_wait(self) -> None:
        for _ in range(4):
            self.deliver()
        self.deliver(path="")
        self.assertEqual(len(self.sender.open), 3)

    def test_whatever_happens_the_room_is_given_back(self) -> None:
        self.failureResultOf(self.deliver(to="no address"), AddressError)
        self.failureResultOf(self.deliver(path="missing"), AttachmentError)
        broken = self.deliver()
        self.sender.open.pop().errback(ZeroDivisionError())
        self.failureResultOf(broken, ZeroDivisionError)
        cancelled = self.deliver()
        cancelled.addErrback(lambda _: None)
        cancelled.cancel()
        self.assertEqual(self.room.taken, 0)
