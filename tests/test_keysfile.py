# SPDX-License-Identifier: MIT
"""Tests of keysfile: who has the file may use the service, so it is looked at closely."""

from __future__ import annotations

import json
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer import configuration, keysfile
from smtpmailer.core.settings import Settings
from smtpmailer.core.settings_reading import from_values
from smtpmailer.errors import SettingsError
from smtpmailer.keysfile import load_keys

_HASH = "$2y$10$VV6J0ctCv.OVnU2YYv.uNe5WsmwX7KHRqO2nhjY5CKJjzDZwRuuiu"
_KEYS = [{"name": "shop", "hash": _HASH, "requests": ["sendMail"]}]


class LoadKeysTests(SynchronousTestCase):
    """All keys, or every fault."""

    def settings(self, path: str = "", **more: object) -> Settings:
        """Make settings that name a file of keys."""
        values: dict[str, object] = {
            "SMTP_HOST": "smtp.example.org",
            "MAILER_QUEUE": False,
            "EMAIL_TEMPLATE": False,
            "MAILER_AUTH": True,
            "MAILER_KEYS_FILE": path,
        }
        return from_values(values | more, str(Path.cwd()))

    def file(self, content: object, mode: int = 0o600) -> str:
        """Write a file of keys; a text as it is, else as JSON."""
        path = Path(self.mktemp()).absolute()
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        path.chmod(mode)
        return str(path)

    def fault(self, path: str) -> str:
        """Give the only fault, which check-config tells too."""
        settings = self.settings(path)
        error = self.assertRaises(SettingsError, load_keys, settings)
        assert isinstance(error, SettingsError)
        (fault,) = error.faults
        self.assertIn(fault, configuration.file_faults(settings))
        self.assertTrue(fault.startswith(f"MAILER_KEYS_FILE = {path}: "), fault)
        return fault

    def test_the_single_password_comes_first(self) -> None:
        settings = self.settings(self.file(_KEYS), MAILER_AUTH_HASH=_HASH)
        self.assertEqual([key.grant.name for key in load_keys(settings)], ["", "shop"])
        self.assertEqual(configuration.file_faults(settings), [])

    def test_keys_are_enough(self) -> None:
        self.assertEqual(
            [k.grant.name for k in load_keys(self.settings(self.file(_KEYS)))], ["shop"]
        )

    def test_without_authentication_there_are_none(self) -> None:
        settings = self.settings("/missing", MAILER_AUTH=False)
        self.assertEqual(load_keys(settings), ())
        self.assertTrue(any("MAILER_KEYS_FILE has no effect" in w for w in settings.warnings))

    def test_the_single_password_is_enough(self) -> None:
        settings = self.settings(MAILER_AUTH_HASH=_HASH)
        self.assertEqual([key.hash for key in load_keys(settings)], [_HASH])

    def test_others_must_not_be_able_to_use_it(self) -> None:
        for mode in (0o640, 0o604, 0o620, 0o610, 0o666):
            self.assertIn(f"(mode {mode:04o}); chmod 600 it", self.fault(self.file(_KEYS, mode)))

    def test_the_service_may_read_one_of_root_through_its_group(self) -> None:
        """As it is made under a package: root's, with the group of the service's user."""
        path = self.file(_KEYS, 0o640)
        found = Path(path).stat()
        self.patch(os, "geteuid", lambda: found.st_uid + 1)
        self.patch(os, "getegid", lambda: found.st_gid + 1)
        self.assertIn("chmod 600 it", self.fault(path))
        self.patch(os, "getegid", lambda: found.st_gid)
        self.assertEqual(len(load_keys(self.settings(path))), 1)
        for mode in (0o644, 0o660, 0o650):
            self.assertIn("chmod 640 it", self.fault(self.file(_KEYS, mode)))

    def test_no_mail_may_carry_it(self) -> None:
        path = self.file(_KEYS)
        self.assertIn(path, self.settings(path).secret_files)

    def test_a_fault_names_its_place_and_shows_no_hash(self) -> None:
        fault = self.fault(self.file([{"name": "shop", "hash": _HASH, "limit": 1}]))
        self.assertIn("0: Additional object properties are not allowed: limit", fault)
        fault = self.fault(self.file('[{"name":"shop",\n "hash":"' + _HASH + '"'))
        self.assertIn("malformed JSON at line 2", fault)
        self.assertNotIn(_HASH, fault)

    def test_what_is_no_file_is_a_fault_and_holds_nothing_up(self) -> None:
        fifo = Path(self.mktemp()).absolute()
        os.mkfifo(fifo, 0o600)
        self.assertIn("is no file", self.fault(str(fifo)))
        self.assertIn("is no file", self.fault("/dev/zero"))
        self.assertIn("cannot be read: No such file", self.fault("/missing/keys.json"))

    def test_a_file_that_is_much_too_large_is_a_fault(self) -> None:
        self.patch(keysfile, "_LARGEST_BYTES", 10)
        self.assertIn("larger than 10 bytes", self.fault(self.file(_KEYS)))
