# SPDX-License-Identifier: MIT
"""Services that share one queue in Redis, and the reckoning of what they delivered."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from smtpmailer.core.names import unique_of
from smtpmailer.stores.redis_keys import QueueKeys
from tests.integration.queue_service import KEY, arrivals, mail
from tests.integration.service import Service, ServiceTestCase, until
from tests.redis_server import RedisServer

__all__ = ["KEYS", "MAILS", "FleetCase"]

#: So many mails go through a fleet.
MAILS = int(os.environ.get("REDIS_FLEET_MAILS", "300"))

KEYS = QueueKeys("{fleet}:")

#: Seconds of a lease: so long the mails of a node that was killed stay with it.
LEASE = 3

_IN_DOUBT = re.compile(
    r"\([0-9.]+_([0-9a-z]+)\) was being delivered when the service died; "
    r"in doubt, may be delivered twice: (.+)"
)


class FleetCase(ServiceTestCase):
    """Has a Redis that writes each change to disk first, an SMTP server, and services to start."""

    #: Settings of redis.conf.
    settings: ClassVar[Mapping[str, object]] = {"appendonly": "yes", "appendfsync": "always"}

    def setUp(self) -> None:
        super().setUp()
        self.redis = RedisServer(self.settings)
        self.addCleanup(self.redis.clean_up)
        self.smtp = self.server(eager=True)
        self.accepted: list[str] = []

    def node(self, number: int, **values: object) -> Service:
        """Start a service, which sends its mails as ``nodeNUMBER``."""
        settings: dict[str, object] = {
            "MAILER_QUEUE": True,
            "MAILER_QUEUE_API_READ_ONLY": False,
            "MAILER_LOG_LEVEL": "notice",
            "MAIL_FROM_ADDR": f"node{number}@example.org",
            "QUEUE_SEND_IMMEDIATELY": True,
            "QUEUE_LEASE": LEASE,
            "QUEUE_RETRY_DELAY": 1,
            "REDIS_ENABLE": True,
            "REDIS_PORT": self.redis.port,
            "REDIS_KEY_PREFIX": KEYS.prefix,
            "REDIS_READ_TIMEOUT": 5,
            "REDIS_STORE_QUEUE": True,
            "SECRET_KEY": KEY,
            "SMTP_PORT": self.smtp.port,
        }
        return self.start(settings | values)

    def fleet(self, count: int = 3, **values: object) -> list[Service]:
        """Start so many services, and wait until all take requests."""
        nodes = [self.node(number, **values) for number in range(count)]
        return [node.ready() for node in nodes]

    def enqueue(self, service: Service, count: int = MAILS, **fields: object) -> None:
        """Queue mails; what is answered for is in ``accepted``, a refusal fails the test."""
        request = json.dumps({"queueMail": mail(**fields)}).encode()
        for start in range(0, count, 100):
            size = min(100, count - start)
            answers = service.exchange(request * size, answers=size)
            self.assertEqual({answer["status"] for answer in answers}, {"success"}, answers[:1])
            self.accepted += [answer["data"] for answer in answers]

    def arrived(self) -> int:
        """Count the mails of which a copy has arrived."""
        return len(arrivals(self.smtp))

    def await_all(self) -> None:
        """Wait until all mails have arrived, as long as more and more do."""
        names = {unique_of(name) for name in self.accepted}
        while missing := names - {unique for unique, _ in arrivals(self.smtp)}:
            left = len(missing)
            until("more mails arrive", lambda: self.arrived() > len(names) - left)  # noqa: B023

    def await_settled(self) -> None:
        """Wait until Redis has nothing to do with any mail any more."""
        until("all are settled", lambda: not self.unfinished())

    def unfinished(self) -> int:
        """Count the mails that wait or are claimed."""
        waiting: int = self.redis.call("ZCARD", KEYS.index)
        claimed: int = self.redis.call("HLEN", KEYS.owners)
        return waiting + claimed

    def hasten(self) -> None:
        """Let mails in doubt be sent again at once, instead of after ten minutes."""
        for name in self.redis.call("ZRANGE", KEYS.due, 0, -1):
            self.redis.call("ZADD", KEYS.due, "XX", 0, name)

    def await_end(self) -> None:
        """Wait until no mail is left, calling those that are in doubt."""
        end = time.monotonic() + 60
        while self.unfinished():
            assert time.monotonic() < end, self.redis.dump()
            self.hasten()
            time.sleep(0.1)

    def shares(self) -> Counter[str]:
        """Count the mails that each node has sent."""
        return Counter(each.sender.partition("@")[0] for each in list(self.smtp.received))

    def check(self, services: Iterable[Service]) -> None:
        """Lost 0; doubled 0, but for those that the logs named in doubt, as often as they did."""
        counts = arrivals(self.smtp)
        doubt: Counter[Any] = Counter(
            unique for node in services for unique, _ in _IN_DOUBT.findall(node.output())
        )
        lost = [
            name for name in self.accepted if not any(key[0] == unique_of(name) for key in counts)
        ]
        self.assertEqual(lost, [], "lost")
        doubled = {key: n for key, n in counts.items() if n > 1 + doubt[key[0]]}
        self.assertEqual(doubled, {}, "doubled without a word")
        self.assertEqual(self.redis.call("ZCARD", KEYS.dead.index), 0)
        self.assertEqual(self.redis.call("ZCARD", KEYS.quarantine.index), 0)
