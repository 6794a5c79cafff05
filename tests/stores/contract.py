# SPDX-License-Identifier: MIT
"""What every queue store does, whatever it keeps the mails in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zope.interface.verify import verifyObject

from smtpmailer.core.model import Outcome
from smtpmailer.core.queued import Settlement, StoredMail
from smtpmailer.core.queuestate import FRESH, MailState, updated
from smtpmailer.errors import NoSuchMailError, StoreError
from smtpmailer.interfaces import IDeadLetters, IQueue, IQueueRun, IQueueStore
from tests.stores.queues import NOW, document, outcome, tried_state


class Contract:
    """Mix into a SynchronousTestCase that sets ``queue`` and ``dead`` in ``setUp``."""

    queue: IQueue
    dead: IDeadLetters
    #: The form of a name.
    named = "mail_{}.json"

    def spoil(self, name: str) -> None:
        """Make the content of a waiting mail unreadable."""
        raise NotImplementedError

    def name_at(self: Any, due: float, number: int = 0) -> str:
        """Make a name."""
        name: str = self.queue.make_name(due, f"{number:016x}")
        return name

    def run_queue(self: Any) -> None:
        """Become the process that delivers."""
        self.assertTrue(self.successResultOf(self.queue.acquire()))
        self.successResultOf(self.queue.recover())

    def put(self: Any, due: float = NOW, number: int = 0, state: MailState = FRESH) -> str:
        """Put a mail whose subject is its number."""
        name: str = self.name_at(due, number)
        self.successResultOf(self.queue.put(name, document(str(number)), state))
        return name

    def waiting(self: Any) -> list[str]:
        return list(self.successResultOf(self.queue.page(500, 0)).names)

    def claim(self: Any, now: float = NOW, limit: int = 100) -> list[StoredMail]:
        return list(self.successResultOf(self.queue.claim(now, limit)))

    def settle(self: Any, name: str, state: MailState = FRESH, **what: Any) -> None:
        settlement = Settlement(at=NOW, state=state, **what)
        self.successResultOf(self.queue.settle(name, settlement))


class StoreContract(Contract):
    """The API's side of a store."""

    def test_it_provides_its_interfaces(self: Any) -> None:
        verifyObject(IQueueStore, self.queue)
        verifyObject(IQueueRun, self.queue)
        verifyObject(IQueue, self.queue)
        verifyObject(IDeadLetters, self.dead)

    def test_it_makes_names_that_it_takes(self: Any) -> None:
        name = self.queue.make_name(1657084500.5, "9e51fa6fad25da44")
        self.assertEqual(name, self.named.format("0000000001657084500.50000000_9e51fa6fad25da44"))
        self.assertTrue(self.queue.is_name(name))
        parts = (name.rpartition("_")[0], name.replace("_9e", "_9E"), f"mail_{name}.json")
        for text in ("", "x", f"../{name}", f"{name}\n", *parts):
            self.assertFalse(self.queue.is_name(text), text)

    def test_what_was_put_is_read_back(self: Any) -> None:
        mail = document("Grüße", smtpPassword="abc", scheduleTime=1_999_999_999)
        state = tried_state(next_at=NOW + 60)
        name = self.name_at(NOW)
        self.successResultOf(self.queue.put(name, mail, state))
        stored = self.successResultOf(self.queue.get(name))
        self.assertEqual(stored, StoredMail(name=name, document=mail, state=state))

    def test_a_put_calls_the_watchers(self: Any) -> None:
        calls: list[list[str]] = []
        self.queue.watch(lambda: calls.append(self.waiting()))
        name = self.put()
        self.assertEqual(calls, [[name]])

    def test_a_name_is_put_once(self: Any) -> None:
        name = self.put()
        self.failureResultOf(self.queue.put(name, document("other"), FRESH), StoreError)
        self.assertEqual(self.successResultOf(self.queue.get(name)).document["subject"], "0")

    def test_pages_are_in_ascending_order(self: Any) -> None:
        names = [self.put(NOW + due, number) for number, due in enumerate((5, 1, 9, 1, 7))]
        page = self.successResultOf(self.queue.page(2, 1))
        self.assertEqual((list(page.names), page.total), (sorted(names)[2:4], 5))
        self.assertEqual(self.successResultOf(self.queue.page(2, 3)).names, ())

    def test_an_unknown_name_is_no_mail(self: Any) -> None:
        for name in (self.name_at(NOW), "nonsense", "../../etc/passwd"):
            self.failureResultOf(self.queue.get(name), NoSuchMailError)
            self.failureResultOf(self.queue.remove(name), NoSuchMailError)
            new = self.name_at(NOW, 1)
            self.failureResultOf(self.queue.replace(name, new, document()), NoSuchMailError)
        self.assertEqual(self.waiting(), [])

    def test_remove_takes_one(self: Any) -> None:
        first, second = self.put(number=1), self.put(number=2)
        self.successResultOf(self.queue.remove(first))
        self.assertEqual(self.waiting(), [second])
        self.failureResultOf(self.queue.remove(first), NoSuchMailError)

    def test_clear_takes_all_and_counts(self: Any) -> None:
        for number in range(3):
            self.put(number=number, state=tried_state() if number else FRESH)
        self.assertEqual(self.successResultOf(self.queue.clear()), 3)
        self.assertEqual(self.waiting(), [])
        self.assertEqual(self.successResultOf(self.queue.clear()), 0)

    def test_replace_gives_new_content_and_name(self: Any) -> None:
        old, new = self.put(), self.name_at(NOW + 9, 1)
        self.successResultOf(self.queue.replace(old, new, document("new")))
        self.assertEqual(self.waiting(), [new])
        self.assertEqual(self.successResultOf(self.queue.get(new)).document["subject"], "new")
        self.failureResultOf(self.queue.get(old), NoSuchMailError)

    def test_replace_keeps_history_but_no_due_time_and_no_hold(self: Any) -> None:
        state = tried_state(next_at=NOW + 3600, held="in doubt")
        old, new = self.put(state=state), self.name_at(NOW + 9, 1)
        self.successResultOf(self.queue.replace(old, new, document()))
        self.assertEqual(self.successResultOf(self.queue.get(new)).state, updated(state))
        self.run_queue()
        self.assertEqual(self.queue.next_due(), NOW + 9)
        self.assertEqual([mail.state for mail in self.claim(NOW + 9)], [updated(state)])

    def test_replace_keeps_what_the_run_has_recorded(self: Any) -> None:
        old, new = self.put(), self.name_at(NOW, 1)
        self.run_queue()
        self.claim()
        self.settle(old, tried_state(next_at=NOW + 60))
        self.successResultOf(self.queue.replace(old, new, document()))
        self.assertEqual([mail.state for mail in self.claim()], [tried_state()])

    def test_replace_does_not_take_another_mail_s_name(self: Any) -> None:
        one, two = self.put(number=1), self.put(number=2)
        self.failureResultOf(self.queue.replace(one, two, document("new")), StoreError)
        self.assertEqual(self.waiting(), [one, two])
        self.assertEqual(self.successResultOf(self.queue.get(two)).document["subject"], "2")

    def test_an_unreadable_mail_is_a_value_with_a_fault(self: Any) -> None:
        name = self.put()
        self.spoil(name)
        stored = self.successResultOf(self.queue.get(name))
        self.assertEqual(stored.document, "")
        self.assertNotEqual(stored.fault, "")
        self.run_queue()
        (claimed,) = self.claim(NOW + 10**9)
        self.assertEqual((claimed.name, claimed.document), (name, ""))
        self.settle(name, corrupt=claimed.fault)
        self.assertEqual(self.waiting(), [])
        self.assertEqual(self.successResultOf(self.dead.page_failed(9, 0)).total, 0)


