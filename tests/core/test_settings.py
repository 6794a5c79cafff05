# SPDX-License-Identifier: MIT
"""Settings: every kind of value, the rules between keys, and what people get to see."""

from __future__ import annotations

import base64
from typing import Any

import attrs
import jsonschema
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Encryption
from smtpmailer.core.settings import OPTIONS, Settings
from smtpmailer.core.settings_reading import describe, from_values
from smtpmailer.errors import SettingsError

_KEY = base64.b64encode(bytes(range(16))).decode("ascii")
_BCRYPT = "$2y$10$VV6J0ctCv.OVnU2YYv.uNe5WsmwX7KHRqO2nhjY5CKJjzDZwRuuiu"
_ARGON2ID = "$argon2id$v=19$m=65536,t=2,p=1$Bvlf4530ucU37WOB+mSlEg$knZUbyzPI5VO3EdvNFEuwC3JsWE"
#: The least that works.
_LEAST: dict[str, object] = {"SMTP_HOST": "mx.example.com", "SECRET_KEY": _KEY}


def _make(**values: object) -> Settings:
    return from_values(_LEAST | values, "/base")


class _Case(SynchronousTestCase):
    def faults(self, **values: object) -> list[str]:
        error = self.assertRaises(SettingsError, _make, **values)
        return list(error.faults)

    def fault(self, **values: object) -> str:
        """Give the only fault."""
        lines = self.faults(**values)
        self.assertEqual(len(lines), 1, lines)
        return lines[0]

    def warned(self, words: str, **values: object) -> bool:
        return any(words in line for line in _make(**values).warnings)


class KindTests(_Case):
    """Each kind takes what the predecessor's files hold, and names what it wants else."""

    def check_kind(self, key: str, good: list[tuple[object, object]], bad: list[object]) -> None:
        for raw, value in good:
            got = getattr(_make(**{key: raw}), key.lower())
            self.assertEqual((got, type(got)), (value, type(value)), (key, raw))
        for raw in bad:
            self.assertIn(key, self.fault(**{key: raw}), raw)

    def test_flags(self) -> None:
        yes: list[object] = [True, 1, "true", "TRUE", "on", "yes", "1", " on "]
        no: list[object] = [False, 0, "false", "off", "No", "none", "0"]
        self.check_kind(
            "MAIL_HTML",
            [*((x, True) for x in yes), *((x, False) for x in no)],
            ["", "maybe", 2, "enabled"],
        )

    def test_numbers(self) -> None:
        self.check_kind(
            "MAILER_PORT",
            [(1, 1), (65535, 65535), ("300", 300), ("0300", 300), (" +25 ", 25)],
            [0, 65536, -1, "", "x", "1_0", "1.5", 1.5, True, False, "٣", "9" * 5000],
        )
        self.check_kind("QUEUE_SCAN_INTERVAL", [(1, 1)], [0, 2**31])
        self.check_kind("QUEUE_MAX_FAILED_RETRY", [(-1, -1), ("0", 0)], [-2])

    def test_choices(self) -> None:
        self.check_kind(
            "MAIL_CHARSET", [("utf-8", "utf-8"), ("UTF-8", "utf-8")], ["latin1", "", False, True]
        )
        self.check_kind(
            "SMTP_ENCRYPTION",
            # The typed scan reads a bare none as false.
            [
                ("tls", Encryption.STARTTLS),
                ("SSL", Encryption.TLS),
                ("none", Encryption.NONE),
                (False, Encryption.NONE),
            ],
            ["", True, "false", "starttls"],
        )
        self.check_kind("QUEUE_ENCRYPT_METHOD", [("aes128", "AES128")], ["AES512"])

    def test_texts(self) -> None:
        self.check_kind(
            "MAIL_FROM_NAME",
            [("Ünï 日本", "Ünï 日本"), (12, "12"), ("", ""), ('"', '"')],
            [True, False, "a\nb", "a\0b", "\x85", "\udc80", 1.5],
        )
        self.check_kind("EMAIL_TEMPLATE_STRING_TAG_OPEN", [("<%", "<%")], [""])

    def test_hosts(self) -> None:
        plain = [
            "mx",
            "mx.example.com",
            "mx.example.com.",
            "my_relay",
            "10.0.0.1",
            "::1",
            "3com.com",
        ]
        self.check_kind(
            "SMTP_HOST",
            [*((x, x) for x in plain), ("[::1]", "::1"), ("bücher.test", "xn--bcher-kva.test")],
            [
                "a b",
                "mx:25",
                "ssl://mx",
                "-a",
                "a..b",
                "1.2.3.4.5",
                "300.1.1.1",
                "a" * 64,
                "ü..b",
                True,
            ],
        )
        self.check_kind("MAILER_ADDR", [("0.0.0.0", "0.0.0.0"), ("fe80::1%lo", "fe80::1%lo")], [""])
        self.check_kind(
            "SMTP_EHLO_NAME",
            [
                ("", ""),
                ("[192.0.2.1]", "[192.0.2.1]"),
                ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
            ],
            ["[x]", "a\r\nb"],
        )

    def test_paths_are_made_absolute(self) -> None:
        self.check_kind(
            "QUEUE_DIR",
            [("q/", "/base/q"), ("./q/../r", "/base/q/../r"), ("/q", "/q")],
            ["", "a\nb"],
        )
        self.check_kind("SMTP_CA_FILE", [("", ""), ("ca.pem", "/base/ca.pem")], [False])
        self.check_kind(
            "ATTACHMENT_DIRS",
            [("a:/b:", ("/base/a", "/b")), ("", ()), (None, None)],
            [True],
        )
        self.assertEqual(_make().queue_process_dir, "/base/Queue/temp")

    def test_crontab_times(self) -> None:
        self.check_kind(
            "MAILER_RESTART_CRON", [("", ""), (" 0 1 * * * ", "0 1 * * *")], ["x", "60 * * * *", 5]
        )

    def test_mail_addresses(self) -> None:
        self.check_kind("MAIL_FROM_ADDR", [("", ""), ("a@b.test", "a@b.test")], ["a", "a@b\nc"])

    def test_keys_in_base64(self) -> None:
        raw = bytes(range(16))
        self.check_kind(
            "SECRET_KEY", [(_KEY, raw), (_KEY.rstrip("="), raw)], ["a", "ä", f"____{_KEY}"]
        )

    def test_null_is_an_absent_key(self) -> None:
        self.assertEqual(_make(MAILER_PORT=None, SMTP_PASSWORD=None), _make())


