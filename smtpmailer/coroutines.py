# SPDX-License-Identifier: MIT
"""Write a Deferred-returning function as a coroutine."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred

__all__ = ["returns_deferred"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def returns_deferred(
    function: Callable[_P, Coroutine[Deferred[Any], Any, _T]],
) -> Callable[_P, Deferred[_T]]:
    """Make an ``async def`` a function that starts at once and returns a Deferred."""

    @functools.wraps(function)
    def start(*args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]:
        return Deferred.fromCoroutine(function(*args, **kwargs))

    return start
