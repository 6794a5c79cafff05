# SPDX-License-Identifier: MIT
"""No plain secret ever lies in the queue's directories, whatever becomes of a mail or a process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.queued import Settlement
from smtpmailer.core.queuestate import FRESH
from smtpmailer.stores.sealed import QueueCipher, SealedDeadLetters, SealedQueueStore
from tests.children import in_child
from tests.integration.queue_service import QueueServiceCase, mail
from tests.integration.queue_worker import Fault
from tests.integration.service import until
from tests.stores.queues import NOW, Place, document, make_place, name_at, tried_state

_PASSWORD = "zebra-password"
_TEXTS = ("zebra-subject", "zebra-body", "zebra-name", "zebra-from")

_HELD, _PUT_OFF, _REFUSED = ("held@example.org", "later@example.org", "never@example.org")


def places_of(directory: Path, secrets: tuple[str, ...]) -> list[str]:
    """Find the files, and the names, that hold one of these texts."""
    found = []
    for path in directory.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if any(secret in str(path) or secret.encode() in content for secret in secrets):
            found.append(str(path))
    return found


class ServiceSecretsTests(QueueServiceCase):
    """Through the service: waiting, delivered, put off, dead, in doubt, changed and revived."""

    def check(self, *secrets: str) -> None:
        self.assertEqual(places_of(self.place.root, secrets), [])

    def live(self, *secrets: str, whole: bool) -> None:
        """Let everything happen to mails with secrets; look for those all the time."""
        service = self.running(QUEUE_FULL_ENCRYPT=whole, QUEUE_RETRY_DELAY=3600)
        self.smtp.refuse(_PUT_OFF, "450 later")
        self.smtp.refuse(_REFUSED, "550 never")
        self.smtp.hold()
        subject, body, name, sender = _TEXTS
        held, put_off, refused, waiting = self.enqueue(
            service,
            *(
                mail(to, subject=subject, body=body, fromName=name, smtpPassword=_PASSWORD)
                | {"fromEmail": f"{sender}@example.org"}
                | more
                for to, more in (
                    (_HELD, {}),
                    (_PUT_OFF, {}),
                    (_REFUSED, {}),
                    (_HELD, {"scheduleTime": 4_000_000_000}),
                )
            ),
        )
        until("one is being delivered", lambda: self.smtp.waiting)
        until("one is dead", lambda: self.place.names(self.place.failed) == [refused])
        until("one is put off", lambda: put_off in self.place.names(self.place.waiting))
        history = service.ask({"getMailHistory": put_off})["data"]
        self.assertIn(sender, "".join(history["attempts"][0]["dialogue"]))
        self.check(*secrets)
        changed = service.ask({"updateQueuedMail": waiting, "content": {"subject": subject * 2}})
        self.assertEqual(changed["status"], "success")
        self.check(*secrets)
        service.kill()
        self.check(*secrets)
        self.smtp.release()
        self.await_owner(service.start_again().ready())
        self.assertEqual(service.ask({"retryFailedMail": refused})["status"], "success")
        self.await_mails(held, refused)
        self.check(*secrets)
        service.terminate()
        self.assertEqual(service.ended(), 0)
        self.check(*secrets)
        self.assertIn(_TEXTS[0].encode(), self.smtp.received[-1].content)

    def test_the_password_is_nowhere(self) -> None:
        self.live(_PASSWORD, whole=False)
        # What is looked for would be found.
        self.assertNotEqual(places_of(self.place.root, _TEXTS), [])

    def test_with_the_whole_document_encrypted_no_text_of_it_is_anywhere(self) -> None:
        self.live(_PASSWORD, *_TEXTS, whole=True)


class CrashSecretsTests(SynchronousTestCase):
    """A process killed at any step leaves no secret, in files being written neither."""

    def work(self, place: Place, fault: Fault) -> None:
        """Take a mail with secrets through all that a store does."""
        queue, _ = place.make_queue()
        cipher = QueueCipher(method="AES128", keys=(bytes(16),), whole=True, make_nonce=os.urandom)
        store = SealedQueueStore(queue.store, cipher)
        dead = SealedDeadLetters(queue.dead, cipher)
        content = document(_TEXTS[0], body=_TEXTS[1], smtpPassword=_PASSWORD)
        first, second = name_at(NOW), name_at(NOW, 1)
        fault.install()
        self.successResultOf(store.start())
        self.successResultOf(store.acquire())
        self.successResultOf(store.recover())
        self.successResultOf(store.put(first, content, tried_state()))
        self.successResultOf(store.replace(first, second, content))
        for settlement in (
            Settlement(at=NOW, state=tried_state(NOW), document={**content, "timeout": 5}),
            Settlement(at=NOW, state=tried_state(NOW), document=content, dead="refused"),
        ):
            (claimed,) = self.successResultOf(store.claim(NOW + 1, 1))
            self.successResultOf(store.mark(claimed.name, tried_state()))
            self.successResultOf(store.settle(claimed.name, settlement))
        self.successResultOf(dead.retry_failed(second, content))
        self.successResultOf(store.put(first, content, FRESH))
        self.successResultOf(store.stop())

    def test_killed_at_each_step(self) -> None:
        unfinished = 0
        for number in range(1, 10**6):
            place = make_place(self)
            fault = Fault(number)
            status = in_child(lambda: self.work(place, fault))  # noqa: B023 - used at once
            self.assertEqual(places_of(place.root, (_PASSWORD, *_TEXTS)), [], number)
            unfinished += any(path.is_file() for path in place.ours.glob("tmp/*/*"))
            if status == 0:
                break
            self.assertEqual(status, -signal.SIGKILL)
        self.assertGreater(unfinished, 10)
