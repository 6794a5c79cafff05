# SPDX-License-Identifier: MIT
"""One mail transaction: what is written when, and what the server's answers to it mean.

It reads and writes nothing itself. There are four ways to hand a mail over, by what is offered:

- lock-step: each command waits for the answer to the one before it;
- with PIPELINING (RFC 2920) MAIL, all RCPT and DATA are one write, and the message is the next;
- with CHUNKING (RFC 3030) too, MAIL and all RCPT are one write, BDAT and the message the next;
- the same on a session that is being answered: all of it is one write, unless the mail has to be
  marked before it may be delivered. (On one that lay idle the message's end waits for an answer:
  should the session be dead, the mail is not in doubt.)
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator

from twisted.python.failure import Failure

from smtpmailer.core.dialogue import MAX_LINES
from smtpmailer.core.model import Outcome, RecipientOutcome
from smtpmailer.delivery.body import CHUNK
from smtpmailer.delivery.commands import Commands
from smtpmailer.delivery.errand import Errand
from smtpmailer.delivery.outcome import DELIVERED, Verdict, refused_recipient, verdict_of_reply
from smtpmailer.delivery.replies import ReplyParser, SmtpReply
from smtpmailer.errors import SmtpProtocolError

__all__ = ["Transaction"]

_RSET = b"RSET\r\n"
_DATA = b"DATA\r\n"

_RCPT_OK = frozenset({250, 251, 252})
_OK = 250
_GO_AHEAD = 354
_CLOSING = 421
_REFUSED = 400
_BAD_SEQUENCE = 503
#: What a server says that does not know BDAT, whatever it offers.
_UNKNOWN = frozenset({500, 501, 502, 503, 504})
_OUT_OF_STEP = re.compile(rb"pipelin|synchroni[sz]", re.IGNORECASE)

_NOBODY = Verdict(outcome=Outcome.TEMPORARY)  # About nobody: each recipient has its own refusal.


class Transaction:
    """A mail on its way over a session; used once.

    While it runs: ``stage`` names what is answered next. ``mail_answered``: the server has taken
    note of the mail. ``named``: every recipient is answered, and ``accepted`` are some.
    ``go_ahead``: the message may be written. ``complete``: all of it is written or about to be.
    ``end_written``: the message's end may be out, and the mail is in doubt. ``unheard``: so many
    answers are due to a group, besides those to DATA and the message, and none has come.

    ``over``: ``verdict`` holds for all recipients that are not in ``refused``. ``closing``: the
    server ends the session. ``left_open``: RSET has to come before the next mail. ``suspect``: the
    server has not taken the mail, and may have been confused by commands in groups, or by BDAT.

    The carrier keeps its own notes here: ``needs_mark`` and ``marked`` (``before_dot`` is to be
    called, and done), ``unmarkable`` (why that failed), ``reused`` (the session carried mails
    before), ``abandoned`` (the result was told already), ``fault`` (one of our own).
    """

    verdict: Verdict | None = None
    fault: Failure | None = None
    accepted: tuple[str, ...] = ()
    unmarkable = ""
    unheard = 0
    over = closing = left_open = suspect = False
    mail_answered = named = go_ahead = complete = end_written = False
    reused = abandoned = False
    _asked = 0
    # For whoever wants to know afterwards: how many commands of the opening were written, the
    # replies that were not looked at one by one, how many others there were, and the last of them.
    _opened = 0
    _passed: tuple[ReplyParser, list[bytes]] | None = None
    _heard = 0
    _stopped = False

    def __init__(
        self, errand: Errand, commands: Commands, *, grouped: bool, reset: bool, trusted: bool
    ) -> None:
        """Begin with RSET if ``reset``; ``trusted``: the session is known to be alive."""
        self.errand = errand
        self.refused: dict[str, RecipientOutcome] = {}
        self.needs_mark = errand.mail.before_dot is not None
        self.marked = not self.needs_mark
        self.stage = "RSET" if reset else "MAIL FROM"
        self._commands = commands
        self._grouped = grouped
        self._chunked = not commands.tail
        self._reset = reset
        self._replies: deque[SmtpReply] = deque(maxlen=MAX_LINES)
        self._whole = (
            grouped and trusted and self._chunked and self.marked and len(commands.message) <= CHUNK
        )
        # A function, not a method: that would hold this in a cycle.
        first = Transaction._on_rset if reset else Transaction._on_mail
        self._expect: Callable[[Transaction, SmtpReply], bytes] = first

    @property
    def grouped(self) -> bool:
        """Whether commands are written before the answers to those in front of them are there."""
        return self._grouped

    @property
    def may_mark(self) -> bool:
        """Whether it is time to call ``before_dot``.

        The go-ahead is on its way then, and may come while the mark is being made.
        """
        return self.needs_mark and self.named

    @property
    def may_stop(self) -> bool:
        """Whether it is time to say that no message comes, though the server waits for one."""
        given_up = bool(self.unmarkable) or self.abandoned
        return given_up and self.go_ahead and not self.complete

    @property
    def marks_early(self) -> bool:
        """Whether ``before_dot`` may be called once the opening is written."""
        return self.needs_mark and self._grouped and self.errand.mail.early

    @property
    def may_send(self) -> bool:
        """Whether it is time to write the message, or the dot in its place."""
        return self.go_ahead and not self.complete and (self.marked or not self.named)

    def opening(self) -> tuple[list[bytes], int]:
        """Give what is written first, in pieces, and the number of answers that it brings."""
        commands = self._commands
        parts = [_RSET] if self._reset else [commands.mail]
        if not self._grouped:
            self._opened = 1
            return parts, 1
        if self._reset:
            parts.append(commands.mail)
        parts += commands.recipients
        answers = self.unheard = len(parts)
        self._opened = len(parts) + (not self._chunked)
        if self._whole:
            self.complete = True
            return [*parts, commands.head, commands.message], answers + 1
        if not self._chunked:
            parts.append(_DATA)
            answers += 1
        return parts, answers

    def message(self) -> tuple[bytes, bytes, bytes]:
        """Give what is written once ``go_ahead``: what comes before the message, it, its end.

        A lone dot when nobody is left to get it (RFC 2920 section 3.1).
        """
        self.complete = True
        self.stage = "the end of data"
        self._expect = Transaction._on_end
        commands = self._commands
        if self.verdict is not None:
            self._stopped = True
            return b"", b"", b".\r\n"
        return commands.head, commands.message, commands.tail

    def answered(self, reply: SmtpReply) -> bytes:
        """Take the next answer; give the command to be written now, if one is.

        Raises RemoteError when the session can't go on.
        """
        self.unheard = 0
        self._heard += 1
        self._replies.append(reply.brief())
        line = self._expect(self, reply)
        if line:
            self._opened += 1
        return line

    def accept_all(self, lines: list[bytes], parser: ReplyParser) -> None:
        """Take all answers that are ``unheard``: each is 250, on a line of its own."""
        self.unheard = 0
        self._passed = parser, lines
        self.mail_answered = self.left_open = True
        self._all_named()

    def written(self) -> Iterator[str]:
        """Give the commands that were written so far; the message is told in bytes."""
        commands = self._commands
        opening = [commands.mail, *commands.recipients, *(() if self._chunked else (_DATA,))]
        if self._reset:
            opening.insert(0, _RSET)
        for line in opening[: self._opened]:
            yield line.decode("utf-8", "replace").rstrip()
        if self._stopped:
            yield "."
        elif self.complete:
            chunk = commands.head.decode("ascii").rstrip()
            size = f"{len(commands.message)} bytes of message"
            part = "" if self.end_written else ", not to their end"
            yield f"{chunk} ({size}{part})".lstrip()

    def replies(self) -> Iterator[tuple[int, str] | None]:
        """Give code and text of the answers so far; None for one that was not kept."""
        if self._passed is not None:
            parser, lines = self._passed
            yield from ((_OK, parser.quote(line[4:])) for line in lines)
        yield from [None] * (self._heard - len(self._replies))
        yield from ((reply.code, reply.text) for reply in self._replies)

    # One for each kind of answer, in their order.

    def _on_rset(self, reply: SmtpReply) -> bytes:
        if reply.code == _CLOSING:
            self.verdict = verdict_of_reply("RSET", reply)
            self.closing = True
            return self._end()
        if reply.code != _OK:
            raise _unexpected("RSET", reply)
        self.stage = "MAIL FROM"
        self._expect = Transaction._on_mail
        return b"" if self._grouped else self._commands.mail

    def _on_mail(self, reply: SmtpReply) -> bytes:
        # 421 is about the session, whatever it answers.
        self.mail_answered = reply.code != _CLOSING
        if reply.code == _OK:
            self.left_open = True
        else:
            self.verdict = _verdict("MAIL FROM", reply)
            self._note(reply)
            if not self._grouped or self.closing:
                return self._end()
        self.stage = "RCPT TO"
        self._expect = Transaction._on_recipient
        return b"" if self._grouped else self._commands.recipients[0]

    def _on_recipient(self, reply: SmtpReply) -> bytes:
        recipients = self.errand.mail.envelope.recipients
        recipient = recipients[self._asked]
        self._asked += 1
        if self.verdict is None and reply.code not in _RCPT_OK:
            if reply.code < _REFUSED:
                raise _unexpected("RCPT TO", reply)
            self._note(reply)
            if self.closing:
                self.verdict = verdict_of_reply("RCPT TO", reply)
                return self._end()
            self.refused[recipient] = refused_recipient(recipient, reply)
        if self._asked < len(recipients):
            return b"" if self._grouped else self._commands.recipients[self._asked]
        return self._all_named()

    def _all_named(self) -> bytes:
        if self.verdict is None:
            refused, accepted = self.refused, self.errand.mail.envelope.recipients
            if refused:
                accepted = tuple([r for r in accepted if r not in refused])
            self.accepted = accepted
            self.named = bool(accepted)
            if not self.named:
                self.verdict = _NOBODY
        if self._whole:
            self.stage = "the end of data"
            self._expect = Transaction._on_end
        elif self.named and self._chunked:
            self.go_ahead = True
        elif not self.named and (self._chunked or not self._grouped):
            return self._end()
        else:
            self.stage = "DATA"
            self._expect = Transaction._on_data
            return b"" if self._grouped else _DATA
        return b""

    def _on_data(self, reply: SmtpReply) -> bytes:
        if reply.code == _GO_AHEAD:
            if not self.left_open:
                raise SmtpProtocolError("the server wants a message whose sender it refused")
            self.go_ahead = True
            return b""
        if self.verdict is None:
            self.verdict = _verdict("data", reply)
            self._note(reply)
        return self._end()

    def _on_end(self, reply: SmtpReply) -> bytes:
        self.left_open = self._chunked and reply.code >= _REFUSED
        if self.verdict is None:
            # Any 2xx is taken as yes (RFC 5321 section 4.2.1): doubt here would make copies.
            if reply.code < 300:  # noqa: PLR2004
                enhanced, text = reply.texts()
                self.verdict = Verdict(
                    outcome=DELIVERED, code=reply.code, enhanced=enhanced, reply=text
                )
            else:
                self.verdict = _verdict("data", reply)
                self.closing = reply.code == _CLOSING
                self.suspect = self._chunked and reply.code in _UNKNOWN
        return self._end()

    def _end(self) -> bytes:
        self.over = True
        return b""

    def _note(self, reply: SmtpReply) -> None:
        """Look what a refusal tells about the session."""
        self.closing = reply.code == _CLOSING
        if self._grouped and (
            (reply.code == _BAD_SEQUENCE and self.mail_answered)
            or _OUT_OF_STEP.search(b" ".join(reply.lines))
        ):
            self.suspect = True


def _verdict(stage: str, reply: SmtpReply) -> Verdict:
    if reply.code < _REFUSED:
        raise _unexpected(stage, reply)
    return verdict_of_reply(stage, reply)


def _unexpected(stage: str, reply: SmtpReply) -> SmtpProtocolError:
    return SmtpProtocolError(f"unexpected reply to {stage}: {reply.code} {reply.text}")
