# SPDX-License-Identifier: MIT
"""File systems of a test's own; only root mounts them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

__all__ = ["MAY_MOUNT", "fill", "mount_memory", "read_only"]

MAY_MOUNT = os.geteuid() == 0


def mount_memory(test: SynchronousTestCase, path: Path, size: str) -> None:
    """Mount a file system of this size (``4m``) on a directory, until the test's end."""
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    done = subprocess.run(command, check=False, capture_output=True)
    test.assertEqual(done.returncode, 0, done.stderr)
    test.addCleanup(subprocess.run, ["umount", str(path)], check=True)


def fill(path: Path) -> None:
    """Write a file until not a byte more fits on its file system."""
    with path.open("wb", buffering=0) as file:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Let a directory be read-only for a while, also for who has files of it open for writing."""
    subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(path)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
