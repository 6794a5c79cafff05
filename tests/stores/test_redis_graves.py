# SPDX-License-Identifier: MIT
"""Tests for dead letters and quarantine in Redis, beyond the contract."""

from __future__ import annotations

import attrs

from smtpmailer.core.queuestate import FRESH, MailState, updated
from smtpmailer.errors import MailExistsError, NoSuchMailError
from smtpmailer.stores.content import read_object
from tests.stores.queues import NOW, document, tried_state
from tests.stores.redis_nodes import KEYS, QueueNode, RedisQueueCase


class GravesTests(RedisQueueCase):
    """What is not to be sent is kept whole until somebody decides."""

    def setUp(self) -> None:
        super().setUp()
        self.one, self.two = self.run_node(1), self.run_node(2)
        self.dead, self.graves = self.one.queue.dead, self.one.queue.graves
        self.quarantine = self.one.queue.quarantine

    def bury(self, number: int = 0, node: QueueNode | None = None, **what: str) -> str:
        """Let a mail end as a dead letter, or otherwise."""
        name = self.put(node or self.one, number=number)
        self.claim(node or self.one)
        self.wait(self.settle(node or self.one, name, tried_state(), **(what or {"dead": "x"})))
        return name

    def test_quarantine_keeps_the_bytes_that_could_not_be_read(self) -> None:
        name = self.put(self.one)
        self.server.call("SET", KEYS.queue(name), b"\xff{half")
        self.claim(self.one)
        self.wait(self.settle(self.one, name, corrupt="malformed"))
        content, record = self.wait(self.quarantine.read(name))
        self.assertEqual((content, read_object(record)["why"]), (b"\xff{half", "malformed"))
        self.assertEqual(self.wait(self.dead.page_failed(9, 0)).total, 0)
        self.assertTrue(self.wait(self.quarantine.get(name)).mail.fault)

    def test_a_mail_in_quarantine_goes_back_with_its_history_and_content(self) -> None:
        name = self.bury(corrupt="strange")
        due = self.wait(
            self.quarantine.unbury(name, None, lambda s: attrs.evolve(updated(s), crashes=0))
        )
        self.assertEqual((due.at, due.moved), (NOW, False))
        (mail,) = self.claim(self.two)
        self.assertEqual((mail.document, mail.state), (document("0"), updated(tried_state())))

    def test_a_second_dead_letter_of_a_name_hides_no_other(self) -> None:
        name = self.bury()
        for subject in ("again", "and again"):
            self.wait(self.one.queue.store.put(name, document(subject), FRESH))
            self.claim(self.one)
            self.wait(self.settle(self.one, name, dead="x"))
        names = self.wait(self.dead.page_failed(9, 0)).names
        self.assertEqual(names, (name, f"{name}x2", f"{name}x3"))
        subjects = [
            self.wait(self.dead.get_failed(each)).mail.document["subject"] for each in names
        ]
        self.assertEqual(subjects, ["0", "again", "and again"])

    def test_reviving_takes_no_name_that_a_mail_has(self) -> None:
        name = self.bury()
        self.wait(self.two.queue.store.put(name, document("other"), FRESH))
        for _ in ("it waits", "it is claimed"):
            asked = self.dead.retry_failed(name, document())
            self.failureResultOf(asked, MailExistsError)
            self.claim(self.two)
        self.assertEqual(self.wait(self.dead.page_failed(9, 0)).names, (name,))

    def test_of_two_who_revive_one_does(self) -> None:
        name = self.bury()
        asked = [node.queue.dead.retry_failed(name, document()) for node in (self.one, self.two)]
        results = []
        for each in asked:
            each.addCallbacks(results.append, lambda failure: results.append(failure.type))
        self.until("both are over", lambda: len(results) == 2)
        self.assertEqual(results.count(None), 1)
        self.assertEqual(self.waiting(self.one), [name])

    def test_a_record_that_changes_meanwhile_is_read_again(self) -> None:
        name = self.bury()
        seen: list[MailState] = []

        def revive(state: MailState) -> MailState:
            if not seen:
                self.server.call("HSET", KEYS.dead.mail(name), "record", '{"state":{"crashes":3}}')
            seen.append(state)
            return state

        self.wait(self.graves.unbury(name, None, revive))
        self.assertEqual(seen, [tried_state(), MailState(crashes=3)])
        self.assertEqual(self.wait(self.one.queue.store.get(name)).state, MailState(crashes=3))

    def test_what_changes_all_the_time_is_given_up(self) -> None:
        name = self.bury()
        self.server.call("HSET", KEYS.dead.mail(name), "record", "0")

        def revive(state: MailState) -> MailState:
            self.server.call("HINCRBY", KEYS.dead.mail(name), "record", 1)
            return state

        self.failureResultOf(self.graves.unbury(name, None, revive), NoSuchMailError)

    def test_a_record_that_can_not_be_read_is_empty(self) -> None:
        name = self.bury()
        for text in ("{half", "[]", ""):
            self.server.call("HSET", KEYS.dead.mail(name), "record", text)
            buried = self.wait(self.dead.get_failed(name))
            self.assertEqual((buried.record, buried.mail.state), ({}, FRESH))
            self.assertEqual(buried.mail.document, document("0"))

    def test_what_another_store_had_is_added_once_as_it_is(self) -> None:
        name = self.one.queue.store.make_name(NOW, "0" * 16)
        for _ in range(2):
            self.wait(self.graves.add(name, b"\xff", b"{}"))
        self.failureResultOf(self.graves.add(name, b"\xfe", b"{}"), MailExistsError)
        self.failureResultOf(self.graves.add(name, b"\xff", b"[]"), MailExistsError)
        self.assertEqual(self.wait(self.graves.read(name)), (b"\xff", b"{}"))
        self.assertEqual(self.wait(self.graves.page(9, 0)).names, (name,))

    def test_many_are_cleared_a_part_at_a_time(self) -> None:
        for number in range(1100):
            name = self.one.queue.store.make_name(NOW, f"{number:016x}")
            self.server.call("HSET", KEYS.dead.mail(name), "mail", "{}")
            self.server.call("ZADD", KEYS.dead.index, 0, f'"{name}"')
        self.assertEqual(self.wait(self.dead.clear_failed()), 1100)
        self.assertEqual(self.server.dump(), {})

    def test_clearing_goes_past_what_is_no_name(self) -> None:
        for number in range(700):
            self.server.call("ZADD", KEYS.dead.index, 0, f'"00-{number}"')
        name = self.bury()
        self.assertEqual(self.wait(self.dead.clear_failed()), 1)
        self.assertFalse(self.server.call("EXISTS", KEYS.dead.mail(name)))
