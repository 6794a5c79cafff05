# SPDX-License-Identifier: MIT
"""How the passwords of one connection went so far."""

from __future__ import annotations

import attrs

__all__ = ["Standing"]


@attrs.define(eq=False)
class Standing:
    """What a connection has shown of itself; each connection has one of its own.

    ``right`` is whether it gave a right password, ``wrong`` how often it gave none, ``spent`` how
    many hashes were computed for it since its last right one. While it is ``held``, so many
    refusals are on their way to it that no further request of it is to be started. Once it has
    ``left`` it asks no more, and perhaps nobody reads its answers: a client that closed its
    connection looks like one that has only closed its own half.
    """

    right: bool = False
    wrong: int = 0
    spent: int = 0
    held: bool = False
    left: bool = False

    @property
    def trusted(self) -> bool:
        """Whether it gave a right password, and never a wrong one."""
        return self.right and not self.wrong
