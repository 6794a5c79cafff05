# SPDX-License-Identifier: MIT
"""Reads the env file, the environment and the files that they name; makes settings of them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from smtpmailer.accountsfile import load_accounts
from smtpmailer.core import envfile
from smtpmailer.core.settings import OPTIONS, Settings
from smtpmailer.core.settings_reading import from_values
from smtpmailer.errors import EnvFileError, SettingsError
from smtpmailer.keysfile import load_keys
from smtpmailer.smallfiles import private_mode

__all__ = ["DEFAULT_ENV", "Gathered", "check", "file_faults", "gather", "load"]

#: The env file that is read when none is named and there is one.
DEFAULT_ENV: Final = ".env"

_FILE_SUFFIX: Final = "_FILE"
#: No configuration is larger; a device or a log named by mistake is.
_LARGEST_BYTES: Final = 1024 * 1024


def load(env_path: str | None, base_path: str | None, environ: Mapping[str, str]) -> Settings:
    """Read the configuration and make settings of it.

    A key's value is the environment's, else the content of the file that ``KEY_FILE`` names
    (trailing line ends cut), else the env file's, else the default. Relative paths belong to
    ``base_path``, or to the env file's directory. Without ``env_path`` the file ``.env`` in
    ``base_path`` or the current directory is read when it exists.

    Raises EnvFileError when the env file can't be read, SettingsError with all other faults.
    """
    return gather(env_path, base_path, environ).settings()


def gather(env_path: str | None, base_path: str | None, environ: Mapping[str, str]) -> Gathered:
    """Read the configuration and make nothing of it yet; see ``load``. Raises EnvFileError."""
    path = Path(base_path or ".", DEFAULT_ENV) if env_path is None else Path(env_path)
    gathered = Gathered(str(Path(base_path or path.parent).absolute()))
    gathered.take_env_file(path, environ, required=env_path is not None)
    gathered.take_named_files(environ)
    gathered.take_environment(environ)
    return gathered


def check(gathered: Gathered) -> Settings:
    """Make settings that can be used; raises SettingsError with all faults, of files too."""
    settings = gathered.settings()
    faults = file_faults(settings)
    if faults:
        raise SettingsError(faults)
    return settings


def file_faults(settings: Settings) -> list[str]:
    """Say which files and directories in use are missing or closed to us, a line each.

    A directory that does not exist is none of them when we can make it.
    """
    return [
        *_ssl_faults(settings),
        *_keys_faults(settings),
        *_readable("SMTP_CA_FILE", settings.smtp_ca_file),
        *_accounts_faults(settings),
        *_readable("REDIS_CA_FILE", settings.redis_ca_file if settings.redis_enable else ""),
        *_queue_faults(settings),
        *_template_faults(settings),
    ]


class Gathered:
    """Values from all sources so far, later ones over earlier ones."""

    def __init__(self, base_path: str) -> None:
        """Hold nothing yet; ``base_path`` is absolute."""
        self._base_path = base_path
        self._values: dict[str, object] = {}
        self._sources: dict[str, str] = {}
        self._secret_files: list[str] = []
        self._faults: list[str] = []
        self._warnings: list[str] = []

    @classmethod
    def from_bytes(cls, content: bytes) -> Gathered:
        """Read what ``to_bytes`` gave."""
        fields = json.loads(content)
        gathered = cls(fields["base_path"])
        gathered._values = fields["values"]
        gathered._sources = fields["sources"]
        gathered._secret_files = fields["secret_files"]
        return gathered

    def to_bytes(self) -> bytes:
        """Write it down for another process, secrets included; warnings and faults stay here."""
        fields = {
            "base_path": self._base_path,
            "values": self._values,
            "sources": self._sources,
            "secret_files": self._secret_files,
        }
        return json.dumps(fields).encode("ascii")

    def take_env_file(self, path: Path, environ: Mapping[str, str], *, required: bool) -> None:
        """Read an env file, warning when others can read its secrets."""
        try:
            self._values.update(envfile.parse(_read(path), environ))
            found = path.stat()
        except EnvFileError as error:
            raise EnvFileError("\n".join(f"{path}: {x}" for x in str(error).split("\n"))) from None
        except (OSError, ValueError) as error:
            if isinstance(error, FileNotFoundError) and not required:
                return
            raise EnvFileError(f"{path}: cannot read the env file: {_why(error)}") from None
        self._secret_files.append(str(path.absolute()))
        secrets = [key for key, option in OPTIONS.items() if option.secret]
        if _others_may_read(found) and any(self._values.get(key) for key in secrets):
            mode = stat.S_IMODE(found.st_mode)
            self._warnings.append(
                f"{path} holds secrets, and others may read it (mode {mode:04o}); "
                f"chmod {private_mode(found):o} it"
            )

    def take_named_files(self, environ: Mapping[str, str]) -> None:
        """Read the files that KEY_FILE in the environment or the env file names."""
        for key in OPTIONS:
            name = key + _FILE_SUFFIX
            named = self._values.pop(name, None)
            file = environ.get(name) or named
            if file and key not in environ:
                self._take_named_file(key, Path(self._base_path, str(file)))

    def take_environment(self, environ: Mapping[str, str]) -> None:
        """Take the known keys of the environment."""
        for key in OPTIONS.keys() & environ.keys():
            self._values[key] = environ[key]
            self._sources[key] = "the environment"

    def value(self, key: str) -> Any:
        """Give one key's value, whatever the others are; raises SettingsError."""
        option = OPTIONS[key]
        raw = self._values.get(key)
        try:
            return option.kind.read(option.default if raw is None else raw, self._base_path)
        except ValueError as error:
            raise SettingsError([f"{key} {error}"]) from None

    def settings(self) -> Settings:
        """Make the settings; raise SettingsError with all faults met on the way."""
        try:
            made = from_values(self._values, self._base_path, self._sources)
        except SettingsError as error:
            raise SettingsError((*self._faults, *error.faults)) from None
        if self._faults:
            raise SettingsError(self._faults)
        return attrs.evolve(
            made,
            secret_files=(*self._secret_files, *made.secret_files),
            warnings=(*self._warnings, *made.warnings),
        )

    def _take_named_file(self, key: str, path: Path) -> None:
        try:
            self._values[key] = _read(path).rstrip("\r\n")
        except (OSError, ValueError) as error:
            self._faults.append(f"{key}{_FILE_SUFFIX}: cannot read {path}: {_why(error)}")
            return
        self._sources[key] = str(path)
        self._secret_files.append(str(path))


