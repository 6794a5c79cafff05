# SPDX-License-Identifier: MIT
"""Send a mail now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.logger import Logger, LogLevel

from smtpmailer.core.mime import Stamp
from smtpmailer.core.model import DeliveryResult, MailRequest, Outcome
from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.core.replies import Effect, Reply, error, success
from smtpmailer.core.requests import Arguments, MailParser
from smtpmailer.core.retry import Moment, Retry, RetryPolicy, Verdict, after_attempt
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import ClientError, RequestInvalidError, StoreError, TemplatesOffError
from smtpmailer.interfaces import ICounters, IQueueStore
from smtpmailer.services.answers import effect_of
from smtpmailer.services.counting import count_failure, count_result
from smtpmailer.services.courier import Courier, Plan
from smtpmailer.services.replies import delivery_detail
from smtpmailer.services.telling import (
    attempt_fields,
    put_off,
    request_domains,
    said_yes,
    told_time,
    with_reply,
)

__all__ = ["MailService", "Requeue"]

_FAILED = "failed to send mail"


@attrs.frozen(kw_only=True)
class Requeue:
    """Where failed mails go for another attempt; ``now`` is Unix seconds, ``jitter`` 0 to 1."""

    store: IQueueStore
    policy: RetryPolicy
    now: Callable[[], float]
    jitter: Callable[[], float]


@attrs.frozen
class _Told:
    """What a log line tells of an attempt whatever came of it."""

    arguments: Arguments
    mail_id: str
    attempt: int
    result: DeliveryResult


class MailService:
    """Answers ``sendMail``."""

    _log = Logger()

    def __init__(
        self,
        parser: MailParser,
        courier: Courier,
        counters: ICounters,
        stamp: Callable[[], Stamp],
        requeue: Requeue | None = None,
    ) -> None:
        """``stamp`` gives each mail its identity; without ``requeue`` a failure is final."""
        self._parser = parser
        self._courier = courier
        self._counters = counters
        self._stamp = stamp
        self._requeue = requeue

    @returns_deferred
    async def send_mail(self, arguments: Arguments) -> Reply:
        """Deliver the mail, then answer what became of it.

        Fails with RequestInvalidError or NoRecipientError when the mail object is none, or its
        template and values don't fit together.
        """
        request = self._parser.accept(arguments.value, arguments.grant)
        # Now: the account that it names may be gone by the time a template was read.
        plan = Plan(routes=self._courier.routes(request))
        stamp = arguments.stamp or self._stamp()
        try:
            # Before, and not in, ``deliver``: what is queued after a failure is what was sent.
            if request.template is not None:
                request = await self._courier.render(request)
            result = await self._courier.deliver(request, stamp, plan)
        except TemplatesOffError as fault:
            return error(None, str(fault), effect=Effect.NONE)
        except RequestInvalidError:
            raise
        except StoreError:
            text = "mail {mail_id} (request {request}): its template can't be read"
            self._log.failure(text, mail_id=stamp.unique, request=arguments.request)
            await count_failure(self._counters)
            return error("the template can't be read now", _FAILED, effect=Effect.NONE)
        except ClientError as fault:
            await count_failure(self._counters)
            self._log.warn(
                "mail {mail_id} from {peer} (request {request}) to {domains} can't be built: {why}",
                mail_id=stamp.unique,
                peer=arguments.peer,
                request=arguments.request,
                domains=request_domains(request),
                why=str(fault),
                outcome="failed",
            )
            return error(str(fault), _FAILED, effect=Effect.NONE)
        await count_result(self._counters, result)
        detail = delivery_detail(stamp.unique, result)
        told = _Told(arguments, stamp.unique, request.fail_to_delivered + 1, result)
        if result.delivered:
            self._tell(told, said_yes(result), "sent")
            return success(None, "mail sent successfully", detail)
        return await self._queue_again(told, request, stamp, detail)

    async def _queue_again(
        self, told: _Told, request: MailRequest, stamp: Stamp, detail: Mapping[str, Any]
    ) -> Reply:
        """Put a mail that failed for now into the queue, and answer that."""
        result = told.result
        verdict = self._verdict(request, stamp, result)
        effect = _effect_of(result)
        if self._requeue is None or not isinstance(verdict, Retry):
            self._tell(told, with_reply(f"failed: {result.reason}", result), "failed")
            return error(result.reason, _FAILED, detail, effect)
        store = self._requeue.store
        name = store.make_name(stamp.epoch_seconds, stamp.unique)
        kept = self._courier.stored(told.arguments.value, request)
        stored = {**kept, "failToDelivered": verdict.failures}
        try:
            await store.put(name, stored, verdict.state)
        except StoreError as fault:
            self._log.failure("mail {mail_id} can't be queued again", mail_id=stamp.unique)
            self._tell(told, with_reply(f"failed: {result.reason}", result), "failed")
            put = effect_of(fault)
            what = "may be queued, or not," if put is Effect.UNKNOWN else "could not be queued"
            why = f"{result.reason} (and it {what} for another attempt)"
            return error(why, _FAILED, detail, put if effect is Effect.NONE else effect)
        self._tell_queued(told, name, verdict.state)
        more = {"queueName": name, "nextAttempt": verdict.state.next_at}
        return error(result.reason, _FAILED, {**detail, **more})

    def _verdict(
        self, request: MailRequest, stamp: Stamp, result: DeliveryResult
    ) -> Verdict | None:
        """Judge what is to become of a mail that failed; None where that is final anyway."""
        requeue = self._requeue
        if requeue is None or not result.temporary:
            return None
        moment = Moment(now=requeue.now(), accepted_at=stamp.epoch_seconds, jitter=requeue.jitter())
        return after_attempt(FRESH, request.fail_to_delivered, result, requeue.policy, moment)

    def _tell_queued(self, told: _Told, name: str, state: MailState) -> None:
        """Write the line on a mail that is in the queue now."""
        outcome = put_off(told.result)
        some = "partly sent, " if outcome == "partly sent" else ""
        when = f"held: {state.held}"
        if state.next_at is not None:
            when = f"again at {told_time(state.next_at)}"
        doubt = ", ".join(state.in_doubt)
        what = f"{some}queued as {name} for another attempt, {when}; {told.result.reason}"
        what = with_reply(what, told.result)
        if doubt:
            outcome = "held" if state.held else "in doubt"
            what += f"; in doubt, may be delivered twice: {doubt}"
        more = {} if state.next_at is None else {"next_at": state.next_at}
        self._tell(told, what, outcome, name=name, **more)

    def _tell(self, told: _Told, what: str, outcome: str, **more: Any) -> None:
        """Write the one line on what became of a mail."""
        self._log.emit(
            LogLevel.info if outcome == "sent" else LogLevel.warn,
            "mail {mail_id} from {peer} (request {request}) to {domains} by {server}, "
            "attempt {attempt}, {seconds:.3f} s: {what}",
            mail_id=told.mail_id,
            peer=told.arguments.peer,
            request=told.arguments.request,
            **attempt_fields(told.result, told.attempt),
            outcome=outcome,
            what=what,
            **more,
        )


def _effect_of(result: DeliveryResult) -> Effect:
    """Say what came of a mail that is not queued: perhaps somebody has it all the same."""
    had = (Outcome.DELIVERED, Outcome.UNCERTAIN)
    return Effect.FINAL if any(o.outcome in had for o in result.outcomes) else Effect.NONE
