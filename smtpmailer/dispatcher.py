# SPDX-License-Identifier: MIT
"""From a whole document to the handler its first key names, and always back with a reply.

The order of checks: authentication, empty payload, unknown request, service enabled, read-only,
then the handler looks at its arguments. With authentication on, whatever comes without the right
password learns nothing more than ``unauthorized request``.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from smtpmailer.core.documents import Document
from smtpmailer.core.grants import EVERYTHING, Grant
from smtpmailer.core.once import is_key
from smtpmailer.core.replies import MISSING, Reply, error
from smtpmailer.core.requests import Arguments
from smtpmailer.core.standing import Standing
from smtpmailer.errors import (
    ClientError,
    FramingError,
    LimitError,
    NoRecipientError,
    NotAllowedError,
    RequestInvalidError,
)
from smtpmailer.interfaces import Handler, IAuth, IDispatcher

__all__ = ["REQUESTS", "Arguments", "Dispatcher", "Gate", "Gates", "Handler", "Rule"]

_SCALARS: Final = (str, int, float, bool, type(None))
_SHOWN_CHARACTERS: Final = 80
_UNAUTHORIZED: Final = error(None, "unauthorized request")
_NO_REPLIES: Final[Mapping[str, Reply]] = {}
#: The requests that may be carried out once however often they are made; see services.once.
_ONCE: Final = ("sendMail", "queueMail")


class Gate(enum.Enum):
    """The service a request belongs to, by the name its messages use."""

    NONE = ""
    QUEUE = "queue"
    TEMPLATE = "template"


@attrs.frozen
class Rule:
    """What has to be known of a request before its handler is called.

    ``writes`` requests are refused by a read-only API. ``overlaps`` requests may run beside
    others of the same connection.
    """

    gate: Gate
    writes: bool = False
    overlaps: bool = False


#: Every request of the API.
REQUESTS: Final[Mapping[str, Rule]] = {
    "ping": Rule(Gate.NONE, overlaps=True),
    "status": Rule(Gate.NONE, overlaps=True),
    "sendMail": Rule(Gate.NONE, overlaps=True),
    "queueMail": Rule(Gate.QUEUE, overlaps=True),
    "getQueueList": Rule(Gate.QUEUE),
    "getQueuedMail": Rule(Gate.QUEUE),
    "updateQueuedMail": Rule(Gate.QUEUE, writes=True),
    "removeQueuedMail": Rule(Gate.QUEUE, writes=True),
    "clearQueue": Rule(Gate.QUEUE, writes=True),
    "getMailHistory": Rule(Gate.QUEUE),
    "getFailedList": Rule(Gate.QUEUE),
    "getFailedMail": Rule(Gate.QUEUE),
    "retryFailedMail": Rule(Gate.QUEUE, writes=True),
    "removeFailedMail": Rule(Gate.QUEUE, writes=True),
    "clearFailed": Rule(Gate.QUEUE, writes=True),
    "getTemplateList": Rule(Gate.TEMPLATE),
    "getTemplate": Rule(Gate.TEMPLATE),
    "addTemplate": Rule(Gate.TEMPLATE, writes=True),
    "updateTemplate": Rule(Gate.TEMPLATE, writes=True),
    "removeTemplate": Rule(Gate.TEMPLATE, writes=True),
    "clearTemplate": Rule(Gate.TEMPLATE, writes=True),
}


@attrs.frozen(kw_only=True)
class Gates:
    """Which services are on, and which of their APIs may only read."""

    queue_enabled: bool = False
    queue_read_only: bool = True
    template_enabled: bool = False
    template_read_only: bool = True

    def refusal(self, rule: Rule) -> str | None:
        """Give the message that refuses such a request, or None."""
        if rule.gate is Gate.NONE:
            return None
        enabled, read_only = {
            Gate.QUEUE: (self.queue_enabled, self.queue_read_only),
            Gate.TEMPLATE: (self.template_enabled, self.template_read_only),
        }[rule.gate]
        if not enabled:
            return f"{rule.gate.value} service is not enabled"
        if read_only and rule.writes:
            return f"{rule.gate.value} service is read-only"
        return None


class _Call(NamedTuple):
    """A request: its name if it has one, the whole of it, from whom, and its number here."""

    name: str | None
    value: Any
    peer: str
    number: int


@implementer(IDispatcher)
class Dispatcher:
    """Answers requests by a table of handlers."""

    _log = Logger()

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        auth: IAuth | None = None,
        gates: Gates = Gates(),
        prompt: Mapping[str, Reply] = _NO_REPLIES,
    ) -> None:
        """``handlers`` go by request name; without ``auth`` nobody needs a password.

        ``prompt`` has the replies of handlers that do nothing but always give the same one, where
        a request asks for no detail. None of them makes a mail.
        A request of a gated service that has no handler is answered as if the service were off.
        Raises ValueError for a handler of no known request, and for a missing one without gate.
        """
        ungated = {name for name, rule in REQUESTS.items() if rule.gate is Gate.NONE}
        wrong = (handlers.keys() - REQUESTS.keys()) | (ungated - handlers.keys())
        if wrong:
            raise ValueError(f"handlers unknown or missing: {', '.join(sorted(wrong))}")
        self._handlers = dict(handlers)
        self._numbers = itertools.count(1)
        self._auth = auth
        self._prompt = prompt
        self._lines = {name: reply.encode() for name, reply in prompt.items()}
        self._refusals = {name: gates.refusal(rule) for name, rule in REQUESTS.items()}
        for name in REQUESTS.keys() - handlers.keys():
            self._refusals[name] = f"{REQUESTS[name].gate.value} service is not enabled"

    def handle(
        self, document: Document, peer: str, standing: Standing | None = None
    ) -> Deferred[Reply]:
        """Carry out one whole document; see IDispatcher."""
        if document.error is not None:
            return succeed(self.reject(document.error, peer))
        value = document.value
        fields = value if isinstance(value, dict) else {}
        name = self._name(fields)
        call = _Call(name, value, peer, next(self._numbers))
        # No coroutine: it would take a third of the time that a small request takes.
        if self._auth is None:
            reply = self._carry_out(EVERYTHING, call)
        else:
            granted = self._auth.check(fields.get("auth", MISSING), peer, standing or Standing())
            reply = granted.addCallback(self._carry_out, call)
        return reply.addBoth(self._finished, call, fields)

    def prompt(self, request: Mapping[str, Any], peer: str, standing: Standing) -> bytes | None:
        """Give the answer to a request for which nothing has to be done; see IDispatcher."""
        name = self._name(request) or ""
        line = self._lines.get(name)
        if line is None or (len(request) > 1 and not request.keys() <= {name, "auth", "id"}):
            return None
        if self._auth is not None:
            grant = self._auth.known(request.get("auth"), peer, standing)
            if grant is None or self._auth.admit(grant, name):
                return None
        next(self._numbers)
        if "id" in request:
            return _finish(self._prompt[name], name, request).encode()
        return line

    def reject(self, fault: ClientError, peer: str) -> Reply:
        """Answer for input that never became a request; see IDispatcher."""
        self._log.info(
            "input from {peer} (request {request}) refused: {why}",
            peer=peer,
            request=next(self._numbers),
            why=_shown(str(fault)),
        )
        if isinstance(fault, LimitError):
            return error(str(fault), fault.message)
        if self._auth is not None:
            return _UNAUTHORIZED
        if isinstance(fault, FramingError) and fault.empty:
            return error(None, "payload cannot be empty")
        return error(str(fault), "invalid payload")

    def leave(self, standing: Standing) -> None:
        """Say that a client asks no more; see IDispatcher."""
        if self._auth is not None:
            self._auth.leave(standing)

    def may_overlap(self, document: Document) -> bool:
        """Whether this request may run beside others of its connection; see IDispatcher."""
        if not isinstance(document.value, dict):
            return True
        rule = REQUESTS.get(self._name(document.value) or "")
        return rule is None or rule.overlaps

    def _name(self, fields: Mapping[str, Any]) -> str | None:
        """Give the first key that is left once the password is taken out."""
        for key in fields:
            if key != "auth" or self._auth is None:
                return key
        return None

    def _carry_out(self, grant: Grant | None, call: _Call) -> Deferred[Reply]:
        """Answer a request that ``grant`` may allow; fails as its handler does."""
        if grant is None:
            return succeed(_UNAUTHORIZED)
        try:
            name, refusal = call.name, self._refuse(call, grant)
            if name is None or refusal is not None:
                return succeed(error(None, refusal))
            reply = self._handlers[name](_arguments(name, call, grant))
        except Exception:  # noqa: BLE001 - a Deferred fails instead
            reply = fail()
        return reply if grant is EVERYTHING else reply.addErrback(self._denied, call, grant)

    def _denied(self, failure: Failure, call: _Call, grant: Grant) -> Reply:
        """Answer what a client's key does not allow; the log says why."""
        failure.trap(NotAllowedError)
        self._log.warn(
            "unauthorized request {request}, {name}, from {peer} with key {key}: {why}",
            request=call.number,
            name=_shown(call.name),
            peer=call.peer,
            key=grant.name,
            why=str(failure.value),
        )
        return _UNAUTHORIZED

    def _finished(self, reply: Reply | Failure, call: _Call, fields: Mapping[str, Any]) -> Reply:
        if isinstance(reply, Failure):
            reply = self._failed(reply, call)
        return _finish(reply, call.name, fields)

    def _failed(self, failure: Failure, call: _Call) -> Reply:
        """Answer, whatever happened: the one place that turns exceptions into replies."""
        fault = failure.value
        if isinstance(fault, RequestInvalidError):
            return error(fault.errors, "invalid payload")
        if isinstance(fault, NoRecipientError):
            return error(str(fault), "invalid payload")
        text = "request {request} from {peer} failed"
        self._log.failure(text, failure, request=call.number, peer=call.peer)
        return error(None, "exception occurred")

    def _refuse(self, call: _Call, grant: Grant) -> str | None:
        """Give the message that refuses the request before its handler, or None.

        Raises NotAllowedError when the client's key does.
        """
        name = call.name
        if self._auth is not None and name is not None:
            why = self._auth.admit(grant, name)
            if why:
                raise NotAllowedError(why)
        if name is None and not (isinstance(call.value, list) and call.value):
            return "payload cannot be empty"
        if name is None or name not in REQUESTS:
            text = "unknown request {request}, {name}, from {peer}"
            self._log.info(text, request=call.number, name=_shown(name), peer=call.peer)
            return "invalid request"
        return self._refusals[name]


