# SPDX-License-Identifier: MIT
"""Makes calls with ``smtpmailer.client_twisted``."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import gatherResults
from twisted.internet.task import react

from smtpmailer.client_twisted import TwistedClient
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import SmtpMailerError
from tests.clients.drivers.job import Job, failure, jobs, tell


@returns_deferred
async def run(reactor: Any, job: Job) -> dict[str, Any]:
    """Make a call; fires with what came of it."""
    client = TwistedClient(reactor, **job.options)
    try:
        return {"done": await getattr(client, job.method)(job.argument)}
    except SmtpMailerError as error:
        return failure(error)
    finally:
        await client.close()


@returns_deferred
async def run_all(reactor: Any) -> None:
    """Make all calls at the same time."""
    todo = jobs()
    results = await gatherResults([run(reactor, job) for job in todo.values()])
    tell(dict(zip(todo, results, strict=True)))


react(run_all)
