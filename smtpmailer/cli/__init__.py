# SPDX-License-Identifier: MIT
"""The smtpmailer console command, one module a subcommand."""
