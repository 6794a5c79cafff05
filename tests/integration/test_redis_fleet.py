# SPDX-License-Identifier: MIT
"""Several service processes on one Redis: each mail is delivered once, whatever dies meanwhile.

``REDIS_FLEET_MAILS=5000`` sends more mails.
"""

from __future__ import annotations

import threading
import time

from tests.integration.redis_fleet import MAILS, FleetCase
from tests.integration.service import until
from tests.redis_server import RedisServer, start_replica, start_sentinel

#: So many are enough for each node to get its share, however busy the machine.
_MANY = 5000


class FleetTests(FleetCase):
    """Three services, one queue."""

    def test_each_mail_is_delivered_once_and_all_share_the_work(self) -> None:
        nodes = self.fleet()
        # Due when all are queued and known to every node: one alone would soon be through.
        self.enqueue(nodes[0], scheduleTime=int(time.time()) + 3)
        self.await_all()
        self.await_settled()
        self.check(nodes)
        counts = self.shares()
        self.assertEqual(sum(counts.values()), len(self.accepted))
        # A few mails may be gone before a node on a busy machine looks for any.
        sharing, least = (3, len(self.accepted) / 10) if MAILS >= _MANY else (2, 0)
        self.assertGreaterEqual(len([n for n in counts.values() if n > least]), sharing, counts)
        left = {key for key in self.redis.dump() if "sent:" not in key}
        self.assertEqual(left, set())

    def test_killing_one_every_two_seconds_loses_none(self) -> None:
        nodes = self.fleet()
        killed = 0
        stop = threading.Event()

        def kill() -> None:
            nonlocal killed
            while not stop.wait(2.0):
                # Not the one that the mails come from.
                victim = nodes[1 + killed % 2]
                victim.kill()
                victim.start_again()
                killed += 1

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            self.enqueue(nodes[0])
            until("some were killed", lambda: killed >= 2)
        finally:
            stop.set()
            killer.join()
        self.await_end()
        self.check(nodes)

    def test_a_restart_of_redis_loses_none_and_doubles_none(self) -> None:
        nodes = self.fleet(QUEUE_LEASE=60)
        self.smtp.hold()
        self.enqueue(nodes[0])
        until("all nodes are sending", lambda: self.smtp.waiting >= 30)
        self.redis.kill()
        self.smtp.release()
        until("they notice", lambda: all("Redis is away" in node.output() for node in nodes))
        answer = nodes[0].ask({"queueMail": {"to": ["a@example.org"]}})
        self.assertEqual(answer["status"], "error")
        self.redis.start()
        self.await_end()
        self.check(nodes)

    def test_a_service_that_starts_before_redis_delivers_once_it_is_there(self) -> None:
        self.redis.kill()
        (node,) = self.fleet(1)
        answer = node.ask({"getQueueList": None})
        self.assertEqual(
            (answer["status"], answer["message"]), ("error", "unable to get queue list")
        )
        self.redis.start()
        until("it is there", lambda: node.ask({"getQueueList": None})["status"] == "success")
        self.enqueue(node, 10)
        self.await_all()
        self.check([node])


class FailOverTests(FleetCase):
    """The master dies, and the sentinels make the replica the master."""

    def test_what_replicas_had_before_it_was_accepted_is_not_lost(self) -> None:
        replica = start_replica(self.redis)
        self.addCleanup(replica.clean_up)
        sentinel = start_sentinel("mymaster", self.redis, {})
        self.addCleanup(sentinel.clean_up)
        nodes = self.fleet(
            REDIS_SENTINELS=f"127.0.0.1:{sentinel.port}",
            REDIS_SENTINEL_MASTER="mymaster",
            REDIS_WAIT_REPLICAS=1,
        )
        self.smtp.hold()
        self.enqueue(nodes[0])
        until("all nodes are sending", lambda: self.smtp.waiting >= 30)
        self.redis.kill()
        self.redis = replica
        self.smtp.release()
        until("the replica is the master", lambda: _is_master(replica))
        self.await_end()
        self.check(nodes)


def _is_master(server: RedisServer) -> bool:
    try:
        return bool(server.call("ROLE")[0] == b"master")
    except ConnectionResetError:  # When a sentinel promotes it, it closes all its connections.
        return False
