# SPDX-License-Identifier: MIT
"""Requests for which nothing has to be done are answered at once, and like all others."""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any

import bcrypt
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.grants import EVERYTHING, Grant
from smtpmailer.core.keys import Key
from smtpmailer.core.replies import Reply, success
from smtpmailer.core.standing import Standing
from smtpmailer.dispatcher import REQUESTS, Arguments, Dispatcher, Handler
from smtpmailer.interfaces import IAuth
from smtpmailer.protocol import ProtocolLimits
from smtpmailer.services.auth import PasswordAuth
from smtpmailer.services.status import PONG
from smtpmailer.threads import InlineThreads
from tests.connections import HELD, Client, make_factory

_HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode("ascii")
_PROMPT = {"ping": PONG}
_LINE = PONG.encode()

_VALUES: st.SearchStrategy[Any] = st.sampled_from([None, 1, "x", [], {"a": [1]}])
_KEYS = st.sampled_from(["ping", "auth", "id", "detail", "once", "content", "status", "nonsense"])
_PASSWORDS = st.sampled_from(["right", "wrong", None, 5])
_FIELD = _KEYS.flatmap(
    lambda key: st.tuples(
        st.just(key),
        _PASSWORDS if key == "auth" else st.booleans() if key == "detail" else _VALUES,
    )
)
#: Half of them begin with a ping.
_FIELDS = st.builds(
    lambda ping, others: dict(([("ping", None)] if ping else []) + others),
    st.booleans(),
    st.lists(_FIELD, max_size=3),
)


class _Turns(Clock):
    """A clock on which what is put off in a turn waits for the next one, as in a reactor."""

    def turn(self, seconds: float = 0.0) -> None:
        """Let so much time pass, and run what is due now."""
        self.rightNow += seconds
        due = [call for call in self.calls if call.getTime() <= self.seconds()]
        for call in due:
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


class _Case(SynchronousTestCase):
    """Mails end when the test says so."""

    def setUp(self) -> None:
        """Serve."""
        self.clock = Clock()
        self.mails: list[Deferred[Reply]] = []
        self.pinged = 0

    def auth(self, *, requests: tuple[str, ...] = ()) -> PasswordAuth:
        """Ask for the password ``right``."""
        grant = Grant(name="shop", requests=frozenset(requests)) if requests else EVERYTHING
        key = Key(hash=_HASH, grant=grant)
        return PasswordAuth([key], InlineThreads(), self.clock, secret=b"k" * 32)

    def dispatcher(
        self, auth: IAuth | None = None, *, prompt: bool = True, name: str = "ping"
    ) -> Dispatcher:
        """Answer pings, at once if ``prompt``."""
        handlers: dict[str, Handler] = dict.fromkeys(REQUESTS, self._mail)
        handlers[name] = self._ping
        return Dispatcher(handlers, auth, prompt=_PROMPT if prompt else {})

    def _mail(self, _arguments: Arguments) -> Deferred[Reply]:
        self.mails.append(Deferred())
        return self.mails[-1]

    def _ping(self, arguments: Arguments) -> Deferred[Reply]:
        self.pinged += 1
        return succeed(success(None, "pong", {"once": 9}) if arguments.wants_detail else PONG)

    def client(self, dispatcher: Dispatcher, limits: ProtocolLimits | None = None) -> Client:
        """Connect."""
        self.factory = make_factory(dispatcher, self.clock, limits)
        return Client(self.factory)


class PromptTests(_Case):
    """What is prompt and what is not."""

    def test_a_lone_ping_is_answered_without_its_handler(self) -> None:
        client = self.client(self.dispatcher())
        client.write(b'{"ping":null}', b'{"ping":1}\r\n')
        self.assertEqual(client.transport.value(), 2 * _LINE)
        self.assertEqual(self.pinged, 0)

    def test_it_is_counted_like_every_answer(self) -> None:
        client = self.client(self.dispatcher())
        client.write(b'{"ping":1}')
        load = self.factory.load
        counts = (load.requests_answered, load.requests_in_flight, load.buffered_bytes)
        self.assertEqual(counts, (1, 0, 0))
        self.assertEqual(client.protocol._pipeline.answered, 1)

    def test_it_keeps_the_connection_from_being_idle(self) -> None:
        client = self.client(self.dispatcher(), ProtocolLimits(idle_timeout=10))
        for _ in range(5):
            self.clock.advance(9)
            client.write(b'{"ping":1}')
        self.assertEqual(client.transport.value(), 5 * _LINE)
        self.clock.advance(10)
        self.assertTrue(client.closed)

    def test_a_ping_behind_a_mail_waits_for_its_answer(self) -> None:
        client = self.client(self.dispatcher())
        client.write(b'{"sendMail":1}', b'{"ping":1}')
        self.assertEqual(client.transport.value(), b"")
        self.mails[0].callback(success(message="sent"))
        self.assertEqual(client.messages, ["sent", "pong"])

    def test_a_ping_behind_answers_that_are_held_back_waits_for_them(self) -> None:
        client = self.client(self.dispatcher())
        client.write(b'{"ping":1,"id":1}{"ping":1,"id":2}', b'{"ping":1,"id":3}')
        self.assertEqual(client.transport.value(), b"")
        self.clock.pump([0, HELD, HELD, HELD])
        self.assertEqual([answer["id"] for answer in client.answers], [1, 2, 3])

    def test_a_ping_waits_for_those_that_were_not_begun_with_yet(self) -> None:
        self.clock = clock = _Turns()
        client = self.client(self.dispatcher(), ProtocolLimits(max_in_flight=10))
        client.write(b"".join(b'{"ping":1,"id":%d}' % number for number in range(250)))
        clock.turn()
        clock.turn(HELD)
        self.assertIn(len(client.answers), range(100, 200))
        client.write(b'{"ping":1,"id":250}')
        for _ in range(9):
            clock.turn(HELD)
        self.assertEqual([answer["id"] for answer in client.answers], list(range(251)))

    def test_what_follows_it_is_no_client_s_first_word(self) -> None:
        client = self.client(self.dispatcher())
        client.write(b'{"ping":1}', b"\x16\x03\x01")
        self.assertEqual(client.messages, ["pong", "payload cannot be empty"])

    def test_a_client_that_takes_no_answers_gets_none_at_once(self) -> None:
        client = self.client(self.dispatcher())
        client.protocol.pauseProducing()
        client.write(b'{"ping":1}')
        self.assertEqual(client.transport.value(), b"")
        client.protocol.resumeProducing()
        self.assertEqual(client.transport.value(), _LINE)

    def test_after_the_input_s_end_nothing_is_answered(self) -> None:
        client = self.client(self.dispatcher())
        client.protocol.stop_reading()
        client.write(b'{"ping":1}')
        self.assertEqual(client.transport.value(), b"")

    def test_a_segment_that_may_go_on_is_read_to_its_end_first(self) -> None:
        client = self.client(self.dispatcher())
        client.write(b'{"ping":"%s"}' % (b"x" * 16384))
        self.assertEqual(client.transport.value(), b"")
        self.clock.advance(0)
        self.assertEqual(client.transport.value(), _LINE)


