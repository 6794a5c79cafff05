# SPDX-License-Identifier: MIT
"""Tests for carrying a queue from directories to Redis, and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed

from smtpmailer.core.names import file_name, name_of_file
from smtpmailer.core.queued import MailDocument, Settlement
from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.core.retry import MAX_CRASHES, RetryPolicy
from smtpmailer.errors import StoreError
from smtpmailer.stores.carrying import Carried, Carrier, Place
from smtpmailer.stores.content import encode
from smtpmailer.stores.filequeue import FileQueue
from smtpmailer.stores.redis_mails import encoded
from tests.stores.queues import NOW, document, make_place, tried_state
from tests.stores.redis_nodes import KEYS, QueueNode, RedisQueueCase

POLICY = RetryPolicy(max_retries=1)


class CarryCase(RedisQueueCase):
    """Has a file queue, and one in Redis, of services that have stopped."""

    def setUp(self) -> None:
        super().setUp()
        self.place = make_place(self)
        self.files: FileQueue = self.place.make_queue()[0]
        self.node: QueueNode = self.make_node()
        self.wait(self.files.store.start())
        self.addCleanup(lambda: self.wait(self.files.store.stop()))

    def in_files(self) -> Place:
        return Place(
            queue=self.files.store,
            dead=self.files.graves,
            quarantine=self.files.quarantine,
            localize=file_name,
            globalize=name_of_file,
            encode=encode,
            claimed=lambda: succeed(0),
        )

    def in_redis(self) -> Place:
        queue = self.node.queue
        return Place(
            queue=queue.store,
            dead=queue.graves,
            quarantine=queue.quarantine,
            localize=str,
            globalize=str,
            encode=encoded,
            claimed=queue.store.claimed,
        )

    def carry(self, source: Place, goal: Place) -> Carried:
        """Carry all, as the command does."""
        for place in (source, goal):
            self.assertTrue(self.wait(place.queue.acquire()))
        carried: Carried = self.wait(Carrier(source, goal, POLICY, lambda: NOW).carry())
        self.wait(source.queue.release())
        self.wait(goal.queue.release())
        return carried

    def fill(self, place: Place) -> dict[str, Any]:
        """Put mails of all kinds; give them by name as Redis has it."""
        mails: dict[str, tuple[MailDocument, MailState]] = {
            "plain": (document("plain"), FRESH),
            "tried": (document("tried"), tried_state(next_at=NOW + 60)),
            "held": (document("held"), MailState(held="in doubt", in_doubt=("b@example.test",))),
            "sealed": ("c2VhbGVkIQ==", FRESH),
        }
        kept = {}
        for number, (content, state) in enumerate(mails.values()):
            name = place.queue.make_name(NOW + number, f"{number:016x}")
            self.wait(place.queue.put(name, content, state))
            kept[place.globalize(name)] = (content, state)
        return kept

    def bury(self, place: Place) -> None:
        """Let a mail be a dead letter, and others be in quarantine."""
        self.wait(place.queue.acquire())
        self.wait(place.queue.recover())
        kinds: tuple[dict[str, Any], ...] = ({"dead": "given up"}, {"corrupt": "strange"})
        for number, what in enumerate(kinds):
            name = place.queue.make_name(NOW - 9, f"{number:016x}")
            self.wait(place.queue.put(name, "c2VhbGVkIQ==", FRESH))
            self.wait(place.queue.claim(NOW - 9, 1))
            settlement = Settlement(at=NOW, state=tried_state(), **what)
            self.wait(place.queue.settle(name, settlement))
        self.wait(place.queue.release())
        garbage = place.localize("1.5_9")
        self.wait(place.quarantine.add(garbage, b"\xff", b"{}"))

    def content(self, place: Place) -> dict[str, Any]:
        """Give all mails that wait, by name as Redis has it."""
        found = {}
        for name in self.wait(place.queue.page(500, 0)).names:
            mail = self.wait(place.queue.get(name))
            found[place.globalize(name)] = (mail.document, mail.state)
        return found


class ThereAndBackTests(CarryCase):
    """Nothing is lost or changed on the way."""

    def check(self, source: Place, goal: Place) -> None:
        kept = self.fill(source)
        self.bury(source)
        dead = {name: self.wait(source.dead.read(name)) for name in self.names(source.dead)}
        carried = self.carry(source, goal)
        self.assertEqual(
            attrs.asdict(carried),
            {"mails": 4, "dead": 1, "quarantined": 2, "in_hand": 0, "left": {}},
        )
        self.assertEqual((self.content(source), self.content(goal)), ({}, kept))
        for name, (content, record) in dead.items():
            there = goal.localize(source.globalize(name))
            self.assertNotEqual(content, b"")
            found, its_record = self.wait(goal.dead.read(there))
            self.assertEqual((found, its_record), (goal.encode("c2VhbGVkIQ=="), record))
        garbage = self.wait(goal.quarantine.read(goal.localize("1.5_9")))
        self.assertEqual(garbage, (b"\xff", b"{}"))
        self.assertEqual([*self.names(source.dead), *self.names(source.quarantine)], [])

    def names(self, graves: Any) -> tuple[str, ...]:
        names: tuple[str, ...] = self.wait(graves.page(500, 0)).names
        return names

    def test_to_redis(self) -> None:
        self.check(self.in_files(), self.in_redis())
        self.assertEqual(self.place.names(self.place.waiting), [])

    def test_to_files(self) -> None:
        self.check(self.in_redis(), self.in_files())
        self.assertEqual(self.server.dump(), {})

    def test_what_was_carried_is_delivered_as_it_would_have_been(self) -> None:
        self.fill(self.in_files())
        self.carry(self.in_files(), self.in_redis())
        self.wait(self.node.queue.store.acquire())
        self.wait(self.node.queue.store.recover())
        found = self.claim(self.node, now=NOW + 59)
        self.assertEqual([mail.document for mail in found], [document("plain"), "c2VhbGVkIQ=="])
        (tried,) = self.claim(self.node, now=NOW + 60)
        self.assertEqual(tried.state, tried_state(next_at=NOW + 60))

    def test_more_mails_than_names_fit_a_page(self) -> None:
        store = self.files.store
        for number in range(620):
            name = store.make_name(NOW, f"{number:016x}")
            self.wait(store.put(name, document(str(number)), FRESH))
        self.assertEqual(self.carry(self.in_files(), self.in_redis()).mails, 620)
        self.assertEqual(self.carry(self.in_redis(), self.in_files()).mails, 620)
        self.assertEqual(len(self.place.names(self.place.waiting)), 620)


class ClaimTests(CarryCase):
    """Mails that a service had when it died are judged first."""

    def abandon(self, place: Place, state: MailState = FRESH) -> str:
        """Claim a mail, and die."""
        name = place.queue.make_name(NOW, "0" * 16)
        self.wait(place.queue.put(name, document(), state))
        self.wait(place.queue.acquire())
        self.wait(place.queue.recover())
        self.wait(place.queue.claim(NOW, 1))
        self.wait(place.queue.release())
        return place.globalize(name)

    def test_they_are_carried_with_the_crash_counted(self) -> None:
        for source, goal in (
            (self.in_files(), self.in_redis()),
            (self.in_redis(), self.in_files()),
        ):
            name = self.abandon(source)
            self.assertEqual(self.carry(source, goal).mails, 1)
            (state,) = (state for _, state in self.content(goal).values())
            self.assertEqual((state.crashes, state.next_at), (1, NOW))
            self.wait(goal.queue.remove(goal.localize(name)))

    def test_who_kills_the_service_becomes_a_dead_letter(self) -> None:
        self.abandon(self.in_files(), MailState(crashes=MAX_CRASHES))
        carried = self.carry(self.in_files(), self.in_redis())
        self.assertEqual((carried.mails, carried.dead), (0, 1))

    def test_what_a_running_node_has_in_hand_is_counted_and_stays(self) -> None:
        other = self.run_node(2)
        name = self.put(other)
        self.claim(other)
        carried = self.carry(self.in_redis(), self.in_files())
        self.assertEqual((carried.mails, carried.in_hand), (0, 1))
        self.wait(self.settle(other, name))
        self.assertEqual(self.carry(self.in_redis(), self.in_files()).mails, 1)


class InterruptedTests(CarryCase):
    """After an interruption the rest is carried."""

    def interrupted(self, place: Place, method: str, after: int) -> Place:
        """Give a place whose queue's method fails once it was called so often."""
        queue: Any = place.queue
        calls = 0

        def call(real: Callable[..., Deferred[Any]], *arguments: Any) -> Deferred[Any]:
            nonlocal calls
            calls += 1
            return fail(StoreError("away")) if calls > after else real(*arguments)

        class Failing:
            """Passes everything else on."""

            def __getattr__(self, name: str) -> Any:
                found = getattr(queue, name)
                return partial(call, found) if name == method else found

        failing: Any = Failing()
        return attrs.evolve(place, queue=failing)

    def check(self, source: Place, goal: Place, method: str) -> None:
        kept = self.fill(source)
        for after in (0, 1, 2):
            self.wait(source.queue.acquire())
            broken = {"put": (source, self.interrupted(goal, method, after))}
            broken["remove"] = (self.interrupted(source, method, after), goal)
            carrier = Carrier(*broken[method], POLICY, lambda: NOW)
            self.failureResultOf(carrier.carry(), StoreError)
            both = self.content(source) | self.content(goal)
            self.assertEqual(both, kept)
        self.carry(source, goal)
        self.assertEqual((self.content(source), self.content(goal)), ({}, kept))

    def test_before_a_mail_was_put(self) -> None:
        self.check(self.in_files(), self.in_redis(), "put")

    def test_before_a_mail_was_removed(self) -> None:
        self.check(self.in_files(), self.in_redis(), "remove")

    def test_the_same_on_the_way_back(self) -> None:
        self.check(self.in_redis(), self.in_files(), "put")
        self.carry(self.in_files(), self.in_redis())
        self.server.call("FLUSHALL")
        self.check(self.in_redis(), self.in_files(), "remove")


