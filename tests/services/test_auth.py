# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.auth."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from smtpmailer.core.grants import EVERYTHING, Grant
from smtpmailer.core.keys import Key
from smtpmailer.core.replies import MISSING
from smtpmailer.core.standing import Standing
from smtpmailer.errors import ThreadsStoppedError
from smtpmailer.interfaces import IAuth
from smtpmailer.services import auth, penalties
from tests.services.passwords import NEWS, OTHER, PEER, SHOP, AuthCase, hash_of


class RightTests(AuthCase):
    """A right password is let in, and pays for the hash once in a while."""

    def test_it_is_an_auth(self) -> None:
        verifyObject(IAuth, self.auth)

    def test_the_single_password_allows_everything(self) -> None:
        self.assertEqual(self.granted("pässword"), EVERYTHING)

    def test_a_key_is_found_with_its_name_and_without(self) -> None:
        for text in ("shop-secret", "shop:shop-secret"):
            self.assertEqual(self.granted(text), SHOP.grant)
        self.assertEqual(self.granted("news:news:secret"), NEWS.grant)

    def test_the_name_in_front_decides_which_hash_is_compared(self) -> None:
        self.granted("news:news:secret")
        self.assertEqual(self.hashing.runs, 1)
        self.refused_after("news:shop-secret")

    def test_a_single_password_may_look_like_a_name_with_a_password(self) -> None:
        single = Key(hash=hash_of("shop:x"), grant=EVERYTHING)
        self.auth.use([single, SHOP])
        self.assertEqual(self.granted("shop:x"), EVERYTHING)

    def test_it_is_hashed_once_in_a_while(self) -> None:
        for _ in range(5):
            self.granted("pässword")
        self.assertEqual(self.hashing.runs, 1)
        self.clock.advance(60)
        self.granted("pässword")
        self.assertEqual(self.hashing.runs, 2)

    def test_a_busy_client_is_remembered_on(self) -> None:
        for _ in range(10):
            self.granted("pässword")
            self.clock.advance(50)
        self.assertEqual(self.hashing.runs, 1)

    def test_all_who_bring_it_at_the_same_time_share_one_hash(self) -> None:
        self.hashing.slow = True
        answers = [self.ask("pässword", f"192.0.2.{i}") for i in range(100)]
        self.hashing.finish()
        self.assertEqual([self.successResultOf(a) for a in answers], [EVERYTHING] * 100)
        self.assertEqual(self.hashing.runs, 1)

    def test_new_keys_make_it_forgotten(self) -> None:
        self.granted("pässword")
        self.auth.use([SHOP])
        self.refused_after("pässword")

    def test_a_comparison_with_old_keys_lets_nobody_in(self) -> None:
        self.hashing.slow = True
        answer = self.ask("pässword")
        self.auth.use([Key(hash=hash_of("new"), grant=EVERYTHING)])
        self.hashing.finish()
        self.clock.advance(1)
        self.assertIsNone(self.successResultOf(answer))

    def test_a_comparison_with_old_keys_is_not_shared_with_who_asks_later(self) -> None:
        self.hashing.slow = True
        self.ask("pässword")
        self.auth.use([Key(hash=hash_of("new"), grant=EVERYTHING)])
        answer = self.ask("pässword")
        self.hashing.finish()
        self.clock.advance(1)
        self.assertIsNone(self.successResultOf(answer))

    def test_a_remembered_password_lets_no_other_in(self) -> None:
        self.granted("pässword")
        self.refused_after("passwort")


