# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.core.passwords."""

from __future__ import annotations

import bcrypt
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.passwords import hash_method, verify
from tests.vectors import load_vectors

VECTORS = load_vectors("password-hashes.json")
BCRYPT = next(v for v in VECTORS if v["method"] == "bcrypt")


class VerifyTests(SynchronousTestCase):
    """Only the right password fits."""

    def test_hashes_of_the_predecessor_verify(self) -> None:
        for vector in VECTORS:
            self.assertTrue(verify(vector["password"], vector["hash"]), vector["method"])

    def test_another_password_does_not(self) -> None:
        for vector in VECTORS:
            self.assertFalse(verify(vector["password"] + "x", vector["hash"]), vector["method"])

    def test_what_stands_behind_a_nul_counts(self) -> None:
        self.assertFalse(verify(BCRYPT["password"] + "\0junk", BCRYPT["hash"]))

    def test_what_stands_behind_72_bytes_counts(self) -> None:
        long = next(v for v in VECTORS if v["password"] == "k" * 72 and v["method"] == "bcrypt")
        self.assertFalse(verify("k" * 73, long["hash"]))

    def test_odd_texts_are_wrong_passwords_not_errors(self) -> None:
        for password in ("", "\ud800", "x" * 1025):
            for vector in VECTORS[:3]:
                self.assertFalse(verify(password, vector["hash"]))

    def test_a_broken_hash_fits_nothing(self) -> None:
        for broken in ("", "x", "$2y$99$" + "a" * 53, "$argon2id$v=19$m=65536,t=2,p=1$x$y"):
            self.assertFalse(verify("abc12345", broken), broken)

    def test_the_common_name_of_the_bcrypt_hash_verifies_too(self) -> None:
        ours = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode("ascii")
        self.assertTrue(ours.startswith("$2b$"))
        self.assertTrue(verify("secret", ours))


class HashMethodTests(SynchronousTestCase):
    """A hash says itself of which kind it is."""

    def test_each_kind_is_known(self) -> None:
        for vector in VECTORS:
            self.assertEqual(hash_method(vector["hash"]), vector["method"])

    def test_another_text_is_of_no_kind(self) -> None:
        for text in ("", "abc", "$1$abc", BCRYPT["hash"][:-1], BCRYPT["hash"] + "\n"):
            self.assertIsNone(hash_method(text), text)