class ConflictTests(CarryCase):
    """What can't be carried stays where it is, and is named."""

    def test_another_mail_of_the_name(self) -> None:
        (name, *_) = self.fill(self.in_files())
        self.wait(self.node.queue.store.put(name, document("other"), FRESH))
        carried = self.carry(self.in_files(), self.in_redis())
        self.assertEqual((carried.mails, list(carried.left)), (3, [file_name(name)]))
        self.assertEqual(list(self.content(self.in_files())), [name])
        self.assertEqual(self.content(self.in_redis())[name][0], document("other"))

    def test_another_dead_letter_of_the_name(self) -> None:
        self.bury(self.in_files())
        (name,) = self.wait(self.files.graves.page(9, 0)).names
        self.wait(self.node.queue.graves.add(name_of_file(name), b"other", b"{}"))
        carried = self.carry(self.in_files(), self.in_redis())
        self.assertEqual((carried.dead, list(carried.left)), (0, [name]))
        self.assertEqual(self.wait(self.files.graves.page(9, 0)).total, 1)

    def test_one_that_can_not_be_read(self) -> None:
        (name, *_) = self.fill(self.in_files())
        (self.place.waiting / file_name(name)).write_bytes(b"{half")
        carried = self.carry(self.in_files(), self.in_redis())
        self.assertEqual(carried.mails, 3)
        self.assertIn("malformed", carried.left[file_name(name)])

    def test_one_that_a_node_claims_meanwhile_is_not_sent_twice(self) -> None:
        other = self.run_node(2)
        name = self.put(other)
        place = self.in_redis()
        real = place.queue

        class Raced:
            """Lets the other node claim before a mail is removed."""

            def __getattr__(self, method: str) -> Any:
                return getattr(real, method)

            def remove(self, name: str) -> Deferred[None]:
                claimed = other.queue.store.claim(NOW, 1)
                return claimed.addCallback(lambda _: real.remove(name))

        raced: Any = Raced()
        carried = self.carry(attrs.evolve(place, queue=raced), self.in_files())
        self.assertEqual((carried.mails, carried.left, carried.in_hand), (0, {}, 1))
        self.assertEqual(self.content(self.in_files()), {})
        self.assertEqual(self.server.call("EXISTS", KEYS.claimed(name)), 1)
