# SPDX-License-Identifier: MIT
"""The frozen values that the parts of smtpmailer hand to each other."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import attrs

from smtpmailer.core.oauth import OAuth2
from smtpmailer.core.rates import Rate
from smtpmailer.core.wire import Wire

__all__ = [
    "NOT_REACHED",
    "NO_OVERRIDES",
    "Address",
    "Capabilities",
    "DeliveryResult",
    "Encryption",
    "Envelope",
    "FilePart",
    "LoadedFile",
    "MailRequest",
    "Outcome",
    "OutgoingMail",
    "RecipientOutcome",
    "Route",
    "RouteLimits",
    "SmtpOverrides",
]

#: The reason when no connection or TLS session came about. Compat: the predecessor's words.
NOT_REACHED: Final = "SMTP Error: Could not connect to SMTP host."


class Encryption(enum.Enum):
    """How a session with an SMTP server is protected."""

    STARTTLS = "tls"
    TLS = "ssl"
    NONE = "none"


@attrs.frozen(kw_only=True)
class Address:
    """A mail address with an optional display name.

    ``email`` is as the client wrote it, checked; its wire form comes from ``core.addresses``.
    """

    email: str
    name: str = ""


@attrs.frozen(kw_only=True)
class FilePart:
    """A file on the service's machine that goes into a mail.

    ``content_id`` is None for an attachment, the cid for an embedded image.
    """

    path: str
    name: str
    content_id: str | None = None


@attrs.frozen(kw_only=True)
class LoadedFile:
    """A file part with its content, read once."""

    part: FilePart
    content: bytes = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class SmtpOverrides:
    """The ``smtp*`` fields of one mail; None where the mail names none."""

    host: str | None = None
    port: int | None = None
    encryption: Encryption | None = None
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)


#: Of a mail that has none of them.
NO_OVERRIDES: Final = SmtpOverrides()


@attrs.frozen(kw_only=True)
class MailRequest:
    """A validated mail object (``sendMail``, ``queueMail``); tuples keep the client's order.

    Exactly one of ``body`` and ``template`` is set. ``timeout`` is in seconds, ``schedule_time``
    in Unix seconds. ``replace_content`` maps template keys to texts. ``account`` is the name of the
    account that the mail asks for, None where it leaves that to its sender.
    """

    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    subject: str
    body: str | None = attrs.field(default=None, repr=False)
    template: str | None = None
    replace_content: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    attachments: tuple[FilePart, ...] = ()
    embedded: tuple[FilePart, ...] = ()
    from_email: str | None = None
    from_name: str | None = None
    account: str | None = None
    smtp: SmtpOverrides = NO_OVERRIDES
    timeout: int | None = None
    schedule_time: int | None = None
    fail_to_delivered: int = 0

    @property
    def has_own_server(self) -> bool:
        """Whether it has ``smtp*`` fields of its own."""
        return self.smtp is not NO_OVERRIDES and self.smtp != NO_OVERRIDES


@attrs.frozen(kw_only=True)
class RouteLimits:
    """What an account may be burdened with; 0 and None: what is configured for all.

    ``connections`` is the most at a time, in each process.
    """

    connections: int = 0
    rate: Rate | None = None


@attrs.frozen(kw_only=True, cache_hash=True)
class Route:
    """Where and how a mail is handed over: one server, one account, one trust.

    An empty ``user`` means no login. With ``oauth2`` the login is done with a token instead of the
    password. ``timeout`` (seconds) bounds each wait of the dialogue.
    ``ca_file`` adds trust to the system's store; ``verify`` off trusts any certificate.
    ``account`` is the name of the account, empty where it has none; ``limits`` are its own.
    ``foreign``: a client named it in a mail, it is not configured. That tells no routes apart.
    """

    host: str
    port: int
    encryption: Encryption
    user: str = ""
    password: str = attrs.field(default="", repr=False)
    oauth2: OAuth2 | None = None
    ehlo_name: str
    verify: bool = True
    ca_file: str = ""
    timeout: int = 300
    account: str = ""
    limits: RouteLimits = RouteLimits()
    foreign: bool = attrs.field(default=False, eq=False)


@attrs.frozen(kw_only=True)
class Envelope:
    """The SMTP envelope: ASCII-only unless ``needs_smtputf8``; recipients are unique, in order.

    ``utf8_headers`` says that the header holds a further address outside ASCII (Reply-To).
    """

    sender: str
    recipients: tuple[str, ...]
    utf8_headers: bool = False

    @property
    def needs_smtputf8(self) -> bool:
        """Whether an address can only be said with SMTPUTF8 (RFC 6531)."""
        return self.utf8_headers or not "".join((self.sender, *self.recipients)).isascii()


@attrs.frozen(kw_only=True)
class Capabilities:
    """What a server offers that changes how a message is written."""

    eight_bit: bool = False
    smtputf8: bool = False


@attrs.frozen(kw_only=True)
class OutgoingMail:
    """A mail ready to be handed over.

    ``wire`` gives the finished wire bytes for a server's capabilities: CRLF line ends, dots
    stuffed and counted, ending in CRLF, without the final dot. It is pure and may be called again.

    ``before_dot`` is called with the accepted recipients before the final dot may go out, and its
    Deferred waited for: from then on the mail may be delivered. When it fails nothing is sent.
    With ``early`` it may be called as soon as the recipients are named, with all of them: then its
    Deferred is waited for while the server answers.

    ``spent`` is how many seconds of the whole-delivery limit servers that did not take the mail
    have used up already.
    """

    mail_id: str
    envelope: Envelope
    wire: Callable[[Capabilities], Wire] = attrs.field(repr=False)
    before_dot: Callable[[tuple[str, ...]], Awaitable[None]] | None = attrs.field(
        default=None, repr=False
    )
    early: bool = False
    spent: float = 0.0

    @property
    def urgent(self) -> bool:
        """Whether it goes before mails of the queue: somebody waits for what becomes of it."""
        return self.before_dot is None

    def marked_by(
        self, before_dot: Callable[[tuple[str, ...]], Awaitable[None]], *, early: bool
    ) -> OutgoingMail:
        """Give the same mail with this ``before_dot``."""
        # Not by evolve: it asks for each field by name, which takes longer than all else here.
        return OutgoingMail(
            mail_id=self.mail_id,
            envelope=self.envelope,
            wire=self.wire,
            before_dot=before_dot,
            early=early,
            spent=self.spent,
        )


class Outcome(enum.Enum):
    """What became of one recipient."""

    DELIVERED = "delivered"
    TEMPORARY = "temporary"
    PERMANENT = "permanent"
    UNCERTAIN = "uncertain"


@attrs.frozen(kw_only=True)
class RecipientOutcome:
    """One recipient's outcome, with the server's words where it said any.

    ``code`` is 0 when no reply came; ``enhanced`` is an RFC 3463 code or empty; ``reply`` is
    clean text (no control characters, no secrets, at most 1,000 characters).
    """

    recipient: str
    outcome: Outcome
    code: int = 0
    enhanced: str = ""
    reply: str = ""


@attrs.frozen(kw_only=True)
class DeliveryResult:
    """What became of a whole mail: one outcome per recipient, in the envelope's order.

    ``reason`` is empty when all were delivered, else a text that begins ``SMTP Error: ``.
    ``server`` is ``host:port``; ``seconds`` is the time the delivery took. ``dialogue`` is what was
    said (see ``core.dialogue``), bounded, and empty when all were delivered. ``untaken``: the
    server certainly has nothing of the mail, whose end was not written, and another may be tried
    at once. ``again_in``: a mail of the queue was not tried, which is no attempt, and is to come
    again after so many seconds; 0 where it was not its turn, more where the server is out of reach.
    None where it was tried.
    """

    outcomes: tuple[RecipientOutcome, ...]
    reason: str = ""
    server: str = ""
    seconds: float = 0.0
    dialogue: tuple[str, ...] = attrs.field(default=(), repr=False)
    untaken: bool = False
    again_in: float | None = None

    @property
    def delivered(self) -> bool:
        """Whether every recipient was delivered."""
        # No generator: that is asked for of each mail, more than once.
        for one in self.outcomes:  # noqa: SIM110
            if one.outcome is not Outcome.DELIVERED:
                return False
        return True

    @property
    def reached(self) -> bool:
        """Whether a session with the server came about."""
        return self.reason != NOT_REACHED

    @property
    def temporary(self) -> bool:
        """Whether another attempt may still deliver to somebody."""
        again = (Outcome.TEMPORARY, Outcome.UNCERTAIN)
        return any(o.outcome in again for o in self.outcomes)
