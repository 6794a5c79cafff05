# SPDX-License-Identifier: MIT
"""Reading configurations from files and the environment."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from unittest import mock

import attrs
import jsonschema
from twisted.trial.unittest import SynchronousTestCase

from scripts import make_env_schema
from smtpmailer import configuration
from smtpmailer.core import envfile
from smtpmailer.core.model import Encryption
from smtpmailer.core.settings import OPTIONS, Settings
from smtpmailer.errors import EnvFileError, SettingsError

_KEY = base64.b64encode(bytes(16)).decode("ascii")
_LEAST = f'SMTP_HOST = "mx.example.com"\nSECRET_KEY = {_KEY}\nATTACHMENT_DIRS = "a"\n'

#: As a user of the predecessor has it.
_MIGRATED = """\
; Service configuration
[config]
MAILER_PROTO = "tcp" ; tcp or ssl
MAILER_ADDR = "127.0.0.1"
MAILER_PORT = 3333
MAILER_SSL_CERT = "" ; certificate
MAILER_SSL_KEY = ""
MAILER_WORKERS = 4
MAILER_MAX_MEMORY = 64 ; in MB
MAILER_MAX_REQUEST = -1
MAILER_RESTART_CRON = ""
MAILER_TIMEOUT = 1; in secs
MAILER_LOG = true
MAILER_LOG_LEVEL = "debug" ; "debug", "info", "notice", "warning" or "error"
MAILER_LOG_OUTPUT = "error_log"
[auth]
MAILER_AUTH = true
MAILER_AUTH_HASH_METHOD = "bcrypt"
MAILER_AUTH_HASH = "$2y$10$VV6J0ctCv.OVnU2YYv.uNe5WsmwX7KHRqO2nhjY5CKJjzDZwRuuiu"
[redis]
REDIS_ENABLE = true
REDIS_PROTO = "tcp" ; tcp or tls
REDIS_ADDR = "127.0.0.1"
REDIS_PORT = 6379
REDIS_KEY_PREFIX = "SMTP_MAILER_TEST:"
REDIS_TIMEOUT = 0 ; in secs, 0 for unlimited
REDIS_RETRY_INTERVAL = 100 ; in ms
REDIS_READ_TIMEOUT = 10
REDIS_STORE_QUEUE = true
REDIS_STORE_TEMPLATE = true
REDIS_RESET_STATS_ON_START = true
REDIS_USER = ""
REDIS_PASSWORD = ""
[queue]
MAILER_QUEUE = true
MAILER_QUEUE_API_READ_ONLY = false
QUEUE_SCAN_MODE = "interval" ; "interval" or "cron"
QUEUE_SCAN_CRON = ""
QUEUE_SCAN_INTERVAL = 60
QUEUE_MAX_BATCH_SIZE = 20
QUEUE_MAX_FAILED_RETRY = 1 ; 0 to disable, -1 for infinite retry
QUEUE_DIR = "Queue/mail/"
QUEUE_PROCESS_DIR = "Queue/temp/"
QUEUE_FULL_ENCRYPT = false
QUEUE_ENCRYPT_METHOD = "XChaCha20"
SECRET_KEY = "NhC+pl0ANF5KOzofhqjgGntEh92aX/5zDnZzXU+kl5o="
[smtp]
SMTP_HOST = "smtp.example.test"
SMTP_USER = "user@example.test"
SMTP_PASSWORD = "abc12345"
SMTP_ENCRYPTION = "tls" ; "tls" or "ssl"
SMTP_PORT = 587
[mail]
MAIL_HTML = true
MAIL_CHARSET = "utf-8"
MAIL_ENCODING = "8bit"
MAIL_FROM_ADDR = "user@example.test"
MAIL_FROM_NAME = "Test System"
[template]
EMAIL_TEMPLATE = true
EMAIL_TEMPLATE_DIR = "Template/html/"
EMAIL_TEMPLATE_API_READ_ONLY = false
EMAIL_TEMPLATE_STRING_TAG_OPEN = "{{"
EMAIL_TEMPLATE_STRING_TAG_CLOSE = "}}"
"""


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.dir = Path(self.mktemp()).absolute()
        self.dir.mkdir()

    def write(self, text: str, name: str = "test.env", mode: int = 0o600) -> str:
        path = self.dir / name
        path.write_text(text, "utf-8")
        path.chmod(mode)
        return str(path)

    def load(
        self, text: str = _LEAST, environ: Mapping[str, str] | None = None, base: str | None = None
    ) -> Settings:
        return configuration.load(self.write(text), base, environ or {})


class LoadTests(_Case):
    """Where values come from."""

    def test_a_file_of_the_predecessor_works_unchanged(self) -> None:
        for text in (_MIGRATED, "\ufeff" + _MIGRATED.replace("\n", "\r\n")):
            made = self.load(text)
            self.assertEqual(made.mailer_timeout, 1)
            self.assertEqual(made.secret_key[:2], b"\x36\x10")
            self.assertEqual(made.smtp_encryption, Encryption.STARTTLS)
            self.assertEqual(made.redis_key_prefix, "SMTP_MAILER_TEST:")
            self.assertEqual(made.queue_dir, f"{self.dir}/Queue/mail")
            self.assertIsNone(made.attachment_dirs)

    def test_environment_beats_named_file_beats_env_file_beats_default(self) -> None:
        secret = self.write("from-file\r\n", "secret")
        text = _LEAST + "SMTP_USER = u\nSMTP_PASSWORD = ini\n"
        self.assertEqual(self.load(_LEAST).smtp_password, "")
        self.assertEqual(self.load(text).smtp_password, "ini")
        environ = {"SMTP_PASSWORD_FILE": secret}
        self.assertEqual(self.load(text, environ).smtp_password, "from-file")
        environ |= {"SMTP_PASSWORD": "env"}
        self.assertEqual(self.load(text, environ).smtp_password, "env")

    def test_a_named_file_that_does_not_count_is_not_read(self) -> None:
        environ = {"REDIS_PASSWORD_FILE": "/nowhere", "REDIS_PASSWORD": "x"}
        self.assertEqual(self.load(_LEAST, environ).redis_password, "x")

    def test_an_empty_variable_counts(self) -> None:
        self.assertEqual(
            self.load(_LEAST + "MAIL_FROM_NAME = x", {"MAIL_FROM_NAME": ""}).mail_from_name, ""
        )

    def test_the_env_file_may_name_a_file_too(self) -> None:
        self.write("pass word \n", "pw")
        made = self.load(_LEAST + "SMTP_USER = u\nSMTP_PASSWORD_FILE = pw")
        self.assertEqual(made.smtp_password, "pass word ")
        self.assertIn(str(self.dir / "pw"), made.secret_files)

    def test_a_file_to_trust_is_a_key_of_its_own(self) -> None:
        self.assertEqual(self.load(_LEAST, {"SMTP_CA_FILE": "ca"}).smtp_ca_file, f"{self.dir}/ca")

    def test_values_of_the_environment_are_read_by_kind(self) -> None:
        environ = {"MAILER_PORT": "2500", "MAIL_HTML": "off", "SMTP_ENCRYPTION": "none"}
        made = self.load(_LEAST, environ)
        got = (made.mailer_port, made.mail_html, made.smtp_encryption)
        self.assertEqual(got, (2500, False, Encryption.NONE))

    def test_foreign_variables_are_nobodys_business_but_foreign_keys_are(self) -> None:
        self.load(_LEAST, {"SMTP_HOTS": "x", "PATH": "/bin", "XYZZY_FILE": "/nowhere"})
        error = self.assertRaises(SettingsError, self.load, _LEAST + "SMTP_HOTS = x")
        self.assertIn("SMTP_HOST", str(error))

    def test_variables_are_replaced_in_the_env_file(self) -> None:
        made = self.load(_LEAST + 'MAIL_FROM_NAME = "${WHO}"', {"WHO": "me"})
        self.assertEqual(made.mail_from_name, "me")

    def test_relative_paths_begin_at_the_base_else_at_the_env_file(self) -> None:
        self.assertEqual(self.load().attachment_dirs, (f"{self.dir}/a",))
        self.assertEqual(self.load(base="/base").attachment_dirs, ("/base/a",))
        made = self.load(base="rel")
        self.assertEqual(made.base_path, str(Path("rel").absolute()))

    def test_without_a_name_the_usual_file_is_read_when_there_is_one(self) -> None:
        environ = {"SMTP_HOST": "env.test", "SECRET_KEY": _KEY}
        base = str(self.dir)
        self.assertEqual(configuration.load(None, base, environ).mail_from_name, "")
        self.write("MAIL_FROM_NAME = x", configuration.DEFAULT_ENV)
        self.assertEqual(configuration.load(None, base, environ).mail_from_name, "x")

    def test_files_with_secrets_are_listed(self) -> None:
        pw = self.write("x", "pw")
        made = self.load(_LEAST + "SMTP_USER=u\nMAILER_SSL_KEY=k", {"SMTP_PASSWORD_FILE": pw})
        self.assertEqual(
            set(made.secret_files), {str(self.dir / "test.env"), pw, str(self.dir / "k")}
        )

    def test_an_env_file_with_secrets_that_others_can_read_is_warned_about(self) -> None:
        for mode, text, warned in (
            (0o640, _LEAST, True),
            (0o604, _LEAST, True),
            (0o600, _LEAST, False),
            (0o644, "SMTP_HOST = a\nMAILER_QUEUE = false\nATTACHMENT_DIRS = a", False),
        ):
            made = configuration.load(self.write(text, mode=mode), None, {})
            self.assertEqual(any("chmod 600" in line for line in made.warnings), warned, mode)

    def test_one_that_we_read_through_its_group_alone_is_not(self) -> None:
        """As a package installs it: root's, with the group of the service's user."""
        file = Path(self.write(_LEAST, mode=0o640))
        self.patch(os, "geteuid", lambda: file.stat().st_uid + 1)
        for group, warned in ((file.stat().st_gid, False), (file.stat().st_gid + 1, True)):
            self.patch(os, "getegid", partial(int, group))
            made = configuration.load(str(file), None, {})
            self.assertEqual(any("chmod 600" in line for line in made.warnings), warned, group)
        file.chmod(0o644)
        self.patch(os, "getegid", lambda: file.stat().st_gid)
        made = configuration.load(str(file), None, {})
        self.assertTrue(any("chmod 640" in line for line in made.warnings))

    def test_root_is_not_told_to_lock_the_service_out(self) -> None:
        """Root checks what the package made: root's, with the group of the service's user."""
        file = Path(self.write(_LEAST, mode=0o640))
        self.patch(os, "geteuid", int)
        self.patch(os, "getegid", int)
        for group, mode, advice in (
            (1234, 0o640, ""),
            (1234, 0o644, "chmod 640 it"),
            (0, 0o640, "chmod 600 it"),
        ):
            file.chmod(mode)
            found = file.stat()
            values = (*found[:4], 0, group, *found[6:])
            with mock.patch("pathlib.Path.stat", return_value=os.stat_result(values)):
                made = configuration.load(str(file), None, {})
            told = [line.rpartition("; ")[2] for line in made.warnings if "secrets" in line]
            self.assertEqual(told, [advice] if advice else [], (group, mode))


class FaultTests(_Case):
    """What can't be read."""

    def test_an_env_file_that_cannot_be_read_is_named(self) -> None:
        (self.dir / "bytes").write_bytes(b"A = \xff")
        (self.dir / "large").write_bytes(b"\n" * (1024 * 1024 + 1))
        for name, words in (
            ("none", "No such file"),
            (".", "directory"),
            ("bytes", "not UTF-8 at byte 4"),
            ("large", "larger than"),
            ("nul\0", "null"),
        ):
            path = f"{self.dir}/{name}"
            error = self.assertRaises(EnvFileError, configuration.load, path, None, {})
            self.assertIn("cannot read the env file", str(error))
            self.assertIn(words, str(error))
            self.assertIn(str(Path(path)), str(error))

    def test_a_line_that_is_no_entry_is_named_with_its_file(self) -> None:
        error = self.assertRaises(EnvFileError, self.load, "x\ny\n")
        self.assertEqual(
            [line.split(" is ")[0] for line in str(error).split("\n")],
            [f"{self.dir}/test.env: line 1", f"{self.dir}/test.env: line 2"],
        )

    def test_a_named_file_that_cannot_be_read_is_one_fault_of_all(self) -> None:
        environ = {"REDIS_PASSWORD_FILE": "/nowhere"}
        error = self.assertRaises(SettingsError, self.load, _LEAST + "MAILER_PORT = x", environ)
        self.assertEqual(len(error.faults), 2)
        self.assertIn("REDIS_PASSWORD_FILE: cannot read /nowhere: No such", error.faults[0])
        alone = self.assertRaises(SettingsError, self.load, _LEAST, environ)
        self.assertEqual(alone.faults, error.faults[:1])

    def test_a_fault_says_whether_the_environment_or_a_file_set_the_value(self) -> None:
        port = self.write("x", "port")
        for environ, words in (
            ({"MAILER_PORT": "x"}, "(from the environment)"),
            ({"MAILER_PORT_FILE": port}, f"(from {port})"),
        ):
            error = self.assertRaises(SettingsError, self.load, _LEAST, environ)
            self.assertIn(words, str(error))


