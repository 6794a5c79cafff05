# SPDX-License-Identifier: MIT
"""One mail over a session that is ready: MAIL, RCPT, DATA, and what became of each recipient."""

from __future__ import annotations

from smtpmailer.core.model import Capabilities, Envelope, Outcome, OutgoingMail, RecipientOutcome
from smtpmailer.delivery.outcome import Verdict, refused_recipient, verdict_of_reply
from smtpmailer.delivery.replies import SmtpReply
from smtpmailer.delivery.session import Session
from smtpmailer.errors import (
    NoSuchMailError,
    SmtpLostError,
    SmtpProtocolError,
    SmtpRefusedError,
    StoreError,
)

__all__ = ["Transaction"]

_MAIL_OK = frozenset({250})
_RCPT_OK = frozenset({250, 251, 252})
_GO_AHEAD = 354
_CLOSING = 421
_REFUSED = 400
_SUCCESS = range(200, 300)


class Transaction:
    """Hands one mail over, in lock-step; used once.

    ``refused`` holds the recipients that the server refused one by one, also when ``run`` fails.
    """

    def __init__(self, session: Session, mail: OutgoingMail) -> None:
        self._session = session
        self._mail = mail
        self.refused: dict[str, RecipientOutcome] = {}

    async def run(self) -> Verdict:
        """Give the verdict about all recipients that are not in ``refused``.

        Raises RemoteError when the dialogue ends early; ``session.dot_written`` then tells
        whether the server may have the mail. Raises ClientError when the mail can't be written.
        """
        offered = self._session.extensions
        unicode = "SMTPUTF8" in offered
        if self._mail.envelope.needs_smtputf8 and not unicode:
            return _unfit("the server does not offer SMTPUTF8, which an address here needs")
        wire = self._mail.wire(Capabilities(eight_bit="8BITMIME" in offered, smtputf8=unicode))
        size = _message_size(wire)
        limit = offered.get("SIZE", "")
        if limit.isdecimal() and 0 < int(limit) < size:
            return _unfit(f"the mail has {size} bytes, the server takes at most {limit}")
        reply = await self._session.command(self._mail_line(wire, size))
        if reply.code not in _MAIL_OK:
            return _refusal("MAIL FROM", reply)
        await self._name_recipients()
        if len(self.refused) == len(self._mail.envelope.recipients):
            return Verdict(outcome=Outcome.TEMPORARY)  # It is about nobody: all have their own.
        return await self._send(wire)

    async def _name_recipients(self) -> None:
        for recipient in self._mail.envelope.recipients:
            reply = await self._session.command(b"RCPT TO:<" + recipient.encode() + b">")
            if reply.code == _CLOSING:
                raise SmtpRefusedError(
                    "RCPT TO", reply.text, code=reply.code, enhanced=reply.enhanced
                )
            if reply.code >= _REFUSED:
                self.refused[recipient] = refused_recipient(recipient, reply)
            elif reply.code not in _RCPT_OK:
                raise _unexpected("RCPT TO", reply)

    async def _send(self, wire: bytes) -> Verdict:
        reply = await self._session.command(b"DATA")
        if reply.code != _GO_AHEAD:
            return _refusal("data", reply)
        await self._announce()
        reply = await self._session.send_message(wire)
        # Any 2xx is taken as yes (RFC 5321 section 4.2.1): doubt here would make copies.
        if reply.code in _SUCCESS:
            return Verdict(
                outcome=Outcome.DELIVERED,
                code=reply.code,
                enhanced=reply.enhanced,
                reply=reply.text,
            )
        return _refusal("data", reply)

    async def _announce(self) -> None:
        """Say that the mail may be delivered from now on; if nobody takes note, don't send it."""
        if self._mail.before_dot is None:
            return
        accepted = tuple(r for r in self._mail.envelope.recipients if r not in self.refused)
        try:
            await self._mail.before_dot(accepted)
        except (NoSuchMailError, StoreError) as error:
            # The server waits for a message: only the end of the connection says there is none.
            lost = SmtpLostError(f"given up before the message: {error}")
            self._session.fail(lost)
            raise lost from error

    def _mail_line(self, wire: bytes, size: int) -> bytes:
        envelope, offered = self._mail.envelope, self._session.extensions
        line = b"MAIL FROM:<" + envelope.sender.encode() + b">"
        if "SIZE" in offered:
            line += b" SIZE=%d" % size
        if "8BITMIME" in offered and not wire.isascii():
            line += b" BODY=8BITMIME"
        if "SMTPUTF8" in offered and _is_international(envelope, wire):
            line += b" SMTPUTF8"
        return line


def _message_size(wire: bytes) -> int:
    """Count as RFC 1870 section 3 does: with line ends, without the dots that stuffing added."""
    return len(wire) - wire.count(b"\r\n.") - wire.startswith(b".")


def _is_international(envelope: Envelope, wire: bytes) -> bool:
    """Whether envelope or headers hold anything that only SMTPUTF8 allows (RFC 6531)."""
    return envelope.needs_smtputf8 or not wire[: wire.find(b"\r\n\r\n") + 2].isascii()


def _unfit(why: str) -> Verdict:
    return Verdict(outcome=Outcome.PERMANENT, headline=why, reply=why)


def _refusal(stage: str, reply: SmtpReply) -> Verdict:
    if reply.code < _REFUSED:
        raise _unexpected(stage, reply)
    return verdict_of_reply(stage, reply)


def _unexpected(stage: str, reply: SmtpReply) -> SmtpProtocolError:
    return SmtpProtocolError(f"unexpected reply to {stage}: {reply.code} {reply.text}")
