# SPDX-License-Identifier: MIT
"""Tests of the dispatcher: the order of checks, and a reply whatever happens."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from smtpmailer.core.documents import broken, read
from smtpmailer.core.grants import EVERYTHING, Grant
from smtpmailer.core.replies import MISSING, Reply, error, success
from smtpmailer.core.standing import Standing
from smtpmailer.dispatcher import REQUESTS, Arguments, Dispatcher, Gate, Gates, Handler
from smtpmailer.errors import (
    BadDocumentError,
    FramingError,
    LimitError,
    NoRecipientError,
    NotAllowedError,
    RequestInvalidError,
)
from smtpmailer.interfaces import IAuth, IDispatcher

_PONG = {"status": "success", "data": None, "message": "pong"}
_OPEN = Gates(
    queue_enabled=True, queue_read_only=False, template_enabled=True, template_read_only=False
)
_PEER = "192.0.2.1"
_LIMITED = Grant(name="shop", requests=frozenset({"ping", "sendMail"}))


@implementer(IAuth)
class _OnePassword:
    """Knows the password ``right``; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.standings: list[Standing] = []
        self.left: list[Standing] = []

    def check(self, password: object, _peer: str, standing: Standing) -> Deferred[Grant | None]:
        self.asked.append(password)
        self.standings.append(standing)
        if password == "broken":
            return fail(RuntimeError("no threads left"))
        grants = {"right": EVERYTHING, "limited": _LIMITED}
        return succeed(grants.get(password) if isinstance(password, str) else None)

    def leave(self, standing: Standing) -> None:
        self.left.append(standing)

    def known(self, _password: object, _peer: str, _standing: Standing) -> Grant | None:
        return None

    def admit(self, grant: Grant, request: str) -> str:
        return "" if grant.allows_request(request) else "its key is not for this request"


def _fail(fault: Exception, _arguments: Arguments) -> Deferred[Reply]:
    return fail(fault)


def _refused(message: str, data: object = None) -> dict[str, Any]:
    return {"status": "error", "data": data, "message": message}


class _DispatcherCase(SynchronousTestCase):
    """Asks a dispatcher and decodes its replies."""

    def setUp(self) -> None:
        self.seen: list[Arguments] = []
        self.auth = _OnePassword()
        self.open = self.make()
        self.guarded = self.make(auth=self.auth)

    def make(
        self,
        *,
        auth: IAuth | None = None,
        gates: Gates = _OPEN,
        answer: Callable[[Arguments], Deferred[Reply]] | None = None,
        missing: Gate | None = None,
    ) -> Dispatcher:
        def handler(arguments: Arguments) -> Deferred[Reply]:
            self.seen.append(arguments)
            return succeed(success(message="pong", detail={"mailId": "m"}))

        names = [name for name, rule in REQUESTS.items() if rule.gate is not missing]
        handlers: Mapping[str, Handler] = dict.fromkeys(names, answer or handler)
        return Dispatcher(handlers, auth, gates)

    def ask(self, dispatcher: Dispatcher, text: str) -> dict[str, Any]:
        deferred = dispatcher.handle(read(text.encode()), _PEER)
        answer: dict[str, Any] = json.loads(self.successResultOf(deferred).encode())
        return answer


