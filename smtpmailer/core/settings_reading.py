# SPDX-License-Identifier: MIT
"""From the values of an env file or the environment to validated settings, and back to text."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from smtpmailer.core import settings_rules
from smtpmailer.core.settings import OPTIONS, Settings
from smtpmailer.errors import SettingsError

__all__ = ["describe", "from_values"]

#: As much of a wrong value as an error shows.
_SHOWN: Final = 60


def from_values(
    values: Mapping[str, object],
    base_path: str,
    sources: Mapping[str, str] | None = None,
) -> Settings:
    """Make settings of what an env file or the environment holds; None is an absent key.

    ``base_path`` is the absolute directory of relative paths. ``sources`` says for some keys where
    their values come from, for the faults. Raises SettingsError with all faults.
    """
    reader = _Reader(base_path, sources or {})
    draft = Settings(**reader.read(values), base_path=base_path)
    findings = settings_rules.check(draft, reader.faults)
    for key, text in findings.faults:
        reader.fault(key, text)
    if not draft.mailer_queue:
        # Compat: a key that nothing uses may be a placeholder.
        reader.faults.pop("SECRET_KEY", None)
        draft = attrs.evolve(draft, secret_key=b"")
    if reader.faults:
        raise SettingsError(list(reader.faults.values()))
    return attrs.evolve(
        draft,
        secret_files=tuple(
            filter(
                None,
                (
                    draft.mailer_ssl_key,
                    draft.mailer_keys_file,
                    draft.smtp_accounts_file,
                    draft.smtp_oauth2_token_file,
                ),
            )
        ),
        warnings=findings.warnings,
    )


def describe(settings: Settings) -> list[tuple[str, str]]:
    """Give every key with its effective value for people to see, secrets masked."""
    return [(key, option.mask(getattr(settings, key.lower()))) for key, option in OPTIONS.items()]


class _Reader:
    """Reads each value by its kind; ``faults`` maps keys to a line on what was wrong."""

    def __init__(self, base_path: str, sources: Mapping[str, str]) -> None:
        self.faults: dict[str, str] = {}
        self._base_path = base_path
        self._sources = sources

    def read(self, values: Mapping[str, object]) -> dict[str, Any]:
        """Give a value for every key: the given one, else the default."""
        taken = {}
        for key, option in OPTIONS.items():
            raw = values.get(key)
            given = option.default if raw is None else raw
            try:
                if given is not None:
                    taken[key.lower()] = option.kind.read(given, self._base_path)
            except ValueError as error:
                self.fault(key, str(error), given)
        self.faults.update({key: _unknown(key) for key in values if key not in OPTIONS})
        return taken

    def fault(self, key: str, text: str, given: object = None) -> None:
        """Note a fault; ``given`` is shown unless it is a secret."""
        shown = "" if given is None or OPTIONS[key].secret else f" = {_shown(given)}"
        source = f" (from {self._sources[key]})" if key in self._sources else ""
        self.faults[key] = f"{key}{shown}{source} {text}"


def _unknown(key: str) -> str:
    near: Sequence[str] = difflib.get_close_matches(key.upper(), OPTIONS, n=1, cutoff=0.5)
    hint = f"; the nearest known one is {near[0]}" if near else ""
    return f"{_shown(key)[1:-1]} is no known key{hint}"


def _shown(value: object) -> str:
    """Give a value as an env file would hold it, on one line and not too long."""
    text = json.dumps(value if isinstance(value, str | int) else str(value), ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
