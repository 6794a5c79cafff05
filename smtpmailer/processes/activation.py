# SPDX-License-Identifier: MIT
"""Takes the listening socket that systemd opened for the service (sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

from smtpmailer.errors import SettingsError

__all__ = ["take_socket"]

_FIRST: Final = 3


def take_socket(environ: MutableMapping[str, str], process: int) -> socket.socket | None:
    """Give the socket that was passed to this process, or None; takes it out of the environment.

    Raises SettingsError when it is not one listening TCP socket.
    """
    passed_to = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if passed_to != str(process) or not count.isdecimal() or count == "0":
        return None
    if count != "1":
        raise SettingsError([f"systemd passed {count} sockets (LISTEN_FDS); one is served"])
    os.set_inheritable(_FIRST, False)
    try:
        passed = socket.socket(fileno=_FIRST)
        listens = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise SettingsError([f"systemd's socket can't be used: {error.strerror}"]) from None
    fits = passed.family in (socket.AF_INET, socket.AF_INET6) and passed.type == socket.SOCK_STREAM
    if not (fits and listens):
        passed.detach()
        raise SettingsError(["systemd's socket is not one that listens for TCP (ListenStream=)"])
    passed.setblocking(False)
    return passed
