# SPDX-License-Identifier: MIT
"""The templates' part of the composition root."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from smtpmailer.core.settings import Settings
from smtpmailer.core.templating import MAX_CHARACTERS, TemplateRules
from smtpmailer.dispatcher import Handler
from smtpmailer.interfaces import IRedis, ITemplateStore, IThreads
from smtpmailer.services.rendering import Templates
from smtpmailer.services.templates import TemplateService
from smtpmailer.stores.redis_templates import RedisTemplateStore
from smtpmailer.stores.template_folder import TemplateFolder
from smtpmailer.stores.templates import FileTemplateStore

__all__ = ["TemplateParts", "build_templates", "make_store", "open_folder", "rules_of"]

#: Bytes of the largest template where MAIL_MAX_SIZE sets no limit.
_LARGEST: Final = 256 * 1024 * 1024


@attrs.frozen(kw_only=True)
class TemplateParts:
    """What templates add to the service."""

    handlers: Mapping[str, Handler]
    templates: Templates


def build_templates(
    settings: Settings, threads: IThreads, redis: IRedis | None = None
) -> TemplateParts:
    """Put the template service together; touches nothing. ``redis`` is there when it is on."""
    in_redis = redis if settings.redis_store_template else None
    store = make_store(settings, threads, in_redis)
    service = TemplateService(store, lists_when_empty=in_redis is None)
    return TemplateParts(
        handlers=service.handlers(),
        templates=Templates(
            store=store, rules=rules_of(settings), snapshot=settings.queue_snapshot_template
        ),
    )


def make_store(settings: Settings, threads: IThreads, redis: IRedis | None) -> ITemplateStore:
    """Give the templates in Redis, or without it those in the directory."""
    if redis is None:
        return FileTemplateStore(open_folder(settings), threads)
    return RedisTemplateStore(redis, settings.redis_key_prefix, limit_bytes=_limit_bytes(settings))


def open_folder(settings: Settings) -> TemplateFolder:
    """Give the directory of the templates."""
    return TemplateFolder(settings.email_template_dir, limit_bytes=_limit_bytes(settings))


def _limit_bytes(settings: Settings) -> int:
    return settings.mail_max_size or _LARGEST


def rules_of(settings: Settings) -> TemplateRules:
    """Give the rules by which templates are filled."""
    return TemplateRules(
        opening=settings.email_template_string_tag_open,
        closing=settings.email_template_string_tag_close,
        escape_html=settings.mail_html and settings.email_template_escape == "html",
        strict=settings.email_template_strict,
        limit=settings.mail_max_size or MAX_CHARACTERS,
    )
