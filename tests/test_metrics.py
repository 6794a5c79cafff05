# SPDX-License-Identifier: MIT
"""What is counted: each answer and each delivery once, under a label that clients can't invent."""

# ruff: noqa: ARG002 -- stand-ins have the arguments of what they stand for

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from smtpmailer.core.documents import Document, broken
from smtpmailer.core.model import (
    DeliveryResult,
    Encryption,
    Envelope,
    Outcome,
    OutgoingMail,
    RecipientOutcome,
    Route,
)
from smtpmailer.core.replies import Reply, error, success
from smtpmailer.core.standing import Standing
from smtpmailer.core.wire import Wire
from smtpmailer.errors import ClientError, FramingError
from smtpmailer.interfaces import IDispatcher, ISender
from smtpmailer.metrics import Figure, Metrics


@implementer(IDispatcher)
class Answers:
    """A dispatcher whose answers come when a test says so."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[Reply]] = []
        self.left: list[Standing] = []

    def handle(
        self, document: Document, peer: str, standing: Standing | None = None
    ) -> Deferred[Reply]:
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def prompt(self, request: Mapping[str, Any], peer: str, standing: Standing) -> bytes | None:
        return b"pong" if request == {"ping": None} else None

    def reject(self, fault: ClientError, peer: str) -> Reply:
        return error(str(fault), "invalid payload")

    def leave(self, standing: Standing) -> None:
        self.left.append(standing)

    def may_overlap(self, document: Document) -> bool:
        return bool(document.value == {"ping": None})


@implementer(ISender)
class Deliveries:
    """A sender whose results come when a test says so."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[DeliveryResult]] = []

    def send(self, mail: OutgoingMail, route: Route) -> Deferred[DeliveryResult]:
        self.waiting.append(Deferred())
        return self.waiting[-1]


MAIL = OutgoingMail(
    mail_id="1",
    envelope=Envelope(sender="a@x.org", recipients=("b@x.org",)),
    wire=lambda _: Wire(b"", 0),
)
ROUTE = Route(host="x", port=25, encryption=Encryption.NONE, ehlo_name="y")


def result(*outcomes: Outcome) -> DeliveryResult:
    """Make a result with a recipient for each outcome."""
    named = tuple(
        RecipientOutcome(recipient=f"{i}@x.org", outcome=o) for i, o in enumerate(outcomes)
    )
    return DeliveryResult(outcomes=named, seconds=0.3)