class EndTests(_Case):
    """A connection that is gone leaves nothing behind."""

    def setUp(self) -> None:
        """Collect no garbage."""
        super().setUp()
        gc.disable()
        self.addCleanup(gc.enable)

    def test_it_goes_without_the_garbage_collector(self) -> None:
        client = self.client(self.dispatcher())
        client.write(b'{"ping":1}', b'{"sendMail":1}')
        connection = weakref.ref(client.protocol)
        client.transport.unregisterProducer()
        client.lose()
        del client
        self.assertIsNotNone(connection(), "a mail of it is under way")
        self.mails.pop().callback(success(message="sent"))
        self.assertIsNone(connection())

    def test_one_without_requests_goes_at_once(self) -> None:
        client = self.client(self.dispatcher())
        connection = weakref.ref(client.protocol)
        client.transport.unregisterProducer()
        client.lose()
        del client
        self.assertIsNone(connection())


class PasswordTests(_Case):
    """A prompt answer is for those who may have it."""

    def test_a_password_is_checked_before_it_is_known(self) -> None:
        auth = self.auth()
        dispatcher, standing = self.dispatcher(auth), Standing()
        request = {"ping": None, "auth": "right"}
        self.assertIsNone(dispatcher.prompt(request, "192.0.2.1", standing))
        self.successResultOf(auth.check("right", "192.0.2.1", standing))
        new = Standing()
        self.assertEqual(dispatcher.prompt(request, "192.0.2.1", new), _LINE)
        self.assertTrue(new.trusted)
        for wrong in ({"ping": None}, {"ping": None, "auth": "wrong"}, {"auth": "right"}):
            self.assertIsNone(dispatcher.prompt(wrong, "192.0.2.1", standing), wrong)

    def test_what_is_known_is_forgotten_with_the_keys(self) -> None:
        auth = self.auth()
        self.successResultOf(auth.check("right", "192.0.2.1", Standing()))
        auth.use([])
        self.assertIsNone(auth.known("right", "192.0.2.1", Standing()))

    def test_a_key_that_may_not_ping_gets_no_answer_of_this_kind(self) -> None:
        auth = self.auth(requests=("sendMail",))
        self.successResultOf(auth.check("right", "192.0.2.1", Standing()))
        request = {"ping": None, "auth": "right"}
        self.assertIsNone(self.dispatcher(auth).prompt(request, "192.0.2.1", Standing()))


class AgreementTests(_Case):
    """Whoever asks gets the same answer, at once or not."""

    def _told(self, segments: list[bytes], *, prompt: bool, guarded: bool) -> tuple[Any, ...]:
        self.clock, self.mails = Clock(), []
        auth = self.auth() if guarded else None
        client = self.client(self.dispatcher(auth, prompt=prompt))
        for segment in segments:
            client.write(segment)
            self.clock.pump([0, HELD, HELD])
        for mail in self.mails:
            mail.callback(success(message="done"))
        # Wrong passwords are answered late.
        self.clock.pump([1.0] * 60)
        load = self.factory.load
        numbers = (load.requests_answered, load.requests_in_flight, load.buffered_bytes)
        return client.transport.value(), numbers, client.closed

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(
        requests=st.lists(st.lists(_FIELDS, min_size=1, max_size=3), min_size=1, max_size=4),
        cut=st.integers(0, 40),
        guarded=st.booleans(),
    )
    @example(requests=[[{"ping": 1, "auth": "right"}]] * 3, cut=0, guarded=True)
    def test_all_requests_in_all_segments(
        self, *, requests: list[list[dict[str, Any]]], cut: int, guarded: bool
    ) -> None:
        segments = ["".join(map(json.dumps, group)).encode() for group in requests]
        first = segments[0]
        segments[:1] = [part for part in (first[:cut], first[cut:]) if part]
        prompt = self._told(segments, prompt=True, guarded=guarded)
        self.assertEqual(prompt, self._told(segments, prompt=False, guarded=guarded))