class WrongTests(AuthCase):
    """Everything else waits for its answer, and learns nothing from it."""

    def test_anything_else_is_refused(self) -> None:
        for wrong in ("", "passwort", "pässword\0", None, 5, True, ["x"], "\ud800", "x" * 2000):
            self.refused_after(wrong, OTHER)

    def test_missing_and_ill_typed_ones_take_as_long_as_wrong_ones(self) -> None:
        times = {
            self.refused_after(password, f"192.0.2.{i}")
            for i, password in enumerate(("wrong", MISSING, None, 5, "x" * 2000, ""))
        }
        self.assertEqual(times, {1.0})

    def test_how_long_it_was_looked_at_does_not_show(self) -> None:
        self.hashing.slow = True
        answer = self.ask("wrong")
        self.clock.advance(0.7)
        self.hashing.finish()
        self.clock.advance(0.3)
        self.assertIsNone(self.successResultOf(answer))

    def test_the_delay_grows_to_a_ceiling(self) -> None:
        waits = [self.refused_after(f"wrong {i}") for i in range(7)]
        self.assertEqual(waits, [1, 2, 4, 8, 10, 10, 10])

    def test_each_address_counts_for_itself_and_is_forgotten(self) -> None:
        self.refused_after("a")
        self.assertEqual(self.refused_after("b", OTHER), 1)
        self.assertEqual(self.refused_after("c"), 2)
        self.clock.advance(900)
        self.assertEqual(self.refused_after("d"), 1)

    def test_right_ones_do_not_wait_for_wrong_ones_of_their_address(self) -> None:
        self.granted("pässword")
        for i in range(200):
            self.ask(f"wrong {i}")
        self.granted("pässword")

    def test_a_wrong_one_is_hashed_once(self) -> None:
        for _ in range(3):
            self.refused_after("wrong")
        self.assertEqual(self.hashing.runs, 3, "one for each key")

    def test_without_a_name_only_the_first_keys_are_tried(self) -> None:
        self.auth.use([Key(hash=SHOP.hash, grant=Grant(name=f"k{i}")) for i in range(50)])
        self.refused_after("wrong")
        self.assertEqual(self.hashing.runs, 8)
        self.assertEqual(self.granted("k49:shop-secret").name, "k49")

    def test_a_key_used_from_elsewhere_is_answered_like_a_wrong_password(self) -> None:
        self.granted("shop-secret")
        with capturedLogs() as events:
            self.assertEqual(self.refused_after("shop-secret", OTHER), 1)
        self.assertIn("shop", events[0]["why"])
        self.granted("shop-secret", "::ffff:192.0.2.9")

    def test_when_the_service_stops_nothing_is_delayed(self) -> None:
        waiting = self.ask("wrong")
        self.auth.stop()
        self.assertIsNone(self.successResultOf(waiting))
        self.assertIsNone(self.successResultOf(self.ask("wrong")))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class FloodTests(AuthCase):
    """Who guesses waits for everybody else, and can't fill the service's memory."""

    def setUp(self) -> None:
        super().setUp()
        self.hashing.slow = True

    def test_a_new_client_goes_before_those_who_guess(self) -> None:
        for _ in range(3):
            self.auth._penalties.refuse(OTHER, "wrong", 0, Standing())
        for i in range(100):
            self.ask(f"wrong {i}", OTHER)
        answer = self.ask("shop:shop-secret", PEER)
        # Two hashes were under way already.
        for _ in range(3):
            self.hashing.waiting.pop(0)()
        self.assertEqual(self.successResultOf(answer), SHOP.grant)

    def test_of_those_that_wait_the_one_with_fewest_wrong_ones_is_next(self) -> None:
        guesser = "203.0.113.9"
        self.auth._penalties.refuse(guesser, "wrong", 0, Standing())
        for i in range(2):
            self.ask(f"news:{i}", f"10.0.0.{i}")
        guess = self.ask("shop:wrong", guesser)
        answer = self.ask("news:news:secret")
        self.hashing.waiting.pop(0)()
        self.hashing.waiting.pop(1)()
        self.assertEqual(self.successResultOf(answer), NEWS.grant)
        self.assertNoResult(guess)

    def test_the_queue_is_short_for_one_connection_and_in_all(self) -> None:
        for i in range(100):
            self.ask(f"wrong {i}", OTHER)
        self.assertEqual(self.auth._queue.waiting, 8)
        for i in range(400):
            self.ask(f"guess {i}", f"10.0.{i % 100}.1")
        self.assertEqual(self.auth._queue.waiting, 256)

    def test_what_was_not_looked_at_is_refused_late_too_and_not_taken_for_wrong(self) -> None:
        for i in range(100):
            self.ask(f"wrong {i}")
        answer = self.ask("pässword")
        self.assertNoResult(answer)
        self.clock.advance(10)
        self.assertIsNone(self.successResultOf(answer))
        self.hashing.slow = False
        self.hashing.finish()
        self.clock.advance(900)
        self.granted("pässword")

    def test_addresses_are_remembered_up_to_a_limit(self) -> None:
        self.patch(penalties, "_ADDRESSES", 40)
        for i in range(100):
            self.ask(MISSING, f"10.0.0.{i}")
        self.assertEqual(len(self.auth._penalties._records), 40)

    def test_when_no_hash_can_be_computed_nobody_is_let_in(self) -> None:
        def broken() -> Deferred[bool]:
            return fail(ThreadsStoppedError())

        self.patch(self.hashing, "run", lambda _work: broken())
        for _ in range(2):
            self.failureResultOf(self.ask("pässword"), ThreadsStoppedError)

    def test_wrong_ones_are_remembered_up_to_a_limit(self) -> None:
        self.hashing.slow = False
        self.patch(auth, "_WRONG", 10)
        for i in range(12):
            self.ask(f"wrong {i}", f"10.1.0.{i}")
        self.assertEqual(len(self.auth._wrong), 10)

    def test_all_of_an_ipv6_network_are_one_address(self) -> None:
        for i in range(1, 50):
            self.ask(MISSING, f"2001:db8::{i:x}")
        self.assertEqual(list(self.auth._penalties._records), ["2001:db8::/64"])


