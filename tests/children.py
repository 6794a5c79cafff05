# SPDX-License-Identifier: MIT
"""Processes that tests start to kill them."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable


def in_child(work: Callable[[], None], kill_after: Callable[[], object] | None = None) -> int:
    """Run ``work`` in a process of its own; gives its exit status, -9 when it was killed."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - no way back into the test runner
            traceback.print_exc()
        finally:
            os._exit(1)
    if kill_after is not None:
        kill_after()
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