class FaultTests(_Case):
    """What the operator reads."""

    def test_all_faults_come_at_once(self) -> None:
        lines = self.faults(MAILER_PORT=0, MAILER_AUTH=True, SMTP_HOST="", SMTP_HOTS="x")
        self.assertEqual(
            [line.split()[0] for line in lines],
            ["MAILER_PORT", "SMTP_HOTS", "MAILER_AUTH_HASH", "SMTP_HOST"],
        )

    def test_a_fault_shows_key_value_and_what_is_allowed(self) -> None:
        self.assertEqual(
            self.fault(MAILER_PORT="70000"),
            'MAILER_PORT = "70000" has to be a whole number from 1 to 65535',
        )
        self.assertEqual(
            self.fault(QUEUE_SCAN_MODE=True),
            "QUEUE_SCAN_MODE = true has to be one of interval, cron",
        )
        self.assertIn("of 16 or more", self.fault(MAILER_MAX_MEMORY=15))

    def test_a_value_is_shown_on_one_line_and_cut(self) -> None:
        line = self.fault(MAIL_FROM_NAME="a\n" + "b" * 100)
        self.assertTrue(line.startswith('MAIL_FROM_NAME = "a\\nbbb'))
        self.assertIn("... has to be one line of UTF-8; it holds U+000A at character 2", line)

    def test_a_fault_says_where_a_value_came_from(self) -> None:
        error = self.assertRaises(
            SettingsError, from_values, _LEAST | {"MAILER_PORT": "x"}, "/", {"MAILER_PORT": "/f"}
        )
        self.assertIn('MAILER_PORT = "x" (from /f) has', error.faults[0])

    def test_no_secret_is_ever_shown(self) -> None:
        for key, option in OPTIONS.items():
            if option.secret:
                for raw in ("hunter2\n", "hunter2"):
                    try:
                        made = _make(**{key: raw, "MAILER_AUTH": True, "SMTP_USER": "u"})
                    except SettingsError as error:
                        shown = str(error)
                    else:
                        shown = f"{made!r} {describe(made)} {made.warnings}"
                    self.assertNotIn("hunter2", shown, key)

    def test_an_unknown_key_names_the_nearest_known_one(self) -> None:
        self.assertEqual(
            self.fault(smtp_hosts="secret"),
            "smtp_hosts is no known key; the nearest known one is SMTP_HOST",
        )
        self.assertEqual(self.fault(XYZZY=1), "XYZZY is no known key")

    def test_the_host_is_required(self) -> None:
        error = self.assertRaises(SettingsError, from_values, {"SECRET_KEY": _KEY}, "/")
        self.assertIn("SMTP_HOST has to be", error.faults[0])


