# SPDX-License-Identifier: MIT
"""A running service whose disk is full or read-only, or whose wall clock jumps."""

from __future__ import annotations

import time
from typing import Any

from tests.integration.mounts import MAY_MOUNT, fill, mount_memory, read_only
from tests.integration.queue_service import QueueServiceCase, ShiftedService, in_doubt, mail
from tests.integration.service import Service, until

_LARGE = "<p>x</p>" * 2_500
_REFUSED = {"status": "error", "data": None, "message": "failed to add mail to queue"}


class DiskTests(QueueServiceCase):
    """Nothing that was accepted is lost, what can't be accepted is refused, the rest goes on."""

    if not MAY_MOUNT:
        skip = "only root mounts file systems"

    def try_to_queue(self, service: Service) -> dict[str, Any]:
        answer: dict[str, Any] = service.ask({"queueMail": mail(body=_LARGE)})
        return answer

    def queue_until_full(self, service: Service) -> list[str]:
        """Queue mails until one is refused; give the names of the others."""
        names: list[str] = []
        for _ in range(200):
            answer = self.try_to_queue(service)
            if answer["status"] != "success":
                self.assertEqual(answer, _REFUSED)
                return names
            names.append(answer["data"])
        raise AssertionError("all were accepted")

    def check_alive(self, service: Service) -> None:
        self.assertEqual(service.ask({"ping": None})["message"], "pong")
        self.assertEqual(service.ask({"getQueueList": None})["status"], "success")

    def check_all(self, service: Service, names: list[str]) -> None:
        """See that all works again, and that each mail has arrived once."""
        self.await_mails(*names)
        self.await_end()
        names += self.enqueue(service, mail(body=_LARGE))
        self.await_mails(*names)
        self.await_end()
        self.check_arrivals(names, ["user@example.org"], service)
        self.assertEqual(in_doubt(service), {})
        self.assertEqual(len(self.smtp.received), len(names))

    def test_on_a_full_disk_mails_are_refused_and_those_that_wait_are_sent(self) -> None:
        mount_memory(self, self.place.root, "1m")
        service = self.running()
        self.smtp.hold()
        names = self.queue_until_full(service)
        fill(self.place.root / "filler")
        self.assertGreater(len(names), 20)
        self.check_alive(service)
        self.assertEqual(self.try_to_queue(service), _REFUSED)
        self.smtp.release()
        self.check_all(service, names)
        self.assertTrue((self.place.root / "filler").exists())

    def test_on_a_read_only_disk_mails_are_refused_and_none_is_lost_or_doubled(self) -> None:
        service = self.running()
        self.smtp.hold()
        names = self.enqueue(service, mail(), mail())
        until("they are being delivered", lambda: self.smtp.waiting == 2)
        with read_only(self.place.root):
            self.assertEqual(self.try_to_queue(service), _REFUSED)
            self.check_alive(service)
            self.smtp.release()
            until("they have arrived", lambda: len(self.smtp.received) == 2)
            self.assertEqual(self.try_to_queue(service), _REFUSED)
        self.check_all(service, names)


class ClockTests(QueueServiceCase):
    """Somebody sets the clock."""

    service_class = ShiftedService

    def test_a_clock_that_jumps_back_and_forward_keeps_no_mail_for_long_and_doubles_none(
        self,
    ) -> None:
        service = self.running()
        scheduled = self.enqueue(service, mail(scheduleTime=int(time.time()) + 1000))
        names = []
        for seconds in (0, -5000, 500, -100_000):
            self.shift(service, seconds)
            names += self.enqueue(service, mail())
            self.await_mails(*names)
        self.assertEqual(self.place.names(self.place.waiting), scheduled)
        self.shift(service, 1001)
        names += [*scheduled, *self.enqueue(service, mail())]
        self.await_mails(*names)
        self.await_end()
        self.check_arrivals(names, ["user@example.org"], service)
        self.assertEqual(len(self.smtp.received), len(names))
        self.assertNotIn("[error]", service.output())
