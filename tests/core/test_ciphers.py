# SPDX-License-Identifier: MIT
"""Sealing and opening what the queue stores."""

from __future__ import annotations

import base64

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.ciphers import KEY_BYTES, NONCE_BYTES, open_sealed, seal
from smtpmailer.errors import CipherError
from tests.vectors import load_vectors

VECTORS = load_vectors("queue-ciphers.json")


def key_of(method: str, first: int = 0) -> bytes:
    return bytes((first + n) % 256 for n in range(KEY_BYTES[method]))


class CipherTests(SynchronousTestCase):
    """Every method, every key."""

    def test_what_the_predecessor_wrote_is_read(self) -> None:
        self.assertEqual({row["method"] for row in VECTORS}, set(KEY_BYTES))
        for row in VECTORS:
            plain = open_sealed(row["ciphertext"], [base64.b64decode(row["secretKey"])])
            self.assertEqual(plain.decode(), row["plaintext"])

    def test_the_same_nonce_gives_the_predecessor_s_text(self) -> None:
        for row in VECTORS:
            method, key = row["method"], base64.b64decode(row["secretKey"])
            nonce = base64.b64decode(row["ciphertext"])[: NONCE_BYTES[method]]
            sealed = seal(method, key, nonce, row["plaintext"].encode())
            self.assertEqual(sealed, row["ciphertext"])

    @settings(deadline=None, max_examples=60, derandomize=True)
    @given(st.sampled_from(sorted(KEY_BYTES)), st.binary(max_size=300), st.integers(0, 2**96 - 1))
    def test_what_was_sealed_is_opened(self, method: str, plain: bytes, nonce: int) -> None:
        sealed = seal(method, key_of(method), nonce.to_bytes(NONCE_BYTES[method], "big"), plain)
        self.assertEqual(open_sealed(sealed, [key_of(method)]), plain)

    def test_the_first_key_that_fits_counts(self) -> None:
        for row in VECTORS:
            keys = [key_of("AES128"), key_of("AES256", 7), base64.b64decode(row["secretKey"])]
            self.assertEqual(open_sealed(row["ciphertext"], keys).decode(), row["plaintext"])

    def test_keys_of_wrong_length_are_padded_or_cut_as_before(self) -> None:
        nonce = bytes(12)
        padded = seal("AES256", b"short".ljust(32, b"\0"), nonce, b"x")
        self.assertEqual(open_sealed(padded, [b"short"]), b"x")
        cut = seal("AES128", key_of("AES256")[:16], nonce, b"x")
        self.assertEqual(open_sealed(cut, [key_of("AES256")]), b"x")

    def test_another_key_opens_nothing(self) -> None:
        for row in VECTORS:
            with self.assertRaisesRegex(CipherError, "SECRET_KEY"):
                open_sealed(row["ciphertext"], [key_of("AES128"), key_of("AES256")])
        with self.assertRaises(CipherError):
            open_sealed(VECTORS[0]["ciphertext"], [])

    def test_a_changed_text_opens_nothing(self) -> None:
        for row in VECTORS:
            data = bytearray(base64.b64decode(row["ciphertext"]))
            for place in (0, len(data) // 2, len(data) - 1):
                data[place] ^= 1
                with self.assertRaises(CipherError):
                    open_sealed(
                        base64.b64encode(data).decode(), [base64.b64decode(row["secretKey"])]
                    )
                data[place] ^= 1

    def test_what_is_too_short_or_no_base64_is_refused(self) -> None:
        for text in ("", "AAAA", "not base64!", "é", "AAA", base64.b64encode(bytes(27)).decode()):
            with self.assertRaises(CipherError, msg=text):
                open_sealed(text, [key_of("AES128")])