class RuleTests(_Case):
    """What keys have to be to each other."""

    def test_ssl_needs_certificate_and_key(self) -> None:
        lines = self.faults(MAILER_PROTO="ssl")
        self.assertEqual([line.split()[0] for line in lines], ["MAILER_SSL_CERT", "MAILER_SSL_KEY"])
        made = _make(MAILER_PROTO="ssl", MAILER_SSL_CERT="c.pem", MAILER_SSL_KEY="k.pem")
        self.assertEqual(made.secret_files, ("/base/k.pem",))

    def test_authentication_needs_a_hash_of_its_method(self) -> None:
        _make(MAILER_AUTH=True, MAILER_AUTH_HASH=_BCRYPT)
        _make(MAILER_AUTH=True, MAILER_AUTH_HASH=_ARGON2ID, MAILER_AUTH_HASH_METHOD="sodium")
        _make(MAILER_AUTH=False, MAILER_AUTH_HASH="anything")
        for value, words in (
            ("", "has to be set"),
            ("plain password", "is no bcrypt, argon2i or argon2id"),
            (_ARGON2ID, "is of the kind sodium, but MAILER_AUTH_HASH_METHOD = bcrypt"),
        ):
            self.assertIn(words, self.fault(MAILER_AUTH=True, MAILER_AUTH_HASH=value))

    def test_the_queue_needs_a_key_of_its_methods_length(self) -> None:
        self.assertIn("is empty, but has to hold 16 bytes", self.fault(SECRET_KEY=""))
        for method in ("AES256", "XChaCha20"):
            line = self.fault(QUEUE_ENCRYPT_METHOD=method)
            self.assertIn("holds 16 bytes, but has to hold 32", line)

    def test_without_queue_the_key_may_be_a_placeholder_and_is_dropped(self) -> None:
        for value in ("REPLACE_WITH_YOUR_OWN_KEY", _KEY):
            self.assertEqual(_make(MAILER_QUEUE=False, SECRET_KEY=value).secret_key, b"")
        self.assertIn("has to be base64", self.fault(SECRET_KEY="REPLACE_WITH_YOUR_OWN_KEY"))

    def test_cron_mode_needs_a_crontab_time(self) -> None:
        self.assertIn("QUEUE_SCAN_CRON", self.fault(QUEUE_SCAN_MODE="cron"))
        _make(QUEUE_SCAN_MODE="cron", QUEUE_SCAN_CRON="*/1 * * * *")
        _make(QUEUE_SCAN_MODE="cron", MAILER_QUEUE=False)

    def test_the_queues_directories_differ(self) -> None:
        line = self.fault(QUEUE_DIR="q", QUEUE_PROCESS_DIR="/base/q/")
        self.assertIn("QUEUE_PROCESS_DIR", line)

    def test_a_user_needs_a_password(self) -> None:
        line = self.fault(SMTP_USER="u")
        self.assertIn("SMTP_USER is set without SMTP_PASSWORD", line)
        self.assertTrue(self.warned("no effect without SMTP_USER", SMTP_PASSWORD="p"))

    def test_a_faulty_key_breaks_no_further_rule(self) -> None:
        for wrong in (
            {"SMTP_USER": "u", "SMTP_PASSWORD": True},
            {"QUEUE_ENCRYPT_METHOD": "AES", "SECRET_KEY": "A" * 43},
            {"MAILER_AUTH": 1, "MAILER_AUTH_HASH_METHOD": "x", "MAILER_AUTH_HASH": _ARGON2ID},
        ):
            self.fault(**wrong)

    def test_risky_settings_warn(self) -> None:
        login: dict[str, Any] = {"SMTP_USER": "u", "SMTP_PASSWORD": "p"}
        for words, values in (
            ("whoever reaches the port", {"MAILER_ADDR": "0.0.0.0"}),
            ("whoever reaches the port", {"MAILER_ADDR": "mail.internal"}),
            ("may carry any file", {}),
            ("no mail can carry a file", {"ATTACHMENT_DIRS": ""}),
            ("crosses the network", login | {"SMTP_ENCRYPTION": "none"}),
            ("anybody can pose", {"SMTP_TLS_VERIFY": False}),
            ("usually goes with SMTP_ENCRYPTION = ssl", {"SMTP_PORT": 465}),
            ("REDIS_STORE_QUEUE has no effect", {"REDIS_STORE_QUEUE": True}),
        ):
            self.assertTrue(self.warned(words, **values), words)

    def test_careful_settings_do_not_warn(self) -> None:
        for values in (
            {"MAILER_ADDR": "localhost"},
            {"MAILER_ADDR": "::1"},
            {"MAILER_ADDR": "0.0.0.0", "MAILER_AUTH": True, "MAILER_AUTH_HASH": _BCRYPT},
            {"SMTP_PORT": 465, "SMTP_ENCRYPTION": "ssl"},
            {"SMTP_ENCRYPTION": "none", "SMTP_PORT": 25},
        ):
            self.assertEqual(_make(ATTACHMENT_DIRS="a", **values).warnings, (), values)