def _read(path: Path) -> str:
    """Read a small text file; raise OSError or ValueError."""
    with path.open("rb") as file:
        content = file.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise ValueError(f"it is larger than {_LARGEST_BYTES} bytes")
    return content.decode("utf-8")


def _others_may_read(file: os.stat_result) -> bool:
    """Whether a file is open to more readers than ``private_mode`` lets in."""
    return bool(file.st_mode & (stat.S_IRGRP | stat.S_IROTH) & ~private_mode(file))


def _why(error: Exception) -> str:
    """Say what went wrong without the file's content, which may be secret."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 at byte {error.start}"
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _ssl_faults(settings: Settings) -> Iterator[str]:
    if settings.mailer_proto == "ssl":
        yield from _readable("MAILER_SSL_CERT", settings.mailer_ssl_cert)
        yield from _readable("MAILER_SSL_KEY", settings.mailer_ssl_key)
        yield from _readable("MAILER_SSL_CLIENT_CA", settings.mailer_ssl_client_ca)


def _keys_faults(settings: Settings) -> Sequence[str]:
    try:
        load_keys(settings)
    except SettingsError as error:
        return error.faults
    return ()


def _accounts_faults(settings: Settings) -> Sequence[str]:
    try:
        load_accounts(settings)
    except SettingsError as error:
        return error.faults
    return ()


def _queue_faults(settings: Settings) -> Iterator[str]:
    if settings.mailer_queue and not (settings.redis_enable and settings.redis_store_queue):
        yield from _usable("QUEUE_DIR", settings.queue_dir)
        yield from _usable("QUEUE_PROCESS_DIR", settings.queue_process_dir)


def _template_faults(settings: Settings) -> Iterator[str]:
    in_redis = settings.redis_enable and settings.redis_store_template
    if settings.email_template and not in_redis:
        changes = not settings.email_template_api_read_only
        yield from _usable("EMAIL_TEMPLATE_DIR", settings.email_template_dir, changes=changes)


def _readable(key: str, path: str) -> Iterator[str]:
    """Give a fault unless ``path`` is empty or a file that can be read."""
    if not path:
        return
    try:
        if not Path(path).is_file():
            kind = "is no file" if Path(path).exists() else "does not exist"
            yield f"{key} = {path} {kind}"
        else:
            Path(path).open("rb").close()
    except OSError as error:
        yield f"{key} = {path} cannot be read: {_why(error)}"


def _usable(key: str, path: str, *, changes: bool = True) -> Iterator[str]:
    """Give a fault unless ``path`` is a directory to work in, or can be made one."""
    there = _existing(Path(path))
    if not there.is_dir():
        yield f"{key} = {path}: {there} is no directory"
    elif str(there) != path and not os.access(there, os.W_OK | os.X_OK):
        yield f"{key} = {path} does not exist, and cannot be made in {there}"
    elif not os.access(there, os.R_OK | os.X_OK | (os.W_OK if changes else 0)):
        yield f"{key} = {path} has to be {'read and written' if changes else 'read'} by the service"


def _existing(path: Path) -> Path:
    """Give the path, or its nearest ancestor that we can see."""
    *candidates, root = (path, *path.parents)
    for candidate in candidates:
        try:
            candidate.stat()
        except OSError:
            continue
        return candidate
    return root
