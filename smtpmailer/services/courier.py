# SPDX-License-Identifier: MIT
"""From a validated mail to its delivery result: attachments, message, route, sender."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from smtpmailer.core.accounts import NO_ACCOUNTS, Accounts
from smtpmailer.core.failover import result_of_all
from smtpmailer.core.mime import Letterhead, MessageOptions, Stamp, compose, is_sound
from smtpmailer.core.model import (
    Address,
    DeliveryResult,
    LoadedFile,
    MailRequest,
    OutgoingMail,
    Route,
)
from smtpmailer.core.routing import routes_for
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import AddressError, MessageError
from smtpmailer.interfaces import IAttachments, ISender, IThreads
from smtpmailer.services.rendering import Renderer, Templates
from smtpmailer.services.room import MemoryRoom

__all__ = ["Courier", "MailDefaults", "Plan"]

#: A message with more attached than this is put together away from the reactor thread.
_LARGE_BYTES = 256 * 1024

#: A file takes so often its size while its mail is built and sent: as it is, encoded, and within
#: the message.
_COPIES = 4


@attrs.frozen(kw_only=True)
class MailDefaults:
    """What the settings say where a mail says nothing; ``accounts`` gives those there are now.

    ``letterhead`` is what mails without a sender of their own have; None where it can't be written.
    """

    from_email: str
    from_name: str
    options: MessageOptions
    route: Route
    accounts: Callable[[], Accounts] = lambda: NO_ACCOUNTS
    letterhead: Letterhead | None = attrs.field(init=False)

    @letterhead.default
    def _write(self) -> Letterhead | None:
        try:
            return Letterhead.of(Address(email=self.from_email, name=self.from_name))
        except (AddressError, MessageError):
            return None  # Each such mail will hear what is wrong.


@attrs.frozen(kw_only=True)
class Plan:
    """How an attempt differs from a first one.

    ``settled`` recipients are left out. ``before_dot`` and ``early`` are OutgoingMail's.
    ``routes`` are tried in place of all that the mail has, if there are any. ``tried`` hears what
    came of each.
    """

    settled: frozenset[str] = frozenset()
    before_dot: Callable[[tuple[str, ...]], Awaitable[None]] | None = None
    early: bool = False
    routes: tuple[Route, ...] = ()
    tried: Callable[[Route, DeliveryResult], None] | None = None


class Courier:
    """Builds messages and hands them to the sender, once for each account that is tried."""

    _log = Logger()

    def __init__(
        self,
        defaults: MailDefaults,
        *,
        attachments: IAttachments,
        sender: ISender,
        threads: IThreads,
        templates: Templates | None = None,
        room: MemoryRoom | None = None,
    ) -> None:
        """Use these parts; nothing is read or opened yet. Without templates no mail can use one.

        ``room`` bounds the memory of mails with files; without one nothing does.
        """
        self._defaults = defaults
        self._renderer = Renderer(threads, templates)
        self._attachments = attachments
        self._sender = sender
        self._threads = threads
        self._room = room or MemoryRoom(0)

    def deliver(
        self, request: MailRequest, stamp: Stamp, plan: Plan = Plan()
    ) -> Deferred[DeliveryResult]:
        """Deliver a mail; fires with what became of each recipient that the plan leaves.

        The next account is tried only when the one before certainly has nothing of the mail: see
        ``DeliveryResult.untaken``.

        Fails with AttachmentError, AddressError or MessageError when the mail can't be built, and
        as ``render`` and ``routes`` do; then no connection was made.
        """
        if request.template is not None or request.attachments or request.embedded:
            return self._deliver(request, stamp, plan)
        # No coroutine for what nearly all mails are: each takes a part of a mail's time that counts
        # where thousands go in a second.
        try:
            routes = plan.routes or self.routes(request)
            return self._hand_over(self._compose(request, (), stamp), routes, plan)
        except Exception:  # noqa: BLE001 - the Deferred fails instead
            return fail()

    @returns_deferred
    async def _deliver(self, request: MailRequest, stamp: Stamp, plan: Plan) -> DeliveryResult:
        """Deliver a mail of which something has to be read."""
        routes = plan.routes or self.routes(request)
        if request.template is not None:
            request = await self.render(request)
        parts = request.attachments + request.embedded
        if not parts:
            return await self._hand_over(self._compose(request, (), stamp), routes, plan)
        size = _COPIES * await self._attachments.check(parts)
        await self._room.take(size)
        try:
            # No name for the files or the mail: they are to be gone when their room is given back.
            return await self._hand_over(
                await self._compose_all(request, await self._attachments.load(parts), stamp),
                routes,
                plan,
            )
        finally:
            self._room.give(size)

    def _hand_over(
        self, mail: OutgoingMail, routes: tuple[Route, ...], plan: Plan
    ) -> Deferred[DeliveryResult]:
        """Send a mail to those whom the plan leaves."""
        if plan.settled:
            left = tuple(r for r in mail.envelope.recipients if r not in plan.settled)
            if not left:
                return succeed(DeliveryResult(outcomes=()))
            mail = attrs.evolve(mail, envelope=attrs.evolve(mail.envelope, recipients=left))
        if plan.before_dot is not None:
            mail = mail.marked_by(plan.before_dot, early=plan.early)
        if len(routes) > 1:
            return self._send(mail, routes, plan)
        # As for most mails there is no other account to go on with: again without a coroutine.
        sending, tried = self._sender.send(mail, routes[0]), plan.tried
        if tried is not None:

            def told(result: DeliveryResult) -> DeliveryResult:
                tried(routes[0], result)
                return result

            sending.addCallback(told)
        return sending

    def check(self, request: MailRequest, stamp: Stamp) -> Deferred[None]:
        """Fire when a mail can be built as things are now; fails as ``deliver`` does."""
        if request.template is None and self._is_sound(request):
            return succeed(None)
        return self._try(request, stamp)

    @returns_deferred
    async def _try(self, request: MailRequest, stamp: Stamp) -> None:
        """Build a mail, but for what its files hold."""
        request = await self.render(request)
        parts = request.attachments + request.embedded
        if parts:
            await self._attachments.check(parts)
        # What the files hold makes no difference to whether they can be put in.
        files = tuple(LoadedFile(part=part, content=b"") for part in parts)
        self._compose(request, files, stamp)

    def render(self, request: MailRequest) -> Deferred[MailRequest]:
        """Give a mail with the text of its template; see Renderer."""
        return self._renderer.render(request)

    def stored(self, document: Mapping[str, Any], rendered: MailRequest) -> Mapping[str, Any]:
        """Give the mail object to keep in the queue for one that was rendered; see Renderer."""
        return self._renderer.stored(document, rendered)

    def routes(self, request: MailRequest) -> tuple[Route, ...]:
        """Tell where a mail goes, and where else when it can't; raises UnknownAccountError."""
        sender = request.from_email or self._defaults.from_email
        return routes_for(request, sender, self._defaults.route, self._defaults.accounts())

    @returns_deferred
    async def _send(
        self, mail: OutgoingMail, routes: tuple[Route, ...], plan: Plan
    ) -> DeliveryResult:
        """Try one account after another; the delivery's limit is one for all of them."""
        results = []
        for index, route in enumerate(routes, 1):
            result = await self._sender.send(mail, route)
            results.append(result)
            mail = attrs.evolve(mail, spent=mail.spent + result.seconds)
            if plan.tried is not None:
                plan.tried(route, result)
            if not result.untaken or index == len(routes):
                break
            self._log.warn(
                "mail {mail_id} goes on to {next}, as {server} did not take it: {reason}",
                mail_id=mail.mail_id,
                next=_told(routes[index]),
                server=_told(route),
                reason=result.reason,
                outcome="fails over",
            )
        return result_of_all(results)

    async def _compose_all(
        self, request: MailRequest, files: tuple[LoadedFile, ...], stamp: Stamp
    ) -> OutgoingMail:
        """Build a mail with its files, beside the reactor when they are large."""
        if sum(len(file.content) for file in files) > _LARGE_BYTES:
            return await self._threads.run(partial(self._compose, request, files, stamp))
        return self._compose(request, files, stamp)

    def _compose(
        self, request: MailRequest, files: tuple[LoadedFile, ...], stamp: Stamp
    ) -> OutgoingMail:
        body = request.body
        assert body is not None, "rendered before"
        return compose(
            request,
            body=body,
            sender=self._from(request),
            files=files,
            stamp=stamp,
            options=self._defaults.options,
        )

    def _from(self, request: MailRequest) -> Address | Letterhead:
        """Tell who a mail is from; of one that says nothing that is written already."""
        says_nothing = not request.from_email and request.from_name is None
        return (says_nothing and self._defaults.letterhead) or self._sender_of(request)

    def _is_sound(self, request: MailRequest) -> bool:
        """Whether there is nothing in a mail that has to be tried."""
        try:
            sender = self._sender_of(request)
        except MessageError:
            return False
        return is_sound(request, sender=sender, options=self._defaults.options)

    def _sender_of(self, request: MailRequest) -> Address:
        email = request.from_email or self._defaults.from_email
        if not email:
            raise MessageError("no sender: give fromEmail in the mail or set MAIL_FROM_ADDR")
        name = self._defaults.from_name if request.from_name is None else request.from_name
        return Address(email=email, name=name)


def _told(route: Route) -> str:
    server = f"{route.host}:{route.port}"
    return f"{server} ({route.account})" if route.account else server