class RunContract(Contract):
    """The side of a store that delivers."""

    def test_nothing_is_claimed_before_acquire_and_recover(self: Any) -> None:
        name = self.put()
        self.failureResultOf(self.queue.recover(), StoreError)
        self.failureResultOf(self.queue.claim(NOW, 1), StoreError)
        self.assertEqual(self.waiting(), [name])
        self.run_queue()
        self.assertEqual(len(self.claim()), 1)

    def test_acquire_again_is_fine_and_says_who(self: Any) -> None:
        self.assertEqual(self.successResultOf(self.queue.runner()), "")
        self.run_queue()
        self.assertTrue(self.successResultOf(self.queue.acquire()))
        self.assertIn("process", self.successResultOf(self.queue.runner()))
        self.successResultOf(self.queue.release())
        self.assertEqual(self.successResultOf(self.queue.runner()), "")

    def test_the_longest_due_come_first_and_others_not_at_all(self: Any) -> None:
        self.run_queue()
        late, soon, first = self.put(NOW - 1, 1), self.put(NOW + 1, 2), self.put(NOW - 9, 3)
        self.assertEqual([mail.name for mail in self.claim(limit=1)], [first])
        self.assertEqual([mail.name for mail in self.claim()], [late])
        self.assertEqual(self.claim(), [])
        self.assertEqual(self.waiting(), [soon])
        self.assertEqual(self.queue.next_due(), NOW + 1)

    def test_a_state_says_when_a_mail_is_due(self: Any) -> None:
        self.put(state=tried_state(next_at=NOW + 60))
        self.run_queue()
        self.assertEqual(self.claim(NOW + 59.9), [])
        self.assertEqual(self.queue.next_due(), NOW + 60)
        self.assertEqual(len(self.claim(NOW + 60)), 1)
        self.assertIsNone(self.queue.next_due())

    def test_a_held_mail_is_listed_but_never_due(self: Any) -> None:
        name = self.put(state=MailState(held="in doubt"))
        self.run_queue()
        self.assertEqual(self.claim(NOW + 10**10), [])
        self.assertIsNone(self.queue.next_due())
        self.assertEqual(self.waiting(), [name])

    def test_a_claimed_mail_is_out_of_reach(self: Any) -> None:
        name = self.put()
        self.run_queue()
        (mail,) = self.claim()
        self.assertEqual((mail.name, mail.document["subject"]), (name, "0"))
        self.assertEqual(self.waiting(), [])
        self.assertEqual(self.claim(), [])
        self.failureResultOf(self.queue.get(name), NoSuchMailError)
        self.failureResultOf(self.queue.remove(name), NoSuchMailError)
        new = self.name_at(NOW, 1)
        self.failureResultOf(self.queue.replace(name, new, document()), NoSuchMailError)
        self.assertEqual(self.successResultOf(self.queue.clear()), 0)
        self.settle(name, tried_state())
        self.assertEqual(self.waiting(), [name])

    def test_only_claimed_mails_are_marked_and_settled(self: Any) -> None:
        name = self.put()
        self.run_queue()
        settlement = Settlement(at=NOW, state=FRESH, done=True)
        self.failureResultOf(self.queue.mark(name, FRESH), NoSuchMailError)
        self.failureResultOf(self.queue.settle(name, settlement), NoSuchMailError)
        self.assertEqual(self.waiting(), [name])
        self.claim()
        self.settle(name, done=True)
        self.failureResultOf(self.queue.settle(name, settlement), NoSuchMailError)

    def test_done_is_gone(self: Any) -> None:
        name = self.put(state=tried_state())
        self.run_queue()
        self.claim()
        self.settle(name, done=True)
        self.assertEqual(self.waiting(), [])
        self.run_again()
        self.assertEqual(self.claim(), [])

    def test_retry_waits_with_its_state_and_new_content(self: Any) -> None:
        name = self.put()
        self.run_queue()
        self.claim()
        calls: list[None] = []
        self.queue.watch(lambda: calls.append(None))
        state = tried_state(next_at=NOW + 60, in_doubt=("b@example.test",), in_doubt_since=NOW)
        self.settle(name, state, document=document("0", failToDelivered=1))
        self.assertEqual(len(calls), 1)
        self.assertEqual(self.waiting(), [name])
        stored = self.successResultOf(self.queue.get(name))
        self.assertEqual(stored.state, state)
        self.assertEqual(stored.document["failToDelivered"], 1)
        self.assertEqual(self.claim(NOW + 59), [])
        self.assertEqual(self.claim(NOW + 60), [stored])

    def test_claims_that_were_not_settled_are_recovered_with_their_mark(self: Any) -> None:
        marked, plain = self.put(number=1), self.put(number=2)
        self.run_queue()
        self.claim()
        state = tried_state(in_doubt=("b@example.test",), in_doubt_since=NOW)
        self.successResultOf(self.queue.mark(marked, state))
        recovered = self.run_again()
        found = {mail.name: mail.state for mail in recovered.claims}
        self.assertEqual(found, {marked: state, plain: FRESH})
        self.assertEqual(self.waiting(), [])
        self.settle(marked, state)
        self.settle(plain, done=True)
        self.assertEqual(self.waiting(), [marked])

    def test_a_mark_may_be_on_its_way_when_its_mail_is_settled(self: Any) -> None:
        """A server may refuse a mail before its mark is durable."""
        name = self.put()
        self.run_queue()
        self.claim()
        doubt = tried_state(in_doubt=("b@example.test",), in_doubt_since=NOW)
        # It may come too late, and is none then.
        marking = self.queue.mark(name, doubt).addErrback(lambda f: f.trap(NoSuchMailError))
        settlement = Settlement(at=NOW, state=tried_state(next_at=NOW + 60))
        settling = self.queue.settle(name, settlement)
        self.successResultOf(settling)
        self.successResultOf(marking)
        self.assertEqual(self.run_again().claims, ())
        self.assertEqual(self.successResultOf(self.queue.get(name)).state, settlement.state)

    def run_again(self: Any) -> Any:
        """Run the queue anew, as after a crash or a stop."""
        self.successResultOf(self.queue.release())
        self.assertTrue(self.successResultOf(self.queue.acquire()))
        return self.successResultOf(self.queue.recover())

    def test_states_outlast_the_run(self: Any) -> None:
        name = self.put()
        self.run_queue()
        self.claim()
        self.settle(name, tried_state(next_at=NOW + 60))
        self.assertEqual(self.run_again().claims, ())
        self.assertEqual(self.claim(NOW + 59), [])
        self.assertEqual(self.claim(NOW + 60)[0].state, tried_state(next_at=NOW + 60))

    def test_looking_around_changes_nothing_by_itself(self: Any) -> None:
        name = self.put()
        self.successResultOf(self.queue.look_around(NOW))
        self.run_queue()
        self.successResultOf(self.queue.look_around(NOW + 60))
        self.assertEqual(self.waiting(), [name])

    def test_after_release_nothing_is_settled(self: Any) -> None:
        name = self.put()
        self.run_queue()
        self.claim()
        self.successResultOf(self.queue.release())
        settlement = Settlement(at=NOW, state=FRESH, done=True)
        self.failureResultOf(self.queue.settle(name, settlement), NoSuchMailError, StoreError)
        self.failureResultOf(self.queue.claim(NOW, 1), StoreError)

    def test_names_of_any_time_are_due_in_their_order(self: Any) -> None:
        """The clock may have been wrong when they were made."""
        self.run_queue()
        names = [self.put(due, number) for number, due in enumerate((0.0, NOW, 253_402_300_799.0))]
        self.assertEqual([mail.name for mail in self.claim()], names[:2])
        self.assertEqual([mail.name for mail in self.claim(253_402_300_799.0)], names[2:])


