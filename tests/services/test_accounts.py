# SPDX-License-Identifier: MIT
"""Mails go through the accounts that they name or belong to, and fail over where that is safe."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from smtpmailer.core.accounts import Account, Accounts
from smtpmailer.core.grants import EVERYTHING, Grant
from smtpmailer.core.model import NOT_REACHED, Address, DeliveryResult, MailRequest, Outcome
from smtpmailer.core.requests import Arguments, MailLimits, MailParser
from smtpmailer.errors import NotAllowedError, RequestInvalidError
from smtpmailer.interfaces import ITemplateStore
from smtpmailer.schemafiles import load_schema
from smtpmailer.services.courier import Courier
from smtpmailer.services.mail import MailService
from smtpmailer.services.queue import QueueService, QueueTools
from smtpmailer.services.rendering import Templates
from smtpmailer.stores.memory_templates import MemoryTemplateStore
from tests.services.parts import DEFAULTS, STAMP, Counters, Files, WatchedThreads
from tests.services.queueing import NOW, PARSER, UPDATES, Server, mail, outcomes
from tests.services.test_postman import PostmanCase

_USER = "user@example.test"
_AWAY = "SMTP Error: Could not connect to SMTP host."


def _account(name: str, *senders: str, failover: tuple[str, ...] = ()) -> Account:
    route = attrs.evolve(DEFAULTS.route, host=f"{name}.test", account=name)
    return Account(name=name, route=route, senders=frozenset(senders), failover=failover)


_ACCOUNTS = Accounts(
    [_account("shop", "shop.test", failover=("spare",)), _account("spare")], failover=("spare",)
)
_WITH_ACCOUNTS = attrs.evolve(DEFAULTS, accounts=lambda: _ACCOUNTS)
_PARSER = MailParser(
    load_schema("sendMail"), MailLimits(sender=DEFAULTS.from_email), lambda: _ACCOUNTS
)


@implementer(ITemplateStore)
class SlowTemplates(MemoryTemplateStore):
    """Reads as long as the test wants."""

    def __init__(self, *, limit_bytes: int) -> None:
        super().__init__(limit_bytes=limit_bytes)
        self.reading: Deferred[str] = Deferred()

    def get(self, _name: str) -> Deferred[str]:
        return self.reading


class ParserTests(SynchronousTestCase):
    """Which account a client may name."""

    def invalid(self, **fields: Any) -> dict[str, list[str]]:
        error = self.assertRaises(RequestInvalidError, _PARSER.accept, mail(**fields))
        assert isinstance(error, RequestInvalidError)
        return error.errors

    def test_an_account_is_taken_with_the_mail(self) -> None:
        self.assertEqual(_PARSER.accept(mail(account="spare")).account, "spare")
        self.assertEqual(_PARSER.accept(mail(account="default")).account, "default")
        self.assertIsNone(_PARSER.accept(mail()).account)

    def test_an_account_that_is_not_there_is_a_fault_which_names_no_other(self) -> None:
        self.assertEqual(self.invalid(account="sp"), {"account": ["unknown account"]})

    def test_without_accounts_there_is_only_the_default_one(self) -> None:
        self.assertEqual(PARSER.accept(mail(account="default")).account, "default")
        with self.assertRaises(RequestInvalidError):
            PARSER.accept(mail(account="shop"))

    def test_an_account_does_not_go_with_a_server_of_the_mails_own(self) -> None:
        said = {"account": ["goes with no smtp* field: leave out one"]}
        self.assertEqual(self.invalid(account="spare", smtpPort=25), said)

    def test_an_account_has_to_be_a_text(self) -> None:
        self.assertIn("account", self.invalid(account=5))
        self.assertIn("account", self.invalid(account=""))

    def test_what_waits_may_name_an_account_that_is_gone(self) -> None:
        self.assertEqual(_PARSER.parse(mail(account="gone")).account, "gone")
        changed = _PARSER.accept_changed(mail(account="gone"), {"subject": "s"})
        self.assertEqual(changed.account, "gone")
        with self.assertRaises(RequestInvalidError):
            _PARSER.accept_changed(mail(account="gone"), {"account": "gone"})

    def test_a_limited_key_learns_nothing_of_accounts_that_are_not_its_own(self) -> None:
        grant = Grant(senders=frozenset({"shop.test"}))
        own = {"fromEmail": "a@shop.test"}
        self.assertEqual(_PARSER.accept(mail(account="shop", **own), grant).account, "shop")
        for account in ("spare", "default", "gone"):
            with self.assertRaises(NotAllowedError):
                _PARSER.accept(mail(account=account, **own), grant)
            with self.assertRaises(NotAllowedError):
                _PARSER.accept_changed(mail(account=account, **own), {"subject": "s"}, grant)

    def test_a_key_for_some_accounts_is_held_to_them(self) -> None:
        grant = Grant(accounts=frozenset({"shop"}))
        self.assertEqual(_PARSER.accept(mail(account="shop"), grant).account, "shop")
        _PARSER.accept(mail(fromEmail="a@shop.test"), grant)
        for fields in ({}, {"account": "spare"}, {"smtpHost": "own.test"}, {"smtpPort": 25}):
            with self.assertRaises(NotAllowedError):
                _PARSER.accept(mail(**fields), grant)
        with self.assertRaises(NotAllowedError):
            _PARSER.accept(mail(fromEmail="a@shop.test", smtpHost="own.test"), grant)
        default = Grant(accounts=frozenset({"default"}))
        _PARSER.accept(mail(), default)
        _PARSER.accept(mail(smtpHost="own.test"), default)
        _PARSER.accept(mail(smtpHost="own.test"), EVERYTHING)

    def test_a_key_for_some_senders_gets_no_other_account_by_smtp_fields(self) -> None:
        grant = Grant(senders=frozenset({"shop.test", "plain.test"}))
        for fields in ({"smtpPort": 25}, {"smtpEncryption": "tls"}, {"smtpUser": "u"}):
            with self.assertRaises(NotAllowedError):
                _PARSER.accept(mail(fromEmail="a@shop.test", **fields), grant)
            _PARSER.accept(mail(fromEmail="a@plain.test", **fields), grant)
            _PARSER.accept(mail(fromEmail="a@shop.test", smtpHost="own.test", **fields), grant)
            _PARSER.accept(mail(fromEmail="a@shop.test", **fields), EVERYTHING)


class SendTests(SynchronousTestCase):
    """Accounts may change while a mail is on its way."""

    def test_an_account_that_goes_while_a_template_is_read_still_sends_the_mail(self) -> None:
        accounts, sender = [_ACCOUNTS], Server()
        templates = SlowTemplates(limit_bytes=1000)
        courier = Courier(
            attrs.evolve(DEFAULTS, accounts=lambda: accounts[0]),
            attachments=Files(),
            sender=sender,
            threads=WatchedThreads(),
            templates=Templates(store=templates),
        )
        service = MailService(_PARSER, courier, Counters(), lambda: STAMP)
        document = mail(account="spare", useTemplate="t")
        del document["body"]
        sending = service.send_mail(Arguments(value=document))
        accounts[0] = Accounts()
        templates.reading.callback("text")
        self.assertEqual(self.successResultOf(sending).status, "success")
        self.assertEqual([route.host for _, route in sender.sent], ["spare.test"])


class FailOverTests(SynchronousTestCase):
    """The next account gets only what the one before certainly does not have."""

    def setUp(self) -> None:
        self.server = Server()
        self.courier = Courier(
            _WITH_ACCOUNTS, attachments=Files(), sender=self.server, threads=WatchedThreads()
        )

    def deliver(self, *script: Any) -> DeliveryResult:
        self.server.script = list(script)
        to = (Address(email=_USER),)
        request = MailRequest(to=to, subject="s", body="b", from_email="a@shop.test")
        return self.successResultOf(self.courier.deliver(request, STAMP))

    def hosts(self) -> list[str]:
        return [route.host for _, route in self.server.sent]

    def test_what_an_account_takes_goes_to_no_other(self) -> None:
        self.assertTrue(self.deliver().delivered)
        self.assertEqual(self.hosts(), ["shop.test"])

    def test_where_the_first_is_away_the_next_one_is_tried_and_that_is_logged(self) -> None:
        with capturedLogs() as logs:
            self.assertTrue(self.deliver("unreachable").delivered)
        self.assertEqual(self.hosts(), ["shop.test", "spare.test"])
        (line,) = [formatEvent(event) for event in logs]
        self.assertEqual(
            line,
            "mail mail-1 goes on to spare.test:587 (spare), as shop.test:587 (shop) did not take "
            f"it: {_AWAY}",
        )

    def test_what_may_have_been_taken_is_sent_nowhere_else(self) -> None:
        for outcome in (Outcome.UNCERTAIN, Outcome.PERMANENT, Outcome.TEMPORARY):
            self.server.sent.clear()
            result = self.deliver(outcomes(outcome, _USER))
            self.assertIs(result.outcomes[0].outcome, outcome)
            self.assertEqual(self.hosts(), ["shop.test"])

    def test_after_the_last_one_all_reasons_are_told(self) -> None:
        later = attrs.evolve(outcomes(Outcome.TEMPORARY, _USER), untaken=True)
        result = self.deliver("unreachable", later)
        self.assertEqual(self.hosts(), ["shop.test", "spare.test"])
        self.assertEqual(result.reason, f"{NOT_REACHED}; temporary")

    def test_each_gets_the_same_message(self) -> None:
        self.deliver("unreachable")
        (first, _), (second, _) = self.server.sent
        self.assertIs(first.wire, second.wire)
        self.assertEqual((first.mail_id, first.envelope), (second.mail_id, second.envelope))

    def test_the_time_that_one_takes_is_gone_for_the_next(self) -> None:
        self.deliver("unreachable")
        self.assertEqual([mail.spent for mail, _ in self.server.sent], [0, 0.5])


class QueuedTests(PostmanCase):
    """Mails that wait go through accounts, too."""

    def setUp(self) -> None:
        super().setUp()
        self.accounts = _ACCOUNTS
        defaults = attrs.evolve(DEFAULTS, accounts=lambda: self.accounts)
        self.courier = Courier(
            defaults, attachments=self.files, sender=self.server, threads=WatchedThreads()
        )
        self.carrier = self.postman()

    def hosts(self) -> list[str]:
        hosts = [route.host for _, route in self.server.sent]
        self.server.sent.clear()
        return hosts

    def test_the_account_is_kept_with_the_mail(self) -> None:
        self.put(account="spare")
        self.assertTrue(self.deliver().done)
        self.assertEqual(self.hosts(), ["spare.test"])

    def test_a_fail_over_is_one_attempt(self) -> None:
        self.server.script = ["unreachable", "unreachable"]
        self.put(account="shop")
        settlement = self.deliver()
        self.assertEqual(self.hosts(), ["shop.test", "spare.test"])
        self.assertEqual(settlement.state.attempt_count, 1)

    def test_a_server_known_to_be_away_is_passed_over_until_it_is_probed(self) -> None:
        self.server.script = ["unreachable", Outcome.DELIVERED] * 3
        for _ in range(3):
            self.put(account="shop")
            self.assertTrue(self.deliver().done)
        self.assertEqual(self.hosts(), ["shop.test", "spare.test"] * 3)
        self.put(account="shop")
        self.assertTrue(self.deliver().done)
        self.assertEqual(self.hosts(), ["spare.test"])
        self.clock.advance(10)
        self.put(account="shop")
        self.assertTrue(self.deliver().done)
        self.assertEqual(self.hosts(), ["shop.test"])

    def test_where_all_are_away_the_mail_waits_for_the_first(self) -> None:
        self.server.always = "unreachable"
        for _ in range(3):
            self.put(account="shop")
            self.deliver()
        name = self.put(account="shop")
        self.assertEqual(self.deliver().state.next_at, NOW + 10)
        waiting = self.successResultOf(self.store.get(name))
        self.assertEqual(waiting.state.attempt_count, 0)

    def test_a_busy_server_is_waited_for(self) -> None:
        self.carrier = self.postman(concurrency=2)
        self.server.stalling = {"shop.test"}
        for _ in range(3):
            self.put(account="shop")
        for claimed in self.successResultOf(self.store.claim(self.now(), 3)):
            Deferred.fromCoroutine(self.carrier.decide(claimed))
        self.assertEqual(set(self.hosts()), {"shop.test"})
        self.server.release()

    def test_a_mail_whose_account_is_gone_waits_for_it_uncounted(self) -> None:
        self.accounts = Accounts()
        name = self.put(account="shop")
        settlement = self.deliver()
        self.assertEqual(settlement.state.next_at, NOW + 60)
        self.assertEqual((self.hosts(), settlement.state.attempt_count), ([], 0))
        self.assertEqual(self.names(), [name])
        self.accounts = _ACCOUNTS
        self.until_next()
        self.assertTrue(self.deliver().done)

    def test_a_change_puts_an_account_in_place_of_the_mails_own_server_and_back(self) -> None:
        tools = QueueTools(
            parser=_PARSER, update_schema=UPDATES, courier=self.courier, stamp=self.stamp
        )
        queue = QueueService(self.store, tools)
        name = self.put(smtpHost="own.test", smtpPort=25, smtpUser="u", smtpPassword="p")
        self.clock.advance(1)
        changed = self.ask(queue.update, name, {"account": "spare"})[1]
        self.assertEqual(changed, {**mail(), "account": "spare"})
        (name,) = self.names()
        self.clock.advance(1)
        changed = self.ask(queue.update, name, {"smtpHost": "own.test"})[1]
        self.assertEqual(changed, {**mail(), "smtpHost": "own.test"})