class FileFaultTests(_Case):
    """Files and directories in use."""

    def faults(self, **values: object) -> list[str]:
        return configuration.file_faults(attrs.evolve(self.load(), **values))  # type: ignore[arg-type] # any field

    def test_directories_that_can_be_made_are_no_fault(self) -> None:
        self.assertEqual(self.faults(), [])
        self.assertEqual(list(self.dir.iterdir()), [self.dir / "test.env"])

    def test_files_in_the_place_of_directories_are_faults(self) -> None:
        file = self.write("", "file")
        lines = self.faults(
            queue_dir=f"{file}/mail", queue_process_dir=file, email_template_dir=file
        )
        keys = [line.split()[0] for line in lines]
        self.assertEqual(keys, ["QUEUE_DIR", "QUEUE_PROCESS_DIR", "EMAIL_TEMPLATE_DIR"])
        self.assertIn(f"{file} is no directory", lines[0])

    def test_directories_out_of_use_may_be_anything(self) -> None:
        bad = dict.fromkeys(("queue_dir", "queue_process_dir", "email_template_dir"), "/dev/null")
        self.assertEqual(len(self.faults(**bad)), 3)
        self.assertEqual(self.faults(**bad, mailer_queue=False, email_template=False), [])

    def test_what_redis_keeps_needs_no_directories(self) -> None:
        bad = dict.fromkeys(("queue_dir", "queue_process_dir", "email_template_dir"), "/dev/null")
        redis = {"redis_store_queue": True, "redis_store_template": True}
        self.assertEqual(self.faults(**bad, **redis, redis_enable=True), [])
        self.assertEqual(len(self.faults(**bad, **redis)), 3)

    def test_the_authorities_of_redis_count_when_redis_is_used(self) -> None:
        gone = {"redis_ca_file": "/nowhere"}
        self.assertEqual(self.faults(**gone), [])
        faults = self.faults(**gone, redis_enable=True)
        self.assertEqual(faults, ["REDIS_CA_FILE = /nowhere does not exist"])

    def test_closed_directories_are_faults(self) -> None:
        def access(_path: object, mode: int) -> bool:
            return not mode & os.W_OK

        there = {
            "queue_dir": str(self.dir),
            "queue_process_dir": "/nowhere/temp",
            "email_template_dir": str(self.dir),
        }
        with mock.patch("os.access", access):
            lines = self.faults(**there)
            changes = self.faults(**there, email_template_api_read_only=False)
        self.assertIn("has to be read and written by the service", lines[0])
        self.assertIn("does not exist, and cannot be made in /", lines[1])
        self.assertEqual(len(lines), 2)
        self.assertIn("EMAIL_TEMPLATE_DIR", changes[2])

    def test_certificate_key_and_authorities_have_to_be_readable_files(self) -> None:
        file = self.write("", "file")
        paths = {"mailer_ssl_cert": str(self.dir), "mailer_ssl_key": "/nowhere"}
        self.assertEqual(self.faults(**paths), [])
        lines = self.faults(**paths, mailer_proto="ssl", smtp_ca_file=file)
        self.assertEqual(
            lines,
            [
                f"MAILER_SSL_CERT = {self.dir} is no file",
                "MAILER_SSL_KEY = /nowhere does not exist",
            ],
        )
        self.assertIn("SMTP_CA_FILE", self.faults(smtp_ca_file="/nowhere")[0])
        with mock.patch("pathlib.Path.open", side_effect=PermissionError(13, "Permission denied")):
            lines = list(configuration._readable("SMTP_CA_FILE", file))
        self.assertEqual(lines, [f"SMTP_CA_FILE = {file} cannot be read: Permission denied"])


