# SPDX-License-Identifier: MIT
"""What the service finds when it starts."""

from __future__ import annotations

import socket
from collections.abc import Callable

import attrs

from smtpmailer.configuration import Gathered
from smtpmailer.processes.notify import Notifier
from smtpmailer.root import Log
from smtpmailer.signals import Ending

__all__ = ["Surroundings"]


@attrs.frozen(kw_only=True)
class Surroundings:
    """Where it comes from and whom it speaks to.

    ``twistd`` are the options of twistd that further processes need too. ``read`` reads the env
    file and the environment again. ``listening`` is the socket that systemd has opened, if it has.
    ``refused`` is told why the start failed, for who waits for a daemon.
    """

    twistd: tuple[str, ...]
    read: Callable[[], Gathered]
    notifier: Notifier
    listening: socket.socket | None
    log: Log
    ending: Ending
    refused: Callable[[str], None]
