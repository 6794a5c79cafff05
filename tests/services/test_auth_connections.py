# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.auth: what connections of one address mean for each other."""

from __future__ import annotations

from smtpmailer.core.replies import MISSING
from smtpmailer.core.standing import Standing
from tests.services.passwords import OTHER, AuthCase


class ConnectionTests(AuthCase):
    """Who guesses waits for those who do not behind the same address, too."""

    def exhaust(self) -> None:
        """Let so many refusals be on their way to an address that it has to wait."""
        for _ in range(32):
            self.ask(MISSING, standing=Standing())

    def hashes_for(self, password: str) -> int:
        """Give how many hashes are finished before a new connection gets its answer."""
        answer = self.ask(password, standing=Standing())
        before = self.hashing.runs - len(self.hashing.waiting)
        while not answer.called:
            self.hashing.waiting.pop(0)()
        self.assertIsNotNone(self.successResultOf(answer))
        return self.hashing.runs - len(self.hashing.waiting) - before

    def test_a_new_one_goes_before_those_that_guess(self) -> None:
        self.hashing.slow = True
        for _ in range(100):
            standing = Standing(wrong=1)
            for i in range(20):
                self.ask(f"shop:{id(standing)} {i}", standing=standing)
        self.assertLessEqual(self.hashes_for("news:news:secret"), 3)

    def test_a_new_one_goes_before_those_that_were_closed_after_a_guess(self) -> None:
        self.hashing.slow = True
        for i in range(100):
            standing = Standing()
            self.ask(f"shop:{i}", standing=standing)
            self.auth.leave(standing)
        self.assertEqual(self.auth._queue.waiting, 8)
        self.assertLessEqual(self.hashes_for("news:news:secret"), 3)

    def test_one_that_was_not_wrong_is_looked_at_whatever_came_from_its_address(self) -> None:
        self.exhaust()
        self.granted("news:news:secret")

    def test_one_that_was_wrong_is_not_looked_at_while_its_address_is_exhausted(self) -> None:
        self.exhaust()
        standing = Standing(wrong=1)
        self.assertNoResult(self.ask("news:news:secret", standing=standing))
        self.assertEqual(self.hashing.runs, 0)
        self.clock.advance(10)
        self.assertIsNotNone(self.successResultOf(self.ask("news:news:secret", standing=standing)))

    def test_what_it_gave_is_kept_with_it(self) -> None:
        standing = Standing()
        for password in ("news:news:secret", "wrong", MISSING, None, "shop-secret"):
            self.ask(password, OTHER, standing)
        self.assertEqual((standing.right, standing.wrong), (True, 4))

    def test_a_remembered_password_is_a_right_one_too(self) -> None:
        self.granted("pässword")
        standing = Standing()
        self.ask("pässword", standing=standing)
        self.assertTrue(standing.trusted)

    def test_what_was_not_looked_at_is_not_wrong(self) -> None:
        self.hashing.slow = True
        standing = Standing()
        for i in range(30):
            self.ask(f"news:{i}", standing=standing)
        self.assertEqual(standing.wrong, 0)
