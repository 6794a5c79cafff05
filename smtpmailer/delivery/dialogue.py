# SPDX-License-Identifier: MIT
"""What was said to a server, as text that may be kept; made only where something went wrong.

Of a mail, that is its own commands and the replies to them; its message is told in bytes. Of a
session that did not come about, greeting, EHLO, STARTTLS and login, whose secrets are masked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from smtpmailer.core.dialogue import bounded, command, happened, reply
from smtpmailer.delivery.replies import SmtpReply, clean_text
from smtpmailer.delivery.transaction import Transaction

__all__ = ["Opening", "dialogue_of"]

_MASK = "***"


def dialogue_of(transaction: Transaction, end: str = "") -> tuple[str, ...]:
    """Give what was said about a mail; ``end`` is how it ended, where no reply says that."""
    return bounded(_lines(transaction, end))


def _lines(transaction: Transaction, end: str) -> Iterator[str]:
    replies = transaction.replies()
    for said in transaction.written():
        yield command(said)
        heard = next(replies, None)
        if heard is not None:
            yield reply(*heard)
    if end:
        yield happened(end)


class Opening:
    """What is said before a session is ready. It costs little: no text is made before ``lines``."""

    def __init__(self) -> None:
        """Begin before the greeting."""
        self._said: list[bytes | str | SmtpReply] = []
        self._logging_in = False

    def said(self, line: bytes) -> None:
        """Note a command without its line end; of a login, only its mechanism."""
        if line.startswith(b"AUTH "):
            self._logging_in = True
            _, mechanism, *initial = line.split(b" ")
            line = b"AUTH %b%b" % (mechanism, b" ***" if initial else b"")
        elif self._logging_in:
            # What follows AUTH is a secret, or takes the place of one (RFC 4954 section 4).
            line = _MASK.encode()
        self._said.append(line)

    def heard(self, answer: SmtpReply) -> None:
        """Note a reply."""
        self._said.append(answer.brief())

    def happened(self, what: str) -> None:
        """Note something else."""
        self._said.append(what)

    def forget(self) -> None:
        """Keep nothing of a session that is ready."""
        self._said.clear()

    def lines(self, hide: Callable[[str], str], end: str) -> tuple[str, ...]:
        """Give all of it; ``hide`` takes secrets out of texts, ``end`` is how it ended."""
        return bounded([*(_line(each, hide) for each in self._said), happened(end)])


def _line(what: bytes | str | SmtpReply, hide: Callable[[str], str]) -> str:
    if isinstance(what, SmtpReply):
        return reply(what.code, what.text)
    if isinstance(what, str):
        return happened(what)
    return command(clean_text(hide(what.decode("utf-8", "replace"))))
