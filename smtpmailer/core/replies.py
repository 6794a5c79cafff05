# SPDX-License-Identifier: MIT
"""Every API reply: status, data, message, and what the request asked for besides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs
import orjson

__all__ = ["MISSING", "Reply", "error", "success"]

#: Stands for "the request had no id"; null is an id.
MISSING: Final = object()


@attrs.frozen(kw_only=True)
class Reply:
    """One answer, its keys in the order in which they go out.

    ``request_id`` is the scalar the request carried as ``id``, or MISSING; ``detail`` is what is
    known besides, shown only when the request asked for it.
    """

    status: str
    data: Any = None
    message: Any = None
    request_id: Any = MISSING
    detail: Mapping[str, Any] | None = None

    def encode(self) -> bytes:
        """Give the answer's bytes: one line of UTF-8 JSON that ends in LF."""
        out = {"status": self.status, "data": self.data, "message": self.message}
        if self.request_id is not MISSING:
            out["id"] = self.request_id
        if self.detail is not None:
            out["detail"] = self.detail
        return orjson.dumps(out, option=orjson.OPT_APPEND_NEWLINE)


def success(
    data: Any = None, message: Any = None, detail: Mapping[str, Any] | None = None
) -> Reply:
    """Make a reply that says it worked."""
    return Reply(status="success", data=data, message=message, detail=detail)


def error(data: Any = None, message: Any = None, detail: Mapping[str, Any] | None = None) -> Reply:
    """Make a reply that says it did not."""
    return Reply(status="error", data=data, message=message, detail=detail)