class OrderTests(_DispatcherCase):
    """What is looked at first decides the answer."""

    def test_it_provides_its_interface(self) -> None:
        verifyObject(IDispatcher, self.open)

    def test_the_first_key_is_the_request_and_the_rest_are_arguments(self) -> None:
        answer = self.ask(self.open, '{"addTemplate":"t","content":null,"ping":1}')
        self.assertEqual(answer, _PONG)
        expected = Arguments(value="t", content=None, has_content=True, peer=_PEER)
        self.assertEqual(self.seen, [expected])

    def test_a_request_without_content_says_so(self) -> None:
        self.ask(self.open, '{"ping":[]}')
        self.assertEqual(self.seen, [Arguments(value=[], peer=_PEER)])

    def test_any_other_first_key_is_invalid(self) -> None:
        for text in ('{"x":1,"ping":1}', '{"":1}', '{"content":1}', '{"Ping":1}', "[1]"):
            self.assertEqual(self.ask(self.open, text), _refused("invalid request"), text)
        self.assertEqual(self.seen, [])

    def test_an_empty_payload_is_told_before_the_name_is_looked_for(self) -> None:
        for text in ("{}", "[]", "null", '""', "0"):
            self.assertEqual(self.ask(self.open, text), _refused("payload cannot be empty"))

    def test_of_a_repeated_first_key_the_last_value_counts(self) -> None:
        self.ask(self.open, '{"ping":1,"x":0,"ping":2}')
        self.assertEqual(self.seen[0].value, 2)

    def test_a_disabled_service_is_told_before_read_only(self) -> None:
        closed = self.make(gates=Gates())
        for name, rule in REQUESTS.items():
            if rule.gate is not Gate.NONE:
                expected = _refused(f"{rule.gate.value} service is not enabled")
                self.assertEqual(self.ask(closed, f'{{"{name}":5}}'), expected)
            else:
                self.assertEqual(self.ask(closed, f'{{"{name}":5}}'), _PONG)

    def test_a_read_only_service_refuses_exactly_what_writes(self) -> None:
        read_only = self.make(gates=Gates(queue_enabled=True, template_enabled=True))
        refused = {
            name: answer["message"]
            for name in REQUESTS
            if (answer := self.ask(read_only, f'{{"{name}":5}}'))["status"] == "error"
        }
        queue: tuple[str, ...] = ("updateQueuedMail", "removeQueuedMail", "clearQueue")
        queue += ("retryFailedMail", "removeFailedMail", "clearFailed")
        template = ("addTemplate", "updateTemplate", "removeTemplate", "clearTemplate")
        expected = dict.fromkeys(queue, "queue service is read-only")
        expected.update(dict.fromkeys(template, "template service is read-only"))
        self.assertEqual(refused, expected)

    def test_one_service_s_flags_do_not_concern_the_other(self) -> None:
        queue_only = self.make(gates=Gates(queue_enabled=True, queue_read_only=False))
        self.assertEqual(self.ask(queue_only, '{"clearQueue":0}'), _PONG)
        self.assertEqual(
            self.ask(queue_only, '{"getTemplate":0}'), _refused("template service is not enabled")
        )

    def test_a_service_that_is_not_built_is_off_whatever_the_flags(self) -> None:
        dispatcher = self.make(missing=Gate.QUEUE)
        for name in ("queueMail", "clearQueue"):
            expected = _refused("queue service is not enabled")
            self.assertEqual(self.ask(dispatcher, f'{{"{name}":5}}'), expected)

    def test_handlers_must_be_of_known_requests_and_the_ungated_ones_complete(self) -> None:
        ping = dict.fromkeys(("ping", "status"), lambda _: succeed(success()))
        wrong = {**ping, "sendMail": ping["ping"], "nope": ping["ping"]}
        self.assertIn("sendMail", str(self.assertRaises(ValueError, Dispatcher, ping)))
        self.assertIn("nope", str(self.assertRaises(ValueError, Dispatcher, wrong)))


