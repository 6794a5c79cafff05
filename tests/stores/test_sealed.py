# SPDX-License-Identifier: MIT
"""Encryption around a store, and the predecessor's files."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.ciphers import KEY_BYTES
from smtpmailer.core.queued import Settlement, StoredMail
from smtpmailer.core.queuestate import FRESH, state_from_json, state_to_json
from smtpmailer.errors import CipherError
from smtpmailer.stores.content import decode, encode
from smtpmailer.stores.memory import MemoryQueueStore
from smtpmailer.stores.sealed import QueueCipher, SealedQueueStore
from tests.stores.queues import NOW, document, make_place, name_at, tried_state
from tests.vectors import load_vectors

#: A waiting mail as the predecessor wrote it (AES128, password ``abc``).
SAMPLE = (
    rb'{"to":["user@example.test"],"ccList":[],"bccList":[["b@example.test","B\u00e9"]],'
    rb'"subject":"s\/\u00fc","body":"\u003Cp\u003Ex\u003C\/p\u003E","scheduleTime":1999999999,'
    rb'"failToDelivered":0,'
    rb'"smtpEncryptPassword":"63eNAjh8qRyz18lix1lNZCE+Ifs3mwh5c\/BfJMeMjg=="}'
)
SAMPLE_KEY = base64.b64decode("N7SNJsGAY1hku3PBjpqgDw==")
SAMPLE_MAIL = {
    "to": ["user@example.test"],
    "ccList": [],
    "bccList": [["b@example.test", "Bé"]],
    "subject": "s/ü",
    "body": "<p>x</p>",
    "scheduleTime": 1999999999,
    "failToDelivered": 0,
    "smtpPassword": "abc",
}


def make_cipher(method: str = "AES128", *keys: bytes, whole: bool = False) -> QueueCipher:
    """Make a cipher whose nonces count."""
    counter = itertools.count()
    return QueueCipher(
        method=method,
        keys=keys or (bytes(KEY_BYTES[method]),),
        whole=whole,
        make_nonce=lambda size: next(counter).to_bytes(size, "big"),
    )


class DialogueTests(SynchronousTestCase):
    """What was said with servers is as secret as the documents are."""

    said = ("C: MAIL FROM:<zebra@example.test>", "S: 450 später", "-- lost")

    def setUp(self) -> None:
        (first,) = tried_state().attempts
        said = attrs.evolve(first, dialogue=self.said)
        self.state = attrs.evolve(tried_state(), attempts=(first, said))

    def test_with_whole_documents_no_word_of_it_is_plain(self) -> None:
        for method in KEY_BYTES:
            cipher = make_cipher(method, whole=True)
            sealed = cipher.seal_state(self.state)
            text = json.dumps(state_to_json(sealed), ensure_ascii=False)
            for word in ("zebra", "MAIL FROM", "später", "lost"):
                self.assertNotIn(word, text)
            self.assertEqual(cipher.open_state(sealed), self.state)
            read = state_from_json(json.loads(text))
            self.assertEqual(cipher.open_state(read), self.state)

    def test_else_it_stays_as_it_is(self) -> None:
        cipher = make_cipher()
        self.assertIs(cipher.seal_state(self.state), self.state)
        self.assertEqual(cipher.open_state(self.state), self.state)

    def test_either_is_read_whatever_the_setting_and_with_an_old_key(self) -> None:
        old, new = bytes(16), bytes([1]) * 16
        sealed = make_cipher("AES128", old, whole=True).seal_state(self.state)
        self.assertEqual(make_cipher("AES128", new, old).open_state(sealed), self.state)
        plain = make_cipher("AES128", new, whole=True).open_state(self.state)
        self.assertEqual(plain, self.state)

    def test_what_no_key_opens_is_said_to_be_so_and_the_rest_is_there(self) -> None:
        sealed = make_cipher("AES128", whole=True).seal_state(self.state)
        opened = make_cipher("AES128", bytes([1]) * 16).open_state(sealed)
        (line,) = opened.attempts[1].dialogue
        self.assertTrue(line.startswith("-- can't be decrypted: "), line)
        self.assertEqual(opened.attempts[0], self.state.attempts[0])
        self.assertEqual(opened.settled, self.state.settled)

    def test_the_store_seals_it_at_each_step(self) -> None:
        memory = MemoryQueueStore()
        store = SealedQueueStore(memory, make_cipher("AES128", whole=True))
        name = name_at(NOW)
        self.successResultOf(store.put(name, document(), self.state))
        self.successResultOf(store.acquire())
        self.successResultOf(store.recover())
        self.assertNotIn("zebra", repr(state_to_json(memory._waiting[name].state)))
        (claimed,) = self.successResultOf(store.claim(NOW, 1))
        self.assertEqual(claimed.state, self.state)
        self.successResultOf(store.mark(name, self.state))
        self.assertNotIn("zebra", repr(state_to_json(memory._claimed[name].state)))
        settlement = Settlement(at=NOW, state=self.state, dead="never")
        self.successResultOf(store.settle(name, settlement))
        self.assertNotIn("zebra", repr(memory._dead[name].record))


class QueueCipherTests(SynchronousTestCase):
    """Documents sealed and opened."""

    def test_only_the_password_is_sealed_and_under_another_key(self) -> None:
        for method in KEY_BYTES:
            cipher = make_cipher(method)
            sealed: Any = cipher.seal(document(smtpPassword="geheim"))
            self.assertNotIn("smtpPassword", sealed)
            self.assertEqual(set(sealed) - set(document()), {"smtpEncryptPassword"})
            self.assertNotIn("geheim", repr(sealed))
            self.assertEqual(cipher.open(sealed), document(smtpPassword="geheim"))

    def test_a_mail_without_password_stays_as_it_is(self) -> None:
        self.assertEqual(make_cipher().seal(document()), document())

    def test_the_whole_document_is_sealed_when_told_to(self) -> None:
        for method in KEY_BYTES:
            cipher = make_cipher(method, whole=True)
            sealed = cipher.seal(document(smtpPassword="geheim"))
            assert isinstance(sealed, str)
            self.assertEqual(cipher.open(sealed), document(smtpPassword="geheim"))
            self.assertEqual(cipher.seal(sealed), sealed)

    def test_what_any_setting_wrote_is_opened_with_any_of_the_keys(self) -> None:
        ciphers = [
            make_cipher(method, bytes([number]) * KEY_BYTES[method], whole=whole)
            for number, (method, whole) in enumerate(itertools.product(KEY_BYTES, (False, True)))
        ]
        keys = tuple(cipher.keys[0] for cipher in ciphers)
        for reader in ciphers:
            reader = attrs.evolve(reader, keys=(reader.keys[0], *keys))  # noqa: PLW2901
            for writer in ciphers:
                sealed = writer.seal(document(smtpPassword="geheim"))
                self.assertEqual(reader.open(sealed), document(smtpPassword="geheim"))

    def test_a_password_sealed_inside_a_sealed_document_is_opened_too(self) -> None:
        inner = make_cipher().seal(document(smtpPassword="geheim"))
        whole = make_cipher(whole=True).seal(inner)
        self.assertEqual(make_cipher().open(whole), document(smtpPassword="geheim"))

    def test_a_plain_password_is_read_as_it_is(self) -> None:
        mail = document(smtpPassword="plain")
        self.assertEqual(make_cipher().open(mail), mail)

    def test_no_nonce_is_used_twice(self) -> None:
        cipher = make_cipher()
        sealed = {json.dumps(cipher.seal(document(smtpPassword="x"))) for _ in range(10)}
        self.assertEqual(len(sealed), 10)

    def test_what_can_t_be_opened_is_refused(self) -> None:
        cipher = make_cipher(whole=True)
        array = attrs.evolve(cipher)._seal(b"[1]")
        garbage = cipher._seal(b"\xff{")
        for wrong in ("AAAA", array, garbage, {"smtpEncryptPassword": 5}):
            with self.assertRaises((CipherError, ValueError)):
                cipher.open(wrong)

    def test_a_wrong_key_is_a_fault_that_names_the_setting(self) -> None:
        sealed = make_cipher(whole=True).seal(document())
        mail = StoredMail(name="x", document=sealed)
        opened = make_cipher("AES128", b"another key 1234").open_mail(mail)
        self.assertEqual(opened.document, "")
        self.assertIn("SECRET_KEY", opened.fault)
        broken = StoredMail(name="x", document="", fault="empty")
        self.assertEqual(make_cipher().open_mail(broken), broken)

    def test_secrets_are_in_no_repr(self) -> None:
        text = repr(make_cipher("AES128", b"a secret key 123"))
        self.assertNotIn("secret", text)


class PredecessorTests(SynchronousTestCase):
    """Files as the predecessor wrote them, and ours as it would read them."""

    def test_its_password_only_file_opens(self) -> None:
        self.assertEqual(make_cipher("AES128", SAMPLE_KEY).open(decode(SAMPLE)), SAMPLE_MAIL)

    def test_its_whole_encrypted_files_open_also_as_json_text(self) -> None:
        for row in load_vectors("queue-ciphers.json"):
            if not row["plaintext"].startswith("{"):
                continue
            cipher = make_cipher(row["method"], base64.b64decode(row["secretKey"]))
            mail = json.loads(row["plaintext"])
            text = row["ciphertext"].encode()
            for content in (text, text + b"\n", json.dumps(row["ciphertext"]).encode()):
                opened = dict(cipher.open(decode(content)))
                self.assertEqual(opened, mail)

    def test_a_whole_queue_of_its_is_claimed(self) -> None:
        place = make_place(self)
        place.waiting.mkdir()
        rows = [r for r in load_vectors("queue-ciphers.json") if r["plaintext"].startswith("{")]
        contents = [SAMPLE, *(row["ciphertext"].encode() for row in rows)]
        for number, content in enumerate(contents):
            (place.waiting / name_at(1657084500.39, number)).write_bytes(content)
        queue, _ = place.make_queue()
        keys = (SAMPLE_KEY, *(base64.b64decode(row["secretKey"]) for row in rows))
        store = SealedQueueStore(queue.store, make_cipher("AES128", *keys))
        self.successResultOf(store.start())
        self.assertTrue(self.successResultOf(store.acquire()))
        self.assertEqual(self.successResultOf(store.recover()).leftovers, ())
        mails = self.successResultOf(store.claim(1e10, 99))
        self.assertEqual([mail.fault for mail in mails], [""] * len(contents))
        self.assertEqual(
            [mail.document for mail in mails],
            [SAMPLE_MAIL, *(json.loads(row["plaintext"]) for row in rows)],
        )
        self.successResultOf(store.stop())

    def test_our_file_holds_exactly_its_format(self) -> None:
        place = make_place(self)
        queue, _ = place.make_queue()
        self.successResultOf(queue.store.start())
        for whole in (False, True):
            cipher = make_cipher("AES128", SAMPLE_KEY, whole=whole)
            name = name_at(NOW, int(whole))
            store = SealedQueueStore(queue.store, cipher)
            self.successResultOf(store.put(name, SAMPLE_MAIL, FRESH))
            content = (place.waiting / name).read_bytes()
            if whole:
                self.assertRegex(content, rb"\A[A-Za-z0-9+/]+={0,2}\Z")
                plain: Any = cipher.open(content.decode())
                self.assertEqual(plain, SAMPLE_MAIL)
            else:
                written = json.loads(content)
                self.assertEqual(set(written), set(json.loads(SAMPLE)))
                self.assertEqual(list(written)[-1], "smtpEncryptPassword")
                self.assertEqual(dict(cipher.open(written)), SAMPLE_MAIL)
        self.assertEqual(place.names(place.waiting), [name_at(NOW, 0), name_at(NOW, 1)])
        self.successResultOf(queue.store.stop())

    def test_no_secret_reaches_the_store(self) -> None:
        memory = MemoryQueueStore()
        store = SealedQueueStore(memory, make_cipher())
        name = name_at(NOW)
        self.successResultOf(store.put(name, document(smtpPassword="geheim"), FRESH))
        self.assertNotIn(b"geheim", memory._waiting[name].content)
        new = name_at(NOW, 1)
        self.successResultOf(store.replace(name, new, document(smtpPassword="geheim")))
        self.assertNotIn(b"geheim", memory._waiting[new].content)


class ContentTests(SynchronousTestCase):
    """A file's bytes."""

    def test_documents_and_texts_survive(self) -> None:
        for what in (document("é"), "QUJD", {}):
            self.assertEqual(decode(encode(what)), what)

    def test_blanks_around_are_passed_over(self) -> None:
        self.assertEqual(decode(b'\n {"a": 1}\r\n'), {"a": 1})

    def test_all_else_is_refused_with_the_reason(self) -> None:
        cases = {
            b"": "empty",
            b" \n": "empty",
            b'{"a": ': "malformed JSON",
            b"[1]": "not a JSON object",
            b"QUJ": "malformed JSON",
            b"null": "not a JSON object",
            b"\xff\xfe": "malformed JSON",
        }
        for content, why in cases.items():
            if content == b"null":
                # Four letters are base64 as well; the cipher refuses them.
                self.assertEqual(decode(content), "null")
                continue
            with self.assertRaisesRegex(ValueError, why, msg=str(content)):
                decode(content)
