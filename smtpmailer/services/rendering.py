# SPDX-License-Identifier: MIT
"""The text of a mail that names a template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, succeed

from smtpmailer.core.model import MailRequest
from smtpmailer.core.templating import TemplateRules, render
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import MessageError, TemplatesOffError
from smtpmailer.interfaces import ITemplateStore, IThreads

__all__ = ["Renderer", "Templates"]

#: More than so many characters are put together away from the reactor thread.
_LARGE: Final = 256 * 1024


@attrs.frozen(kw_only=True)
class Templates:
    """Where templates are and how they are filled.

    ``snapshot``: a mail that goes into the queue takes its text along (QUEUE_SNAPSHOT_TEMPLATE).
    """

    store: ITemplateStore
    rules: TemplateRules = attrs.field(factory=TemplateRules)
    snapshot: bool = False


class Renderer:
    """Puts the text of its template in a mail."""

    def __init__(self, threads: IThreads, templates: Templates | None) -> None:
        """Without ``templates`` the service is off."""
        self._threads = threads
        self._templates = templates

    def render(self, request: MailRequest) -> Deferred[MailRequest]:
        """Give the mail with its text in ``body``; one that has its text is given as it is.

        Fails with NoSuchTemplateError, BadTemplateError, TemplatesOffError; RequestInvalidError
        for what EMAIL_TEMPLATE_STRICT forbids; MessageError when the text is empty or too long;
        StoreError when the templates can't be read now.
        """
        if request.template is None:
            return succeed(request)
        return self._render(request, request.template)

    @returns_deferred
    async def _render(self, request: MailRequest, name: str) -> MailRequest:
        if self._templates is None:
            raise TemplatesOffError
        template = await self._templates.store.get(name)
        rules, values = self._templates.rules, request.replace_content

        def work() -> str:
            return render(template, values, rules)

        size = len(template) + sum(map(len, values.values()))
        text = await self._threads.run(work) if size > _LARGE else work()
        if not text:
            raise MessageError(f"the text from the template {name} is empty")
        return attrs.evolve(request, body=text, template=None, replace_content={})

    def stored(self, document: Mapping[str, Any], rendered: MailRequest) -> Mapping[str, Any]:
        """Give the mail object to keep in the queue for ``document``, rendered just now.

        With ``snapshot`` the text takes the place of template and values: still a mail object.
        """
        templates = self._templates
        if templates is None or not templates.snapshot or "useTemplate" not in document:
            return document
        replaced = ("useTemplate", "replaceContent")
        kept = {key: value for key, value in document.items() if key not in replaced}
        return {**kept, "body": rendered.body}
