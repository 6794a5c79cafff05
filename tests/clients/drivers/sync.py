# SPDX-License-Identifier: MIT
"""Makes calls with ``smtpmailer.client``, each in a thread of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from smtpmailer.client import Client
from smtpmailer.errors import SmtpMailerError
from tests.clients.drivers.job import Job, failure, jobs, tell


def run(job: Job) -> dict[str, Any]:
    """Make a call; give what came of it."""
    with Client(**job.options) as client:
        try:
            return {"done": getattr(client, job.method)(job.argument)}
        except SmtpMailerError as error:
            return failure(error)


todo = jobs()
with ThreadPoolExecutor(len(todo)) as threads:
    tell(dict(zip(todo, threads.map(run, todo.values()), strict=True)))
