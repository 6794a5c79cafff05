# SPDX-License-Identifier: MIT
"""The examples of docs/reference/api.md are true: one session, each answer compared.

In the document an example is a block marked ``json request`` and the block marked ``json answer``
that follows it. A comment of ``_EVENTS`` between them says what else happened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smtpmailer.core.mime import Stamp
from smtpmailer.core.model import DeliveryResult, Outcome, RecipientOutcome
from smtpmailer.dispatcher import REQUESTS
from tests.services.dispatching import ask, make_dispatcher
from tests.services.queueing import QueueCase

_DOCUMENT = Path(__file__).parent.parent / "docs" / "reference" / "api.md"

_PIECE = re.compile(
    r"<!-- (?P<event>[^>]+) -->|^```json (?P<kind>request|answer)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)

_IDS = (
    "0f3a8b6d12c4e795",
    "9e51fa6fad25da44",
    "2c90e6b84f17d3a5",
    "5b1d7c2e9a3f8460",
    "3af0c5d96e12b784",
    "b6d2e91f7c3a5408",
    "8d4e1f6a0b3c7295",
    "e7a95f02c4d81b36",
    "1c7f3e9d5a2b8064",
    "6e0b9d4c8f3a1752",
    "94d2a7f15c0e6b83",
)


class ExampleTests(QueueCase):
    """What the document says is what the service does."""

    def setUp(self) -> None:
        super().setUp()
        self.ids = iter(_IDS)
        self.dispatcher = make_dispatcher(self)
        self.put_aside: dict[str, Any] | None = None
        self.events: dict[str, Callable[[], None]] = {
            "the server refuses for now": self.refuse_for_now,
            "all mails are removed for the next example, and come back after it": self.put_away,
            "two seconds later": lambda: self.clock.advance(2),
            "two mails were refused for good": self.bury_two,
        }

    def stamp(self) -> Stamp:
        """Give ids as they are in the wild."""
        return Stamp(unique=next(self.ids), epoch_seconds=self.now())

    def test_every_example_is_true(self) -> None:
        count = 0
        answer: dict[str, Any] | None = None
        for piece in _PIECE.finditer(_DOCUMENT.read_text("utf-8")):
            if piece["event"]:
                self.events.pop(piece["event"])()
            elif piece["kind"] == "request":
                self.assertIsNone(answer, "a request without an answer")
                answer = ask(self, self.dispatcher, json.loads(piece["text"]))
                self.come_back()
            else:
                expected = json.loads(piece["text"])
                self.assertEqual(answer, expected)
                self.assertEqual(json.dumps(answer), json.dumps(expected), "order of keys")
                answer = None
                count += 1
        self.assertGreaterEqual(count, len(REQUESTS))
        self.assertEqual((self.events, answer), ({}, None))

    def test_every_request_has_a_section_and_an_example(self) -> None:
        text = _DOCUMENT.read_text("utf-8")
        for name in REQUESTS:
            self.assertIn(f"\n## {name}\n", text)
            self.assertIn(f"(#{name.lower()})", text)
            self.assertIn(f'```json request\n{{"{name}": ', text)

    def refuse_for_now(self) -> None:
        self.server.script = [
            _refusal("ada@example.com", Outcome.TEMPORARY, 451, "4.7.1 try again later")
        ]

    def put_away(self) -> None:
        self.put_aside = {name: self.successResultOf(self.store.get(name)) for name in self.names()}
        self.successResultOf(self.store.clear())

    def come_back(self) -> None:
        """Put back what was put aside."""
        for name, each in (self.put_aside or {}).items():
            self.successResultOf(self.store.put(name, each.document, each.state))
        self.put_aside = None

    def bury_two(self) -> None:
        self.own()
        self.server.always = _refusal(
            "eve@example.com", Outcome.PERMANENT, 550, "5.1.1 no such user"
        )
        carrier = self.postman()
        for _ in range(2):
            self.put(to=["eve@example.com"], subject="Offer", body="Buy", failToDelivered=0)
        for claimed in self.successResultOf(self.store.claim(self.now(), 10)):
            settlement = self.successResultOf(carrier.decide(claimed))
            self.successResultOf(self.store.settle(claimed.name, settlement))


def _refusal(recipient: str, outcome: Outcome, code: int, reply: str) -> DeliveryResult:
    each = RecipientOutcome(
        recipient=recipient,
        outcome=outcome,
        code=code,
        enhanced=reply.partition(" ")[0],
        reply=reply,
    )
    reason = f"SMTP Error: The following recipients failed: {recipient}: {code} {reply}"
    return DeliveryResult(
        outcomes=(each,),
        reason=reason,
        server="smtp.example.com:587",
        seconds=0.213,
        dialogue=(
            "C: MAIL FROM:<app@example.com> SIZE=412",
            "S: 250 2.1.0 ok",
            f"C: RCPT TO:<{recipient}>",
            f"S: {code} {reply}",
        ),
    )
