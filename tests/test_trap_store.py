# SPDX-License-Identifier: MIT
"""Tests of what the mail trap keeps and prints."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.trap_store import CaughtMail, TrapStore, clean, describe_mail, subject_of


def caught(content: bytes = b"Subject: s\r\n\r\nb\r\n", **more: Any) -> CaughtMail:
    """Give a caught mail."""
    values: dict[str, Any] = {"sender": "a@b.test", "recipients": ("c@d.test",), "received": 0.5}
    return CaughtMail(**{**values, "content": content, **more})


class StoreTests(SynchronousTestCase):
    """Mails lie as they came, their envelope beside them."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()) / "deep"
        self.store = TrapStore(self.directory)

    def test_content_is_kept_to_the_byte(self) -> None:
        content = bytes(range(256)) + b"\r\n.\r\n"
        self.assertEqual(self.store.keep(caught(content)).read_bytes(), content)

    def test_the_envelope_lies_beside_it(self) -> None:
        mail = caught(
            recipients=("c@d.test", "ü@e.test"), user="u", tls="TLSv1.3", options=("SMTPUTF8",)
        )
        path = self.store.keep(mail).with_suffix(".json")
        self.assertEqual(
            json.loads(path.read_text("utf-8")),
            {
                "received": "1970-01-01T00:00:00.500000+00:00",
                "from": "a@b.test",
                "to": ["c@d.test", "ü@e.test"],
                "options": ["SMTPUTF8"],
                "helo": "",
                "peer": "",
                "user": "u",
                "tls": "TLSv1.3",
                "size": len(mail.content),
            },
        )

    def test_names_sort_in_the_order_of_arrival(self) -> None:
        paths = [self.store.keep(caught(received=at)) for at in (1.0, 1.0, 1.9, 2.0)]
        self.assertEqual(paths, sorted(paths))
        self.assertEqual(paths[0].name, "19700101T000001-0001.eml")

    def test_two_traps_on_one_directory_overwrite_nothing(self) -> None:
        other = TrapStore(self.directory)
        paths = {self.store.keep(caught(b"1\r\n")), other.keep(caught(b"2\r\n"))}
        self.assertEqual({path.read_bytes() for path in paths}, {b"1\r\n", b"2\r\n"})

    def test_only_the_owner_may_read(self) -> None:
        path = self.store.keep(caught())
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.directory.stat().st_mode), 0o700)

    def test_nothing_unfinished_is_left(self) -> None:
        self.store.keep(caught())
        names = sorted(path.suffix for path in self.directory.iterdir())
        self.assertEqual(names, [".eml", ".json"])

    def test_a_directory_that_is_a_file_is_an_os_error(self) -> None:
        self.directory.parent.mkdir()
        self.directory.write_text("")
        self.assertRaises(OSError, self.store.keep, caught())


class DescriptionTests(SynchronousTestCase):
    """The line of a mail can't steer a terminal."""

    def test_a_line_says_time_envelope_subject_size_and_file(self) -> None:
        mail = caught(recipients=("c@d.test", "e@f.test"))
        line = describe_mail(mail, Path("/m/x.eml"), lambda at: datetime.fromtimestamp(at, UTC))
        self.assertEqual(line, '00:00:00  a@b.test -> c@d.test, e@f.test  "s"  17 bytes  /m/x.eml')

    def test_the_null_sender_is_shown(self) -> None:
        line = describe_mail(
            caught(sender=""), Path("x"), lambda at: datetime.fromtimestamp(at, UTC)
        )
        self.assertIn("<> -> c@d.test", line)

    def test_subjects_are_decoded(self) -> None:
        for raw, expected in (
            (b"Subject: plain\r\n\r\n", "plain"),
            (b"subject: =?utf-8?b?w4TDlg==?=\r\n =?utf-8?q?_=C3=9C?=\r\n\r\n", "ÄÖ Ü"),
            (b"Subject: a\r\n folded\r\n\r\n", "a folded"),
            ("Subject: roh ü\r\n\r\n".encode(), "roh ü"),
            (b"Subject: \xff\r\n\r\n", "\ufffd"),
            (b"Subject: =?nonsense?b?w4TDlg==?=\r\n\r\n", "=?nonsense?b?w4TDlg==?="),
            (b"Subject: =?utf-8?b?x?=\r\n\r\n", "=?utf-8?b?x?="),
            (b"From: x\r\n\r\nSubject: body\r\n", ""),
            (b"", ""),
        ):
            self.assertEqual(subject_of(raw), expected, raw)

    def test_escape_sequences_do_not_come_through(self) -> None:
        """Neither raw, nor encoded, nor by characters that turn the direction."""
        self.assertEqual(subject_of(b"Subject: =?utf-8?b?G1sySmE=?=\r\n\r\n"), "[2Ja")
        self.assertEqual(clean("a\x1b]0;x\x07\x9b\u202eb"), "a ]0;x b")

    def test_long_subjects_are_cut(self) -> None:
        self.assertEqual(subject_of(b"Subject: " + b"x" * 500, limit=10), "x" * 9 + "…")