class GeneratedFileTests(_Case):
    """What is made from the table of keys."""

    root = Path(make_env_schema.__file__).parent.parent

    def test_committed_files_are_what_the_table_makes(self) -> None:
        for name, render in make_env_schema.FILES.items():
            self.assertEqual(
                (self.root / name).read_text("utf-8"),
                render(),
                f"{name} is out of date: run scripts/make_env_schema.py",
            )

    def test_the_example_has_every_key_and_lacks_only_the_secret_key(self) -> None:
        text = make_env_schema.render_example()
        self.assertEqual(set(envfile.parse(text, {})), set(OPTIONS))
        error = self.assertRaises(SettingsError, self.load, text)
        self.assertEqual([line.split()[0] for line in error.faults], ["SECRET_KEY"])
        made = self.load(text, {"SECRET_KEY": _KEY})
        self.assertEqual(made.attachment_dirs, (f"{self.dir}/Attachments",))
        self.assertEqual(made.warnings, ())

    def test_the_schema_is_one_and_takes_example_and_migrated_files(self) -> None:
        schema = json.loads(make_env_schema.render_schema())
        jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(schema)
        validator.validate(envfile.parse(make_env_schema.render_example(), {}))
        validator.validate(envfile.parse(_MIGRATED, {}))
        self.assertFalse(validator.is_valid({"SMTP_HOST": "a", "SMTP_HOTS": "b"}))
        self.assertFalse(validator.is_valid({}))
        for key in OPTIONS.keys() - {"SMTP_HOST"}:
            self.assertTrue(validator.is_valid({"SMTP_HOST": "a", key: None}), key)

    def test_the_reference_has_a_row_for_every_key(self) -> None:
        text = make_env_schema.render_reference()
        for key in OPTIONS:
            self.assertEqual(text.count(f"| `{key}` |"), 1, key)
