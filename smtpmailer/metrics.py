# SPDX-License-Identifier: MIT
"""What the service counts and measures, in the form that Prometheus reads.

A registry of our own, not the library's global one. Figures that parts keep anyway (connections,
the queue's length) are asked for when somebody looks; requests and deliveries are measured by
wrappers around their interfaces, which are only there when somebody may look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from smtpmailer.core.documents import Document
from smtpmailer.core.model import DeliveryResult, OutgoingMail, Route
from smtpmailer.core.replies import Reply
from smtpmailer.core.standing import Standing
from smtpmailer.dispatcher import REQUESTS
from smtpmailer.errors import ClientError
from smtpmailer.interfaces import IDispatcher, ISender

__all__ = ["Figure", "Metrics"]

#: Upper bounds of the histograms' buckets, in seconds.
_REQUEST_SECONDS: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
_DELIVERY_SECONDS: Final = (0.01, 0.05, 0.2, 1.0, 5.0, 20.0, 60.0, 300.0)
#: The label of requests with no name that we know: what clients send must not make up labels.
_OTHER: Final = "other"
_UNAUTHORIZED: Final = "unauthorized request"


@attrs.frozen
class Figure:
    """A figure that some part keeps: its name, what it means, and how to get it.

    ``read`` gives a number, or pairs of the label ``labelled`` and a number; None leaves it out.
    ``counts``: it only ever grows, and is called ``_total``.
    """

    name: str
    meaning: str
    read: Callable[[], float | Iterable[tuple[str, float]] | None]
    labelled: str = ""
    counts: bool = False


class _Figures(Collector):
    """Figures that are asked for when somebody looks."""

    def __init__(self, figures: Iterable[Figure]) -> None:
        self.figures = list(figures)

    def collect(self) -> Iterable[Metric]:
        """Ask for each."""
        for figure in self.figures:
            value = figure.read()
            if value is None:
                continue
            kind = CounterMetricFamily if figure.counts else GaugeMetricFamily
            family = kind(
                figure.name, figure.meaning, labels=[figure.labelled] if figure.labelled else None
            )
            for label, number in [("", value)] if isinstance(value, int | float) else value:
                family.add_metric([label] if figure.labelled else [], number)
            yield family


class Metrics:
    """The figures of one process."""

    def __init__(self, clock: IReactorTime) -> None:
        """Measure times on this clock."""
        self._clock = clock
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "smtpmailer_requests",
            "Requests answered, by name and outcome (success, error, unauthorized)",
            ("request", "outcome"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "smtpmailer_request_seconds",
            "Seconds from a whole request to its answer, by name",
            ("request",),
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )
        self._deliveries = Counter(
            "smtpmailer_deliveries",
            "Attempts to deliver a mail to a recipient, by outcome "
            "(delivered, temporary, permanent, uncertain)",
            ("outcome",),
            registry=self.registry,
        )
        self._mails = Counter(
            "smtpmailer_mails",
            "Attempts to deliver a mail, by whether every recipient got it (sent, failed)",
            ("outcome",),
            registry=self.registry,
        )
        self._delivery_seconds = Histogram(
            "smtpmailer_delivery_seconds",
            "Seconds that an attempt to deliver a mail took",
            buckets=_DELIVERY_SECONDS,
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "smtpmailer_deliveries_in_flight",
            "Mails that are being delivered",
            registry=self.registry,
        )

    def render(self) -> bytes:
        """Give what was counted as text, UTF-8 (Prometheus's text format, version 0.0.4)."""
        return generate_latest(self.registry)

    @staticmethod
    def of(figures: Iterable[Figure]) -> bytes:
        """Give these figures in the same form."""
        registry = CollectorRegistry()
        registry.register(_Figures(figures))
        return generate_latest(registry)

    def dispatcher(self, dispatcher: IDispatcher) -> IDispatcher:
        """Give a dispatcher that counts what this one answers."""
        return _CountingDispatcher(dispatcher, self)

    def sender(self, sender: ISender) -> ISender:
        """Give a sender that counts what this one delivers."""
        return _CountingSender(sender, self)

    def request_began(self) -> float:
        """Give the time from which an answer's seconds count."""
        return self._clock.seconds()

    def answered(self, name: str, outcome: str, began: float) -> None:
        """Count an answer."""
        self._requests.labels(name, outcome).inc()
        self._request_seconds.labels(name).observe(self._clock.seconds() - began)

    def delivery_began(self) -> None:
        """Count a delivery under way."""
        self._in_flight.inc()

    def delivery_ended(self, result: DeliveryResult | Failure) -> None:
        """Count what became of it; a failure is a fault of ours."""
        self._in_flight.dec()
        if isinstance(result, Failure):
            self._mails.labels("failed").inc()
            return
        if result.again_in is not None:
            return  # It was not tried.
        self._mails.labels("sent" if result.delivered else "failed").inc()
        self._delivery_seconds.observe(result.seconds)
        for recipient in result.outcomes:
            self._deliveries.labels(recipient.outcome.value).inc()


@implementer(IDispatcher)
class _CountingDispatcher:
    """Counts each answer by its request's name."""

    def __init__(self, dispatcher: IDispatcher, metrics: Metrics) -> None:
        self._dispatcher = dispatcher
        self._metrics = metrics

    def handle(
        self, document: Document, peer: str, standing: Standing | None = None
    ) -> Deferred[Reply]:
        """Have it answered, and count that."""
        began = self._metrics.request_began()
        reply = self._dispatcher.handle(document, peer, standing)
        return reply.addCallback(self._answered, _name(document.value), began)

    def prompt(self, request: Mapping[str, Any], peer: str, standing: Standing) -> bytes | None:
        """Count what is answered at once."""
        began = self._metrics.request_began()
        answer = self._dispatcher.prompt(request, peer, standing)
        if answer is not None:
            self._metrics.answered(_name(request), "success", began)
        return answer

    def _answered(self, reply: Reply, name: str, began: float) -> Reply:
        self._metrics.answered(name, _outcome(reply), began)
        return reply

    def reject(self, fault: ClientError, peer: str) -> Reply:
        """Have it answered, and count that."""
        reply = self._dispatcher.reject(fault, peer)
        self._metrics.answered(_OTHER, _outcome(reply), self._metrics.request_began())
        return reply

    def leave(self, standing: Standing) -> None:
        """Hand it on."""
        self._dispatcher.leave(standing)

    def may_overlap(self, document: Document) -> bool:
        """Ask on."""
        return self._dispatcher.may_overlap(document)


def _outcome(reply: Reply) -> str:
    """Say in a word what came of a request."""
    return "unauthorized" if reply.message == _UNAUTHORIZED else reply.status


def _name(value: object) -> str:
    """Give a request's name: its first key besides the password."""
    first = next((key for key in value if key != "auth"), "") if isinstance(value, dict) else ""
    return first if first in REQUESTS else _OTHER


@implementer(ISender)
class _CountingSender:
    """Counts each delivery by its result."""

    def __init__(self, sender: ISender, metrics: Metrics) -> None:
        self._sender = sender
        self._metrics = metrics

    def send(self, mail: OutgoingMail, route: Route) -> Deferred[DeliveryResult]:
        """Have it delivered, and count that."""
        self._metrics.delivery_began()
        return self._sender.send(mail, route).addBoth(self._ended)

    def _ended(self, result: DeliveryResult | Failure) -> DeliveryResult | Failure:
        self._metrics.delivery_ended(result)
        return result
