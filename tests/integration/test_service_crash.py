# SPDX-License-Identifier: MIT
"""The whole service under SIGKILL at random: clients, process, disk and a real SMTP server.

Clients queue mails all the time, each to two recipients, one of whom the server now and then puts
off. After the last of the kills (``QUEUE_CRASH_ROUNDS``, 20 by default) the service drains:
nothing that was answered for is lost, and nobody has a mail twice unless a log line named it, and
him, in doubt.
"""

from __future__ import annotations

import os
import random
import time

from tests.integration.queue_service import Clients, QueueServiceCase, ShiftedService
from tests.integration.service import Service

ROUNDS = int(os.environ.get("QUEUE_CRASH_ROUNDS", "20"))

_AT_TIMES = "at-times@example.org"


class BusyClients(Clients):
    """Clients that write more than the others."""

    recipients = ("user@example.org", _AT_TIMES)
    pause = 0.01


class ServiceCrashTests(QueueServiceCase):
    """Lost 0; doubled 0 that were not named in doubt."""

    service_class = ShiftedService

    def kill_and_start_again(self, service: Service, chance: random.Random) -> None:
        """Kill a service at some moment of its life."""
        if chance.random() < 0.75:
            service.ready()
            time.sleep(chance.uniform(0.0, 0.4))
        else:
            # While it starts, takes the queue over, and judges what the last one left.
            time.sleep(chance.uniform(0.2, 0.6))
        service.kill()
        service.start_again()

    def test_killed_at_random_under_load(self) -> None:
        chance = random.Random(1)  # noqa: S311 - no secret
        self.smtp.refuse(_AT_TIMES, *["450 4.2.0 later", "", "", ""] * 50 * ROUNDS)
        service = self.running(QUEUE_RETRY_DELAY=1, QUEUE_RETRY_FACTOR=1, QUEUE_MAX_FAILED_RETRY=-1)
        clients = BusyClients(service)
        self.addCleanup(clients.stop)
        for _ in range(ROUNDS):
            self.kill_and_start_again(service, chance)
        self.await_owner(service.ready())
        clients.stop()
        self.smtp.refuse(_AT_TIMES)
        self.send_doubtful(service)
        self.revive(service)
        self.check_arrivals(clients.names, clients.recipients, service)
        # Enough to mean something; how many there are is the machine's affair.
        self.assertGreater(len(clients.names), 5 * ROUNDS)

    def revive(self, service: Service) -> None:
        """Send what so many kills have hit so often that it was taken for their cause."""
        for name in service.ask({"getFailedList": None})["data"]["items"]:
            why = self.detail(service, name, "getFailedMail")["why"]
            self.assertRegex(why, "the service died [0-9]+ times")
            self.assertEqual(service.ask({"retryFailedMail": name})["status"], "success")
        self.await_end()
