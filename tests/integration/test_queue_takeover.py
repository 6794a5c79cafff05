# SPDX-License-Identifier: MIT
"""Two services, each a process, on the queue directories of one: one runs it, both serve."""

from __future__ import annotations

import socket
from collections.abc import Callable

from tests.integration.queue_service import (
    Clients,
    QueueServiceCase,
    ShiftedService,
    arrivals,
    in_doubt,
    seconds_until,
)
from tests.integration.service import Service, until

#: Seconds within which the second is to run the queue; it looks every two.
_SOON = 5.0


class TakeOverTests(QueueServiceCase):
    """The second serves while the first runs the queue, and runs it after the first one's end."""

    service_class = ShiftedService

    def setUp(self) -> None:
        super().setUp()
        self.first = self.running()
        self.second = self.launch().ready()
        self.clients = Clients(self.first, self.second)
        self.addCleanup(self.clients.stop)

    def await_service_by_both(self) -> None:
        """Wait until both have accepted mails and those have been sent."""
        for service in (self.first, self.second):
            self.await_more(lambda: self.clients.count(service))  # noqa: B023 - used at once
        self.await_mails(*self.clients.names)

    def await_more(self, count: Callable[[], int]) -> None:
        """Wait until there are clearly more of something."""
        enough = count() + 20
        until("mails are accepted", lambda: count() >= enough)

    def hold_some(self) -> None:
        """Let the SMTP server have mails to which it has not answered yet."""
        self.smtp.hold()
        until("mails are under way", lambda: self.smtp.waiting >= 5)

    def await_take_over(self) -> None:
        took = seconds_until("the second runs the queue", lambda: self.runs(self.second))
        self.assertLess(took, _SOON)
        self.assertEqual(self.runner(self.second), self.name_of(self.second))

    def name_of(self, service: Service) -> str:
        """Give what a service that runs the queue is called."""
        return f"process {service.process_id} on {socket.gethostname()}"

    def drain(self, owner: Service) -> None:
        """Let who runs the queue bring it to its end, and see what has arrived."""
        self.clients.stop()
        self.send_doubtful(owner)
        services = (self.first, self.second)
        self.check_arrivals(self.clients.names, self.clients.recipients, *services)

    def test_both_say_who_runs_the_queue_and_the_other_one_s_mails_are_sent_too(self) -> None:
        owner = self.name_of(self.first)
        self.assertEqual([self.runner(self.first), self.runner(self.second)], [owner, owner])
        said = f"the queue is run by {owner}"
        until("the second says so", lambda: said in self.second.output())
        self.await_service_by_both()
        self.assertEqual([self.runs(self.first), self.runs(self.second)], [True, False])
        self.drain(self.first)
        self.assertEqual(in_doubt(self.first, self.second), {})

    def test_when_the_first_is_killed_the_second_goes_on_and_names_what_is_in_doubt(self) -> None:
        self.await_service_by_both()
        self.hold_some()
        self.first.kill()
        self.smtp.release()
        self.await_take_over()
        self.await_more(lambda: self.clients.count(self.second))
        self.drain(self.second)
        named = in_doubt(self.first, self.second)
        self.assertGreaterEqual(len(named), 5)
        doubled = {key for key, count in arrivals(self.smtp).items() if count > 1}
        self.assertLessEqual(doubled, named.keys())
        self.assertGreaterEqual(len(doubled), 5)

    def test_when_the_first_ends_the_second_goes_on_and_nothing_is_sent_twice(self) -> None:
        """Then the first comes back, as the second: so both are replaced by a new version."""
        for _ in range(2):
            self.await_service_by_both()
            self.hold_some()
            self.first.terminate()
            until("the first closes its port", lambda: not self.first.listens())
            self.assertEqual(self.runner(self.second), self.name_of(self.first))
            self.smtp.release()
            self.assertEqual(self.first.ended(), 0)
            self.await_take_over()
            self.first.start_again().ready()
            self.first, self.second = self.second, self.first
        self.drain(self.first)
        self.assertEqual(in_doubt(self.first, self.second), {})
        self.assertEqual(set(arrivals(self.smtp).values()), {1})