class SchemaTests(_Case):
    """Each kind's JSON Schema says what the kind takes, as far as a schema can."""

    #: Per key: values that both take, and values that both refuse.
    agreed: tuple[tuple[str, list[object], list[object]], ...] = (
        ("MAIL_HTML", [True, False, 1, 0, "true", "off"], [2, "", "x", 1.5]),
        ("MAILER_PORT", [1, 65535, "300", "+5"], [0, 65536, True, 1.5, "", "x"]),
        ("MAIL_CHARSET", ["utf-8", "us-ascii"], ["latin1", False, 1]),
        ("SMTP_ENCRYPTION", ["tls", "ssl", "none", False], [True, "", 0]),
        ("MAIL_FROM_NAME", ["", "x", 5], [True, 1.5]),
        ("EMAIL_TEMPLATE_STRING_TAG_OPEN", ["<"], ["", True]),
        ("MAILER_ADDR", ["::1", "localhost"], ["", "a b", "tcp://a", 5]),
        ("SMTP_HOST", ["a.test"], ["a b", False]),
        ("QUEUE_DIR", ["a", 5], ["", True]),
        ("SMTP_CA_FILE", ["", "a"], [False]),
        ("ATTACHMENT_DIRS", ["", "a:b"], [True]),
        ("MAILER_RESTART_CRON", ["", "* * * * *", "0 * * * * *"], ["x", "* * * *", 5]),
        ("MAIL_FROM_ADDR", ["", "a@b.test"], ["a", "@", 5]),
        ("SECRET_KEY", [_KEY, _KEY.rstrip("=")], [f"____{_KEY}", True]),
        ("SECRET_KEY_OLD", ["", _KEY, f"{_KEY}, {_KEY}"], [f"____{_KEY}", True]),
        ("REDIS_SENTINELS", ["", "a", "a:1, [::1]:2"], ["a@b:1", "redis://a", True]),
        ("SMTP_OAUTH2_TOKEN_COMMAND", [""], [True]),
        ("SMTP_RATE_LIMIT", ["", "10/s", "300/m", "5000/h", "2000/d"], ["x", "0/s", 5, True]),
        ("QUEUE_RETRY_FACTOR", [1, 1.5, "2.25", "100"], [0.5, 101, "x", "", True]),
    )

    def test_schema_and_reader_agree(self) -> None:
        kinds = set()
        for key, good, bad in self.agreed:
            kind = OPTIONS[key].kind
            kinds.add(type(kind))
            validator = jsonschema.Draft202012Validator(kind.schema())
            for raw in good:
                self.assertTrue(validator.is_valid(raw), (key, raw))
                _make(**{key: raw})
            for raw in bad:
                self.assertFalse(validator.is_valid(raw), (key, raw))
                self.fault(**{key: raw})
        self.assertEqual(kinds, {type(option.kind) for option in OPTIONS.values()})


