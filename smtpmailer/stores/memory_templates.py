# SPDX-License-Identifier: MIT
"""Templates in memory: for one process, or for tests that need a real store without a disk."""

from __future__ import annotations

from twisted.internet.defer import Deferred, execute, succeed
from zope.interface import implementer

from smtpmailer.core.queued import Page
from smtpmailer.core.templating import is_template_name
from smtpmailer.errors import NoSuchTemplateError, TemplateExistsError
from smtpmailer.interfaces import ITemplateStore
from smtpmailer.stores.template_folder import encode_template
from smtpmailer.stores.templates import page_of_names

__all__ = ["MemoryTemplateStore"]


@implementer(ITemplateStore)
class MemoryTemplateStore:
    """Templates that last as long as their process."""

    def __init__(self, *, limit_bytes: int) -> None:
        """Begin empty; no template is larger than the limit."""
        self._limit_bytes = limit_bytes
        self._texts: dict[str, str] = {}

    def page(self, limit: int, page: int) -> Deferred[Page]:
        """Fire with a page of names; see ITemplateStore."""
        return succeed(page_of_names(sorted(self._texts), limit, page))

    def get(self, name: str) -> Deferred[str]:
        """Fire with a template's text; see ITemplateStore."""
        return execute(self._find, name)

    def add(self, name: str, text: str) -> Deferred[None]:
        """Add a template; see ITemplateStore."""
        return execute(self._add, name, text)

    def update(self, name: str, text: str) -> Deferred[None]:
        """Replace a template's text; see ITemplateStore."""
        return execute(self._update, name, text)

    def remove(self, name: str) -> Deferred[None]:
        """Remove a template; see ITemplateStore."""
        return execute(self._remove, name)

    def clear(self) -> Deferred[int]:
        """Remove all templates; see ITemplateStore."""
        count = len(self._texts)
        self._texts.clear()
        return succeed(count)

    def _find(self, name: str) -> str:
        try:
            return self._texts[name]
        except KeyError:
            raise NoSuchTemplateError(name) from None

    def _add(self, name: str, text: str) -> None:
        if not is_template_name(name):
            raise NoSuchTemplateError(name)
        if name in self._texts:
            raise TemplateExistsError
        self._put(name, text)

    def _update(self, name: str, text: str) -> None:
        self._find(name)
        self._put(name, text)

    def _remove(self, name: str) -> None:
        self._find(name)
        del self._texts[name]

    def _put(self, name: str, text: str) -> None:
        encode_template(name, text, self._limit_bytes)
        self._texts[name] = text
