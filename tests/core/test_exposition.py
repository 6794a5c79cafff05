# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.core.exposition."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.exposition import merged

ONE = """\
# HELP mails_total Mails
# TYPE mails_total counter
mails_total{outcome="sent"} 3.0
# HELP open Connections
# TYPE open gauge
open 1.0
"""
TWO = """\
# HELP open Connections
# TYPE open gauge
open 2.0
# HELP mails_total Mails
# TYPE mails_total counter
mails_total{outcome="a b {x}"} 4.0
"""


class MergedTests(SynchronousTestCase):
    """One text out of several."""

    def test_families_stand_together_and_each_sample_says_whose_it_is(self) -> None:
        self.assertEqual(
            merged({"worker-1": ONE, "queue": TWO}),
            """\
# HELP mails_total Mails
# TYPE mails_total counter
mails_total{process="worker-1",outcome="sent"} 3.0
mails_total{process="queue",outcome="a b {x}"} 4.0
# HELP open Connections
# TYPE open gauge
open{process="worker-1"} 1.0
open{process="queue"} 2.0
""",
        )

    def test_nobody_has_no_figures(self) -> None:
        self.assertEqual(merged({}), "")
