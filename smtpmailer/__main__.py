# SPDX-License-Identifier: MIT
"""``python -m smtpmailer``: the console command."""

from __future__ import annotations

from smtpmailer.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main(prog_name="smtpmailer")
