# SPDX-License-Identifier: MIT
"""Send a mail now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.logger import Logger, LogLevel

from smtpmailer.core.mime import Stamp
from smtpmailer.core.model import DeliveryResult, MailRequest
from smtpmailer.core.queuestate import FRESH
from smtpmailer.core.replies import Reply, error, success
from smtpmailer.core.requests import Arguments, MailParser
from smtpmailer.core.retry import Moment, Retry, RetryPolicy, after_attempt
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import ClientError, RequestInvalidError, StoreError, TemplatesOffError
from smtpmailer.interfaces import ICounters, IQueueStore
from smtpmailer.services.counting import count_failure, count_result
from smtpmailer.services.courier import Courier
from smtpmailer.services.replies import delivery_detail

__all__ = ["MailService", "Requeue"]

_FAILED = "failed to send mail"


@attrs.frozen(kw_only=True)
class Requeue:
    """Where failed mails go for another attempt; ``now`` is Unix seconds, ``jitter`` 0 to 1."""

    store: IQueueStore
    policy: RetryPolicy
    now: Callable[[], float]
    jitter: Callable[[], float]


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
        stamp = self._stamp()
        try:
            # Before, and not in, ``deliver``: what is queued after a failure is what was sent.
            request = await self._courier.render(request)
            result = await self._courier.deliver(request, stamp)
        except TemplatesOffError as fault:
            return error(None, str(fault))
        except RequestInvalidError:
            raise
        except StoreError:
            self._log.failure("mail {mail_id}: its template can't be read", mail_id=stamp.unique)
            await count_failure(self._counters)
            return error("the template can't be read now", _FAILED)
        except ClientError as fault:
            await count_failure(self._counters)
            self._log.warn(
                "mail {mail_id} from {peer} can't be built: {why}",
                mail_id=stamp.unique,
                peer=arguments.peer,
                why=str(fault),
            )
            return error(str(fault), _FAILED)
        await count_result(self._counters, result)
        detail = delivery_detail(stamp.unique, result)
        if result.delivered:
            return success(None, "mail sent successfully", detail)
        reason, more = await self._queue_again(arguments.value, request, stamp, result)
        return error(reason, _FAILED, {**detail, **more})

    async def _queue_again(
        self, document: dict[str, Any], request: MailRequest, stamp: Stamp, result: DeliveryResult
    ) -> tuple[str, dict[str, Any]]:
        """Put a mail that failed for now into the queue; gives the reason and more detail."""
        if self._requeue is None or not result.temporary:
            return result.reason, {}
        requeue = self._requeue
        moment = Moment(now=requeue.now(), accepted_at=stamp.epoch_seconds, jitter=requeue.jitter())
        verdict = after_attempt(FRESH, request.fail_to_delivered, result, requeue.policy, moment)
        if not isinstance(verdict, Retry):
            return result.reason, {}
        name = requeue.store.make_name(stamp.epoch_seconds, stamp.unique)
        kept = self._courier.stored(document, request)
        stored = {**kept, "failToDelivered": verdict.failures}
        try:
            await requeue.store.put(name, stored, verdict.state)
        except StoreError:
            self._log.failure("mail {mail_id} can't be queued again", mail_id=stamp.unique)
            return f"{result.reason} (and it could not be queued for another attempt)", {}
        doubt = ", ".join(verdict.state.in_doubt)
        self._log.emit(
            LogLevel.warn if doubt else LogLevel.info,
            "mail {mail_id} queued as {name} for another attempt{doubt}",
            mail_id=stamp.unique,
            name=name,
            doubt=f"; in doubt, may be delivered twice: {doubt}" if doubt else "",
        )
        return result.reason, {"queueName": name, "nextAttempt": verdict.state.next_at}
