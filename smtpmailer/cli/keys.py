# SPDX-License-Identifier: MIT
"""The subcommands that make secrets: generate-key and hash-password."""

from __future__ import annotations

import base64
import secrets
import sys
from typing import Final

import bcrypt
import click
from nacl import pwhash

from smtpmailer.cli.output import CommandFailure, ExitStatus, note
from smtpmailer.core.passwords import MAX_PASSWORD_BYTES

__all__ = ["generate_key", "hash_password"]

_KEY_BYTES: Final = {"AES128": 16, "AES256": 32, "XChaCha20": 32}
_BCRYPT_LIMIT_BYTES: Final = 72
_BCRYPT_ROUNDS: Final = 12
#: As PHP's default; the library's own is half of it.
_ARGON2I_MEMORY_BYTES: Final = 64 * 1024 * 1024
#: What MAILER_AUTH_HASH_METHOD calls them.
_METHODS: Final = {"bcrypt": "bcrypt", "argon2id": "sodium", "argon2i": "argon2i"}


@click.command("generate-key")
@click.option(
    "--method",
    type=click.Choice(list(_KEY_BYTES)),
    default="AES128",
    show_default=True,
    help="The QUEUE_ENCRYPT_METHOD that the key is for.",
)
def generate_key(method: str) -> None:
    """Print a new random key for SECRET_KEY, in base64."""
    click.echo(base64.b64encode(secrets.token_bytes(_KEY_BYTES[method])).decode("ascii"))


@click.command("hash-password")
@click.option(
    "--method",
    type=click.Choice(list(_METHODS)),
    default="bcrypt",
    show_default=True,
    help="How to hash it.",
)
def hash_password(method: str) -> None:
    """Print the hash of a password for MAILER_AUTH_HASH.

    The password is asked for twice, or read from standard input when that is no terminal.
    """
    asked = sys.stdin.isatty()
    if asked:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = _from_standard_input()
    click.echo(_hash(method, _checked(method, password)))
    if asked:
        note(f"In the env file: MAILER_AUTH_HASH_METHOD = {_METHODS[method]}")
        note("and the hash in single quotes: MAILER_AUTH_HASH = '...'")


def _from_standard_input() -> str:
    raw = sys.stdin.buffer.read()
    try:
        return raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise CommandFailure("the password is not UTF-8", status=ExitStatus.USAGE) from error


def _checked(method: str, password: str) -> bytes:
    data = password.encode("utf-8")
    fault = None
    if not data:
        fault = "the password is empty"
    elif b"\0" in data:
        fault = "the password holds a NUL character, which no service takes"
    elif len(data) > MAX_PASSWORD_BYTES:
        fault = f"the password is longer than {MAX_PASSWORD_BYTES} bytes"
    elif method == "bcrypt" and len(data) > _BCRYPT_LIMIT_BYTES:
        fault = (
            f"the password has {len(data)} bytes and bcrypt looks at {_BCRYPT_LIMIT_BYTES} only: "
            "use --method argon2id"
        )
    if fault is not None:
        raise CommandFailure(fault, status=ExitStatus.USAGE)
    return data


def _hash(method: str, password: bytes) -> str:
    if method == "bcrypt":
        # PHP's name for the same hash: one env file then serves the predecessor as well.
        made = bcrypt.hashpw(password, bcrypt.gensalt(_BCRYPT_ROUNDS)).decode("ascii")
        return made.replace("$2b$", "$2y$", 1)
    if method == "argon2id":
        return pwhash.argon2id.str(password).decode("ascii")
    return pwhash.argon2i.str(password, memlimit=_ARGON2I_MEMORY_BYTES).decode("ascii")
