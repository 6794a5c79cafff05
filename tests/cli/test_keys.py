# SPDX-License-Identifier: MIT
"""Tests of generate-key and hash-password."""

from __future__ import annotations

import base64

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.cli.main import main
from smtpmailer.core import passwords


class GenerateKeyTests(SynchronousTestCase):
    """A key has the length that its method needs, and is new."""

    def test_lengths(self) -> None:
        for method, length in (("AES128", 16), ("AES256", 32), ("XChaCha20", 32)):
            result = CliRunner().invoke(main, ["generate-key", "--method", method])
            self.assertEqual(result.exit_code, 0)
            self.assertEqual(len(base64.b64decode(result.stdout, validate=False)), length)
            self.assertEqual(result.stdout.count("\n"), 1)

    def test_no_key_comes_twice(self) -> None:
        keys = {CliRunner().invoke(main, ["generate-key"]).stdout for _ in range(3)}
        self.assertEqual(len(keys), 3)

    def test_an_unknown_method_is_wrong_usage(self) -> None:
        self.assertEqual(CliRunner().invoke(main, ["generate-key", "--method", "x"]).exit_code, 2)


class HashPasswordTests(SynchronousTestCase):
    """A hash is one that the service takes."""

    def test_the_service_takes_each_kind(self) -> None:
        for method, kind in (("bcrypt", "bcrypt"), ("argon2id", "sodium"), ("argon2i", "argon2i")):
            result = CliRunner().invoke(
                main, ["hash-password", "--method", method], input="pässwörd\n".encode()
            )
            made = result.stdout.removesuffix("\n")
            self.assertEqual(result.exit_code, 0)
            self.assertEqual(passwords.hash_method(made), kind)
            self.assertTrue(passwords.verify("pässwörd", made))

    def test_the_predecessor_takes_a_bcrypt_hash_too(self) -> None:
        result = CliRunner().invoke(main, ["hash-password"], input="x")
        self.assertTrue(result.stdout.startswith("$2y$12$"))

    def test_passwords_that_no_service_takes_are_refused(self) -> None:
        for method, password, named in (
            ("bcrypt", b"", "empty"),
            ("bcrypt", b"\n", "empty"),
            ("bcrypt", b"a\0b", "NUL"),
            ("bcrypt", b"x" * 73, "argon2id"),
            ("argon2id", b"x" * 1025, "1024"),
            ("bcrypt", b"\xff", "UTF-8"),
        ):
            result = CliRunner().invoke(main, ["hash-password", "--method", method], input=password)
            self.assertEqual(result.exit_code, 2, password)
            self.assertIn(named, result.stderr)
            self.assertEqual(result.stdout, "")

    def test_72_bytes_are_fine_for_bcrypt(self) -> None:
        result = CliRunner().invoke(main, ["hash-password"], input=b"x" * 72 + b"\r\n")
        self.assertTrue(passwords.verify("x" * 72, result.stdout.removesuffix("\n")))
