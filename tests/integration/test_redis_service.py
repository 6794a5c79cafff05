# SPDX-License-Identifier: MIT
"""The service as a process on a Redis that is there, away, killed, or hangs."""

from __future__ import annotations

from typing import Any

from tests.integration.servers import AioServer
from tests.integration.service import Service, ServiceTestCase, mail_to, until
from tests.redis_server import RedisServer, free_port

_PREFIX = "SMTP_MAILER:"
_SENT = f"{_PREFIX}sent:success"
_FAILED = f"{_PREFIX}sent:failed"


class RedisServiceTests(ServiceTestCase):
    """Counters and templates in Redis."""

    def redis(self, **settings: object) -> RedisServer:
        """Start a Redis that keeps what it has across restarts."""
        server = RedisServer({"appendonly": "yes", "appendfsync": "always", **settings})
        self.addCleanup(server.clean_up)
        return server

    def on(self, redis: RedisServer, server: AioServer | None = None, **values: object) -> Service:
        """Start a service that uses a Redis."""
        defaults: dict[str, object] = {
            "REDIS_ENABLE": True,
            "REDIS_PORT": redis.port,
            "REDIS_STORE_TEMPLATE": True,
            "EMAIL_TEMPLATE": True,
            "EMAIL_TEMPLATE_API_READ_ONLY": False,
        }
        return self.service(server, **(defaults | values))

    def sends(self, service: Service, **fields: Any) -> None:
        """Send a mail and see that it is answered as sent."""
        answer = service.ask(mail_to(**fields))
        self.assertEqual(answer["message"], "mail sent successfully", answer)

    def redis_state(self, service: Service) -> Any:
        """Give what ``status`` says of Redis."""
        return service.ask({"status": None, "detail": True})["detail"]["redis"]

    def test_counters_and_templates_are_where_the_predecessor_looks(self) -> None:
        redis, server = self.redis(), self.server()
        redis.call("MSET", _SENT, 7, _FAILED, 7)
        service = self.on(redis, server)
        self.assertEqual(service.ask({"status": None})["data"], {"sent": 0, "failed": 0})
        answer = service.ask({"clearTemplate": None})
        self.assertEqual(answer["message"], "removed 0 templates")
        answer = service.ask({"addTemplate": "t.html", "content": "<p>{{A}}</p>"})
        self.assertEqual(answer["message"], "template added")
        mail = mail_to(useTemplate="t.html", replaceContent={"A": "b"})
        del mail["sendMail"]["body"]
        self.assertEqual(service.ask(mail)["message"], "mail sent successfully")
        self.assertIn(b"<p>b</p>", server.received[0].content)
        self.assertEqual(
            service.ask({"sendMail": mail["sendMail"] | {"useTemplate": "no"}})["status"], "error"
        )
        self.assertEqual(
            redis.dump(),
            {
                _SENT: b"1",
                _FAILED: b"1",
                f"{_PREFIX}index:template": [b'"t.html"', b"0"],
                f"{_PREFIX}template:t.html": rb'"\u003Cp\u003E{{A}}\u003C\/p\u003E"',
            },
        )
        state = self.redis_state(service)
        self.assertEqual((state["up"], state["reason"]), (True, None))

    def test_two_services_share_all_and_either_may_leave_the_counters_alone(self) -> None:
        redis, server = self.redis(), self.server()
        first = self.on(redis, server)
        self.sends(first)
        second = self.on(redis, server, REDIS_RESET_STATS_ON_START=False)
        self.sends(second)
        self.assertEqual(first.ask({"status": None})["data"], {"sent": 2, "failed": 0})
        first.ask({"addTemplate": "a", "content": "x"})
        self.assertEqual(second.ask({"getTemplate": "a"})["data"], "x")

    def test_a_service_without_redis_answers_and_sends_and_catches_up_later(self) -> None:
        redis, server = self.redis(), self.server()
        redis.stop()
        service = self.on(redis, server)
        self.assertEqual(service.ask({"ping": None})["message"], "pong")
        self.sends(service)
        for request, message in (
            ({"getTemplateList": None}, "unable to get template list"),
            ({"getTemplate": "a"}, "unable to get template"),
            ({"addTemplate": "a", "content": "x"}, "unable to add template"),
            ({"clearTemplate": None}, "unable to read template dir"),
            ({"status": None}, "unable to get status"),
        ):
            answer = service.ask(request)
            self.assertEqual(
                (answer["status"], answer["data"], answer["message"]), ("error", None, message)
            )
        state = self.redis_state(service)
        self.assertFalse(state["up"])
        self.assertIn("refused", state["reason"])
        redis.start()
        until("Redis is used", lambda: self.redis_state(service)["up"])
        until("the mail is counted", lambda: redis.call("GET", _SENT) == b"1")
        self.assertEqual(
            service.ask({"getTemplateList": None})["message"], "template list is empty"
        )

    def test_a_redis_that_is_killed_costs_no_mail_its_answer(self) -> None:
        redis, server = self.redis(), self.server()
        service = self.on(redis, server)
        service.ask({"addTemplate": "a", "content": "kept"})
        self.sends(service)
        redis.kill()
        until("the service notices", lambda: not self.redis_state(service)["up"])
        for _ in range(3):
            self.sends(service)
        redis.start()
        until("all are counted", lambda: redis.call("GET", _SENT) == b"4")
        self.assertEqual(service.ask({"getTemplate": "a"})["data"], "kept")
        self.assertEqual(service.ask({"status": None})["data"], {"sent": 4, "failed": 0})
        lines = [line for line in service.output().splitlines() if "redis_link" in line]
        self.assertIn("Redis is there", lines[0])
        self.assertIn("Redis is back", lines[-1])
        self.assertEqual(len(lines), len({line.partition(": ")[2] for line in lines}))

    def test_a_redis_that_hangs_is_given_up_and_does_not_keep_the_service_from_ending(self) -> None:
        redis, server = self.redis(), self.server()
        service = self.on(redis, server, REDIS_READ_TIMEOUT=1)
        redis.pause()
        self.sends(service)
        until("the service notices", lambda: not self.redis_state(service)["up"])
        self.assertIn("no answer within 1 s", self.redis_state(service)["reason"])
        service.terminate()
        self.assertEqual(service.ended(), 0)

    def test_a_redis_that_hangs_from_the_start_does_not_keep_the_service_from_starting(
        self,
    ) -> None:
        redis = self.redis()
        redis.pause()
        service = self.on(redis)
        self.assertEqual(service.ask({"ping": None})["message"], "pong")

    def test_templates_alone_or_counters_alone_may_be_in_redis(self) -> None:
        redis = self.redis()
        service = self.on(redis, REDIS_STORE_TEMPLATE=False)
        service.ask({"addTemplate": "a", "content": "x"})
        self.assertTrue((service.folder / "Template" / "html" / "a").exists())
        until("the counters are there", lambda: set(redis.dump()) == {_SENT, _FAILED})

    def test_no_secret_of_redis_is_ever_logged(self) -> None:
        redis = self.redis(requirepass="right")
        service = self.on(
            redis, REDIS_PASSWORD="hunter2", REDIS_USER="roger", MAILER_LOG_LEVEL="debug"
        )
        self.assertIn("WRONGPASS", self.redis_state(service)["reason"])
        service.ask({"getTemplate": "a"})
        service.terminate()
        self.assertEqual(service.ended(), 0)
        for secret in ("hunter2", "roger"):
            self.assertNotIn(secret, service.output())

    def test_authorities_that_can_not_be_read_end_the_start(self) -> None:
        values = {
            "REDIS_ENABLE": True,
            "REDIS_PROTO": "tls",
            "REDIS_PORT": free_port(),
            "REDIS_CA_FILE": ".env",
        }
        service = self.start(values)
        self.assertEqual(service.ended(), 1)
        self.assertIn("REDIS_CA_FILE: ", service.output())
        self.assertIn("holds no PEM certificate", service.output())
        self.assertNotIn("Traceback", service.output())
