# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.log."""

from __future__ import annotations

import json

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.log import LineObserver, escape, json_line, severity


class LineObserverTests(SynchronousTestCase):
    """One event, one line."""

    def lines(self, lowest: str = "debug") -> tuple[list[tuple[str, str]], Logger]:
        written: list[tuple[str, str]] = []
        observer = LineObserver(lambda level, line: written.append((level, line)), lowest)
        return written, Logger("here", observer=observer)

    def test_a_line_has_time_level_place_and_text(self) -> None:
        written, log = self.lines()
        assert log.observer is not None
        log.observer(
            {
                "log_time": 0.25,
                "log_level": LogLevel.warn,
                "log_namespace": "here",
                "log_format": "mail {mail_id} waits",
                "mail_id": "m1",
            }
        )
        self.assertEqual(
            written, [("warning", "1970-01-01T00:00:00.250Z [warning] here: mail m1 waits")]
        )

    def test_text_from_clients_can_not_forge_a_line(self) -> None:
        written, log = self.lines()
        log.info("{name}", name="a\n1970-01-01T00:00:00Z [error] here: forged\x1b[2J\u2028")
        self.assertEqual(len(written), 1)
        self.assertEqual(written[0][1].splitlines(), [written[0][1]])
        self.assertIn(r"a\n1970", written[0][1])
        self.assertNotIn("\x1b", written[0][1])

    def test_less_severe_events_are_left_out(self) -> None:
        written, log = self.lines("notice")
        log.debug("x")
        log.info("x")
        log.info("started", notice=True)
        log.error("broken")
        self.assertEqual([level for level, _ in written], ["notice", "error"])

    def test_a_failure_brings_its_traceback_in_the_same_line(self) -> None:
        written, log = self.lines()
        log.failure("it broke", Failure(ValueError("no")))
        self.assertEqual(written[0][0], "error")
        self.assertIn("ValueError: no", written[0][1])
        self.assertNotIn("\n", written[0][1])

    def test_an_event_without_text_is_no_line(self) -> None:
        written, log = self.lines()
        log.emit(LogLevel.info, None)
        self.assertEqual(written, [])

    def test_every_control_character_is_escaped(self) -> None:
        unsafe = "".join(map(chr, (*range(32), *range(127, 160), 0x2028, 0x202E, 0xD800)))
        self.assertTrue(escape(unsafe).isprintable())
        self.assertEqual(escape("Zoë 日本 \\n"), "Zoë 日本 \\n")

    def test_events_of_unknown_level_count_as_info(self) -> None:
        self.assertEqual(severity({}), "info")


class JsonTests(SynchronousTestCase):
    """One event, one object, for machines."""

    def setUp(self) -> None:
        self.written: list[str] = []
        observer = LineObserver(lambda _, line: self.written.append(line), "info", json_line)
        self.log = Logger("here", observer=observer)

    def line(self) -> dict[str, object]:
        """Give the one object."""
        [text] = self.written
        self.assertNotIn("\n", text)
        self.assertTrue(text.isascii())

        def refuse(name: str) -> None:
            raise AssertionError(name)

        value = json.loads(text, parse_constant=refuse)
        assert isinstance(value, dict)
        return value

    def test_a_line_has_time_level_place_text_and_the_event_s_fields(self) -> None:
        self.log.warn("mail {mail_id} waits", mail_id="m1", attempt=2, seconds=0.5, last=False)
        line = self.line()
        self.assertRegex(str(line.pop("time")), r"^\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z$")
        self.assertEqual(
            line,
            {
                "level": "warning",
                "source": "here",
                "text": "mail m1 waits",
                "mail_id": "m1",
                "attempt": 2,
                "seconds": 0.5,
                "last": False,
            },
        )

    def test_text_from_clients_can_not_forge_a_line_or_a_field(self) -> None:
        self.log.info("{name}", name='a\n"level": "error"\u2028\ud800', text="error")
        line = self.line()
        self.assertEqual(line["level"], "info")
        self.assertNotEqual(line["text"], "error")

    def test_what_json_has_no_form_for_is_left_out_or_text(self) -> None:
        self.log.info("x", a=object(), b=[1], c=float("nan"), d=float("inf"))
        line = self.line()
        self.assertNotIn("a", line)
        self.assertNotIn("b", line)
        self.assertEqual((line["c"], line["d"]), ("nan", "inf"))

    def test_less_severe_events_are_left_out(self) -> None:
        self.log.debug("x")
        self.assertEqual(self.written, [])

    def test_a_failure_brings_its_traceback(self) -> None:
        self.log.failure("it broke", Failure(ValueError("no")))
        self.assertIn("ValueError: no", str(self.line()["text"]))
