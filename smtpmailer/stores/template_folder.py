# SPDX-License-Identifier: MIT
"""A directory of templates: a regular file each, nothing outside ever read or written.

A link is followed only where it leads to a regular file inside the directory.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from typing import Concatenate, Final, ParamSpec, TypeVar

from smtpmailer.core.templating import is_template_name
from smtpmailer.errors import (
    BadTemplateError,
    NoSuchTemplateError,
    StoreError,
    TemplateExistsError,
)
from smtpmailer.stores.atomic import make_directory, open_new, sync_directory, unlink, write_all

__all__ = ["TemplateFolder", "encode_template"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_STEP: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_TEMPORARY: Final = re.compile(r"\.tmp-[0-9a-f]{16}")
#: Seconds after which a file in writing was certainly left by a crash.
_ABANDONED: Final = 3600.0

#: What opening says of a name that leads to no template.
_NOTHING_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG)
#: What file systems say that have no hard links.
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def encode_template(name: str, text: str, limit_bytes: int) -> bytes:
    """Give a template's bytes; raises BadTemplateError."""
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadTemplateError(name, "it holds half a surrogate pair") from None
    if len(content) > limit_bytes:
        raise BadTemplateError(name, f"it is larger than {limit_bytes} bytes")
    return content


def _store_step(
    work: Callable[Concatenate[TemplateFolder, _P], _T],
) -> Callable[Concatenate[TemplateFolder, _P], _T]:
    """Make an OSError a StoreError that tells which directory is meant."""

    @functools.wraps(work)
    def step(self: TemplateFolder, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return work(self, *args, **kwargs)
        except OSError as error:
            raise StoreError(f"{self.directory}: {error.strerror or error}") from error

    return step  # type: ignore[return-value] # wraps() hides that the first argument is positional


class TemplateFolder:
    """The steps on such a directory; all blocking, for a thread.

    All may raise StoreError. What changes is durable when a step returns. Changes of one process
    must not overlap; other processes may change the directory at any time.
    """

    def __init__(self, directory: str, *, limit_bytes: int) -> None:
        """Use this absolute path, made when first needed; no template is larger than the limit."""
        self.directory = directory
        self._limit_bytes = limit_bytes
        self._swept = False

    @_store_step
    def names(self) -> list[str]:
        """Give the names of all templates, ascending."""
        try:
            with os.scandir(self.directory) as entries:
                return sorted(entry.name for entry in entries if self._is_template(entry))
        except FileNotFoundError:
            return []

    @_store_step
    def read(self, name: str) -> str:
        """Give a template's text; raises NoSuchTemplateError or BadTemplateError."""
        with open(self._open(name), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            # One more than allowed, for a file that has grown since it was measured.
            content = file.read(self._limit_bytes + 1) if size <= self._limit_bytes else b""
        if max(size, len(content)) > self._limit_bytes:
            raise BadTemplateError(name, f"it is larger than {self._limit_bytes} bytes")
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadTemplateError(name, f"it is not UTF-8 at byte {error.start}") from None

    @_store_step
    def add(self, name: str, text: str) -> None:
        """Write a new template; raises TemplateExistsError or BadTemplateError.

        Raises NoSuchTemplateError for what can be no name.
        """
        if not is_template_name(name):
            raise NoSuchTemplateError(name)
        content = encode_template(name, text, self._limit_bytes)
        make_directory(self.directory)
        with self._written(content, 0o600) as temporary:
            try:
                _link(temporary, self._path(name))
            except FileExistsError:
                raise TemplateExistsError from None
        try:
            sync_directory(self.directory)
        except OSError:
            # Refused, so it must not be used; on a disk that fails this may fail as well.
            with contextlib.suppress(OSError):
                unlink(self._path(name))
            raise

    @_store_step
    def update(self, name: str, text: str) -> None:
        """Replace a template; it keeps its mode. Raises as ``read`` and ``add`` do.

        In the place of a link there is a file then; what the link led to stays.
        """
        handle = self._open(name)
        try:
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
        finally:
            os.close(handle)
        with self._written(encode_template(name, text, self._limit_bytes), mode) as temporary:
            os.rename(temporary, self._path(name))
        sync_directory(self.directory)

    @_store_step
    def remove(self, name: str) -> None:
        """Remove a template, or the link that led to it; raises NoSuchTemplateError."""
        os.close(self._open(name))
        if not unlink(self._path(name)):
            raise NoSuchTemplateError(name)
        sync_directory(self.directory)

    @_store_step
    def clear(self) -> int:
        """Remove all templates; gives their number."""
        removed = sum(unlink(self._path(name)) for name in self.names())
        if removed:
            sync_directory(self.directory)
        return removed

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def _is_template(self, entry: os.DirEntry[str]) -> bool:
        """Whether a directory's entry can be read under its name."""
        if not is_template_name(entry.name):
            return False
        if not entry.is_symlink():
            return entry.is_file(follow_symlinks=False)
        try:
            os.close(self._open(entry.name))
        except (NoSuchTemplateError, OSError):
            return False
        return True

    def _open(self, name: str) -> int:
        """Open a template for reading; raises NoSuchTemplateError, OSError.

        The path is resolved first and then walked without following any link: what is changed
        meanwhile can't lead outside.
        """
        if not is_template_name(name):
            raise NoSuchTemplateError(name)
        try:
            root = os.path.realpath(self.directory)
            inside = os.path.relpath(os.path.realpath(os.path.join(root, name)), root)
            if inside == ".." or inside.startswith("../"):
                raise NoSuchTemplateError(name)
            return _open_below(root, inside)
        except OSError as error:
            if error.errno in _NOTHING_THERE:
                raise NoSuchTemplateError(name) from None
            raise

    @contextlib.contextmanager
    def _written(self, content: bytes, mode: int) -> Iterator[str]:
        """Write a file beside the templates, durably; removed at the end unless renamed away."""
        temporary = self._path(f".tmp-{secrets.token_hex(8)}")
        handle = open_new(temporary)
        try:
            try:
                write_all(handle, content)
                os.fchmod(handle, mode)
                os.fsync(handle)
                self._sweep(os.fstat(handle).st_mtime)
            finally:
                os.close(handle)
            yield temporary
        finally:
            with contextlib.suppress(OSError):
                unlink(temporary)

    def _sweep(self, now: float) -> None:
        """Remove, once, what crashes left; ``now`` (Unix seconds) is by the file system's clock."""
        if self._swept:
            return
        self._swept = True
        with contextlib.suppress(OSError), os.scandir(self.directory) as entries:
            for entry in entries:
                if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    written = entry.stat(follow_symlinks=False).st_mtime
                    if written < now - _ABANDONED:
                        unlink(entry.path)


def _open_below(root: str, path: str) -> int:
    """Open a regular file below a directory, refusing links; raises OSError.

    What is none is ENOENT; it is not opened: opening a device can do things to it.
    """
    *directories, name = path.split("/")
    current = os.open(root, _STEP)
    try:
        for directory in directories:
            following = os.open(directory, _STEP, dir_fd=current)
            os.close(current)
            current = following
        _check_regular(os.stat(name, dir_fd=current, follow_symlinks=False))
        handle = os.open(name, _OPEN, dir_fd=current)
    finally:
        os.close(current)
    try:
        _check_regular(os.fstat(handle))
    except OSError:
        os.close(handle)
        raise
    return handle


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(errno.ENOENT, "not a regular file")


def _link(source: str, target: str) -> None:
    """Give a file a second name; raises FileExistsError when anything has it."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Where there are no hard links: take the name with an empty file first.
        os.close(open_new(target))
        os.rename(source, target)
