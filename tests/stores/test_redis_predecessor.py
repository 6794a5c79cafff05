# SPDX-License-Identifier: MIT
"""Tests for a queue in Redis that the predecessor uses at the same time."""

from __future__ import annotations

import json
import time

from smtpmailer.core.names import MAX_SECONDS
from smtpmailer.core.queuestate import FRESH
from tests.stores.queues import NOW, outcome, tried_state
from tests.stores.redis_nodes import KEYS, RedisQueueCase

DOCUMENT = '{"to":["user@example.test"],"subject":"s","body":"b","failToDelivered":0}'


class PredecessorCase(RedisQueueCase):
    """Has a node, and the steps that the predecessor makes."""

    def setUp(self) -> None:
        super().setUp()
        self.node = self.run_node()
        self.store = self.node.queue.store

    def its_name(self, due: float | None = None, number: int = 0) -> str:
        """Make a name as it does; due now unless another time is given."""
        return self.store.make_name(time.time() if due is None else due, f"{number:016x}")

    def it_puts(self, name: str) -> str:
        self.server.call("SET", KEYS.queue(name), DOCUMENT)
        self.server.call("ZADD", KEYS.index, 0, f'"{name}"')
        return name

    def it_takes(self, name: str) -> None:
        """Move a mail as it does, in two steps."""
        self.server.call("RENAME", KEYS.queue(name), KEYS.temp(name))
        self.server.call("ZREM", KEYS.index, f'"{name}"')

    def it_puts_back(self, name: str) -> None:
        self.server.call("RENAME", KEYS.temp(name), KEYS.queue(name))
        self.server.call("ZADD", KEYS.index, 0, f'"{name}"')

    def look(self, times: int = 1) -> None:
        """Let the node look so many times."""
        for _ in range(times):
            self.wait(self.store._lookout._look_on())

    def names(self, now: float | None = None) -> list[str]:
        """Claim what is due now, or then, and give the names."""
        return [mail.name for mail in self.claim(self.node, now=now or time.time() + 1)]


class ItsMailsTests(PredecessorCase):
    """What it puts is delivered."""

    def test_a_mail_of_now_is_noticed_with_the_next_look(self) -> None:
        calls: list[None] = []
        self.store.watch(lambda: calls.append(None))
        name = self.it_puts(self.its_name())
        self.look()
        self.assertEqual((bool(calls), self.store.next_due()), (True, float(name[8:28])))
        self.assertEqual(self.names(), [name])

    def test_that_is_so_however_many_wait_for_a_later_time(self) -> None:
        words: list[object] = []
        for number in range(2500):
            words += (0, f'"{self.its_name(time.time() + 3600, number)}"')
        self.server.call("ZADD", KEYS.index, *words)
        self.look()
        name = self.it_puts(self.its_name())
        self.look()
        self.assertEqual(self.names(), [name])

    def test_a_mail_of_the_future_is_delivered_when_its_time_comes(self) -> None:
        name = self.it_puts(self.its_name(time.time() + 30))
        self.look()
        self.assertEqual(self.names(), [])
        self.assertEqual(self.names(time.time() + 31), [name])

    def test_a_mail_of_the_past_is_noticed_when_the_index_was_gone_through(self) -> None:
        words: list[object] = []
        for number in range(2500):
            words += (0, f'"{self.its_name(NOW + 1, number)}"')
        self.server.call("ZADD", KEYS.index, *words)
        self.look()
        names = [self.it_puts(self.its_name(due)) for due in (1.0, NOW + 2)]
        self.look(4)
        for number in range(2500):
            self.server.call("ZREM", KEYS.due, self.its_name(NOW + 1, number))
        self.assertEqual(self.names(), names)

    def test_the_first_look_goes_through_the_whole_index(self) -> None:
        words: list[object] = []
        for number in range(2500):
            words += (0, f'"{self.its_name(NOW, number)}"')
        self.server.call("ZADD", KEYS.index, *words)
        self.run_node(2)
        self.assertEqual(self.server.call("ZCARD", KEYS.due), 2500)

    def test_a_time_that_is_not_padded_counts_as_well(self) -> None:
        names = ["1.5_a", "0017.25_b", f"{'0' * 18}3.0_c"]
        for name in (*names, "99999999999999999999999.0_d"):
            self.it_puts(name)
        self.look()
        self.assertEqual(self.names(), [names[0], names[2], names[1]])
        last = self.server.call("ZSCORE", KEYS.due, "99999999999999999999999.0_d")
        self.assertEqual(float(last), MAX_SECONDS)

    def test_what_is_no_name_is_left_alone(self) -> None:
        for name in ("00000000000000000-5.00000000_a", "nonsense", "1.5_A", "1.5_a b", "x" * 300):
            self.it_puts(name)
        self.it_puts(f"1.{'5' * 200}_a")
        self.server.call("ZADD", KEYS.index, 0, "no json", 0, "5")
        self.look()
        self.assertEqual((self.names(), self.waiting(self.node)), ([], []))
        self.assertEqual(self.server.call("ZCARD", KEYS.index), 8)
        self.assertEqual(self.wait(self.store.clear()), 0)
        self.assertEqual(self.server.call("ZCARD", KEYS.index), 8)


