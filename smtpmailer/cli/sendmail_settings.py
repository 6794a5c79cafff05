# SPDX-License-Identifier: MIT
"""What sendmail has to know about the machine and the service, as nobody gives it options.

Each value comes from its option, else from the env file, else from the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from smtpmailer.cli.output import CommandFailure
from smtpmailer.cli.recipients import Recipient
from smtpmailer.cli.sendmail_people import Directory, read_aliases
from smtpmailer.cli.sendmail_text import people
from smtpmailer.core import envfile
from smtpmailer.errors import EnvFileError

__all__ = ["DEFAULT_ALIASES", "DEFAULT_ENV", "MAILNAME", "SiteSettings", "read_settings"]

#: Read when it exists and no other env file is named. Everybody who sends has to be able to.
DEFAULT_ENV: Final = Path("/etc/smtpmailer/sendmail.env")
DEFAULT_ALIASES: Final = Path("/etc/aliases")
#: Debian's file with the domain of the machine's own mail addresses.
MAILNAME: Final = Path("/etc/mailname")

_FALSE: Final = ("", "0", "false", "off", "no", "none")


@attrs.frozen(kw_only=True)
class SiteSettings:
    """The settings.

    ``connection`` is for ``make_client``. ``html`` is what the service makes of bodies.
    ``sender_domain`` is what local senders get, empty when they have no address. ``spool`` is where
    files are put for the service, if anywhere.
    """

    connection: Mapping[str, Any]
    html: bool
    directory: Directory
    sender_domain: str
    spool: Path | None

    def sender(self, author: Recipient | None, envelope: str | None) -> Recipient:
        """Give who the mail is from: the message's author, else the envelope's sender.

        A mail has one sender, in From and in the envelope. An empty ``email`` stands for the
        service's own address.
        """
        sent_by = next(iter(people(envelope or "")), Recipient(email=""))
        return self.answerable(author or sent_by)

    def answerable(self, person: Recipient) -> Recipient:
        """Give somebody whom answers may go to; with an empty ``email`` when there is no address.

        A local user's name becomes an address only when the domain was set on purpose.
        """
        if "@" in person.email:
            return person
        known = bool(person.email and self.sender_domain)
        return attrs.evolve(person, email=f"{person.email}@{self.sender_domain}" if known else "")


def read_settings(
    options: Mapping[str, Any], environ: Mapping[str, str] = os.environ
) -> SiteSettings:
    """Gather the settings; raises CommandFailure for a file that can't be read."""
    env_file = options["env_file"] or _if_file(DEFAULT_ENV)
    found: dict[str, Any] = dict(environ)
    if env_file is not None:
        try:
            found.update(envfile.parse(_read(env_file), environ))
        except EnvFileError as error:
            raise CommandFailure(f"could not read {env_file}: {error}") from error
    domain = str(options["domain"] or found.get("SMTPMAILER_DOMAIN") or "")
    html = options["html"]
    return SiteSettings(
        connection={
            **options,
            "env_file": env_file,
            "ca_file": _path(options["ca_file"] or found.get("SMTPMAILER_CA_FILE")),
            "server_name": options["server_name"] or found.get("SMTPMAILER_SERVER_NAME"),
            "password_file": _path(
                options["password_file"] or found.get("SMTPMAILER_PASSWORD_FILE")
            ),
        },
        html=_is_true(found.get("MAIL_HTML")) if html is None else html,
        directory=Directory(
            domain=domain or _mailname(),
            aliases={} if options["no_aliases"] else _aliases(options["aliases"], found),
        ),
        sender_domain=domain,
        spool=_path(options["spool"] or found.get("SMTPMAILER_SPOOL")),
    )


def _is_true(value: Any) -> bool:
    """Read a flag whose default is the service's own: true."""
    return value is None or str(value).strip().lower() not in _FALSE


def _aliases(named: Path | None, found: Mapping[str, Any]) -> dict[str, str]:
    path = _path(named or found.get("SMTPMAILER_ALIASES")) or _if_file(DEFAULT_ALIASES)
    return {} if path is None else read_aliases(_read(path))


def _mailname() -> str:
    """Give the machine's mail domain; a host name alone is none."""
    path = _if_file(MAILNAME)
    name = "" if path is None else _read(path).strip()
    return name if "." in name else ""


def _path(value: Any) -> Path | None:
    return Path(str(value)) if value else None


def _if_file(path: Path) -> Path | None:
    try:
        return path if path.is_file() else None
    except OSError:
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise CommandFailure(f"could not read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandFailure(f"could not read {path}: {error}") from error
