# SPDX-License-Identifier: MIT
"""Find and read our JSON Schema files, in a checkout or an installed tree."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from smtpmailer.errors import OperatorError

__all__ = ["load_schema", "schema_directories"]


def schema_directories() -> tuple[Path, ...]:
    """Give where the files may lie: beside the package first, then where setup installs them."""
    beside = Path(__file__).resolve().parent.parent / "schema"
    return beside, Path(sys.prefix) / "share" / "smtpmailer" / "schema"


def load_schema(name: str, directories: Iterable[Path] | None = None) -> dict[str, Any]:
    """Read the schema ``name`` (``sendMail``) from the first directory that has it.

    Raises OperatorError when none has, or when the file is no JSON object.
    """
    places = schema_directories() if directories is None else tuple(directories)
    for directory in places:
        path = directory / f"{name}.json"
        if path.is_file():
            return _read(path)
    looked = ", ".join(str(directory) for directory in places)
    raise OperatorError(f"schema {name}.json not found in {looked}: reinstall smtpmailer")


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise OperatorError(f"schema {path} can't be read: {error}") from error
    if not isinstance(document, dict):
        raise OperatorError(f"schema {path} is no JSON object: reinstall smtpmailer")
    return document
