# SPDX-License-Identifier: MIT
"""Stores: where mails, templates, counters and attachments live."""
