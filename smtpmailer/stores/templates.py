# SPDX-License-Identifier: MIT
"""The templates in a directory, away from the reactor thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from zope.interface import implementer

from smtpmailer.core.queued import Page
from smtpmailer.interfaces import ITemplateStore, IThreads
from smtpmailer.stores.template_folder import TemplateFolder

__all__ = ["FileTemplateStore", "page_of_names"]

_T = TypeVar("_T")


def page_of_names(names: list[str], limit: int, page: int) -> Page:
    """Cut a zero-based page out of all names in order."""
    return Page(names=tuple(names[limit * page : limit * (page + 1)]), total=len(names))


@implementer(ITemplateStore)
class FileTemplateStore:
    """Templates as files (EMAIL_TEMPLATE_DIR); what others put there or take away counts at once.

    Changes happen one after another, in the order in which they were asked for.
    """

    def __init__(self, folder: TemplateFolder, threads: IThreads) -> None:
        """Use this directory; nothing is read or made yet."""
        self._folder = folder
        self._threads = threads
        self._changing = DeferredLock()

    def page(self, limit: int, page: int) -> Deferred[Page]:
        """Fire with a page of names; see ITemplateStore."""
        return self._threads.run(lambda: page_of_names(self._folder.names(), limit, page))

    def get(self, name: str) -> Deferred[str]:
        """Fire with a template's text; see ITemplateStore."""
        return self._threads.run(lambda: self._folder.read(name))

    def add(self, name: str, text: str) -> Deferred[None]:
        """Add a template; see ITemplateStore."""
        return self._change(lambda: self._folder.add(name, text))

    def update(self, name: str, text: str) -> Deferred[None]:
        """Replace a template's text; see ITemplateStore."""
        return self._change(lambda: self._folder.update(name, text))

    def remove(self, name: str) -> Deferred[None]:
        """Remove a template; see ITemplateStore."""
        return self._change(lambda: self._folder.remove(name))

    def clear(self) -> Deferred[int]:
        """Remove all templates; see ITemplateStore."""
        return self._change(self._folder.clear)

    def _change(self, work: Callable[[], _T]) -> Deferred[_T]:
        done: Deferred[_T] = self._changing.run(self._threads.run, work)
        return done
