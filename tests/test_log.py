# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.log."""

from __future__ import annotations

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.log import LineObserver, escape, severity


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
