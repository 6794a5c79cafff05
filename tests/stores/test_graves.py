# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.stores.graves: several mails of one name."""

from __future__ import annotations

from functools import partial

from smtpmailer.core.names import is_file_name
from smtpmailer.core.queuestate import FRESH
from smtpmailer.stores.graves import Burial
from tests.stores.folders import NEW, OLD, ONE, FolderCase


class GravesTests(FolderCase):
    """Nothing that was buried is ever replaced by another."""

    def bury(self, content: bytes, record: bytes, name: str = ONE) -> None:
        """Let a mail of this name die."""
        self.put(name, content=content)
        self.claim(name)
        burial = Burial(name, None, FRESH, self.graves, record)
        self.finish(partial(self.folder.bury, burial=burial))

    def test_mails_of_the_same_name_lie_beside_each_other_with_their_records(self) -> None:
        buried = [(OLD, b"1"), (NEW, b"2"), (OLD, b"3")]
        for content, record in buried:
            self.bury(content, record)
        names = self.graves.names()
        self.assertEqual(names[0], ONE)
        self.assertEqual([self.graves.read(name) for name in names], buried)
        self.assertTrue(all(map(is_file_name, names)), names)

    def test_each_can_be_put_back_by_itself(self) -> None:
        for content in (OLD, NEW):
            self.bury(content, b"{}")
        for name in self.graves.names():
            unbury = partial(self.folder.unbury, name=name, content=OLD, graves=self.graves)
            self.finish(partial(unbury, state=FRESH))
        self.assertEqual(len(self.place.names(self.place.waiting)), 2)
        self.assertEqual(self.graves.names(), [])

    def test_a_name_that_is_as_long_as_one_may_be_makes_no_difference(self) -> None:
        for name in (f"mail_1.5_{'a' * 186}.json", f"mail_{'1' * 186}.5_a.json"):
            self.assertEqual((len(name), is_file_name(name)), (200, True))
            before = len(self.graves.names())
            for number in range(3):
                self.bury(OLD, b"%d" % number, name)
            self.assertEqual(len(self.graves.names()), before + 3)
