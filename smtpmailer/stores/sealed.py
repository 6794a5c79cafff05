# SPDX-License-Identifier: MIT
"""Encryption around any queue store: what it keeps holds no plain secret.

Only the SMTP password is encrypted, or with QUEUE_FULL_ENCRYPT the whole document. What any other
setting wrote is read all the same. What can't be decrypted is a mail with a fault, no exception.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import orjson
from twisted.internet.defer import Deferred
from zope.interface import implementer

from smtpmailer.core.ciphers import NONCE_BYTES, open_sealed, seal
from smtpmailer.core.dialogue import happened
from smtpmailer.core.lookup import Wanted
from smtpmailer.core.queued import (
    Buried,
    FoundMail,
    MailDocument,
    Page,
    Recovered,
    Settlement,
    StoredMail,
)
from smtpmailer.core.queuestate import Attempt, MailState
from smtpmailer.errors import CipherError
from smtpmailer.interfaces import IDeadLetters, IMailSearch, IQueue

__all__ = ["QueueCipher", "SealedDeadLetters", "SealedQueueStore", "SealedSearch"]

_PLAIN: Final = "smtpPassword"
_SEALED: Final = "smtpEncryptPassword"

#: What was said with a server, encrypted, is a line that begins so; no other does.
_SEALED_LINES: Final = "sealed: "


@attrs.frozen(kw_only=True)
class QueueCipher:
    """How documents are encrypted.

    ``keys`` are SECRET_KEY, which new ones are encrypted with, and those of SECRET_KEY_OLD.
    ``whole`` is QUEUE_FULL_ENCRYPT. ``make_nonce`` gives so many bytes, never the same ones twice.
    """

    method: str
    keys: Sequence[bytes] = attrs.field(repr=False)
    whole: bool
    make_nonce: Callable[[int], bytes] = attrs.field(repr=False)

    def seal(self, document: MailDocument) -> MailDocument:
        """Encrypt a mail object, or its password if it has one; a sealed one stays as it is."""
        if isinstance(document, str):
            return document
        if self.whole:
            return self._seal(orjson.dumps(document))
        sealed = dict(document)
        password = sealed.pop(_PLAIN, None)
        if password is not None:
            sealed[_SEALED] = self._seal(str(password).encode())
        return sealed

    def open(self, document: MailDocument) -> Mapping[str, Any]:
        """Decrypt, whatever setting wrote it; raises CipherError or ValueError."""
        if isinstance(document, str):
            value = orjson.loads(open_sealed(document, self.keys))
            if not isinstance(value, dict):
                raise CipherError("not a JSON object")
            document = value
        sealed = document.get(_SEALED)
        if sealed is None:
            return document
        if not isinstance(sealed, str):
            raise CipherError(f"{_SEALED} is not a text")
        opened = {key: value for key, value in document.items() if key != _SEALED}
        opened[_PLAIN] = open_sealed(sealed, self.keys).decode()
        return opened

    def open_mail(self, mail: StoredMail) -> StoredMail:
        """Decrypt a stored mail; one that can't be decrypted has a fault and no document."""
        # Most mails hold nothing secret: they stay as they are.
        state = self.open_state(mail.state)
        if state is not mail.state:
            mail = attrs.evolve(mail, state=state)
        if mail.fault:
            return mail
        try:
            document = self.open(mail.document)
            return mail if document is mail.document else attrs.evolve(mail, document=document)
        except (CipherError, ValueError) as error:
            return attrs.evolve(mail, document="", fault=f"can't be decrypted: {error}")

    def seal_state(self, state: MailState) -> MailState:
        """Encrypt what was said with servers, where documents are encrypted as a whole."""
        return _changed(state, self._seal_lines) if self.whole else state

    def open_state(self, state: MailState) -> MailState:
        """Decrypt it, whatever setting wrote it; what can't be decrypted is left out."""
        return _changed(state, self._open_lines)

    def _seal_lines(self, lines: tuple[str, ...]) -> tuple[str, ...]:
        return (_SEALED_LINES + self._seal("\n".join(lines).encode()),)

    def _open_lines(self, lines: tuple[str, ...]) -> tuple[str, ...]:
        if not lines[0].startswith(_SEALED_LINES):
            return lines
        try:
            plain = open_sealed(lines[0].removeprefix(_SEALED_LINES), self.keys)
            return tuple(plain.decode().split("\n"))
        except (CipherError, ValueError) as error:
            return (happened(f"can't be decrypted: {error}"),)

    def _seal(self, plain: bytes) -> str:
        nonce = self.make_nonce(NONCE_BYTES[self.method])
        return seal(self.method, self.keys[0], nonce, plain)