class DeadLetterContract(Contract):
    """Dead letters."""

    def bury(self: Any, number: int = 0, mail: Mapping[str, Any] | None = None) -> str:
        """Let a mail fail for good."""
        name: str = self.put(number=number)
        self.run_queue()
        self.claim()
        refused = outcome("c@example.test", Outcome.PERMANENT)
        state = tried_state()
        state = MailState(settled=(*state.settled, refused), attempts=state.attempts)
        self.settle(name, state, dead="given up", document=mail)
        return name

    def test_a_dead_letter_keeps_content_reason_and_history(self: Any) -> None:
        mail = document("dead", failToDelivered=3, smtpPassword="abc")
        name = self.bury(mail=mail)
        self.assertEqual(self.waiting(), [])
        buried = self.successResultOf(self.dead.get_failed(name))
        self.assertEqual(buried.mail.document, mail)
        self.assertEqual((buried.record["why"], buried.record["at"]), ("given up", NOW))
        self.assertEqual(buried.mail.name, name)

    def test_pages_of_dead_letters_are_in_ascending_order(self: Any) -> None:
        names = [self.bury(number) for number in (3, 1, 2)]
        page = self.successResultOf(self.dead.page_failed(2, 0))
        self.assertEqual((list(page.names), page.total), (sorted(names)[:2], 3))
        self.assertEqual(
            list(self.successResultOf(self.dead.page_failed(2, 1)).names), sorted(names)[2:]
        )

    def test_retry_brings_a_dead_letter_back_to_those_who_lack_it(self: Any) -> None:
        name = self.bury()
        calls: list[None] = []
        self.queue.watch(lambda: calls.append(None))
        mail = document("again", smtpPassword="abc")
        self.successResultOf(self.dead.retry_failed(name, mail))
        self.assertEqual(self.waiting(), [name])
        self.assertEqual(len(calls), 1)
        self.assertEqual(self.successResultOf(self.dead.page_failed(9, 0)).total, 0)
        (claimed,) = self.claim()
        self.assertEqual(claimed.document, mail)
        self.assertEqual(claimed.state.settled_addresses(), {"a@example.test"})
        self.assertEqual((claimed.state.attempt_count, len(claimed.state.attempts)), (0, 1))
        self.settle(name, done=True)

    def test_a_mail_may_die_and_be_revived_again(self: Any) -> None:
        name = self.bury()
        for _ in range(3):
            self.successResultOf(self.dead.retry_failed(name, document()))
            (claimed,) = self.claim()
            self.assertEqual(claimed.state.settled_addresses(), {"a@example.test"})
            state = MailState(settled=(outcome("c@example.test", Outcome.PERMANENT),))
            state = MailState(settled=(*claimed.state.settled, *state.settled))
            self.settle(name, state, dead="again")

    def test_remove_and_clear_dead_letters(self: Any) -> None:
        first, _, _ = (self.bury(number) for number in range(3))
        self.successResultOf(self.dead.remove_failed(first))
        self.failureResultOf(self.dead.remove_failed(first), NoSuchMailError)
        self.assertEqual(self.successResultOf(self.dead.clear_failed()), 2)
        self.assertEqual(self.successResultOf(self.dead.clear_failed()), 0)

    def test_an_unknown_dead_letter_is_none(self: Any) -> None:
        waiting = self.put()
        for name in (waiting, "nonsense", "../../etc/passwd"):
            self.failureResultOf(self.dead.get_failed(name), NoSuchMailError)
            self.failureResultOf(self.dead.remove_failed(name), NoSuchMailError)
            self.failureResultOf(self.dead.retry_failed(name, document()), NoSuchMailError)
        self.assertEqual(self.waiting(), [waiting])


class QueueContract(StoreContract, RunContract, DeadLetterContract):
    """All of it."""
