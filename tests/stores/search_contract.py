# SPDX-License-Identifier: MIT
"""How every queue store finds a mail wherever it is, by its id or its name."""

from __future__ import annotations

from typing import Any

import attrs
from zope.interface.verify import verifyObject

from smtpmailer.core.lookup import Wanted, read_wanted
from smtpmailer.core.names import name_of_file, unique_of
from smtpmailer.core.queued import FoundMail, MailPlace
from smtpmailer.core.queuestate import MailState
from smtpmailer.errors import NoSuchMailError
from smtpmailer.interfaces import IMailSearch
from tests.stores.contract import Contract
from tests.stores.queues import NOW, document, tried_state


class SearchContract(Contract):
    """Mix in beside the rest of the contract, and set ``search`` in ``setUp``, too."""

    search: IMailSearch

    def find(self: Any, text: str) -> FoundMail:
        wanted = read_wanted(text)
        assert wanted is not None, text
        found: FoundMail = self.successResultOf(self.search.find(wanted))
        return found

    def check_found(self: Any, name: str, place: MailPlace, state: MailState, why: Any) -> None:
        """Look for a mail in every way."""
        for text in (name, unique_of(name), name_of_file(name), f"<{unique_of(name)}@x.example>"):
            found = self.find(text)
            told = (found.place, found.mail.name, found.mail.document, found.mail.state)
            self.assertEqual(told, (place, name, document("1", smtpPassword="abc"), state), text)
            self.assertEqual(found.record.get("why"), why)

    def test_a_mail_is_found_wherever_it_is(self: Any) -> None:
        verifyObject(IMailSearch, self.search)
        talk = ("C: MAIL FROM:<a@b.example>", "S: 450 später")
        first = tried_state().attempts[0]
        state = MailState(attempts=(attrs.evolve(first, dialogue=talk),), attempt_count=1)
        self.put(number=2)
        name = self.name_at(NOW - 1, 1)
        self.successResultOf(self.queue.put(name, document("1", smtpPassword="abc"), state))
        self.check_found(name, MailPlace.WAITING, state, None)
        self.run_queue()
        self.claim(limit=1)
        self.check_found(name, MailPlace.SENDING, state, None)
        marked = attrs.evolve(state, in_doubt=("a@example.test",), in_doubt_since=NOW)
        self.successResultOf(self.queue.mark(name, marked))
        self.check_found(name, MailPlace.SENDING, marked, None)
        self.settle(name, marked, dead="given up")
        self.check_found(name, MailPlace.DEAD, marked, "given up")
        mail = document("1", smtpPassword="abc")
        self.successResultOf(self.dead.retry_failed(name, mail))
        (claimed,) = self.claim(limit=1)
        self.assertEqual(claimed.state.attempts, state.attempts)
        self.settle(name, state, corrupt="no mail")
        self.check_found(name, MailPlace.QUARANTINE, state, "no mail")

    def test_one_that_is_gone_or_never_was_is_nowhere(self: Any) -> None:
        name = self.put(number=1)
        self.successResultOf(self.queue.remove(name))
        for text in (name, unique_of(name), "1", "0" * 15, name.replace("1.json", "2.json")):
            wanted = read_wanted(text)
            assert wanted is not None
            self.failureResultOf(self.search.find(wanted), NoSuchMailError)

    def test_an_id_is_found_only_whole(self: Any) -> None:
        self.put(number=0x11)
        for text in ("11", "1", "011"):
            self.failureResultOf(self.search.find(Wanted(text)), NoSuchMailError)

    def test_one_that_can_not_be_read_is_found_with_its_fault(self: Any) -> None:
        name = self.put(number=1)
        self.spoil(name)
        found = self.find(name)
        self.assertEqual((found.place, found.mail.document), (MailPlace.WAITING, ""))
        self.assertNotEqual(found.mail.fault, "")