def _changed(state: MailState, change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> MailState:
    """Change what the attempts of a mail keep of dialogues; few have any."""
    if not state.attempts:
        return state

    def changed(attempt: Attempt) -> Attempt:
        lines = attempt.dialogue
        return attrs.evolve(attempt, dialogue=change(lines)) if lines else attempt

    if not any(attempt.dialogue for attempt in state.attempts):
        return state
    return attrs.evolve(state, attempts=tuple(map(changed, state.attempts)))


@implementer(IQueue)
class SealedQueueStore:
    """A queue store whose documents are sealed on the way in and opened on the way out."""

    def __init__(self, store: IQueue, cipher: QueueCipher) -> None:
        """Wrap ``store``."""
        self._store = store
        self._cipher = cipher

    def start(self) -> Deferred[None]:
        """Start the store."""
        return self._store.start()

    def stop(self) -> Deferred[None]:
        """Stop the store."""
        return self._store.stop()

    def make_name(self, due: float, unique: str) -> str:
        """Make a name as the store does."""
        return self._store.make_name(due, unique)

    def is_name(self, text: str) -> bool:
        """Whether a text is a name for the store."""
        return self._store.is_name(text)

    def put(self, name: str, document: MailDocument, state: MailState) -> Deferred[None]:
        """Seal and add."""
        return self._store.put(name, self._cipher.seal(document), self._cipher.seal_state(state))

    def page(self, limit: int, page: int) -> Deferred[Page]:
        """Fire with a page of the store's."""
        return self._store.page(limit, page)

    def get(self, name: str) -> Deferred[StoredMail]:
        """Read and open."""
        return self._store.get(name).addCallback(self._cipher.open_mail)

    def replace(self, name: str, new_name: str, document: MailDocument) -> Deferred[None]:
        """Seal and replace."""
        return self._store.replace(name, new_name, self._cipher.seal(document))

    def remove(self, name: str) -> Deferred[None]:
        """Remove."""
        return self._store.remove(name)

    def clear(self) -> Deferred[int]:
        """Remove all."""
        return self._store.clear()

    def watch(self, changed: Callable[[], None]) -> None:
        """Watch the store."""
        self._store.watch(changed)

    def acquire(self) -> Deferred[bool]:
        """Become the one that runs the queue."""
        return self._store.acquire()

    def release(self) -> Deferred[None]:
        """Let another process run the queue."""
        return self._store.release()

    def runner(self) -> Deferred[str]:
        """Fire with who runs the queue."""
        return self._store.runner()

    def recover(self) -> Deferred[Recovered]:
        """Recover, and open the claims."""
        return self._store.recover().addCallback(self._open_recovered)

    def _open_recovered(self, recovered: Recovered) -> Recovered:
        return attrs.evolve(recovered, claims=self._open_all(recovered.claims))

    def claim(self, now: float, limit: int) -> Deferred[tuple[StoredMail, ...]]:
        """Claim, and open."""
        return self._store.claim(now, limit).addCallback(self._open_all)

    def _open_all(self, mails: tuple[StoredMail, ...]) -> tuple[StoredMail, ...]:
        return tuple(map(self._cipher.open_mail, mails))

    def next_due(self) -> float | None:
        """Give the store's next due time."""
        return self._store.next_due()

    def hasten(self, name: str, due: float) -> bool:
        """Let a mail be due earlier."""
        return self._store.hasten(name, due)

    def look_around(self, now: float) -> Deferred[None]:
        """Notice what other programs did."""
        return self._store.look_around(now)

    def mark(self, name: str, state: MailState) -> Deferred[None]:
        """Mark, with the state sealed."""
        return self._store.mark(name, self._cipher.seal_state(state))

    def settle(self, name: str, settlement: Settlement) -> Deferred[None]:
        """Seal the state, and the new content if any, and settle."""
        state = self._cipher.seal_state(settlement.state)
        if state is not settlement.state:
            settlement = attrs.evolve(settlement, state=state)
        if settlement.document is not None:
            sealed = self._cipher.seal(settlement.document)
            settlement = attrs.evolve(settlement, document=sealed)
        return self._store.settle(name, settlement)


@implementer(IDeadLetters)
class SealedDeadLetters:
    """Dead letters whose documents are sealed on the way in and opened on the way out."""

    def __init__(self, dead: IDeadLetters, cipher: QueueCipher) -> None:
        """Wrap ``dead``."""
        self._dead = dead
        self._cipher = cipher

    def page_failed(self, limit: int, page: int) -> Deferred[Page]:
        """Fire with a page."""
        return self._dead.page_failed(limit, page)

    def get_failed(self, name: str) -> Deferred[Buried]:
        """Read and open."""
        return self._dead.get_failed(name).addCallback(self._open)

    def _open(self, buried: Buried) -> Buried:
        return attrs.evolve(buried, mail=self._cipher.open_mail(buried.mail))

    def retry_failed(self, name: str, document: MailDocument) -> Deferred[None]:
        """Seal and put back into the queue."""
        return self._dead.retry_failed(name, self._cipher.seal(document))

    def remove_failed(self, name: str) -> Deferred[None]:
        """Remove."""
        return self._dead.remove_failed(name)

    def clear_failed(self) -> Deferred[int]:
        """Remove all."""
        return self._dead.clear_failed()


@implementer(IMailSearch)
class SealedSearch:
    """Finds mails in a sealed queue."""

    def __init__(self, search: IMailSearch, cipher: QueueCipher) -> None:
        """Wrap ``search``."""
        self._search = search
        self._cipher = cipher

    def find(self, wanted: Wanted) -> Deferred[FoundMail]:
        """Find and open."""
        return self._search.find(wanted).addCallback(self._open)

    def _open(self, found: FoundMail) -> FoundMail:
        return attrs.evolve(found, mail=self._cipher.open_mail(found.mail))