class AdmitTests(AuthCase):
    """What a key is for."""

    def test_other_requests_are_refused(self) -> None:
        self.assertEqual(self.auth.admit(SHOP.grant, "ping"), "")
        self.assertIn("not for this request", self.auth.admit(SHOP.grant, "clearQueue"))
        self.assertEqual(self.auth.admit(EVERYTHING, "clearQueue"), "")

    def test_mails_are_counted_and_come_back_with_time(self) -> None:
        said = [self.auth.admit(SHOP.grant, name) for name in ("sendMail", "queueMail", "sendMail")]
        self.assertEqual(said, ["", "", "its key is for 2 mails a minute"])
        self.assertEqual(self.auth.admit(SHOP.grant, "ping"), "")
        self.clock.advance(30)
        self.assertEqual(self.auth.admit(SHOP.grant, "sendMail"), "")
        self.assertNotEqual(self.auth.admit(SHOP.grant, "sendMail"), "")

    def test_reading_the_keys_again_does_not_fill_the_bucket(self) -> None:
        for _ in range(2):
            self.auth.admit(SHOP.grant, "sendMail")
        self.auth.use([SHOP])
        self.assertNotEqual(self.auth.admit(SHOP.grant, "sendMail"), "")


class LogTests(AuthCase):
    """The log tells who guesses, and not what."""

    def test_a_refusal_is_logged_with_address_and_count_and_without_the_password(self) -> None:
        with capturedLogs() as events:
            self.refused_after("passwort")
            self.refused_after("passwort")
        self.assertEqual([event["peer"] for event in events], [PEER, PEER])
        self.assertEqual([event["count"] for event in events], [1, 2])
        self.assertNotIn("passwort", repr(events))

    def test_a_flood_does_not_flood_the_log(self) -> None:
        with capturedLogs() as events:
            for i in range(300):
                self.ask(MISSING, f"10.2.{i >> 8}.{i & 255}")
                self.ask(MISSING, PEER)
        self.assertLess(len(events), 20)
        self.clock.advance(61)
        with capturedLogs() as later:
            self.ask(MISSING, PEER)
        self.assertIn("left out", later[0]["more"])
