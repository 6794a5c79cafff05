# SPDX-License-Identifier: MIT
"""Tests for what the queue leaves in Redis: the predecessor's layout, and nothing behind."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smtpmailer.core.queuestate import MailState
from smtpmailer.errors import NoSuchMailError
from smtpmailer.stores.redis_connection import Login
from smtpmailer.stores.redis_rescue import RedisRescuer
from smtpmailer.stores.sealed import QueueCipher, SealedQueueStore
from tests.stores.queues import NOW, document, tried_state
from tests.stores.redis_case import PREFIX
from tests.stores.redis_nodes import KEYS, RedisQueueCase

ROOT = Path(__file__).resolve().parent.parent.parent

#: A mail as the predecessor wrote it, and what its password was encrypted with.
NAME = "0000000001999999999.72759300_694f7f804c5c14bf"
VALUE = (
    rb'{"to":["user@example.test"],"ccList":[],"bccList":[["b@example.test","B\u00e9"]],'
    rb'"subject":"s\/\u00fc","body":"\u003Cp\u003Ex\u003C\/p\u003E","scheduleTime":1999999999,'
    rb'"failToDelivered":0,"smtpEncryptPassword":"63eNAjh8qRyz18lix1lNZCE+Ifs3mwh5c\/BfJMeMjg=="}'
)
SECRET_KEY = base64.b64decode("N7SNJsGAY1hku3PBjpqgDw==")
MAIL = {
    "to": ["user@example.test"],
    "ccList": [],
    "bccList": [["b@example.test", "Bé"]],
    "subject": "s/ü",
    "body": "<p>x</p>",
    "scheduleTime": 1_999_999_999,
    "failToDelivered": 0,
}


class LayoutTests(RedisQueueCase):
    """Values and members are those of the predecessor."""

    def setUp(self) -> None:
        super().setUp()
        self.node = self.run_node()
        self.store = self.node.queue.store

    def leave(self) -> None:
        """Leave the predecessor's mail in Redis, as it does."""
        self.server.call("SET", f"{PREFIX}queue:{NAME}", VALUE)
        self.server.call("ZADD", f"{PREFIX}index:queue", 0, f'"{NAME}"')

    def sealed(self, *, whole: bool = False) -> SealedQueueStore:
        """Encrypt as the predecessor does."""
        cipher = QueueCipher(method="AES128", keys=(SECRET_KEY,), whole=whole, make_nonce=bytes)
        return SealedQueueStore(self.store, cipher)

    def test_its_mail_is_read_as_it_was_meant(self) -> None:
        self.leave()
        mail = self.wait(self.sealed().get(NAME))
        self.assertEqual(mail.document, {**MAIL, "smtpPassword": "abc"})
        self.assertEqual(self.waiting(self.node), [NAME])

    def test_a_mail_is_put_as_it_would_put_it(self) -> None:
        self.leave()
        theirs = self.server.dump()
        self.server.call("FLUSHALL")
        self.wait(self.store.put(NAME, json.loads(VALUE), MailState()))
        ours = self.server.dump()
        key = f"{PREFIX}queue:{NAME}"
        self.assertEqual(json.loads(ours.pop(key)), json.loads(theirs.pop(key)))
        name, due = ours.pop(f"{PREFIX}due")
        self.assertEqual((name, float(due)), (NAME.encode(), 1_999_999_999.0))
        self.assertEqual(ours, theirs)

    def test_an_encrypted_mail_is_a_text_in_json(self) -> None:
        self.wait(self.sealed(whole=True).put(NAME, MAIL, MailState()))
        value = json.loads(self.server.call("GET", f"{PREFIX}queue:{NAME}"))
        self.assertRegex(value, r"\A[A-Za-z0-9+/]+=*\Z")
        self.assertEqual(self.wait(self.sealed(whole=True).get(NAME)).document, MAIL)

    def test_names_are_those_it_makes(self) -> None:
        name = self.store.make_name(1_657_084_500.398236, "9e51fa6fad25da44")
        self.assertRegex(name, r"\A0000000001657084500\.39823[0-9]{3}_9e51fa6fad25da44\Z")

    def test_its_steps_take_our_mails_away(self) -> None:
        """It counts a mail as removed when both of its deletes did something."""
        name = self.put(self.node, state=tried_state(next_at=NOW))
        self.assertEqual(self.server.call("DEL", KEYS.queue(name)), 1)
        self.assertEqual(self.server.call("ZREM", KEYS.index, f'"{name}"'), 1)
        self.assertEqual(self.claim(self.node), [])
        self.assertEqual(self.waiting(self.node), [])

    def test_it_can_see_nothing_of_a_claimed_mail(self) -> None:
        name = self.put(self.node)
        self.claim(self.node)
        self.wait(self.store.mark(name, tried_state(in_doubt=("b@example.test",))))
        theirs = re.compile(f"{PREFIX}(queue:|temp:|index:queue|template:|index:template|sent:)")
        self.assertEqual([key for key in self.server.dump() if theirs.match(key)], [])
        self.assertEqual(self.server.dump()[KEYS.owners][0], name.encode())

    def test_all_keys_begin_with_the_prefix(self) -> None:
        self.put(self.node, state=tried_state(next_at=NOW))
        self.put(self.node, number=2)
        self.claim(self.node, limit=1)
        self.server.call("ZADD", KEYS.index, 0, f'"{NAME}"')
        self.wait(self.node.queue.store.recover())
        self.claim(self.node, now=2e9)
        for name in (self.put(self.node, number=3), self.put(self.node, number=4)):
            self.claim(self.node)
            self.wait(
                self.settle(self.node, name, dead="" if name[-1] == "4" else "x", corrupt="y")
            )
        names = {key.removeprefix(PREFIX).partition(":")[0] for key in self.server.dump()}
        ours = {"claimed", "dead", "due", "index", "leases", "missing", "owners", "quarantine"}
        self.assertEqual(names, {*ours, "states"})
        self.assertTrue(all(key.startswith(PREFIX) for key in self.server.dump()))


