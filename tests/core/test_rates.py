# SPDX-License-Identifier: MIT
"""Tests of core.rates: what a rate allows, and how it is written."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.bucket import Bucket
from smtpmailer.core.options_rate import MailRate
from smtpmailer.core.rates import Rate

QUICK = settings(deadline=None, max_examples=100, derandomize=True)
RATES = st.builds(Rate, st.integers(1, 60), st.sampled_from((1, 60, 3600, 86_400)))


class RateTests(SynchronousTestCase):
    """Mails in a time."""

    def test_each_unit_is_read(self) -> None:
        texts = {"10/s": 1, "300/m": 60, "5000/h": 3600, "2000/d": 86_400}
        for text, seconds in texts.items():
            rate = Rate.parse(text)
            self.assertEqual((f"{rate.mails}/{text[-1]}", rate.seconds), (text, seconds))

    def test_what_is_no_rate_is_refused_with_an_example(self) -> None:
        for text in ("", "10", "0/s", "-1/s", "1.5/s", "10/w", "10 /s", "010/s", "9999999999/s"):
            with self.assertRaisesRegex(ValueError, "10/s"):
                Rate.parse(text)

    @QUICK
    @given(RATES)
    def test_what_it_says_is_read_as_the_same(self, rate: Rate) -> None:
        self.assertEqual(Rate.parse(str(rate)), rate)

    @QUICK
    @given(RATES, st.lists(st.floats(0, 3), min_size=1, max_size=200))
    def test_no_span_of_its_time_ever_gets_more(self, rate: Rate, pauses: list[float]) -> None:
        """Whenever mails come, and however they are bundled."""
        bucket, now, taken = Bucket(rate.burst, rate.per_second), 0.0, []
        for pause in pauses:
            now += pause * rate.seconds / rate.mails
            while bucket.take(now):
                taken.append(now)
        for index, moment in enumerate(taken):
            within = [t for t in taken[index:] if t - moment < rate.seconds * (1 - 1e-5)]
            self.assertLessEqual(len(within), rate.mails)

    @QUICK
    @given(RATES)
    def test_in_the_long_run_nine_tenths_of_it_go_out_at_least(self, rate: Rate) -> None:
        self.assertGreaterEqual(rate.per_second * rate.seconds, 0.9 * rate.mails)


class SettingTests(SynchronousTestCase):
    """SMTP_RATE_LIMIT."""

    def test_it_is_read_and_shown_and_empty_is_no_limit(self) -> None:
        kind = MailRate()
        for text in ("300/m", ""):
            self.assertEqual(kind.show(kind.read(text, "/")), text)
        self.assertIsNone(kind.read("", "/"))

    def test_anything_else_is_a_fault(self) -> None:
        for raw in ("fast", 10, True):
            with self.assertRaises(ValueError):
                MailRate().read(raw, "/")
