# SPDX-License-Identifier: MIT
"""What a process gets from its supervisor: the descriptors, and the settings in one of them."""

from __future__ import annotations

import os
import re
from typing import Final

import attrs

from smtpmailer.configuration import Gathered
from smtpmailer.errors import SettingsError

__all__ = ["Descriptors", "Part", "keep_settings", "read_settings"]

_PART: Final = re.compile(r"([a-z]+(?:-[0-9]+)?):([0-9]+)(:first)?")
_NOT_BY_HAND: Final = "--child is how a service starts its own processes"


@attrs.frozen
class Part:
    """Which process this is: its name, as its supervisor calls it, and its place on the board.

    ``first`` is the one with which the service begins: what is done once is done there.
    """

    name: str
    seat: int
    first: bool = False

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read ``worker-1:5``, or ``worker-1:5:first``; raises SettingsError."""
        found = _PART.fullmatch(text)
        if found is None:
            raise SettingsError([_NOT_BY_HAND])
        return cls(found[1], int(found[2]), first=bool(found[3]))

    def __str__(self) -> str:
        """Write it for a command line."""
        return f"{self.name}:{self.seat}{':first' if self.first else ''}"


class Descriptors:
    """The numbers under which a child finds its open files; 3 is the control channel."""

    #: The port.
    LISTENING: Final = 4
    #: The shared memory.
    MEMORY: Final = 5
    #: The settings.
    SETTINGS: Final = 6
    #: Where connections are given away, and where they are taken.
    GIVING: Final = 7
    TAKING: Final = 8


def keep_settings(gathered: Gathered) -> int:
    """Write settings into memory; gives its file descriptor.

    Children read them there: not from the env file, which may be faulty by now, nor from a
    command line or environment, which others may read.
    """
    descriptor = os.memfd_create("smtpmailer-settings", os.MFD_CLOEXEC)
    content = gathered.to_bytes()
    if os.pwrite(descriptor, content, 0) != len(content):
        os.close(descriptor)
        raise SettingsError(["there is no memory for the settings"])
    return descriptor


def read_settings(descriptor: int) -> Gathered:
    """Read what ``keep_settings`` wrote; leaves it as it is, for others. Raises SettingsError."""
    try:
        size = os.fstat(descriptor).st_size
        return Gathered.from_bytes(os.pread(descriptor, size, 0))
    except (OSError, ValueError, KeyError):
        raise SettingsError([_NOT_BY_HAND]) from None
