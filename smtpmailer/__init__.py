# SPDX-License-Identifier: MIT
"""smtpmailer: an internal service that sends, queues and schedules mail."""

__version__ = "0.1.0"
