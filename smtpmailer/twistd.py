# SPDX-License-Identifier: MIT
"""``python -m smtpmailer.twistd``: twistd with this interpreter, wherever its script is."""

from __future__ import annotations

from twisted.scripts.twistd import run

__all__: list[str] = []

if __name__ == "__main__":
    run()
