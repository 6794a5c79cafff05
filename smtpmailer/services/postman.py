# SPDX-License-Identifier: MIT
"""One claimed mail: deliver it to whom it is still owed, and judge what comes next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from smtpmailer.core.mime import Stamp
from smtpmailer.core.model import DeliveryResult, MailRequest, Outcome, Route
from smtpmailer.core.names import due_of, unique_of
from smtpmailer.core.queued import Settlement, StoredMail
from smtpmailer.core.queuestate import MailState
from smtpmailer.core.requests import MailParser
from smtpmailer.core.retry import (
    Dead,
    Done,
    Moment,
    RetryPolicy,
    Verdict,
    after_attempt,
    after_crash,
    without_attempt,
)
from smtpmailer.core.slots import Slot
from smtpmailer.errors import (
    ClientError,
    NoRecipientError,
    NoSuchMailError,
    RequestInvalidError,
    StoreError,
    UnknownAccountError,
)
from smtpmailer.interfaces import ICounters, IQueueRun
from smtpmailer.services.counting import count_failure, count_result
from smtpmailer.services.courier import Courier, Plan
from smtpmailer.services.telling import (
    attempt_fields,
    name_fields,
    put_off,
    request_domains,
    said_yes,
    told_time,
    with_reply,
)
from smtpmailer.services.traffic import Traffic, Wait

__all__ = ["Postman", "PostmanTools"]


#: Seconds until a mail is tried again that met a fault of our own, or of the store.
_FAULT_PAUSE = 60.0

#: A name may hold any time of the past (``scheduleTime`` 1). One that lies so far back (seconds)
#: is not when the mail was accepted.
_STALE = 30 * 86_400.0

#: Why a mail waits that is beyond its server's share.
_OTHERS_FIRST = "mails to other servers go first"

#: As much of an id goes into a Message-ID.
_LONGEST_ID = 56


@attrs.frozen(kw_only=True)
class PostmanTools:
    """What deliveries from the queue need; ``now`` is Unix seconds, ``jitter`` 0 to 1.

    Of the log levels that are ``hidden`` nobody sees anything, so nothing is made for them of what
    is said of each mail that goes well.
    """

    parser: MailParser
    courier: Courier
    counters: ICounters
    policy: RetryPolicy
    now: Callable[[], float]
    jitter: Callable[[], float]
    hidden: frozenset[str] = frozenset()


class _Claim:
    """A claimed mail, with its state as it was marked last, and why it could not be marked."""

    def __init__(self, mail: StoredMail) -> None:
        self.unmarked_mail = mail
        self.accepted_at = 0.0
        self.state = mail.state
        self.unmarked = ""

    @property
    def mail(self) -> StoredMail:
        """The mail with that state."""
        mail = self.unmarked_mail
        return mail if mail.state is self.state else attrs.evolve(mail, state=self.state)

    def marked(self, _: None, state: MailState) -> None:
        """Take note that it is marked."""
        self.unmarked = ""
        self.state = state

    def not_marked(self, failure: Failure) -> Failure:
        """Take note that it could not be marked, if it is the store that could not."""
        if failure.check(NoSuchMailError, StoreError):
            self.unmarked = f"its state can't be stored: {failure.value}"
        return failure


class Postman:
    """Delivers claimed mails and says how their claims are to be settled."""

    _log = Logger()

    def __init__(self, run: IQueueRun, tools: PostmanTools, traffic: Traffic) -> None:
        """Mark what is in doubt in this queue; ``traffic`` tells when a mail may go."""
        self._run = run
        self._tools = tools
        self.traffic = traffic

    async def decide(self, mail: StoredMail) -> Settlement:
        """Deliver a mail; returns how its claim is to be settled, and never fails.

        A fault of our own counts as a crash of the service: the mail is tried again, and after
        some times taken for the cause.
        """
        claim = _Claim(mail)
        if "debug" not in self._tools.hidden:
            self._log.debug(
                "mail {mail_id} ({name}) claimed", **name_fields(mail.name), outcome="claimed"
            )
        try:
            return await self._decide(claim)
        except Exception:  # noqa: BLE001 - no claim is left behind, whatever happened
            self._log.failure(
                "mail {mail_id} ({name}) could not be handled{doubt}",
                **name_fields(mail.name),
                doubt=_doubt(claim.mail.state),
            )
            # Not ``mail``: it may have been marked meanwhile, and be in doubt.
            return self._after_crash(claim.mail, pause=_FAULT_PAUSE)

    def decide_crash(self, mail: StoredMail) -> Settlement:
        """Tell how to settle a mail that a process had claimed when it died."""
        self._log.warn(
            "mail {mail_id} ({name}) was being delivered when the service died{doubt}",
            **name_fields(mail.name),
            doubt=_doubt(mail.state) or "; unsent",
            outcome="in doubt" if mail.state.in_doubt else "put off",
        )
        return self._after_crash(mail, pause=0.0)

    def _after_crash(self, mail: StoredMail, *, pause: float) -> Settlement:
        again_at = self._tools.now() + pause
        failures = _failures(mail.document) if isinstance(mail.document, Mapping) else 0
        verdict = after_crash(mail.state, self._tools.policy, failures=failures, now=again_at)
        if verdict.state.held or isinstance(verdict, Dead):
            what, outcome, level = _outcome_words(verdict)
            text = "mail {mail_id} ({name}): {what}"
            fields = name_fields(mail.name)
            self._log.emit(level, text, **fields, what=what, outcome=outcome)
        return self._settlement(mail, verdict)

    async def _decide(self, claim: _Claim) -> Settlement:
        mail = claim.mail
        if mail.fault or isinstance(mail.document, str):
            return self._corrupt(mail, mail.fault or "not decrypted")
        # Compat: the predecessor took any time; what counts is the one in the mail's name.
        document = mail.document
        if "scheduleTime" in document:
            document = {key: value for key, value in document.items() if key != "scheduleTime"}
        try:
            request = self._tools.parser.parse(document)
            routes = self._tools.courier.routes(request)
        except (RequestInvalidError, NoRecipientError) as fault:
            return self._corrupt(mail, f"not a mail: {fault}")
        except UnknownAccountError as fault:
            return self._postponed(mail, self._tools.now() + _FAULT_PAUSE, str(fault))
        slot, routes = self._enter(routes, mail.name)
        if isinstance(slot, Wait):
            return self._waits(mail, slot)
        try:
            return await self._attempt(claim, request, routes)
        finally:
            self.traffic.leave(slot)

    def _enter(self, routes: tuple[Route, ...], name: str) -> tuple[Slot | Wait, tuple[Route, ...]]:
        """Begin with the first server within reach, and give the routes from it on.

        Where all are out of reach, or the first that is not is busy, the mail waits for the first.
        """
        first: Wait | None = None
        for index, route in enumerate(routes):
            slot = self.traffic.enter(_server(route), name)
            if isinstance(slot, Slot):
                return slot, routes[index:]
            first = first or slot
            if not slot.why:
                break
        assert first is not None, "there is a route"
        return first, ()

    async def _attempt(
        self, claim: _Claim, request: MailRequest, routes: tuple[Route, ...]
    ) -> Settlement:
        try:
            result = await self._send(claim, request, routes)
        except ClientError as fault:
            await count_failure(self._tools.counters)
            return self._unsendable(claim.mail, request, str(fault))
        except StoreError as fault:
            return self._postponed(claim.mail, self._tools.now() + _FAULT_PAUSE, str(fault))
        mail = claim.unmarked_mail
        if not result.outcomes:
            # A crash came between the last attempt and its settlement: it was counted then.
            return self._settlement(
                mail, without_attempt(claim.state, request.fail_to_delivered + 1)
            )
        if result.again_in is not None:
            # A mark that was made for it means nothing: nobody has the mail.
            why = result.outcomes[0].reply
            return self._postponed(mail, self._tools.now() + result.again_in, why)
        if claim.unmarked and all(o.outcome is Outcome.TEMPORARY for o in result.outcomes):
            # Nobody has the mail, though an earlier mark may have held.
            return self._postponed(mail, self._tools.now() + _FAULT_PAUSE, claim.unmarked)
        counting = count_result(self._tools.counters, result)
        if not counting.called or counting.paused:
            await counting  # Most counters are in memory, and need no wait.
        verdict = self._judge(claim, request, result)
        self._report(mail, routes[0], result, verdict)
        return self._settlement(mail, verdict)

    async def _send(
        self, claim: _Claim, request: MailRequest, routes: tuple[Route, ...]
    ) -> DeliveryResult:
        mail = claim.unmarked_mail

        def mark(recipients: tuple[str, ...]) -> Deferred[None]:
            state = mail.state.doubting(recipients, self._tools.now())
            marking = self._run.mark(mail.name, state)
            return marking.addCallbacks(claim.marked, claim.not_marked, (state,))

        # Compat: the predecessor's names may hold an id of any length.
        unique = unique_of(mail.name)[:_LONGEST_ID]
        claim.accepted_at = self._accepted_at(mail)
        stamp = Stamp(unique=unique, epoch_seconds=claim.accepted_at)
        plan = Plan(
            settled=mail.state.settled_addresses(),
            before_dot=mark,
            # More mails are in doubt after a crash, but none waits for its mark. Where such a mail
            # is held for the operator it is worth waiting.
            early=not self._tools.policy.hold_doubtful,
            routes=routes,
            tried=self._tried,
        )
        return await self._tools.courier.deliver(request, stamp, plan)

    def _tried(self, route: Route, result: DeliveryResult) -> None:
        if result.again_in is None or result.again_in > 0:
            # Whose turn has not come yet says nothing about the server; one that was not tried,
            # as the server is out of reach, does.
            reached = result.reached and result.again_in is None
            self.traffic.tell(_server(route), reached=reached)

    def _accepted_at(self, mail: StoredMail) -> float:
        """Give when a mail was to be sent first: the time in its name, unless it is absurd."""
        first, due = self._tools.now(), due_of(mail.name)
        if mail.state.attempts:
            first = mail.state.attempts[0].at - mail.state.attempts[0].seconds
        return first if due < first - _STALE else due

    def _judge(self, claim: _Claim, request: MailRequest, result: DeliveryResult) -> Verdict:
        moment = Moment(
            now=self._tools.now(),
            accepted_at=claim.accepted_at,
            jitter=self._tools.jitter(),
        )
        failures = request.fail_to_delivered
        return after_attempt(claim.state, failures, result, self._tools.policy, moment)

    def _settlement(self, mail: StoredMail, verdict: Verdict) -> Settlement:
        now = self._tools.now()
        if isinstance(verdict, Done):
            return Settlement(at=now, state=verdict.state, done=True)
        document = None
        if isinstance(mail.document, Mapping) and _failures(mail.document) != verdict.failures:
            document = {**mail.document, "failToDelivered": verdict.failures}
        if isinstance(verdict, Dead):
            return Settlement(at=now, state=verdict.state, document=document, dead=verdict.why)
        return Settlement(at=now, state=verdict.state, document=document)

    def _waits(self, mail: StoredMail, wait: Wait) -> Settlement:
        """Let a mail wait as it was told to."""
        if wait.why:
            return self._postponed(mail, wait.until, wait.why)
        text = "mail {mail_id} ({name}) waits: {why}"
        fields = name_fields(mail.name)
        self._log.debug(text, **fields, why=_OTHERS_FIRST, outcome="waits", next_at=wait.until)
        state = attrs.evolve(mail.state, next_at=wait.until, waits=_OTHERS_FIRST)
        return Settlement(at=self._tools.now(), state=state)

    def _postponed(self, mail: StoredMail, until: float, why: str) -> Settlement:
        """Let a mail wait without counting an attempt, unless it would grow too old."""
        max_age, now = self._tools.policy.max_age, self._tools.now()
        # One that may go again at once has not grown too old by waiting.
        if max_age and until > max(now, self._accepted_at(mail) + max_age):
            why = f"given up after {max_age:.0f} seconds: {why}"
            text = "mail {mail_id} ({name}) to {domains} is a dead letter: {why}{doubt}"
            self._log.error(text, **_fields(mail, why), outcome="dead letter")
            return Settlement(at=now, state=mail.state, dead=why)
        self._log.info(
            "mail {mail_id} ({name}) to {domains} waits until {until}: {why}",
            **_fields(mail, why),
            outcome="waits",
            until=told_time(until),
            next_at=until,
        )
        state = attrs.evolve(mail.state, next_at=until, waits=why)
        return Settlement(at=now, state=state)

    def _unsendable(self, mail: StoredMail, request: MailRequest, why: str) -> Settlement:
        verdict = Dead(state=mail.state, failures=request.fail_to_delivered + 1, why=why)
        text = "mail {mail_id} ({name}) to {domains} can't be built: {why}{doubt}"
        self._log.error(text, **_fields(mail, why), outcome="dead letter")
        return self._settlement(mail, verdict)

    def _corrupt(self, mail: StoredMail, why: str) -> Settlement:
        text = "mail {mail_id} ({name}) goes to quarantine: {why}{doubt}"
        fields = name_fields(mail.name)
        doubt = _doubt(mail.state)
        self._log.error(text, **fields, why=why, doubt=doubt, outcome="quarantined")
        return Settlement(at=self._tools.now(), state=mail.state, corrupt=why)

    def _report(
        self, mail: StoredMail, route: Route, result: DeliveryResult, verdict: Verdict
    ) -> None:
        """Write one line on what became of the mail."""
        doubt = _doubt(verdict.state)
        if isinstance(verdict, Done) and not doubt and "info" in self._tools.hidden:
            return
        what, outcome, level = _outcome_words(verdict, result)
        if doubt and level is LogLevel.info:
            level = LogLevel.warn
        fields = attempt_fields(result, verdict.state.attempt_count)
        fields["server"] = result.server or _server(route)
        if verdict.state.next_at is not None:
            fields["next_at"] = verdict.state.next_at
        self._log.emit(
            level,
            "mail {mail_id} ({name}) to {domains} by {server}, attempt {attempt}, {seconds:.3f} s: "
            "{what}",
            **name_fields(mail.name),
            **fields,
            outcome=outcome,
            what=f"{what}{doubt}",
        )


def _outcome_words(
    verdict: Verdict, result: DeliveryResult | None = None
) -> tuple[str, str, LogLevel]:
    """Give what became of a mail, in words for people and in the log's own, and the level."""
    state = verdict.state
    if isinstance(verdict, Done):
        return said_yes(result) if result else "sent", "sent", LogLevel.info
    if isinstance(verdict, Dead):
        why = with_reply(verdict.why, result) if result else verdict.why
        return f"dead letter: {why}", "dead letter", LogLevel.error
    reason = f"; {with_reply(result.reason, result)}" if result else ""
    if state.held:
        return f"held: {state.held}{reason}", "held", LogLevel.warn
    outcome = put_off(result) if result else "put off"
    some = "partly sent, " if outcome == "partly sent" else ""
    again = "" if state.next_at is None else f"again at {told_time(state.next_at)}"
    return f"{some}{again}{reason}", "in doubt" if state.in_doubt else outcome, LogLevel.warn


def _fields(mail: StoredMail, why: str) -> dict[str, Any]:
    """Give what is told of a mail that was read, but not tried."""
    document = mail.document if isinstance(mail.document, Mapping) else {}
    return {
        **name_fields(mail.name),
        "domains": request_domains(document),
        "why": why,
        "doubt": _doubt(mail.state),
    }


def _doubt(state: MailState) -> str:
    """Give the end of a log line on a mail that is, or ever was, in doubt."""
    doubted = state.ever_in_doubt()
    return f"; in doubt, may be delivered twice: {', '.join(doubted)}" if doubted else ""


def _server(route: Route) -> str:
    return f"{route.host}:{route.port}"


def _failures(document: Mapping[str, Any]) -> int:
    failures = document.get("failToDelivered", 0)
    return failures if type(failures) is int else 0
