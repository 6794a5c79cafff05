# SPDX-License-Identifier: MIT
"""Tests for mails that the predecessor stranded in Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from smtpmailer.errors import MailExistsError, NoSuchMailError
from smtpmailer.stores.redis_rescue import RedisRescuer
from smtpmailer.stores.rescue import Found
from tests.stores.queues import NOW, document, tried_state
from tests.stores.redis_nodes import KEYS, RedisQueueCase
from tests.stores.test_contract import make_cipher


class RescueTests(RedisQueueCase):
    """They are found wherever they lie, and taken in."""

    def setUp(self) -> None:
        super().setUp()
        self.node = self.run_node()
        self.rescuer = RedisRescuer(
            self.node.redis,
            KEYS,
            self.node.queue.quarantine,
            open_document=make_cipher().open,
            judge=self.judge,
            now=time.time,
        )

    def judge(self, mail: Mapping[str, Any]) -> None:
        if mail.get("subject") == "unfit":
            raise ValueError("it can't be sent")

    def strand(self, key: str, subject: str = "Hello") -> None:
        self.server.call("SET", key, json.dumps(document(subject)))

    def name(self, number: int = 0) -> str:
        return self.node.queue.store.make_name(NOW, f"{number:016x}")

    def find(self) -> list[Found]:
        found: list[Found] = self.wait(self.rescuer.find())
        return found

    def take_all(self) -> None:
        for each in self.find():
            self.wait(self.rescuer.take(each))

    def subjects(self) -> list[str]:
        """Claim all that is due, and give the subjects."""
        self.wait(self.node.queue.store._lookout.look_through())
        return [json.loads(json.dumps(mail.document))["subject"] for mail in self.claim(self.node)]

    def test_what_it_was_sending_is_found_and_taken_in(self) -> None:
        name = self.name()
        self.strand(KEYS.temp(name))
        (found,) = self.find()
        self.assertEqual((found.path, found.name, found.fault), (KEYS.temp(name), name, ""))
        self.assertEqual(found.mail, document())
        self.assertLess(abs(found.written_at - time.time()), 60)
        self.take_all()
        self.assertEqual(self.waiting(self.node), [name])
        self.assertEqual((self.find(), self.subjects()), ([], ["Hello"]))
        self.assertNotIn(KEYS.temp(name), self.server.dump())

    def test_it_keeps_the_history_that_it_had(self) -> None:
        state = tried_state(next_at=NOW + 60)
        name = self.put(self.node, state=state)
        self.server.call("RENAME", KEYS.queue(name), KEYS.temp(name))
        self.server.call("ZREM", KEYS.index, f'"{name}"')
        self.take_all()
        self.assertEqual([mail.state for mail in self.claim(self.node)], [state])

    def test_a_mail_that_the_index_does_not_name_is_found(self) -> None:
        self.put(self.node, number=1)
        name = self.name(2)
        self.strand(KEYS.queue(name), "unlisted")
        (found,) = self.find()
        self.assertEqual((found.path, found.name), (KEYS.queue(name), name))
        self.take_all()
        self.assertEqual(self.subjects(), ["unlisted", "1"])

    def test_a_negative_time_is_replaced(self) -> None:
        bad = "00000000000000000-5.25000000_9e51fa6fad25da44"
        self.strand(KEYS.queue(bad), "negative")
        self.server.call("ZADD", KEYS.index, 0, f'"{bad}"')
        self.strand(KEYS.temp(bad.replace("9e", "8e")), "negative, in hand")
        first, second = self.find()
        self.assertEqual({first.name[-16:], second.name[-16:]}, {bad[-16:], "8e51fa6fad25da44"})
        self.take_all()
        self.assertEqual(sorted(self.waiting(self.node)), sorted((first.name, second.name)))
        self.assertEqual(self.server.call("ZCARD", KEYS.index), 2)
        self.assertEqual(sorted(self.subjects()), ["negative", "negative, in hand"])

    def test_what_is_no_mail_is_not_found(self) -> None:
        for name in ("nonsense", "1.5_A", "", "-5"):
            self.strand(KEYS.temp(name))
            self.strand(KEYS.queue(name))
        self.server.call("SET", KEYS.temp(self.name()).replace("MAILER", "MAIL?R"), "{}")
        self.put(self.node, number=1)
        self.claim(self.node)
        self.assertEqual(self.find(), [])

    def test_a_prefix_with_stars_is_taken_literally(self) -> None:
        keys = type(KEYS)("a*[b]?:")
        rescuer = RedisRescuer(
            self.node.redis,
            keys,
            self.node.queue.quarantine,
            open_document=make_cipher().open,
            judge=self.judge,
            now=time.time,
        )
        self.strand(keys.temp(self.name(1)))
        self.strand("axb?:temp:" + self.name(2))
        self.assertEqual([each.name for each in self.wait(rescuer.find())], [self.name(1)])

    def test_unreadable_ones_say_why(self) -> None:
        self.server.call("SET", KEYS.temp(self.name(1)), "{half")
        self.strand(KEYS.temp(self.name(2)), "unfit")
        first, second = self.find()
        self.assertEqual((first.mail, second.mail), (None, document("unfit")))
        self.assertIn("malformed", first.fault)
        self.assertEqual(second.fault, "it can't be sent")

    def test_no_other_mail_of_that_name_is_replaced(self) -> None:
        name = self.put(self.node)
        self.strand(KEYS.temp(name), "other")
        (found,) = self.find()
        self.failureResultOf(self.rescuer.take(found), MailExistsError)
        self.claim(self.node)
        self.failureResultOf(self.rescuer.take(found), MailExistsError)
        self.assertIn(KEYS.temp(name), self.server.dump())

    def test_the_same_mail_in_both_places_is_one(self) -> None:
        name = self.name()
        for key in (KEYS.temp(name), KEYS.queue(name)):
            self.strand(key)
        self.take_all()
        self.assertEqual(self.waiting(self.node), [name])
        self.assertEqual(self.find(), [])

    def test_one_that_is_gone_meanwhile_is_said_to_be(self) -> None:
        self.strand(KEYS.temp(self.name()))
        (found,) = self.find()
        self.server.call("DEL", found.path)
        self.failureResultOf(self.rescuer.take(found), NoSuchMailError)

    def test_more_than_one_step_can_look_at_are_all_found(self) -> None:
        for number in range(1200):
            self.strand(KEYS.queue(self.name(number)))
        self.assertEqual(len(self.find()), 1200)

    def test_where_redis_counts_no_idle_time_mails_are_of_now(self) -> None:
        self.server.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
        self.strand(KEYS.temp(self.name()))
        (found,) = self.find()
        self.assertLess(abs(found.written_at - time.time()), 60)

    def test_quarantined_ones_are_found_apart_and_taken_in_with_their_history(self) -> None:
        name = self.put(self.node)
        self.claim(self.node)
        self.wait(self.settle(self.node, name, tried_state(), corrupt="strange"))
        self.assertEqual(self.find(), [])
        (found,) = self.wait(self.rescuer.find_quarantined())
        self.assertEqual((found.why, found.written_at), ("in quarantine: strange", NOW))
        self.wait(self.rescuer.take(found))
        self.assertEqual([mail.state for mail in self.claim(self.node)], [tried_state()])
        self.assertEqual(self.wait(self.rescuer.find_quarantined()), [])

    def test_one_without_a_record_is_found_as_well(self) -> None:
        self.wait(self.node.queue.quarantine.add(self.name(), b"{}", b""))
        (found,) = self.wait(self.rescuer.find_quarantined())
        self.assertEqual(found.why, "in quarantine: nobody knows why")
