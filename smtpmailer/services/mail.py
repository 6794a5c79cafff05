# SPDX-License-Identifier: MIT
"""Send a mail now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

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

_SENT: Final = success(None, "mail sent successfully")
_FAILED: Final = "failed to send mail"


@attrs.frozen(kw_only=True)
class Requeue:
    """Where failed mails go for another attempt; ``now`` is Unix seconds, ``jitter`` 0 to 1."""

    store: IQueueStore
    policy: RetryPolicy
    now: Callable[[], float]
    jitter: Callable[[], float]


@attrs.frozen
class _Job:
    """A mail that is being sent: what was asked for, and what was made of it."""

    arguments: Arguments
    mail: MailRequest
    stamp: Stamp
    plan: Plan


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
        *,
        tells_sent: bool = True,
    ) -> None:
        """``stamp`` gives each mail its identity; without ``requeue`` a failure is final.

        With ``tells_sent`` off there is no line on a mail that was sent, for nobody would see it;
        nor on one that was begun then, should that change.
        """
        self._parser = parser
        self._courier = courier
        self._counters = counters
        self._stamp = stamp
        self._requeue = requeue
        self._tells_sent = tells_sent

    def send_mail(self, arguments: Arguments) -> Deferred[Reply]:
        """Deliver the mail, then answer what became of it.

        Fails with RequestInvalidError or NoRecipientError when the mail object is none, or its
        template and values don't fit together.
        """
        # Coroutines stand only where most mails don't go: see Courier.deliver.
        try:
            mail = self._parser.accept(arguments.value, arguments.grant)
            # Now: the account that it names may be gone by the time a template was read.
            plan = Plan(routes=self._courier.routes(mail))
            job = _Job(arguments, mail, arguments.stamp or self._stamp(), plan)
        except Exception:  # noqa: BLE001 - the Deferred fails instead
            return fail()
        return self._deliver(job) if mail.template is None else self._render(job)

    @returns_deferred
    async def _render(self, job: _Job) -> Reply:
        """Deliver a mail that names a template.

        Before, and not in, ``deliver``: what is queued after a failure is what was sent.
        """
        try:
            mail = await self._courier.render(job.mail)
        except Exception:  # noqa: BLE001 - it is judged there
            return await self._not_built(Failure(), job)
        return await self._deliver(attrs.evolve(job, mail=mail))

    def _deliver(self, job: _Job) -> Deferred[Reply]:
        delivery = self._courier.deliver(job.mail, job.stamp, job.plan)
        return delivery.addCallbacks(self._ended, self._not_built, (job,), {}, (job,), {})

    @returns_deferred
    async def _not_built(self, failure: Failure, job: _Job) -> Reply:
        """Answer for a mail that no server has heard of; fails with what is not about it."""
        stamp, arguments = job.stamp, job.arguments
        try:
            failure.raiseException()
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
                domains=request_domains(job.mail),
                why=str(fault),
                outcome="failed",
            )
            return error(str(fault), _FAILED, effect=Effect.NONE)

    def _ended(self, result: DeliveryResult, job: _Job) -> Deferred[Reply]:
        """Count a mail, and answer what became of it."""
        counting = count_result(self._counters, result)
        if result.delivered:
            return counting.addCallback(self._sent, result, job)
        return counting.addCallback(self._queue_again, result, job)

    def _sent(self, _: None, result: DeliveryResult, job: _Job) -> Reply:
        """Answer that everybody has the mail, with what is known besides where it will be shown."""
        if self._tells_sent:
            self._tell(job, result, said_yes(result), "sent")
        if job.arguments.wants_detail or job.arguments.once:
            return attrs.evolve(_SENT, detail=delivery_detail(job.stamp.unique, result))
        return _SENT

    @returns_deferred
    async def _queue_again(self, _: None, result: DeliveryResult, job: _Job) -> Reply:
        """Put a mail that failed for now into the queue, and answer that."""
        stamp, detail = job.stamp, delivery_detail(job.stamp.unique, result)
        verdict = self._verdict(job, result)
        effect = _effect_of(result)
        if self._requeue is None or not isinstance(verdict, Retry):
            self._tell(job, result, with_reply(f"failed: {result.reason}", result), "failed")
            return error(result.reason, _FAILED, detail, effect)
        store = self._requeue.store
        name = store.make_name(stamp.epoch_seconds, stamp.unique)
        kept = self._courier.stored(job.arguments.value, job.mail)
        stored = {**kept, "failToDelivered": verdict.failures}
        try:
            await store.put(name, stored, verdict.state)
        except StoreError as fault:
            self._log.failure("mail {mail_id} can't be queued again", mail_id=stamp.unique)
            self._tell(job, result, with_reply(f"failed: {result.reason}", result), "failed")
            put = effect_of(fault)
            what = "may be queued, or not," if put is Effect.UNKNOWN else "could not be queued"
            why = f"{result.reason} (and it {what} for another attempt)"
            return error(why, _FAILED, detail, put if effect is Effect.NONE else effect)
        self._tell_queued(job, result, name, verdict.state)
        more = {"queueName": name, "nextAttempt": verdict.state.next_at}
        return error(result.reason, _FAILED, {**detail, **more})

    def _verdict(self, job: _Job, result: DeliveryResult) -> Verdict | None:
        """Judge what is to become of a mail that failed; None where that is final anyway."""
        requeue, at = self._requeue, job.stamp.epoch_seconds
        if requeue is None or not result.temporary:
            return None
        moment = Moment(now=requeue.now(), accepted_at=at, jitter=requeue.jitter())
        return after_attempt(FRESH, job.mail.fail_to_delivered, result, requeue.policy, moment)

    def _tell_queued(self, job: _Job, result: DeliveryResult, name: str, state: MailState) -> None:
        """Write the line on a mail that is in the queue now."""
        outcome = put_off(result)
        some = "partly sent, " if outcome == "partly sent" else ""
        when = f"held: {state.held}"
        if state.next_at is not None:
            when = f"again at {told_time(state.next_at)}"
        doubt = ", ".join(state.in_doubt)
        what = f"{some}queued as {name} for another attempt, {when}; {result.reason}"
        what = with_reply(what, result)
        if doubt:
            outcome = "held" if state.held else "in doubt"
            what += f"; in doubt, may be delivered twice: {doubt}"
        more = {} if state.next_at is None else {"next_at": state.next_at}
        self._tell(job, result, what, outcome, name=name, **more)

    def _tell(
        self, job: _Job, result: DeliveryResult, what: str, outcome: str, **more: Any
    ) -> None:
        """Write the one line on what became of a mail."""
        self._log.emit(
            LogLevel.info if outcome == "sent" else LogLevel.warn,
            "mail {mail_id} from {peer} (request {request}) to {domains} by {server}, "
            "attempt {attempt}, {seconds:.3f} s: {what}",
            mail_id=job.stamp.unique,
            peer=job.arguments.peer,
            request=job.arguments.request,
            **attempt_fields(result, job.mail.fail_to_delivered + 1),
            outcome=outcome,
            what=what,
            **more,
        )


def _effect_of(result: DeliveryResult) -> Effect:
    """Say what came of a mail that is not queued: perhaps somebody has it all the same."""
    had = (Outcome.DELIVERED, Outcome.UNCERTAIN)
    return Effect.FINAL if any(o.outcome in had for o in result.outcomes) else Effect.NONE