class AuthTests(_DispatcherCase):
    """Without the right password nothing is learnt."""

    def test_the_password_may_stand_anywhere(self) -> None:
        for text in (
            '{"auth":"right","ping":1}',
            '{"ping":1,"auth":"right"}',
            '{"ping":1,"auth":"right","content":2}',
        ):
            self.assertEqual(self.ask(self.guarded, text), _PONG)

    def test_without_the_right_password_every_request_is_answered_alike(self) -> None:
        for text in (
            '{"ping":1}',
            '{"ping":1,"auth":"wrong"}',
            '{"auth":["right"],"ping":1}',
            '{"nope":1}',
            "{}",
            "[]",
            "[1]",
            '{"ping" 1}',
            '{"auth":"x"}',
        ):
            self.assertEqual(self.ask(self.guarded, text), _refused("unauthorized request"), text)
        self.assertEqual(self.seen, [])

    def test_a_missing_password_is_told_from_null(self) -> None:
        self.ask(self.guarded, '{"ping":1}')
        self.ask(self.guarded, '{"ping":1,"auth":null}')
        self.assertEqual(self.auth.asked, [MISSING, None])

    def test_an_object_that_held_only_the_password_is_empty(self) -> None:
        expected = _refused("payload cannot be empty")
        self.assertEqual(self.ask(self.guarded, '{"auth":"right"}'), expected)

    def test_the_name_is_the_first_key_once_the_password_is_out(self) -> None:
        expected = _refused("invalid request")
        self.assertEqual(self.ask(self.guarded, '{"auth":"right","x":1,"ping":1}'), expected)

    def test_with_authentication_off_the_password_is_ignored_unless_it_comes_first(self) -> None:
        self.assertEqual(self.ask(self.open, '{"ping":1,"auth":5}'), _PONG)
        for text in ('{"auth":"right","ping":1}', '{"auth":"right"}'):
            self.assertEqual(self.ask(self.open, text), _refused("invalid request"))

    def test_input_that_is_no_request_learns_nothing_but_limits(self) -> None:
        unauthorized = _refused("unauthorized request")
        for fault in (FramingError("", empty=True), FramingError("x"), BadDocumentError(1, "x")):
            reply = self.guarded.reject(fault, _PEER)
            self.assertEqual(json.loads(reply.encode()), unauthorized)
        reply = self.guarded.reject(LimitError("too big", "invalid payload"), _PEER)
        self.assertEqual(json.loads(reply.encode()), _refused("invalid payload", "too big"))

    def test_a_limited_key_gets_what_it_is_for_and_learns_nothing_of_the_rest(self) -> None:
        self.assertEqual(self.ask(self.guarded, '{"ping":1,"auth":"limited"}'), _PONG)
        self.assertEqual(self.seen, [Arguments(value=1, peer=_PEER, grant=_LIMITED)])
        for text in ('{"clearQueue":1,"auth":"limited"}', '{"nope":1,"auth":"limited"}'):
            with capturedLogs() as events:
                answer = self.ask(self.guarded, text)
            self.assertEqual(answer, _refused("unauthorized request"))
            (event,) = events
            self.assertEqual((event["key"], event["peer"]), ("shop", _PEER))
            self.assertIn("not for this request", event["why"])
        self.assertEqual(len(self.seen), 1)

    def test_what_a_handler_finds_forbidden_is_unauthorized_and_logged_why(self) -> None:
        answer = functools.partial(_fail, NotAllowedError("not its sender"))
        dispatcher = self.make(auth=self.auth, answer=answer)
        with capturedLogs() as events:
            refused = self.ask(dispatcher, '{"sendMail":1,"auth":"limited","id":4}')
        self.assertEqual(refused, {**_refused("unauthorized request"), "id": 4})
        self.assertEqual([event["why"] for event in events], ["not its sender"])

    def test_each_request_has_a_number_that_log_lines_and_handlers_have(self) -> None:
        with capturedLogs() as events:
            self.ask(self.open, '{"nope":1}')
            self.ask(self.open, '{"ping":1}')
            self.open.reject(FramingError("x"), _PEER)
            self.ask(self.open, '{"nope":1}')
        self.assertEqual([event["request"] for event in events], [1, 3, 4])
        self.assertEqual([arguments.request for arguments in self.seen], [2])
        self.assertEqual(
            [formatEvent(event) for event in events[:2]],
            [
                f"unknown request 1, 'nope', from {_PEER}",
                f"input from {_PEER} (request 3) refused: 'x'",
            ],
        )

    def test_a_connection_is_judged_by_its_own_standing(self) -> None:
        document, standing = read(b'{"ping":1,"auth":"right"}'), Standing()
        for _ in range(2):
            self.successResultOf(self.guarded.handle(document, _PEER, standing))
        self.successResultOf(self.guarded.handle(document, _PEER))
        self.successResultOf(self.guarded.handle(document, _PEER))
        self.assertEqual(self.auth.standings[:2], [standing, standing])
        self.assertEqual(len(set(self.auth.standings)), 3)

    def test_who_asks_no_more_is_told_to_those_who_judge(self) -> None:
        standing = Standing()
        for dispatcher in (self.guarded, self.open):
            dispatcher.leave(standing)
        self.assertEqual(self.auth.left, [standing])

    def test_a_check_that_breaks_lets_nobody_in(self) -> None:
        answer = self.ask(self.guarded, '{"ping":1,"auth":"broken"}')
        self.assertEqual(answer, _refused("exception occurred"))
        self.assertEqual((len(self.flushLoggedErrors(RuntimeError)), self.seen), (1, []))


