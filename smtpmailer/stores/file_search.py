# SPDX-License-Identifier: MIT
"""Finds a mail wherever a file queue has it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from smtpmailer.core.lookup import Wanted
from smtpmailer.core.names import file_name, unique_of
from smtpmailer.core.queued import FoundMail, MailPlace, StoredMail
from smtpmailer.errors import NoSuchMailError, StoreError
from smtpmailer.interfaces import IMailSearch, IThreads
from smtpmailer.stores.deadletters import read_buried
from smtpmailer.stores.folder import QueueFolder
from smtpmailer.stores.graves import Graves
from smtpmailer.stores.mailfiles import names_in, read_mail

__all__ = ["FileSearch"]

_List = Callable[[], list[str]]
_Read = Callable[[str], FoundMail]

#: A mail may move while it is looked for, and be missed in both places.
_TRIES: Final = 3


@implementer(IMailSearch)
class FileSearch:
    """Looks through the queue's directories; in a thread, as they may hold very many files."""

    def __init__(
        self, folder: QueueFolder, dead: Graves, quarantine: Graves, threads: IThreads
    ) -> None:
        """Use the queue's own parts; nothing is changed."""
        self._folder = folder
        self._dead = dead
        self._quarantine = quarantine
        self._threads = threads

    def find(self, wanted: Wanted) -> Deferred[FoundMail]:
        """Find it; see IMailSearch."""
        return self._threads.run(lambda: self._find(wanted))

    def _find(self, wanted: Wanted) -> FoundMail:
        try:
            for _ in range(_TRIES):
                for found in self._found(wanted):
                    return found
        except OSError as error:
            raise StoreError(f"{error.filename or 'queue'}: {error.strerror}") from error
        raise NoSuchMailError(wanted.name or wanted.unique)

    def _found(self, wanted: Wanted) -> Iterator[FoundMail]:
        folder = self._folder
        places: tuple[tuple[_List, _Read], ...] = (
            (folder.names, self._waiting),
            (partial(names_in, folder.paths.claimed), self._claimed),
            (self._dead.names, partial(_buried, MailPlace.DEAD, self._dead)),
            (self._quarantine.names, partial(_buried, MailPlace.QUARANTINE, self._quarantine)),
        )
        for names, read in places:
            for name in [file_name(wanted.name)] if wanted.name else names():
                if wanted.name or unique_of(name) == wanted.unique:
                    with contextlib.suppress(FileNotFoundError, NoSuchMailError):
                        yield read(name)

    def _waiting(self, name: str) -> FoundMail:
        mail = self._folder.read(name)
        return FoundMail(place=MailPlace.WAITING, mail=_without_path(mail))

    def _claimed(self, name: str) -> FoundMail:
        folder = self._folder
        mail = read_mail(folder.claimed(name), folder.state(name))
        return FoundMail(place=MailPlace.SENDING, mail=_without_path(mail))


def _buried(place: MailPlace, graves: Graves, name: str) -> FoundMail:
    try:
        buried = read_buried(name, *graves.read(name))
    except StoreError as error:
        mail = StoredMail(name=name, document="", fault=str(error))
        return FoundMail(place=place, mail=_without_path(mail))
    return FoundMail(place=place, mail=buried.mail, record=buried.record)


def _without_path(mail: StoredMail) -> StoredMail:
    """Take the directory out of a fault: whoever asks over the network need not know it."""
    return attrs.evolve(mail, fault=re.sub(rf"\S*/(?={re.escape(mail.name)})", "", mail.fault))
