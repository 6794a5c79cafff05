# SPDX-License-Identifier: MIT
"""The examples of docs/reference/templates.md are true, marked as those of api.md are."""

from __future__ import annotations

import json
import re
from pathlib import Path

from smtpmailer.core.model import Capabilities
from smtpmailer.core.templating import TemplateRules
from smtpmailer.services.courier import Courier
from smtpmailer.services.rendering import Templates
from smtpmailer.stores.memory_templates import MemoryTemplateStore
from tests.services.dispatching import ask, make_dispatcher
from tests.services.parts import DEFAULTS, WatchedThreads
from tests.services.queueing import QueueCase

_DOCUMENT = Path(__file__).parent.parent / "docs/reference/templates.md"

_EXAMPLE = re.compile(
    r"(?:^<!-- (?P<event>[^>]+) -->\n\n)?^```json request\n(?P<request>.*?)^```\n\n"
    r"^```json answer\n(?P<answer>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


class TemplateExampleTests(QueueCase):
    """What the document says is what the service does, and what arrives."""

    def serve(self, *, strict: bool) -> None:
        """Put a service with the document's template together."""
        store = MemoryTemplateStore(limit_bytes=1_000_000)
        self.successResultOf(store.add("welcome.html", "<p>Dear {{NAME}},</p>"))
        self.courier = Courier(
            DEFAULTS,
            attachments=self.files,
            sender=self.server,
            threads=WatchedThreads(),
            templates=Templates(store=store, rules=TemplateRules(strict=strict)),
        )
        self.dispatcher = make_dispatcher(self)

    def test_every_example_is_true(self) -> None:
        text = _DOCUMENT.read_text("utf-8")
        examples = list(_EXAMPLE.finditer(text))
        self.assertEqual([each["event"] for each in examples], [None, "with EMAIL_TEMPLATE_STRICT"])
        self.assertEqual(text.count("```json"), 2 * len(examples), "an example that is not tried")
        for example in examples:
            self.serve(strict=example["event"] is not None)
            answer = ask(self, self.dispatcher, json.loads(example["request"]))
            self.assertEqual(answer, json.loads(example["answer"]))
        [(mail, _)] = self.server.sent
        self.assertIn("<p>Dear {{NAME}},</p>`, the mail says `<p>Dear Ada,</p>`", text)
        self.assertIn(b"<p>Dear Ada,</p>", mail.wire(Capabilities()).data)