class ReplyTests(_DispatcherCase):
    """Replies carry what was asked for and no more."""

    def test_faults_of_handlers_become_replies(self) -> None:
        cases = (
            (RequestInvalidError({"to": ["x"]}), _refused("invalid payload", {"to": ["x"]})),
            (NoRecipientError(), _refused("invalid payload", str(NoRecipientError()))),
        )
        for fault, expected in cases:
            dispatcher = self.make(answer=functools.partial(_fail, fault))
            self.assertEqual(self.ask(dispatcher, '{"ping":1}'), expected)

    def test_an_unexpected_exception_is_logged_and_says_nothing_of_itself(self) -> None:
        def later(_: Arguments) -> Deferred[Reply]:
            return fail(ZeroDivisionError("secret"))

        def at_once(_: Arguments) -> Deferred[Reply]:
            raise ZeroDivisionError("secret")

        for answer in (later, at_once):
            reply = self.ask(self.make(answer=answer), '{"ping":1,"id":7}')
            self.assertEqual(reply, {**_refused("exception occurred"), "id": 7})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_a_scalar_id_comes_back_as_the_fourth_key(self) -> None:
        for text in ("7", '"x"', "null", "false", "1.5"):
            answer = self.ask(self.open, f'{{"ping":1,"id":{text}}}')
            self.assertEqual(list(answer), ["status", "data", "message", "id"])
            self.assertEqual(answer["id"], json.loads(text))

    def test_an_id_comes_back_with_errors_too(self) -> None:
        self.assertEqual(self.ask(self.open, '{"x":1,"id":7}')["id"], 7)
        self.assertEqual(self.ask(self.guarded, '{"ping":1,"id":7}')["id"], 7)

    def test_an_id_that_is_no_scalar_or_comes_first_is_ignored(self) -> None:
        for text in ('{"ping":1,"id":[]}', '{"ping":1,"id":{}}'):
            self.assertEqual(self.ask(self.open, text), _PONG)
        self.assertEqual(self.ask(self.open, '{"id":7,"ping":1}'), _refused("invalid request"))

    def test_detail_is_shown_when_asked_for_with_true(self) -> None:
        for text in ('{"ping":1}', '{"ping":1,"detail":1}', '{"ping":1,"detail":"true"}'):
            self.assertEqual(self.ask(self.open, text), _PONG)
        answer = self.ask(self.open, '{"ping":1,"detail":true,"id":2}')
        self.assertEqual(answer, {**_PONG, "id": 2, "detail": {"mailId": "m"}})
        self.assertEqual([a.wants_detail for a in self.seen], [False, False, False, True])

    def test_a_key_goes_with_requests_that_make_a_mail(self) -> None:
        for name in ("sendMail", "queueMail"):
            self.ask(self.open, f'{{"{name}":{{}},"once":"order-17"}}')
            self.ask(self.open, f'{{"{name}":{{}}}}')
        self.assertEqual([each.once for each in self.seen], ["order-17", ""] * 2)

    def test_a_key_is_refused_elsewhere(self) -> None:
        for name in REQUESTS.keys() - {"sendMail", "queueMail"}:
            answer = self.ask(self.open, f'{{"{name}":null,"once":"k"}}')
            expected = _refused(
                "invalid payload", {"once": ["goes with sendMail and queueMail only"]}
            )
            self.assertEqual(answer, expected)
        self.assertEqual(self.seen, [])

    def test_what_is_no_key_is_refused(self) -> None:
        text = "has to be a string of 1 to 64 visible ASCII characters, such as a UUID"
        for key in ('""', "null", "5", "true", '["k"]', '"a b"', '"ä"', f'"{"x" * 65}"'):
            answer = self.ask(self.open, f'{{"queueMail":{{}},"once":{key}}}')
            self.assertEqual(answer, _refused("invalid payload", {"once": [text]}), key)
        self.assertEqual(self.seen, [])

    def test_a_key_is_looked_at_last(self) -> None:
        self.assertEqual(
            self.ask(self.make(gates=Gates()), '{"queueMail":{},"once":5}'),
            _refused("queue service is not enabled"),
        )
        self.assertEqual(
            self.ask(self.guarded, '{"queueMail":{},"once":5}'), _refused("unauthorized request")
        )
        self.assertEqual(self.ask(self.open, '{"once":5}'), _refused("invalid request"))

    def test_an_answer_says_whether_it_is_a_repeated_one(self) -> None:
        for repeated in (False, True):
            reply = attrs.evolve(success(message="pong"), repeated=repeated)
            dispatcher = self.make(answer=lambda _, reply=reply: succeed(reply))  # type: ignore[misc]
            answer = self.ask(dispatcher, '{"ping":1,"id":7,"detail":true}')
            expected: dict[str, Any] = {**_PONG, "id": 7, "repeated": repeated, "detail": {}}
            self.assertEqual(list(answer.items()), list(expected.items()))

    def test_detail_is_an_object_also_when_nothing_is_known(self) -> None:
        dispatcher = self.make(answer=lambda _: succeed(error(None, "no")))
        self.assertEqual(self.ask(dispatcher, '{"ping":1,"detail":true}')["detail"], {})

    def test_input_that_is_no_request_is_answered_by_kind(self) -> None:
        cases = (
            (FramingError("x", empty=True), _refused("payload cannot be empty")),
            (FramingError("x"), _refused("invalid payload", "x")),
            (
                BadDocumentError(3, "y"),
                _refused("invalid payload", "malformed JSON at byte 3: y"),
            ),
        )
        for fault, expected in cases:
            deferred = self.open.handle(broken(fault), _PEER)
            self.assertEqual(json.loads(self.successResultOf(deferred).encode()), expected)


class OverlapTests(_DispatcherCase):
    """Which requests may run beside others."""

    def test_only_requests_that_change_nothing_others_read_overlap(self) -> None:
        names = [n for n in REQUESTS if self.open.may_overlap(read(f'{{"{n}":1}}'.encode()))]
        self.assertEqual(names, ["ping", "status", "sendMail", "queueMail"])

    def test_the_name_counts_without_the_password(self) -> None:
        document = read(b'{"auth":"right","addTemplate":1}')
        self.assertFalse(self.guarded.may_overlap(document))

    def test_what_is_only_refused_overlaps(self) -> None:
        for text in (b"{}", b"[1]", b'{"nope":1}', b'{"a" 1}'):
            self.assertTrue(self.open.may_overlap(read(text)), text)