class MetricsTests(SynchronousTestCase):
    """The figures after things have happened."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics(self.clock)
        self.answers, self.deliveries = Answers(), Deliveries()
        self.dispatcher = self.metrics.dispatcher(self.answers)
        self.sender = self.metrics.sender(self.deliveries)

    def figure(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def answer(self, value: object, reply: Reply) -> Reply:
        answered = self.dispatcher.handle(Document(value, None, 0), "192.0.2.1")
        self.answers.waiting[-1].callback(reply)
        return self.successResultOf(answered)

    def test_they_provide_what_they_stand_for(self) -> None:
        verifyObject(IDispatcher, self.dispatcher)
        verifyObject(ISender, self.sender)

    def test_answers_count_by_name_and_outcome(self) -> None:
        reply = success(message="pong")
        self.assertIs(self.answer({"ping": None}, reply), reply)
        self.answer({"auth": "x", "ping": None}, reply)
        self.answer({"ping": None}, error(None, "unauthorized request"))
        self.answer({"sendMail": {}}, error(None, "invalid payload"))
        count = "smtpmailer_requests_total"
        self.assertEqual(self.figure(count, request="ping", outcome="success"), 2)
        self.assertEqual(self.figure(count, request="ping", outcome="unauthorized"), 1)
        self.assertEqual(self.figure(count, request="sendMail", outcome="error"), 1)

    def test_names_of_clients_own_make_are_one(self) -> None:
        values: tuple[object, ...] = ({"evil\n": 1}, {"auth": "ping"}, {}, [], "ping", None)
        for value in values:
            self.answer(value, error(None, "invalid request"))
        self.dispatcher.reject(FramingError("no"), "192.0.2.1")
        faulty = self.dispatcher.handle(broken(FramingError("no")), "192.0.2.1")
        self.answers.waiting[-1].callback(error(None, "invalid payload"))
        self.successResultOf(faulty)
        count = self.figure("smtpmailer_requests_total", request="other", outcome="error")
        self.assertEqual(count, 8)

    def test_an_answer_s_time_counts_from_its_request(self) -> None:
        answered = self.dispatcher.handle(Document({"ping": None}, None, 0), "192.0.2.1")
        self.clock.advance(0.05)
        self.answers.waiting[-1].callback(success())
        self.successResultOf(answered)
        name = "smtpmailer_request_seconds_bucket"
        self.assertEqual(self.figure(name, request="ping", le="0.02"), 0)
        self.assertEqual(self.figure(name, request="ping", le="0.1"), 1)

    def test_prompt_answers_count_too_but_not_those_that_there_are_not(self) -> None:
        self.assertEqual(self.dispatcher.prompt({"ping": None}, "192.0.2.1", Standing()), b"pong")
        self.assertIsNone(self.dispatcher.prompt({"ping": 1}, "192.0.2.1", Standing()))
        count = self.figure("smtpmailer_requests_total", request="ping", outcome="success")
        self.assertEqual(count, 1)
        seconds = self.figure("smtpmailer_request_seconds_count", request="ping")
        self.assertEqual(seconds, 1)

    def test_what_is_no_answer_is_handed_on(self) -> None:
        standing = Standing()
        self.dispatcher.leave(standing)
        self.assertIs(self.answers.left[0], standing)
        self.assertTrue(self.dispatcher.may_overlap(Document({"ping": None}, None, 0)))
        self.assertFalse(self.dispatcher.may_overlap(Document({"other": None}, None, 0)))

    def test_deliveries_count_by_mail_and_by_recipient(self) -> None:
        for outcomes in (
            (Outcome.DELIVERED, Outcome.DELIVERED),
            (Outcome.DELIVERED, Outcome.PERMANENT),
            (Outcome.TEMPORARY,),
            (Outcome.UNCERTAIN,),
        ):
            sent = self.sender.send(MAIL, ROUTE)
            self.assertEqual(self.figure("smtpmailer_deliveries_in_flight"), 1)
            given = result(*outcomes)
            self.deliveries.waiting[-1].callback(given)
            self.assertIs(self.successResultOf(sent), given)
        self.assertEqual(self.figure("smtpmailer_deliveries_in_flight"), 0)
        self.assertEqual(self.figure("smtpmailer_mails_total", outcome="sent"), 1)
        self.assertEqual(self.figure("smtpmailer_mails_total", outcome="failed"), 3)
        for outcome, count in (("delivered", 3), ("permanent", 1), ("uncertain", 1)):
            self.assertEqual(self.figure("smtpmailer_deliveries_total", outcome=outcome), count)
        self.assertEqual(self.figure("smtpmailer_delivery_seconds_sum"), 1.2)

    def test_a_delivery_that_fails_by_our_fault_is_over_too(self) -> None:
        sent = self.sender.send(MAIL, ROUTE)
        self.deliveries.waiting[-1].errback(RuntimeError())
        self.failureResultOf(sent, RuntimeError)
        self.assertEqual(self.figure("smtpmailer_deliveries_in_flight"), 0)
        self.assertEqual(self.figure("smtpmailer_mails_total", outcome="failed"), 1)

    def test_a_mail_that_was_not_tried_is_no_attempt(self) -> None:
        sent = self.sender.send(MAIL, ROUTE)
        self.deliveries.waiting[-1].callback(attrs.evolve(result(Outcome.TEMPORARY), again_in=1.0))
        self.successResultOf(sent)
        self.assertEqual(self.figure("smtpmailer_deliveries_in_flight"), 0)
        self.assertIsNone(self.figure("smtpmailer_mails_total", outcome="failed"))
        self.assertEqual(self.figure("smtpmailer_delivery_seconds_count"), 0)

    def test_what_only_grows_is_a_counter(self) -> None:
        figure = Figure("some_events", "e", lambda: [("x", 3)], "kind", counts=True)
        text = Metrics.of([figure]).decode()
        self.assertIn("# TYPE some_events_total counter\n", text)
        self.assertIn('\nsome_events_total{kind="x"} 3.0\n', text)

    def test_figures_of_other_parts_are_in_the_same_form(self) -> None:
        figures: dict[str, float] = {"a": 2, "b": 3}
        text = Metrics.of(
            [
                Figure("some_number", "n", lambda: figures["a"]),
                Figure("some_by_state", "s", figures.items, "state"),
                Figure("some_unknown", "u", lambda: None),
            ]
        ).decode()
        self.assertIn("# HELP some_number n\n", text)
        self.assertIn("\nsome_number 2.0\n", text)
        self.assertIn('\nsome_by_state{state="b"} 3.0\n', text)
        self.assertNotIn("some_unknown", text)

    def test_two_have_nothing_in_common(self) -> None:
        self.answer({"ping": None}, success())
        self.assertNotIn(b'request="ping"', Metrics(self.clock).render())

    def test_the_text_is_what_prometheus_reads(self) -> None:
        self.answer({"ping": None}, success())
        text = self.metrics.render().decode()
        self.assertIn('smtpmailer_requests_total{outcome="success",request="ping"} 1.0\n', text)
        self.assertIn("process_resident_memory_bytes", text)
        self.assertIn("# HELP smtpmailer_deliveries_in_flight", text)