def _arguments(name: str, call: _Call, grant: Grant) -> Arguments:
    fields = call.value
    return Arguments(
        value=fields[name],
        content=fields.get("content"),
        has_content="content" in fields,
        peer=call.peer,
        wants_detail=fields.get("detail") is True,
        grant=grant,
        request=call.number,
        once=_key(name, fields["once"]) if "once" in fields else "",
    )


def _key(name: str, value: object) -> str:
    """Give a request's key; raises RequestInvalidError for what is none, or where none goes."""
    if name not in _ONCE:
        raise RequestInvalidError({"once": [f"goes with {' and '.join(_ONCE)} only"]})
    if not is_key(value):
        text = "has to be a string of 1 to 64 visible ASCII characters, such as a UUID"
        raise RequestInvalidError({"once": [text]})
    return value


def _finish(reply: Reply, name: str | None, fields: Mapping[str, Any]) -> Reply:
    """Show id and detail exactly when the request asked for them.

    An id that is an array or an object is ignored, as the predecessor ignored every id.
    """
    wanted = fields.get("detail") is True and name != "detail"
    detail = (reply.detail or {}) if wanted else None
    request_id = fields.get("id", MISSING) if name != "id" else MISSING
    if not isinstance(request_id, _SCALARS):
        request_id = MISSING
    if detail is reply.detail and request_id is reply.request_id:
        return reply
    return reply.shown(request_id, detail)


def _shown(text: str | None) -> str:
    """Make a client's text fit for one line of a log."""
    return ascii(text if text is None else text[:_SHOWN_CHARACTERS])
