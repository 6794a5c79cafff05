# SPDX-License-Identifier: MIT
"""Who a message goes to: local names made addresses, and the envelope brought into lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import attrs

from smtpmailer.cli.recipients import Recipient
from smtpmailer.cli.sendmail_message import Message
from smtpmailer.cli.sendmail_text import people

__all__ = ["Directory", "NobodyError", "Recipients", "addressed", "listed", "read_aliases"]

_ENTRY: Final = re.compile(r'\s*"?([^\s:#"][^:"]*?)"?\s*:\s*(.*)', re.DOTALL)
#: What an alias may lead to that only a mail server on the machine can deliver to.
_SERVERS_OWN: Final = ("|", "/", ":include:", "\\")


class NobodyError(Exception):
    """A recipient has no address; the text says who and what would be right."""


@attrs.frozen(kw_only=True)
class Recipients:
    """The lists of a mail object; ``hidden`` names people whom the header shows in vain."""

    to: tuple[Recipient, ...] = ()
    cc: tuple[Recipient, ...] = ()
    bcc: tuple[Recipient, ...] = ()
    hidden: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Directory:
    """Knows the addresses of local names: by ``aliases``, else with ``domain`` behind them."""

    domain: str = ""
    aliases: Mapping[str, str] = attrs.field(factory=dict)

    def resolve(self, person: Recipient) -> tuple[Recipient, ...]:
        """Give the addresses of a recipient, who keeps the name; raises NobodyError."""
        return tuple(self._resolve(person, ()))

    def _resolve(self, person: Recipient, way: tuple[str, ...]) -> Iterator[Recipient]:
        if "@" in person.email:
            yield person
            return
        name = person.email.lower()
        target = self.aliases.get(name)
        if target is None or name in way:
            yield attrs.evolve(person, email=self._qualified(person.email))
            return
        if target.lstrip('"').startswith(_SERVERS_OWN):
            raise NobodyError(
                f"the alias {name} leads to {target}, and only to addresses mail can be sent"
            )
        for each in people(target):
            kept = attrs.evolve(each, name=each.name or person.name)
            yield from self._resolve(kept, (*way, name))

    def _qualified(self, name: str) -> str:
        if not self.domain:
            raise NobodyError(
                f"{name} is no mail address: write user@example.com, or name the domain of such "
                "users with --domain, or make an alias"
            )
        return f"{name}@{self.domain}"


def listed(message: Message, named: Sequence[Recipient], directory: Directory) -> Recipients:
    """Give everybody whom the header names, and those who are ``named`` besides.

    Raises NobodyError.
    """
    return Recipients(
        to=_resolved(message.to, directory),
        cc=_resolved(message.cc, directory),
        bcc=_resolved((*message.bcc, *named), directory),
    )


def addressed(message: Message, named: Sequence[Recipient], directory: Directory) -> Recipients:
    """Sort exactly those who are ``named`` into the lists in which the header shows them.

    Who is in no list of the header goes into ``bcc``; unless there is one recipient alone and the
    header shows nobody. Raises NobodyError.
    """
    left = {_key(each): each for each in _resolved(named, directory)}
    hidden: list[str] = []

    def shown(group: Iterable[Recipient]) -> Iterator[Recipient]:
        for person in group:
            found = [each for each in _known(person, directory) if left.pop(_key(each), None)]
            yield from found
            if not found:
                hidden.append(person.email)

    to, cc = tuple(shown(message.to)), tuple(shown(message.cc))
    rest = tuple(left.values())
    if len(rest) == 1 and not (message.to or message.cc):
        return Recipients(to=rest)
    return Recipients(to=to, cc=cc, bcc=rest, hidden=tuple(hidden))


def read_aliases(text: str) -> dict[str, str]:
    """Read aliases(5): ``name: address, name``, which may go on in lines that begin with a blank.

    Names are in lower case.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    whole = re.sub(r"\n[ \t]+", " ", "\n".join(lines))
    matches = (_ENTRY.fullmatch(line) for line in whole.split("\n"))
    return {match[1].strip().lower(): match[2].strip() for match in matches if match}


def _resolved(group: Iterable[Recipient], directory: Directory) -> tuple[Recipient, ...]:
    return tuple(each for person in group for each in directory.resolve(person))


def _known(person: Recipient, directory: Directory) -> tuple[Recipient, ...]:
    try:
        return directory.resolve(person)
    except NobodyError:
        return ()


def _key(person: Recipient) -> str:
    """Give what tells addresses apart: the domain's case does not count."""
    local, _, domain = person.email.rpartition("@")
    return f"{local}@{domain.lower()}"
