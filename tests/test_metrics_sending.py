# SPDX-License-Identifier: MIT
"""Tests of smtpmailer.metrics_sending: limits and reach as figures."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.rates import Rate
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.paces import Paces
from smtpmailer.delivery.reach import Reach
from smtpmailer.errors import SmtpConnectError
from smtpmailer.metrics import Metrics
from smtpmailer.metrics_sending import MOST, sending_figures
from tests.delivery.hostile import plain_route


class SendingFigureTests(SynchronousTestCase):
    """What somebody who looks is told."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.paces = Paces(self.clock, PoolLimits(rate=Rate(10, 1)))
        self.reach = Reach(self.clock)

    def text(self) -> str:
        return Metrics.of(sending_figures(self.paces, self.reach)).decode()

    def samples(self, name: str) -> list[str]:
        return [line for line in self.text().splitlines() if line.startswith(name + "{")]

    def test_limits_are_those_of_now(self) -> None:
        pace = self.paces.of(plain_route(account="bulk"))
        self.assertIn('smtpmailer_smtp_rate_limit{account="bulk"} 10.0\n', self.text())
        self.assertIn('smtpmailer_smtp_limits_lowered{account="bulk"} 0.0\n', self.text())
        for _ in range(10):
            pace.delivered()
        pace.slow_down(10, "421 4.7.0 slow down")
        for line in (
            'smtpmailer_smtp_rate_limit{account="bulk"} 5.0',
            'smtpmailer_smtp_connection_limit{account="bulk"} 5.0',
            'smtpmailer_smtp_limits_lowered{account="bulk"} 1.0',
            'smtpmailer_smtp_slow_downs_total{account="bulk"} 1.0',
        ):
            self.assertIn(line + "\n", self.text())

    def test_without_a_rate_there_is_no_figure_of_it(self) -> None:
        self.paces = Paces(self.clock, PoolLimits())
        self.paces.of(plain_route())
        self.assertEqual(self.samples("smtpmailer_smtp_rate_limit"), [])
        self.assertEqual(len(self.samples("smtpmailer_smtp_connection_limit")), 1)

    def test_servers_out_of_reach_are_one_and_the_others_nothing(self) -> None:
        for host in ("192.0.2.1", "192.0.2.2"):
            self.paces.of(plain_route(host=host))
        for _ in range(3):
            self.reach.failed(plain_route(host="192.0.2.2"), SmtpConnectError("no"), 0)
        name = "smtpmailer_smtp_out_of_reach"
        self.assertEqual(
            sorted(self.samples(name)),
            [f'{name}{{server="192.0.2.1:25"}} 0.0', f'{name}{{server="192.0.2.2:25"}} 1.0'],
        )

    def test_clients_can_not_make_any_number_of_them(self) -> None:
        self.paces.of(plain_route(account="lowered")).slow_down(1, "421 4.7.0 slow down")
        for number in range(5 * MOST):
            route = plain_route(host=f"h{number}.example")
            self.paces.of(route).slow_down(1, "421 4.7.0 slow down")
            self.clock.advance(100)
            for _ in range(3):
                self.reach.failed(route, SmtpConnectError("no"), 0)
        for line in self.text().splitlines():
            name = line.partition("{")[0]
            self.assertLessEqual(len(self.samples(name)), 2 * MOST, name)
        self.assertEqual(len(self.samples("smtpmailer_smtp_rate_limit")), MOST)