class RightsTests(RedisQueueCase):
    """The rights that the documentation tells to give are enough, and the keys are ours."""

    def test_a_user_with_just_these_rights_can_do_all(self) -> None:
        text = (ROOT / "docs" / "how-to" / "redis.md").read_text("utf-8")
        (rule,) = re.findall(r"^ACL SETUSER mailer .*$", text, re.MULTILINE)
        self.server.call(*rule.replace("~SMTP_MAILER:*", f"~{PREFIX}*").split())
        node = self.make_node()
        login = Login(user="mailer", password="password")
        node.redis._link = self.start_link(self.server, login=login)
        self.wait(node.queue.store.acquire())
        self.wait(node.queue.store.recover())
        ends: Sequence[dict[str, Any]] = ({"done": True}, {"dead": "x"}, {"corrupt": "x"}, {})
        for number, what in enumerate(ends):
            name = self.put(node, number=number, state=tried_state(next_at=NOW))
            self.claim(node)
            self.wait(node.queue.store.mark(name, tried_state()))
            self.wait(self.settle(node, name, tried_state(next_at=NOW + 60), **what))
        new = node.queue.store.make_name(NOW, "9" * 16)
        self.wait(node.queue.store.replace(name, new, document()))
        self.wait(node.queue.store._leases.undo_unanswered())
        self.assertEqual(self.wait(node.queue.dead.clear_failed()), 1)
        self.assertEqual(self.wait(node.queue.store.clear()), 1)
        rescuer = RedisRescuer(
            node.redis,
            KEYS,
            node.queue.quarantine,
            open_document=lambda _: {},
            judge=bool,
            now=lambda: NOW,
        )
        self.server.call("SET", KEYS.temp(new), "{}")
        (found,) = self.wait(rescuer.find())
        self.wait(rescuer.take(found))
        (found,) = self.wait(rescuer.find_quarantined())
        self.wait(rescuer.take(found))


class NothingIsLeftTests(RedisQueueCase):
    """When a mail has gone, nothing of it is in Redis any more."""

    def setUp(self) -> None:
        super().setUp()
        self.node = self.run_node()
        self.store = self.node.queue.store
        self.dead = self.node.queue.dead
        self.addCleanup(lambda: self.assertEqual(self.server.dump(), {}))

    def put_tried(self) -> str:
        return self.put(self.node, state=tried_state(next_at=NOW))

    def end(self, name: str, **what: Any) -> None:
        self.claim(self.node)
        self.wait(self.settle(self.node, name, tried_state(), **what))

    def test_after_it_was_sent(self) -> None:
        name = self.put_tried()
        self.claim(self.node)
        self.wait(self.store.mark(name, tried_state(in_doubt=("b@example.test",))))
        self.wait(self.settle(self.node, name, done=True))

    def test_after_it_was_removed(self) -> None:
        self.wait(self.store.remove(self.put_tried()))

    def test_after_the_queue_was_cleared(self) -> None:
        self.put_tried()
        self.put(self.node, number=2)
        self.server.call("ZADD", KEYS.index, 0, f'"{NAME}"')
        self.assertEqual(self.wait(self.store.clear()), 2)

    def test_after_it_was_changed_and_removed(self) -> None:
        old, new = self.put_tried(), self.store.make_name(NOW + 9, "0" * 16)
        self.wait(self.store.replace(old, new, document("new")))
        self.wait(self.store.remove(new))

    def test_after_it_went_back_with_new_content_and_was_removed(self) -> None:
        name = self.put_tried()
        self.end(name, document=document("new"))
        self.wait(self.store.remove(name))

    def test_after_its_dead_letter_was_removed(self) -> None:
        name = self.put_tried()
        self.end(name, dead="given up")
        self.wait(self.dead.remove_failed(name))

    def test_after_all_dead_letters_were_cleared(self) -> None:
        self.end(self.put_tried(), dead="given up")
        self.assertEqual(self.wait(self.dead.clear_failed()), 1)

    def test_after_its_dead_letter_was_revived_and_sent(self) -> None:
        name = self.put_tried()
        self.end(name, dead="given up")
        self.wait(self.dead.retry_failed(name, document()))
        self.end(name, done=True)

    def test_after_it_was_lost_while_it_was_claimed(self) -> None:
        name = self.put_tried()
        self.claim(self.node)
        self.server.call("DEL", KEYS.claimed(name))
        self.wait(self.settle(self.node, name, done=True))

    def test_after_it_was_lost_and_was_to_go_back_or_be_buried(self) -> None:
        for what in ({"dead": "x"}, {}):
            name = self.put_tried()
            self.claim(self.node)
            self.server.call("DEL", KEYS.claimed(name))
            asked = self.settle(self.node, name, tried_state(), **what)
            self.failureResultOf(asked, NoSuchMailError)

    def test_after_it_was_lost_and_its_node_died(self) -> None:
        name = self.put_tried()
        self.claim(self.node)
        self.server.call("DEL", KEYS.claimed(name))
        self.end_leases(name)
        self.assertEqual(self.claim(self.run_node(2)), [])
