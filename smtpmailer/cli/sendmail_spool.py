# SPDX-License-Identifier: MIT
"""Puts a message's files where the service can read them."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from smtpmailer.cli.sendmail_message import File

__all__ = ["Spool", "SpoolError"]

#: The service is of the directory's group, which new files there inherit (setgid).
_MODE: Final = 0o640


class SpoolError(Exception):
    """Files can't be handed over; ``status`` is that of sysexits.h."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Spool:
    """A directory that a message's files are written into; None when there is none.

    They stay there: the service reads them when it sends the mail, and again at each attempt.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._written: list[Path] = []

    def put(self, files: Sequence[File]) -> dict[str, list[list[str]]]:
        """Write files durably; give the mail object's fields about them.

        Raises SpoolError, after which nothing is left there.
        """
        fields: dict[str, list[list[str]]] = {}
        try:
            for file in files:
                path = str(self._write(file))
                if file.cid is None:
                    fields.setdefault("attachments", []).append([path, file.name])
                else:
                    fields.setdefault("embedded", []).append([path, file.cid, file.name])
            if self._written:
                self._sync()
        except OSError as error:
            self.discard()
            raise SpoolError(
                os.EX_CANTCREAT, f"can't write into {self._directory}: {error.strerror}"
            ) from error
        return fields

    def discard(self) -> None:
        """Remove what was written."""
        for path in self._written:
            with contextlib.suppress(OSError):
                path.unlink()
        self._written.clear()

    def _write(self, file: File) -> Path:
        if self._directory is None:
            raise SpoolError(
                os.EX_DATAERR,
                f"the message can't be sent: {file.name} is attached, and there is no directory "
                "to put it for the service: name one with --spool (SMTPMAILER_SPOOL)",
            )
        path = self._directory.absolute() / f"sendmail-{secrets.token_hex(16)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(path, flags, _MODE), "wb") as out:  # noqa: PTH123 - a descriptor
            self._written.append(path)
            os.fchmod(out.fileno(), _MODE)
            out.write(file.content)
            out.flush()
            os.fsync(out.fileno())
        return path

    def _sync(self) -> None:
        """Make the new names durable, if the directory may be opened for that."""
        with contextlib.suppress(PermissionError):
            descriptor = os.open(self._directory or ".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
