# SPDX-License-Identifier: MIT
"""Tests of stores.limits_file: lowered limits on a disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.adaptive import GROWTH, LEAST, Lowered
from smtpmailer.stores.limits_file import LimitsFile

HALF = Lowered(connections=0.5, rate=0.25, measured=12.5)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("a", "connections", "rate", "measured", "since")), inner, max_size=5
        )
    ),
    max_leaves=20,
)


class LimitsFileTests(SynchronousTestCase):
    """What was written is read, with the time that has passed."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp(), "state", "limits.json").absolute()
        self.time = 1e9
        self.file = LimitsFile(str(self.path), lambda: self.time)

    def write(self, **notes: Lowered) -> None:
        self.file.write(notes, notes)

    def raw(self, content: bytes) -> dict[str, Lowered]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(content)
        return self.file.read()

    def test_what_was_written_is_read(self) -> None:
        self.write(a=HALF, b=Lowered(connections=0.1))
        found = self.file.read()
        self.assertEqual(found, {"a": HALF, "b": Lowered(connections=0.1)})

    def test_time_passes_while_nobody_runs(self) -> None:
        self.write(a=Lowered(connections=0.5, rate=0.5, age=20))
        self.time += 40
        self.assertEqual(self.file.read()["a"].age, 60)
        self.time += 0.5 / GROWTH
        self.assertEqual(self.file.read(), {})

    def test_it_is_for_its_owner_alone_and_leaves_nothing_beside_it(self) -> None:
        self.write(a=HALF)
        self.write(a=HALF)
        self.assertEqual(os.listdir(self.path.parent), ["limits.json"])
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o700)

    def test_without_anything_to_remember_no_file_is_made_and_an_old_one_is_emptied(self) -> None:
        self.write()
        self.assertFalse(self.path.exists())
        self.write(a=HALF)
        self.file.write({}, ["a"])
        self.assertEqual(orjson.loads(self.path.read_bytes()), {})

    def test_other_processes_notes_stay(self) -> None:
        self.write(a=HALF, b=HALF)
        self.file.write({"c": HALF}, ["b", "c"])
        self.assertEqual(set(self.file.read()), {"a", "c"})

    def test_no_file_and_nonsense_are_nothing(self) -> None:
        self.assertEqual(self.file.read(), {})
        for content in (b"", b"{", b"[]", b"null", b'{"a": 1}', b"\xff", b'{"a": {}}'):
            self.assertEqual(self.raw(content), {}, content)
        self.path.unlink()
        self.path.mkdir()
        self.assertEqual(self.file.read(), {})

    def test_numbers_beyond_reason_are_brought_back(self) -> None:
        entry = {"connections": -5, "rate": 1e9, "measured": -1, "since": self.time + 1e6}
        found = self.raw(orjson.dumps({"a": entry}))["a"]
        self.assertEqual(found, Lowered(connections=LEAST, rate=1.0, measured=0.0, age=0.0))

    def test_what_makes_sense_is_kept_beside_what_does_not(self) -> None:
        self.write(a=HALF)
        document = orjson.loads(self.path.read_bytes()) | {"b": {"rate": "x"}, "c": None}
        self.assertEqual(self.raw(orjson.dumps(document)), {"a": HALF})

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(JSON)
    def test_whatever_json_it_holds_reading_never_fails(self, value: object) -> None:
        for lowered in self.raw(orjson.dumps(value)).values():
            self.assertLessEqual(LEAST, lowered.connections)
            self.assertGreaterEqual(lowered.age, 0)

    def test_where_it_can_not_be_written_that_is_said(self) -> None:
        self.path.parent.parent.mkdir(parents=True)
        self.path.parent.write_bytes(b"no directory")
        with self.assertRaises(OSError):
            self.write(a=HALF)
