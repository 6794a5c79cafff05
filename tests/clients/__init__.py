# SPDX-License-Identifier: MIT
"""Tests of the clients in clients/ and of smtpmailer.client*, each run as its users run it."""