class ItsHandTests(PredecessorCase):
    """What it does to mails neither loses one nor stops the queue."""

    def test_a_mail_that_it_took_is_not_claimed(self) -> None:
        name, other = self.put(self.node), self.put(self.node, number=2)
        self.server.call("RENAME", KEYS.queue(name), KEYS.temp(name))
        self.assertEqual(self.names(), [other])
        self.assertEqual(self.server.call("GET", KEYS.temp(name))[:1], b"{")

    def test_a_mail_that_it_puts_back_is_claimed_with_its_history(self) -> None:
        state = tried_state(next_at=NOW)
        name = self.put(self.node, state=state)
        self.it_takes(name)
        self.assertEqual(self.names(NOW + 1), [])
        self.it_puts_back(name)
        (mail,) = self.claim(self.node, now=NOW + 3)
        self.assertEqual((mail.name, mail.state), (name, state))

    def test_a_mail_that_it_puts_back_can_be_changed_and_removed(self) -> None:
        name, new = self.put(self.node), self.its_name(NOW, 1)
        self.it_takes(name)
        self.assertEqual(self.names(NOW), [])
        self.it_puts_back(name)
        self.wait(self.store.replace(name, new, {"subject": "new"}))
        self.wait(self.store.remove(new))
        self.assertEqual(self.server.dump(), {})

    def test_a_name_without_a_mail_is_dropped_after_a_while(self) -> None:
        name = self.its_name(NOW)
        self.server.call("ZADD", KEYS.index, 0, f'"{name}"')
        self.look()
        for minutes in range(5):
            self.assertEqual(self.names(NOW + 60.5 * minutes), [])
        self.assertEqual(self.waiting(self.node), [name])
        self.server.call("ZINCRBY", KEYS.missing, -901, name)
        self.assertEqual(self.names(NOW + 600), [])
        self.assertEqual(self.server.dump(), {})

    def test_a_mail_that_comes_after_its_name_is_claimed(self) -> None:
        name = self.its_name(NOW)
        self.server.call("ZADD", KEYS.index, 0, f'"{name}"')
        self.look()
        self.assertEqual(self.names(NOW), [])
        self.server.call("SET", KEYS.queue(name), DOCUMENT)
        self.assertEqual(self.names(NOW + 1), [name])
        self.assertNotIn(KEYS.missing, self.server.dump())

    def test_names_without_mails_hold_up_no_other(self) -> None:
        for number in range(30):
            self.server.call("ZADD", KEYS.index, 0, f'"{self.its_name(NOW - 9, number)}"')
        name = self.it_puts(self.its_name(NOW))
        self.look()
        found: list[str] = []
        for _ in range(5):
            found += [mail.name for mail in self.claim(self.node, limit=10)]
        self.assertEqual(found, [name])

    def test_what_is_no_text_holds_up_no_other(self) -> None:
        first, name = self.its_name(NOW - 9), self.it_puts(self.its_name(NOW))
        self.server.call("LPUSH", KEYS.queue(first), "x")
        self.server.call("ZADD", KEYS.index, 0, f'"{first}"')
        self.look()
        self.assertEqual(self.names(), [name])

    def test_a_mail_that_it_removed_is_forgotten_after_a_while(self) -> None:
        name = self.put(self.node, state=tried_state(next_at=NOW))
        self.server.call("DEL", KEYS.queue(name))
        self.server.call("ZREM", KEYS.index, f'"{name}"')
        self.assertEqual(self.names(NOW), [])
        self.server.call("ZINCRBY", KEYS.missing, -901, name)
        self.assertEqual(self.names(NOW + 600), [])
        self.assertEqual(self.server.dump(), {})

    def test_the_state_of_a_mail_that_it_changed_is_untouched(self) -> None:
        """It writes over its own copy, and renames that."""
        state = tried_state(next_at=NOW)
        self.assertIn(outcome("a@example.test"), state.settled)
        name = self.put(self.node, state=state)
        self.it_takes(name)
        self.server.call("SET", KEYS.temp(name), DOCUMENT.replace(":0}", ":1}"))
        self.it_puts_back(name)
        (mail,) = self.claim(self.node)
        self.assertEqual(mail.state, state)
        self.assertEqual(mail.document, json.loads(DOCUMENT) | {"failToDelivered": 1})

    def test_its_mails_have_no_history(self) -> None:
        name = self.it_puts(self.its_name(NOW))
        self.look()
        self.assertEqual([mail.state for mail in self.claim(self.node)], [FRESH])
        self.wait(self.settle(self.node, name, done=True))
        self.assertEqual(self.server.dump(), {})
