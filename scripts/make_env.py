# SPDX-License-Identifier: MIT
"""Make an env file from the example, with a secret key of its own, unless there is one."""

from __future__ import annotations

import base64
import os
import re
import secrets
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent.parent / "etc" / "smtpmailer.env.example"


def main() -> int:
    """Write the file named on the command line; say what to edit."""
    target = Path(sys.argv[1])
    if target.exists():
        return 0
    key = base64.b64encode(secrets.token_bytes(16)).decode("ascii")
    text = re.sub(
        r"^SECRET_KEY\s*=.*$",
        f'SECRET_KEY = "{key}"',
        EXAMPLE.read_text("utf-8"),
        flags=re.MULTILINE,
    )
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"{target} was made from the example. Set SMTP_HOST, SMTP_USER and SMTP_PASSWORD in it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
