# SPDX-License-Identifier: MIT
"""The settings of Redis: their values, and what they have to be to each other."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.settings import OPTIONS, Settings
from smtpmailer.core.settings_reading import from_values
from smtpmailer.errors import SettingsError


def _make(**values: object) -> Settings:
    least = {"SMTP_HOST": "mx.example.com", "MAILER_QUEUE": False, "ATTACHMENT_DIRS": "a"}
    return from_values(least | values, "/base")


class RedisSettingsTests(SynchronousTestCase):
    """Keys that begin with REDIS_."""

    def fault(self, **values: object) -> str:
        """Give the only fault."""
        error = self.assertRaises(SettingsError, _make, **values)
        self.assertEqual(len(error.faults), 1, error.faults)
        return str(error)

    def warnings(self, **values: object) -> tuple[str, ...]:
        """Give the warnings with Redis in use."""
        return _make(REDIS_ENABLE=True, **values).warnings

    def test_sentinels_are_hosts_with_ports(self) -> None:
        for raw, addresses in (
            ("", ()),
            ("a.test", (("a.test", 26379),)),
            ("a:1,b:2", (("a", 1), ("b", 2))),
            (" 127.0.0.1:1 , [::1]:2  [::2] ", (("127.0.0.1", 1), ("::1", 2), ("::2", 26379))),
        ):
            self.assertEqual(_make(REDIS_SENTINELS=raw).redis_sentinels, addresses, raw)
        for wrong in ("::1", "a:x", "a:0", "a:65536", ":1", "[a", "redis://a", "a:1:2", "a;b"):
            text = self.fault(REDIS_SENTINELS=wrong)
            self.assertIn("has to hold host:port", text)
            self.assertIn("is none", text)

    def test_sentinels_are_shown_as_they_are_read(self) -> None:
        kind = OPTIONS["REDIS_SENTINELS"].kind
        text = "a:1,[::1]:26379"
        self.assertEqual(kind.show(kind.read(text, "")), text)

    def test_sentinels_need_the_name_of_their_master(self) -> None:
        wrong = {"REDIS_ENABLE": True, "REDIS_SENTINELS": "a"}
        self.assertIn("REDIS_SENTINEL_MASTER has to name the master", self.fault(**wrong))
        _make(**wrong, REDIS_SENTINEL_MASTER="m")
        _make(REDIS_SENTINELS="a")

    def test_a_redis_across_the_network_wants_tls(self) -> None:
        for values in (
            {"REDIS_ADDR": "10.0.0.1"},
            {"REDIS_SENTINELS": "127.0.0.1, b", "REDIS_SENTINEL_MASTER": "m"},
        ):
            (warning,) = self.warnings(**values)
            self.assertIn("crosses the network unprotected", warning)
            self.assertEqual(self.warnings(**values, REDIS_PROTO="tls"), ())
        self.assertEqual(self.warnings(REDIS_ADDR="localhost"), ())

    def test_what_has_no_effect_is_said(self) -> None:
        for key, values in (
            ("REDIS_CA_FILE", {"REDIS_CA_FILE": "a"}),
            ("REDIS_SENTINEL_MASTER", {"REDIS_SENTINEL_MASTER": "a"}),
            ("REDIS_SENTINEL_USER", {"REDIS_SENTINEL_USER": "a"}),
            ("REDIS_SENTINEL_PASSWORD", {"REDIS_SENTINEL_PASSWORD": "a"}),
        ):
            (warning,) = self.warnings(**values)
            self.assertIn(f"{key} has no effect without REDIS_", warning)
        for key in ("REDIS_STORE_QUEUE", "REDIS_STORE_TEMPLATE"):
            (warning,) = _make(**{key: True}).warnings
            self.assertEqual(warning, f"{key} has no effect without REDIS_ENABLE")
            self.assertEqual(self.warnings(**{key: True}), ())

    def test_a_user_without_password_is_unusual(self) -> None:
        (warning,) = self.warnings(REDIS_USER="u")
        self.assertIn("REDIS_USER is set without REDIS_PASSWORD", warning)
        self.assertEqual(self.warnings(REDIS_USER="u", REDIS_PASSWORD="p"), ())
