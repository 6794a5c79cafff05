# SPDX-License-Identifier: MIT
"""Names the service to twistd; everything else is in smtpmailer.tap."""

from __future__ import annotations

from twisted.application.service import ServiceMaker

smtpmailer = ServiceMaker(
    "smtpmailer",
    "smtpmailer.tap",
    "A service that sends, queues and schedules mail: JSON in, SMTP out",
    "smtpmailer",
)
