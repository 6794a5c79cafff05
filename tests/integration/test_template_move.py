# SPDX-License-Identifier: MIT
"""The subcommand template move, from files to Redis and back, and previews from Redis."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.redis_server import DEADLINE, RedisServer, free_port

_ROOT = Path(__file__).resolve().parent.parent.parent
_TEXT = "<p>Grüße {{NAME}}</p>\n"


class TemplateMoveTests(SynchronousTestCase):
    """The command works on both stores without a service."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="smtpmailer-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.directory = self.folder / "Template" / "html"
        self.directory.mkdir(parents=True)

    def redis(self) -> RedisServer:
        """Start a Redis, and write an env file for it."""
        server = RedisServer()
        self.addCleanup(server.clean_up)
        self.write_env(server.port)
        return server

    def write_env(self, port: int, more: str = "") -> None:
        """Write an env file."""
        env = self.folder / ".env"
        env.touch(mode=0o600)
        env.write_text(
            "SMTP_HOST = smtp.example.test\nMAILER_QUEUE = false\nREDIS_ENABLE = true\n"
            f"REDIS_PORT = {port}\nREDIS_STORE_TEMPLATE = true\n{more}"
        )

    def command(self, *arguments: str, status: int = 0) -> str:
        """Run a subcommand of template; give its standard output."""
        command = [sys.executable, "-m", "smtpmailer", "template", *arguments]
        done = subprocess.run(
            [*command, "--env", str(self.folder / ".env")],
            cwd=self.folder,
            env={"PYTHONPATH": str(_ROOT), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            check=False,
            timeout=DEADLINE,
        )
        self.assertEqual(done.returncode, status, done.stderr.decode())
        self.assertNotIn(b"Traceback", done.stderr)
        self.errors = done.stderr.decode()
        return done.stdout.decode()

    def files(self) -> dict[str, str]:
        """Give what lies in the directory."""
        return {path.name: path.read_text("utf-8") for path in self.directory.iterdir()}

    def test_there_and_back_again(self) -> None:
        redis = self.redis()
        for name in ("a.html", "é.html"):
            (self.directory / name).write_text(_TEXT, "utf-8")
        output = self.command("move", "--to", "redis")
        self.assertEqual(output, "a.html: moved\né.html: moved\n")
        self.assertEqual(self.files(), {})
        index = redis.call("ZRANGE", "SMTP_MAILER:index:template", 0, -1)
        self.assertEqual(index, [rb'"\u00e9.html"', b'"a.html"'])
        self.assertEqual(
            self.command("preview", "a.html", "--set", "NAME=you"), "<p>Grüße you</p>\n"
        )
        self.command("preview", "b.html", status=1)
        self.assertIn("template not found: b.html", self.errors)
        output = self.command("move", "--to", "file", "--json")
        self.assertEqual(json.loads(output)["moved"], ["a.html", "é.html"])
        self.assertIn("REDIS_STORE_TEMPLATE = false makes the service use them", self.errors)
        self.assertEqual(self.files(), {"a.html": _TEXT, "é.html": _TEXT})
        self.assertEqual(redis.dump(), {})
        self.command("move", "--to", "file")
        self.assertIn("there are no templates to move", self.errors)

    def test_a_conflict_is_named_and_changes_nothing(self) -> None:
        redis = self.redis()
        redis.call("SET", "SMTP_MAILER:template:a", '"other"')
        redis.call("ZADD", "SMTP_MAILER:index:template", 0, '"a"')
        before = redis.dump()
        (self.directory / "a").write_text("mine")
        output = self.command("move", "--to", "redis", status=1)
        self.assertEqual(output, "a: left alone: there is another text of that name\n")
        self.assertEqual((redis.dump(), self.files()), (before, {"a": "mine"}))

    def test_a_redis_that_is_away_is_said_and_changes_nothing(self) -> None:
        self.write_env(free_port())
        (self.directory / "a").write_text("mine")
        self.command("move", "--to", "redis", status=3)
        self.assertIn("Redis is away: 127.0.0.1:", self.errors)
        self.assertEqual(self.files(), {"a": "mine"})

    def test_faulty_settings_are_said(self) -> None:
        self.write_env(1, 'REDIS_PROTO = "tls"\nREDIS_CA_FILE = ".env"\n')
        self.command("move", "--to", "redis", status=2)
        self.assertIn("holds no PEM certificate", self.errors)
        self.write_env(1, "REDIS_PRTO = tls\n")
        self.command("move", "--to", "redis", status=2)
        self.assertIn("REDIS_PRTO is no known key", self.errors)
