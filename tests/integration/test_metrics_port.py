# SPDX-License-Identifier: MIT
"""The port for machines that watch, of a real service; and that the files in etc/ ask for it."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.service import Service, mail_to, until
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.stores.queues import make_place

ETC = Path(__file__).resolve().parents[2] / "etc"
#: Only there with Redis, and with a supervisor.
ELSEWHERE = {"smtpmailer_redis_up", "smtpmailer_restarts"}
SUFFIXES = ("_bucket", "_total")


def asked_for(name: str) -> set[str]:
    """Give the figures that a file in etc/ asks for; one that Grafana could not read is a fault."""
    text = (ETC / name).read_text("utf-8")
    if name.endswith(".json"):
        panels = json.loads(text)["panels"]
        text = " ".join(each["expr"] for panel in panels for each in panel.get("targets", ()))
    return set(re.findall(r"\bsmtpmailer_[a-z_]+", text))


class MetricsPortTests(SynchronousTestCase):
    """What is counted in all processes is found in one place."""

    def serve(self, **settings: Any) -> Service:
        place = make_place(self)
        self.port = free_port()
        service = Service(
            {
                "MAILER_METRICS_PORT": self.port,
                "MAILER_QUEUE": True,
                "SECRET_KEY": "N7SNJsGAY1hku3PBjpqgDw==",
                "QUEUE_DIR": place.waiting,
                "QUEUE_PROCESS_DIR": place.claimed,
                "QUEUE_FAILED_DIR": place.failed,
                **settings,
            }
        )
        self.addCleanup(service.clean_up)
        service.ready()
        until("it is ready", lambda: self.get("readyz")[0] == 200)
        return service

    def get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.port}/{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def samples(self) -> dict[str, dict[str, float]]:
        """Give each figure's sums, by process."""
        found: dict[str, dict[str, float]] = {}
        for family in text_string_to_metric_families(self.get("metrics")[1]):
            for sample in family.samples:
                values = found.setdefault(sample.name, {})
                process = sample.labels["process"]
                values[process] = values.get(process, 0) + sample.value
        return found

    def test_one_process(self) -> None:
        service = self.serve()
        for _ in range(3):
            service.ask({"ping": None})
        self.assertEqual(self.get("livez"), (200, "alive\n"))
        found = self.samples()
        self.assertEqual(found["smtpmailer_requests_total"], {"service": 3})
        self.assertEqual(found["smtpmailer_queue_waiting"], {"service": 0})
        for name in ("grafana-dashboard.json", "prometheus-alerts.yml"):
            asked = asked_for(name)
            self.assertGreater(len(asked), 5)
            self.assertEqual(asked - set(found) - ELSEWHERE - self.silent(), set(), name)

    def test_a_dead_relay_does_not_make_it_unready(self) -> None:
        """Mails can be accepted all the same, so nobody is to take the service out of use."""
        service = self.serve(SMTP_PORT=free_port())
        for _ in range(3):
            self.assertEqual(service.ask(mail_to())["message"], "failed to send mail")
        self.assertEqual(self.samples()["smtpmailer_smtp_out_of_reach"], {"service": 1})
        self.assertEqual(self.get("readyz"), (200, "ready\n"))
        self.assertEqual(service.ask({"queueMail": mail_to()["sendMail"]})["status"], "success")

    def test_redis_counts_as_away_once_it_is(self) -> None:
        redis = RedisServer()
        self.addCleanup(redis.clean_up)
        self.serve(REDIS_ENABLE=True, REDIS_PORT=redis.port)

        def state(up: float) -> bool:
            return self.samples()["smtpmailer_redis_up"] == {"service": up}

        until("Redis is there", lambda: state(1))
        redis.kill()
        until("Redis is away", lambda: state(0))
        self.assertEqual(self.get("livez")[0], 200)

    def silent(self) -> set[str]:
        """Give the figures that are there once something has happened."""
        text = self.get("metrics")[1]
        names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
        return {name + suffix for name in names for suffix in ("", *SUFFIXES)}

    def test_several_processes(self) -> None:
        service = self.serve(MAILER_WORKERS=2)
        for _ in range(4):
            service.ask({"ping": None})
        until("all answer", lambda: len(self.samples()["smtpmailer_connections"]) == 3)
        found = self.samples()
        self.assertEqual(sum(found["smtpmailer_requests_total"].values()), 4)
        self.assertEqual(found["smtpmailer_queue_running"], {"queue": 1})
        self.assertEqual(found["smtpmailer_restarts"], {"supervisor": 0})
