# SPDX-License-Identifier: MIT
"""Every API reply: status, data, message, and what the request asked for besides."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

import attrs
import orjson

__all__ = ["MISSING", "Effect", "Reply", "error", "success"]

#: Stands for "the request had no id"; null is an id.
MISSING: Final = object()


class Effect(enum.Enum):
    """What came of a request that was to make a mail; no client sees it.

    FINAL: what the reply says. NONE: certainly no mail, so that it may be made again. UNKNOWN:
    perhaps a mail, whatever the reply says.
    """

    FINAL = "final"
    NONE = "none"
    UNKNOWN = "unknown"


@attrs.frozen(kw_only=True)
class Reply:
    """One answer, its keys in the order in which they go out.

    ``request_id`` is the scalar the request carried as ``id``, or MISSING; ``detail`` is what is
    known besides, shown only when the request asked for it. ``repeated`` is None where the
    request had no ``once``, else whether this is the answer to an earlier one.
    """

    status: str
    data: Any = None
    message: Any = None
    request_id: Any = MISSING
    detail: Mapping[str, Any] | None = None
    repeated: bool | None = None
    effect: Effect = attrs.field(default=Effect.FINAL, eq=False)

    def shown(self, request_id: Any, detail: Mapping[str, Any] | None) -> Reply:
        """Give the same answer with this id and detail."""
        return Reply(
            status=self.status,
            data=self.data,
            message=self.message,
            request_id=request_id,
            detail=detail,
            repeated=self.repeated,
            effect=self.effect,
        )

    def encode(self) -> bytes:
        """Give the answer's bytes: one line of UTF-8 JSON that ends in LF."""
        out = {"status": self.status, "data": self.data, "message": self.message}
        if self.request_id is not MISSING:
            out["id"] = self.request_id
        if self.repeated is not None:
            out["repeated"] = self.repeated
        if self.detail is not None:
            out["detail"] = self.detail
        return orjson.dumps(out, option=orjson.OPT_APPEND_NEWLINE)


def success(
    data: Any = None, message: Any = None, detail: Mapping[str, Any] | None = None
) -> Reply:
    """Make a reply that says it worked."""
    return Reply(status="success", data=data, message=message, detail=detail)


def error(
    data: Any = None,
    message: Any = None,
    detail: Mapping[str, Any] | None = None,
    effect: Effect = Effect.FINAL,
) -> Reply:
    """Make a reply that says it did not."""
    return Reply(status="error", data=data, message=message, detail=detail, effect=effect)
