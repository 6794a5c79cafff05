# SPDX-License-Identifier: MIT
"""The subcommands queue move and queue rescue, on a queue in Redis."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.stores.redis_keys import QueueKeys
from tests.integration.queue_service import KEY
from tests.redis_server import DEADLINE, RedisServer, free_port
from tests.stores.queues import NOW, Place, document, make_place, name_at, tried_state

_ROOT = Path(__file__).resolve().parent.parent.parent
_KEYS = QueueKeys("SMTP_MAILER:")
_NAME = "0000000001657084500.39823600_9e51fa6fad25da44"


class CommandCase(SynchronousTestCase):
    """Has a Redis, and directories."""

    def setUp(self) -> None:
        self.place: Place = make_place(self)
        self.redis = RedisServer()
        self.addCleanup(self.redis.clean_up)
        self.errors = ""

    def command(self, *arguments: str, status: int = 0, port: int = 0, more: str = "") -> str:
        """Run a subcommand of queue; give its standard output."""
        env = self.place.root / ".env"
        env.touch(mode=0o600)
        env.write_text(
            f"SMTP_HOST = smtp.example.test\nSECRET_KEY = '{KEY}'\nREDIS_ENABLE = true\n"
            f"REDIS_PORT = {port or self.redis.port}\nREDIS_STORE_QUEUE = true\n"
            f"QUEUE_DIR = mail\nQUEUE_PROCESS_DIR = temp\nQUEUE_FAILED_DIR = failed\n{more}"
        )
        done = subprocess.run(
            [sys.executable, "-m", "smtpmailer", "queue", *arguments, "--env", str(env)],
            cwd=self.place.root,
            env={"PYTHONPATH": str(_ROOT), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            check=False,
            timeout=DEADLINE,
        )
        self.errors = done.stderr.decode()
        self.assertEqual(done.returncode, status, self.errors)
        self.assertNotIn("Traceback", self.errors)
        return done.stdout.decode()


class MoveTests(CommandCase):
    """queue move."""

    def fill(self) -> list[str]:
        """Put mails into the directories."""
        queue, _ = self.place.make_queue()
        self.successResultOf(queue.store.start())
        names = [name_at(NOW, number) for number in range(3)]
        for name in names:
            put = queue.store.put(name, document(name), tried_state(next_at=NOW + 60))
            self.successResultOf(put)
        self.successResultOf(queue.store.stop())
        return names

    def test_there_and_back(self) -> None:
        names = self.fill()
        said = self.command("move", "--to", "redis")
        self.assertEqual(said, "moved 3 mails, 0 dead letters, 0 in quarantine\n")
        self.assertEqual(self.errors, "")
        self.assertEqual(self.place.names(self.place.waiting), [])
        self.assertEqual(self.redis.call("ZCARD", _KEYS.index), 3)
        said = self.command("move", "--to", "file", "--json")
        self.assertEqual(json.loads(said)["mails"], 3)
        self.assertIn("REDIS_STORE_QUEUE = false makes the service use them", self.errors)
        self.assertEqual(self.place.names(self.place.waiting), names)
        self.assertEqual(self.redis.dump(), {})

    def test_what_stays_is_named_with_status_1(self) -> None:
        names = self.fill()
        (self.place.waiting / names[0]).write_bytes(b"{half")
        said = self.command("move", "--to", "redis", status=1)
        self.assertIn(f"{names[0]}: left alone: malformed JSON", said)
        self.assertIn("moved 2 mails", said)

    def test_mails_in_hand_are_counted_with_status_1(self) -> None:
        self.redis.call("HSET", _KEYS.owners, _NAME, "other")
        self.redis.call("SET", _KEYS.claimed(_NAME), "{}")
        self.redis.call("ZADD", _KEYS.leases, "inf", _NAME)
        said = self.command("move", "--to", "file", "--json", status=1)
        self.assertEqual(json.loads(said)["inHand"], 1)
        self.command("move", "--to", "file", status=1)
        self.assertIn("1 mails are in the hands of services", self.errors)

    def test_a_queue_in_use_is_left_alone(self) -> None:
        self.fill()
        queue, _ = self.place.make_queue()
        self.successResultOf(queue.store.start())
        self.assertTrue(self.successResultOf(queue.store.acquire()))
        for target in ("redis", "file"):
            self.command("move", "--to", target, status=1)
            self.assertIn("the queue is in use by process", self.errors)
        self.successResultOf(queue.store.stop())
        self.assertEqual(self.redis.dump(), {})

    def test_without_redis_it_says_so(self) -> None:
        self.fill()
        self.command("move", "--to", "redis", status=3, port=free_port())
        self.assertIn("Redis is away", self.errors)
        self.assertEqual(len(self.place.names(self.place.waiting)), 3)


class RescueTests(CommandCase):
    """queue rescue."""

    def strand(self) -> None:
        self.redis.call("SET", _KEYS.temp(_NAME), json.dumps(document("Offer")))

    def test_mails_are_shown_and_taken_in(self) -> None:
        self.assertEqual(self.command("rescue"), "nothing to rescue\n")
        self.strand()
        said = self.command("rescue")
        self.assertIn(f"{_KEYS.temp(_NAME)}  was being sent", said)
        self.assertIn("Offer", said)
        self.assertIn("--apply takes them into the queue", self.errors)
        said = self.command("rescue", "--apply")
        self.assertIn(f"{_KEYS.temp(_NAME)}: waits as {_NAME} now\n", said)
        self.assertEqual(self.redis.call("ZRANGE", _KEYS.index, 0, -1), [f'"{_NAME}"'.encode()])
        self.assertEqual(self.command("rescue"), "nothing to rescue\n")

    def test_one_that_can_not_be_taken_in_is_status_1(self) -> None:
        self.strand()
        self.redis.call("SET", _KEYS.queue(_NAME), "{}")
        said = self.command("rescue", "--apply", status=1)
        self.assertIn(f"left where it is: there is another mail {_NAME} already", said)

    def test_quarantined_ones_need_the_option_and_to_be_readable(self) -> None:
        self.redis.call("HSET", _KEYS.quarantine.mail(_NAME), "mail", "{half")
        self.redis.call("ZADD", _KEYS.quarantine.index, 0, f'"{_NAME}"')
        self.assertEqual(self.command("rescue", "--apply"), "nothing to rescue\n")
        self.command("rescue", "--quarantine", "--apply", status=1)
        value = json.dumps(document("Offer"))
        self.redis.call("HSET", _KEYS.quarantine.mail(_NAME), "mail", value)
        said = json.loads(self.command("rescue", "--quarantine", "--apply", "--json"))
        self.assertEqual((said["mails"][0]["name"], said["mails"][0]["queued"]), (_NAME, True))
        self.assertEqual(self.redis.call("EXISTS", _KEYS.queue(_NAME)), 1)

    def test_without_redis_it_says_so(self) -> None:
        self.command("rescue", status=3, port=free_port())
        self.assertIn("Redis is away", self.errors)
