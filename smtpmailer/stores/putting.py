# SPDX-License-Identifier: MIT
"""Adding mails to a queue's directory."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence

import attrs

from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.errors import MailGoneOnError, StoreError
from smtpmailer.stores.atomic import unlink
from smtpmailer.stores.commit import Batch
from smtpmailer.stores.folder import QueueFolder, name_taken
from smtpmailer.stores.scratch import Draft

__all__ = ["NewMail", "put"]


@attrs.frozen
class NewMail:
    """A mail to be added: its name, its file's content, and what is known about it."""

    name: str
    content: bytes = attrs.field(repr=False)
    state: MailState


@attrs.frozen
class _Written:
    """A new mail's file, and the path of its note (empty without one); nobody sees them yet."""

    mail: NewMail
    draft: Draft
    note: str


def put(
    folder: QueueFolder, batch: Batch, mails: Sequence[NewMail]
) -> Generator[None, None, dict[int, Exception]]:
    """Add mails: an operation for ``stores.commit``.

    Returns why some could not be added, by their place in ``mails``: they keep none of the others.
    MailGoneOnError says that one has its name, though not durably, and keeps it.
    """
    faults: dict[int, Exception] = {}
    with contextlib.ExitStack() as stack:
        written: dict[int, _Written] = {}
        for number, mail in enumerate(mails):
            try:
                written[number] = _write(folder, batch, stack, mail)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this one's own
                faults[number] = error
        if written:
            yield
        published: list[int] = []
        for number, each in written.items():
            try:
                _publish(folder, batch, each)
                published.append(number)
            except Exception as error:  # noqa: BLE001 - as above
                faults[number] = error
        if published:
            batch.directories.add(folder.paths.waiting)
            try:
                yield
            except StoreError as error:
                for number in published:
                    faults[number] = _taken_back(folder, mails[number].name, error)
        return faults


def _write(
    folder: QueueFolder, batch: Batch, stack: contextlib.ExitStack, mail: NewMail
) -> _Written:
    draft = folder.scratch.draft(batch, mail.content)
    stack.callback(draft.close)
    note = "" if mail.state == FRESH else folder.notes.write(batch, stack, mail.state)
    return _Written(mail, draft, note)


def _publish(folder: QueueFolder, batch: Batch, written: _Written) -> None:
    """Give a mail its name, its note first; raises StoreError when another one has it."""
    name = written.mail.name
    if written.note:
        folder.refuse_taken(name)
    try:
        if written.note:
            folder.notes.publish(batch, written.note, name)
        written.draft.publish(folder.waiting(name))
    except FileExistsError:
        raise name_taken(name) from None
    except OSError:
        folder.notes.remove(name)
        raise


def _taken_back(folder: QueueFolder, name: str, error: StoreError) -> StoreError:
    """Take a mail back that is not durable, as it is refused and must not be sent.

    Gives what to say of it. Another process may have claimed it already; and a disk that fails
    may fail here as well.
    """
    try:
        removed = unlink(folder.waiting(name))
    except OSError:
        removed = False
    if not removed:
        return MailGoneOnError(name, str(error))
    folder.notes.remove(name)
    return error
