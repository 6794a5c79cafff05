# SPDX-License-Identifier: MIT
"""What a dead process left in the queue's directories, found and put in order."""

from __future__ import annotations

import os
from collections.abc import Generator

import attrs

from smtpmailer.core.queued import StoredMail
from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.errors import StoreError
from smtpmailer.stores.atomic import move, unlink
from smtpmailer.stores.commit import Batch
from smtpmailer.stores.folder import QueueFolder
from smtpmailer.stores.mailfiles import names_in, read_mail

__all__ = ["Recovery", "recover"]


@attrs.define
class Recovery:
    """What was found: claims to judge, and waiting mails that have a state.

    ``returned`` names the mails that were put back, ``faults`` says what could not be done.
    """

    claims: list[StoredMail] = attrs.field(factory=list)
    returned: list[str] = attrs.field(factory=list)
    states: dict[str, MailState] = attrs.field(factory=dict)
    faults: list[str] = attrs.field(factory=list)


def recover(folder: QueueFolder, _batch: Batch) -> Generator[None, None, Recovery]:
    """Find out what a dead process left; an operation, for the one process that runs the queue.

    Its claims are given back for judgement, but those that it had decided to return are returned,
    and those it had delivered removed. (A mail in doubt whose claim a power cut has undone is one
    of its claims.) Claimed files that no journal names are the predecessor's,
    and stay. One file that resists keeps no other; it is named in ``faults``.
    """
    # From here on other processes change no names.
    yield
    found = Recovery()
    folder.scratch.sweep()
    folder.journal.open()
    if folder.journal.damaged:
        found.faults.append(f"{folder.journal.path}: {folder.journal.damaged} records are damaged")
    for name in sorted(names_in(folder.paths.claimed)):
        try:
            _judge(folder, name, found)
        except (OSError, StoreError) as error:
            found.faults.append(str(error))
    _reclaim(folder, found)
    for name in folder.journal.done_names():
        try:
            unlink(folder.waiting(name))
        except OSError as error:
            found.faults.append(str(error))
    _read_states(folder, found)
    try:
        folder.prune()
        folder.journal.rewrite()
    except OSError as error:
        # A full disk, say; the old file goes on.
        found.faults.append(f"{error.filename or folder.journal.path}: {error.strerror}")
    return found


def _judge(folder: QueueFolder, name: str, found: Recovery) -> None:
    """Decide on one file among the claimed ones."""
    journal, path = folder.journal, folder.claimed(name)
    if journal.is_done(name):
        unlink(path)
    elif name not in journal:
        # Not ours: the predecessor's (``stores.leftovers``).
        return
    elif not journal.is_claimed(name):
        _return(folder, name)
        found.returned.append(name)
    else:
        mail = read_mail(path, journal.state(name))
        # The journal has taken it in, or the mail would not be here.
        folder.notes.remove(name)
        if folder.waits(name) and _apart(folder, name):
            # Copied to the other file system; then the power went before this one was removed.
            unlink(folder.waiting(name))
        found.claims.append(mail)


def _reclaim(folder: QueueFolder, found: Recovery) -> None:
    """Take back the mails in doubt whose claim is journalled, but whose move was lost.

    A power cut may have undone the move and kept the mark. To let them wait like any other would
    be to send them again without a word, and also where they are to be held.
    """
    known = {mail.name for mail in found.claims}
    for name in folder.journal:
        if name in known or not folder.journal.is_claimed(name) or not folder.waits(name):
            continue
        state = folder.journal.state(name)
        # With a state of its own beside it, it is another mail that was given this name.
        if state.in_doubt and state == folder.state(name):
            try:
                move(folder.waiting(name), folder.claimed(name))
                found.claims.append(read_mail(folder.claimed(name), state))
            except (OSError, StoreError) as error:
                found.faults.append(str(error))


def _return(folder: QueueFolder, name: str) -> None:
    if folder.waits(name):
        # Copied to the other file system, but not removed from this one.
        unlink(folder.claimed(name))
    else:
        move(folder.claimed(name), folder.waiting(name))


def _apart(folder: QueueFolder, name: str) -> bool:
    claimed, waiting = os.lstat(folder.claimed(name)), os.lstat(folder.waiting(name))
    return claimed.st_dev != waiting.st_dev


def _read_states(folder: QueueFolder, found: Recovery) -> None:
    """Find the states of the waiting mails, and remove the notes of mails that are nowhere."""
    waiting = set(folder.names())
    noted = set(folder.notes.names())
    for name in noted:
        if name not in waiting and not folder.is_claimed(name):
            folder.notes.remove(name)
    for name in waiting & {*folder.journal, *noted}:
        state = folder.state(name)
        if state != FRESH:
            found.states[name] = state
