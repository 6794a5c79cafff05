# SPDX-License-Identifier: MIT
"""The content of a queue file: a mail object as JSON, or the base64 text of an encrypted one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from smtpmailer.core.queued import MailDocument

__all__ = ["decode", "encode", "read_object"]

_BASE64: Final = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def encode(document: MailDocument) -> bytes:
    """Give a file's bytes."""
    if isinstance(document, str):
        return document.encode("ascii")
    return orjson.dumps(document)


def decode(content: bytes) -> MailDocument:
    """Read a file's bytes; raises ValueError that says what is wrong with them."""
    text = content.strip()
    if not text:
        raise ValueError("the file is empty")
    if text[:1] != b"{" and _BASE64.fullmatch(text):
        return text.decode("ascii")
    try:
        document: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"malformed JSON: {error}") from None
    if isinstance(document, str):
        # Compat: a tool may have kept the text as JSON.
        return document
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the content is wrong, not a type
    return document


def read_object(text: bytes) -> Mapping[str, Any]:
    """Read a JSON object; empty when it can't be read, or is none."""
    try:
        value = orjson.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
