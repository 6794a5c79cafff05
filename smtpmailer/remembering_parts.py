# SPDX-License-Identifier: MIT
"""Where the lowered limits of accounts are remembered: a part of the composition root."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from smtpmailer.core.settings import Settings
from smtpmailer.remembering import Remembering
from smtpmailer.stores.limits_file import LimitsFile

if TYPE_CHECKING:
    from smtpmailer.delivery.paces import Paces
    from smtpmailer.interfaces import IThreads

__all__ = ["build_remembering", "limits_path"]

_NAME: Final = "limits.json"


def build_remembering(
    settings: Settings, paces: Paces, threads: IThreads, reactor: Any
) -> Remembering:
    """Give what remembers how far servers lowered the limits of accounts; touches nothing."""
    return Remembering(paces, LimitsFile(limits_path(settings), time.time), threads, reactor)


def limits_path(settings: Settings) -> str:
    """Say where that is: beside the queue's own files, or where there are none in MAILER_RUN_DIR.

    The run directory may be gone after a restart of the machine, and with it what was learned.
    """
    in_redis = settings.redis_enable and settings.redis_store_queue
    if settings.mailer_queue and not in_redis:
        return str(Path(settings.queue_dir, ".smtpmailer", _NAME))
    return str(Path(settings.mailer_run_dir, _NAME))
