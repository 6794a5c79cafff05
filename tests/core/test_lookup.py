# SPDX-License-Identifier: MIT
"""How people name a mail."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.lookup import Wanted, read_wanted

_ID = "9e51fa6fad25da44"
_NAME = f"0000000001657084500.39823600_{_ID}"


class ReadTests(SynchronousTestCase):
    """What is taken, and what is not."""

    def test_ids_names_and_message_ids_are_taken(self) -> None:
        for text in (_ID, _ID.upper(), f" {_ID}\n", f"<{_ID}@example.org>", f"{_ID}@example.org"):
            self.assertEqual(read_wanted(text), Wanted(_ID), text)
        for text in (_NAME, f"mail_{_NAME}.json"):
            self.assertEqual(read_wanted(text), Wanted(_ID, _NAME), text)

    def test_what_can_be_no_mails_is_nothing(self) -> None:
        texts = ("", " ", "../x", "*", "a_b", f"{_ID}*", f"mail_{_NAME}", "a" * 181, "ü", "<@x>")
        for text in texts:
            self.assertIsNone(read_wanted(text), text)
