# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.processes."""