class TableTests(_Case):
    """Each key is said once."""

    def test_every_attribute_with_a_key_has_all_that_is_said_about_it(self) -> None:
        names = [field.name.upper() for field in attrs.fields(Settings)]
        self.assertEqual([*OPTIONS, "BASE_PATH", "SECRET_FILES", "WARNINGS"], names)
        for key, option in OPTIONS.items():
            self.assertEqual(option.key, key)
            self.assertRegex(option.help, r"\A[A-Zt].*\.\Z", key)

    def test_secrets_are_out_of_repr(self) -> None:
        secrets = {key for key, option in OPTIONS.items() if option.secret}
        self.assertEqual(
            secrets,
            {
                "MAILER_AUTH_HASH",
                "REDIS_USER",
                "REDIS_PASSWORD",
                "REDIS_SENTINEL_USER",
                "REDIS_SENTINEL_PASSWORD",
                "SECRET_KEY",
                "SECRET_KEY_OLD",
                "SMTP_PASSWORD",
                "SMTP_OAUTH2_CLIENT_SECRET",
                "SMTP_OAUTH2_REFRESH_TOKEN",
            },
        )
        hidden = {field.name.upper() for field in attrs.fields(Settings) if not field.repr}
        self.assertEqual(hidden, secrets)

    def test_the_defaults_of_values_and_of_the_class_agree(self) -> None:
        made = from_values(_LEAST, "")
        plain = Settings(smtp_host="mx.example.com", secret_key=bytes(range(16)))
        self.assertEqual(attrs.evolve(made, warnings=()), plain)

    def test_describe_shows_every_key_and_masks_secrets(self) -> None:
        shown = dict(describe(_make(SMTP_USER="u", SMTP_PASSWORD="p", ATTACHMENT_DIRS="a:b")))
        self.assertEqual(list(shown), list(OPTIONS))
        for key, text in (
            ("SMTP_PASSWORD", "********"),
            ("SECRET_KEY", "********"),
            ("REDIS_PASSWORD", ""),
            ("SMTP_USER", "u"),
            ("SMTP_ENCRYPTION", "tls"),
            ("MAIL_HTML", "true"),
            ("MAILER_AUTH", "false"),
            ("MAILER_PORT", "3000"),
            ("ATTACHMENT_DIRS", "/base/a:/base/b"),
        ):
            self.assertEqual(shown[key], text, key)
        self.assertEqual(dict(describe(_make()))["ATTACHMENT_DIRS"], "(not set)")

    def test_what_describe_shows_reads_back(self) -> None:
        made = _make(SMTP_ENCRYPTION="none", ATTACHMENT_DIRS="a:b", MAIL_HTML="off")
        plain = {key: text for key, text in describe(made) if not OPTIONS[key].secret}
        self.assertEqual(from_values(plain | {"SECRET_KEY": _KEY}, "/base"), made)


class FrontDoorTests(_Case):
    """Keys of the front door that go with others."""

    def test_the_single_hash_is_not_needed_with_a_file_of_keys(self) -> None:
        made = _make(MAILER_AUTH=True, MAILER_KEYS_FILE="keys.json")
        self.assertEqual(made.mailer_keys_file, "/base/keys.json")
        self.assertIn("/base/keys.json", made.secret_files)
        self.fault(MAILER_AUTH=True)

    def test_what_has_no_effect_is_warned_of(self) -> None:
        self.assertTrue(self.warned("MAILER_KEYS_FILE has no", MAILER_KEYS_FILE="keys.json"))
        self.assertTrue(self.warned("MAILER_SSL_CLIENT_CA has no", MAILER_SSL_CLIENT_CA="ca.pem"))
        fine = {"MAILER_PROTO": "ssl", "MAILER_SSL_CERT": "c.pem", "MAILER_SSL_KEY": "k.pem"}
        self.assertFalse(self.warned("has no effect", MAILER_SSL_CLIENT_CA="ca.pem", **fine))
