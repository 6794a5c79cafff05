# SPDX-License-Identifier: MIT
"""Carrying all templates over from one store to another."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, TypeAlias

from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import BadTemplateError, NoSuchTemplateError, TemplateExistsError
from smtpmailer.interfaces import ITemplateStore

__all__ = ["Carried", "Tell", "carry_templates"]

_PAGE: Final = 500


class Carried(StrEnum):
    """What became of a template."""

    MOVED = "moved"
    COPIED = "copied"
    #: The other store had it already.
    SAME = "same"
    #: The other store has another text of that name; both are left alone.
    CONFLICT = "conflict"
    #: It can't be read, or can't be kept there; it is left alone.
    UNFIT = "unfit"
    #: It changed after it was copied; the next run finds a conflict.
    CHANGED = "changed"


#: Called with a template's name, what became of it, and why if that is not plain.
Tell: TypeAlias = Callable[[str, Carried, str], None]


@returns_deferred
async def carry_templates(
    source: ITemplateStore, target: ITemplateStore, tell: Tell, *, keep: bool
) -> None:
    """Carry over each template of ``source``, and remove it there unless ``keep`` is set.

    It is in ``target``, durably, before it is removed, and nothing in ``target`` is ever replaced:
    after an error or an interruption another run goes on. Fires when all are carried over; fails
    with StoreError when a store is away.
    """
    for name in await _names(source):
        try:
            outcome = await _carry(source, target, name, keep=keep)
        except NoSuchTemplateError:
            continue  # somebody else removed it
        except BadTemplateError as error:
            tell(name, Carried.UNFIT, error.why)
        else:
            tell(name, outcome, "")


async def _names(store: ITemplateStore) -> list[str]:
    """Give all names before anything is removed, which would move the pages."""
    names: list[str] = []
    while True:
        page = await store.page(_PAGE, len(names) // _PAGE)
        names += page.names
        if len(page.names) < _PAGE:
            return names


async def _carry(
    source: ITemplateStore, target: ITemplateStore, name: str, *, keep: bool
) -> Carried:
    text = await source.get(name)
    outcome = Carried.COPIED if keep else Carried.MOVED
    try:
        await target.add(name, text)
    except TemplateExistsError:
        if await _text(target, name) != text:
            return Carried.CONFLICT
        outcome = Carried.SAME
    if keep:
        return outcome
    if await source.get(name) != text:
        return Carried.CHANGED
    await source.remove(name)
    return outcome


async def _text(store: ITemplateStore, name: str) -> str | None:
    """Give the text of a template, None when it has none that can be read."""
    try:
        return await store.get(name)
    except (NoSuchTemplateError, BadTemplateError):
        return None
