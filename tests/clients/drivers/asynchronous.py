# SPDX-License-Identifier: MIT
"""Makes calls with ``smtpmailer.client_asyncio``."""

from __future__ import annotations

import asyncio
from typing import Any

from smtpmailer.client_asyncio import AsyncClient
from smtpmailer.errors import SmtpMailerError
from tests.clients.drivers.job import Job, failure, jobs, tell


async def run(job: Job) -> dict[str, Any]:
    """Make a call; give what came of it."""
    async with AsyncClient(**job.options) as client:
        try:
            return {"done": await getattr(client, job.method)(job.argument)}
        except SmtpMailerError as error:
            return failure(error)


async def run_all() -> None:
    """Make all calls at the same time."""
    todo = jobs()
    results = await asyncio.gather(*map(run, todo.values()))
    tell(dict(zip(todo, results, strict=True)))


asyncio.run(run_all())
