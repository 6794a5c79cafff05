# SPDX-License-Identifier: MIT
"""Tests of where the command looks for the service."""

from __future__ import annotations

import contextlib
import io
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.cli.options import make_client
from smtpmailer.cli.output import CommandFailure, ExitStatus
from smtpmailer.client import Client

NOTHING: dict[str, Any] = dict.fromkeys(
    ("host", "port", "tls", "ca_file", "server_name", "env_file", "password_file")
) | {"insecure": False, "timeout": 5.0}


def client(environ: Mapping[str, str] | None = None, **options: Any) -> Client:
    """Give the client for options and an environment."""
    return make_client(NOTHING | options, environ or {})


class WhereTests(SynchronousTestCase):
    """Option, then env file, then environment, then default."""

    def env_file(self, text: str) -> Path:
        """Write an env file."""
        path = Path(self.mktemp())
        path.write_text(text, "utf-8")
        return path

    def test_the_default_is_the_service_s(self) -> None:
        self.assertEqual(client().where, "127.0.0.1:3000")

    def test_each_source_goes_before_the_next(self) -> None:
        environ = {"MAILER_ADDR": "192.0.2.3", "MAILER_PORT": "3"}
        env_file = self.env_file('MAILER_ADDR = "192.0.2.2"\nMAILER_PORT = 2\n')
        self.assertEqual(client(environ).where, "192.0.2.3:3")
        self.assertEqual(client(environ, env_file=env_file).where, "192.0.2.2:2")
        self.assertEqual(client(environ, env_file=env_file, port=1).where, "192.0.2.2:1")
        self.assertEqual(client(environ, env_file=env_file, host="h", port=1).where, "h:1")

    def test_listening_everywhere_means_loopback_here(self) -> None:
        self.assertEqual(client({"MAILER_ADDR": "0.0.0.0"}).where, "127.0.0.1:3000")
        self.assertEqual(client({"MAILER_ADDR": "::"}).where, "[::1]:3000")

    def test_tls_comes_from_the_same_places(self) -> None:
        env_file = self.env_file("MAILER_PROTO = ssl\n")
        self.assertIs(client()._tls, False)
        self.assertIsInstance(client({"MAILER_PROTO": "ssl"})._tls, ssl.SSLContext)
        self.assertIsInstance(client(env_file=env_file)._tls, ssl.SSLContext)
        self.assertIs(client(env_file=env_file, tls=False)._tls, False)

    def test_certificates_are_checked_unless_told_otherwise(self) -> None:
        checked = client(tls=True)._tls
        with contextlib.redirect_stderr(io.StringIO()) as warned:
            unchecked = client(tls=True, insecure=True)._tls
        self.assertIn("--insecure", warned.getvalue())
        assert isinstance(checked, ssl.SSLContext)
        assert isinstance(unchecked, ssl.SSLContext)
        self.assertEqual(checked.verify_mode, ssl.CERT_REQUIRED)
        self.assertTrue(checked.check_hostname)
        self.assertEqual(checked.minimum_version, ssl.TLSVersion.TLSv1_2)
        self.assertEqual(unchecked.verify_mode, ssl.CERT_NONE)

    def test_the_password_comes_from_a_file_else_the_environment(self) -> None:
        path = self.env_file("from file \n")
        environ = {"SMTPMAILER_PASSWORD": "from environment"}
        self.assertIsNone(client()._auth)
        self.assertEqual(client(environ)._auth, "from environment")
        self.assertEqual(client(environ, password_file=path)._auth, "from file ")

    def test_values_that_make_no_sense_are_usage_errors_that_name_them(self) -> None:
        missing = Path(self.mktemp())
        cases: list[tuple[dict[str, str], dict[str, Any], str]] = [
            ({"MAILER_PORT": "x"}, {}, "MAILER_PORT"),
            ({"MAILER_PORT": "0"}, {}, "MAILER_PORT"),
            ({"MAILER_PROTO": "udp"}, {}, "MAILER_PROTO"),
            ({}, {"env_file": missing}, str(missing)),
            ({}, {"env_file": self.env_file("no entry\n")}, "line"),
            ({}, {"password_file": missing}, str(missing)),
            ({}, {"password_file": self.env_file("\n")}, "no password"),
            ({}, {"tls": True, "ca_file": missing}, str(missing)),
            ({}, {"insecure": True}, "--insecure is for TLS"),
            ({}, {"server_name": "x"}, "--server-name is for TLS"),
        ]
        for environ, options, named in cases:
            error = self.assertRaises(CommandFailure, client, environ, **options)
            self.assertEqual(error.exit_code, ExitStatus.USAGE, named)
            self.assertIn(named, error.message)
