# SPDX-License-Identifier: MIT
"""A mail put into the commands and bytes of one SMTP transaction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from smtpmailer.core.model import Outcome, OutgoingMail
from smtpmailer.delivery.offer import Offer
from smtpmailer.delivery.outcome import Verdict
from smtpmailer.errors import SmtpProtocolError

__all__ = ["Commands", "write_commands"]

_UNSAFE = re.compile(r"[\r\n\0]")


class Commands(NamedTuple):
    """What is written for one mail, line ends included.

    ``message`` stands between ``head`` and ``tail``: nothing and the final dot after DATA, or the
    BDAT command and nothing.
    """

    mail: bytes
    recipients: Sequence[bytes]
    head: bytes
    message: bytes
    tail: bytes


def write_commands(mail: OutgoingMail, offer: Offer) -> Commands | Verdict:
    """Write a mail for a server with this offer; a verdict when it can't be handed to that one.

    Raises ClientError when the mail can't be written, and SmtpProtocolError for an address that
    would break its line.
    """
    envelope, can = mail.envelope, offer.capabilities
    sender, recipients = envelope.sender, envelope.recipients
    addresses = " ".join((sender, *recipients))
    international = envelope.utf8_headers or not addresses.isascii()
    if international and not can.smtputf8:
        return _unfit("the server does not offer SMTPUTF8, which an address here needs")
    # Checked before; this is the last fence. (What is printable holds none of them.)
    if not addresses.isprintable() and _UNSAFE.search(addresses):
        raise SmtpProtocolError("a command would hold CR, LF or NUL; not sent")
    wire = mail.wire(can)
    size = wire.size
    if 0 < offer.limit < size:
        return _unfit(f"the mail has {size} bytes, the server takes at most {offer.limit}")
    parameters = b" SIZE=%d" % size if offer.size else b""
    data = wire.data
    if not data.isascii():
        parameters += b" BODY=8BITMIME" if can.eight_bit else b""
        international = international or not data[: data.find(b"\r\n\r\n") + 2].isascii()
    if can.smtputf8 and international:  # RFC 6531: only for what envelope or header hold.
        parameters += b" SMTPUTF8"
    if offer.chunking:  # BDAT counts bytes, and needs no dots (RFC 3030 section 2).
        data = wire.plain()
        head, tail = b"BDAT %d LAST\r\n" % len(data), b""
    else:
        head, tail = b"", b".\r\n"
    return Commands(
        b"MAIL FROM:<%b>%b\r\n" % (sender.encode(), parameters),
        [b"RCPT TO:<%b>\r\n" % r.encode() for r in recipients],
        head,
        data,
        tail,
    )


def _unfit(why: str) -> Verdict:
    return Verdict(outcome=Outcome.PERMANENT, headline=why, reply=why)
