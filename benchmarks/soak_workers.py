# SPDX-License-Identifier: MIT
"""Hours in minutes: mixed load while processes are replaced all the time.

Run it as ``python benchmarks/soak_workers.py --seconds 600``. Clients ping, send and queue mails,
each in a way of its own, while every process is replaced every ``--restart`` seconds, workers
after ``--requests`` requests as well, and, with ``--kill``, one of them is killed every so many
seconds. Every ten seconds a line tells how many requests were answered and what the processes take
of memory. In the end: no request may have failed (those on connections of killed workers aside),
no connection may have been refused, every accepted mail has to have arrived, and memory must be
where it was a minute after the start.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench_workers import megabytes
from tests.integration.queue_service import KEY, Clients
from tests.integration.servers import AioOptions, AioServer
from tests.integration.service import mail_to
from tests.integration.worker_service import Load, WorkerService

#: Seconds between lines, and those at the beginning that don't count.
EVERY = 10.0
WARM_UP = 60.0
#: By so much may the memory of all processes be larger in the end.
GROWTH = 1.25
#: Seconds in which what is queued has to be delivered in the end.
DRAIN = 60.0


def main() -> int:
    """Run, and say whether all went well."""
    options = _options()
    smtp = AioServer(AioOptions(eager=True))
    with tempfile.TemporaryDirectory() as folder:
        service = WorkerService(_settings(options, folder, smtp.port))
        try:
            names = [f"worker-{number}" for number in range(1, options.workers + 1)]
            service.await_processes(*names, "queue")
            return _run(options, service, smtp, Path(folder))
        finally:
            service.clean_up()
            smtp.stop()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--restart", type=int, default=20, help="seconds between restarts, to 59")
    parser.add_argument("--requests", type=int, default=50_000, help="MAILER_MAX_REQUEST")
    parser.add_argument("--kill", type=float, default=0.0, help="seconds between kills; 0: none")
    return parser.parse_args()


def _settings(options: argparse.Namespace, folder: str, smtp_port: int) -> dict[str, object]:
    return {
        "MAILER_WORKERS": options.workers,
        "MAILER_MAX_REQUEST": options.requests,
        "MAILER_RESTART_CRON": f"*/{options.restart} * * * * *",
        "MAILER_MAX_CONNECTIONS_PER_PEER": 0,
        "MAILER_LOG_LEVEL": "warning",
        "MAILER_QUEUE": True,
        "QUEUE_SEND_IMMEDIATELY": True,
        "QUEUE_DIR": f"{folder}/mail",
        "QUEUE_PROCESS_DIR": f"{folder}/temp",
        "QUEUE_FAILED_DIR": f"{folder}/failed",
        "SECRET_KEY": KEY,
        "SMTP_PORT": smtp_port,
    }


def _run(options: argparse.Namespace, service: WorkerService, smtp: AioServer, folder: Path) -> int:
    loads = [Load(service), Load(service, json.dumps(mail_to()).encode(), once=1)]
    queuing = Clients(service, threads=2)
    begun, next_kill, readings = time.monotonic(), options.kill, []
    print(f"{'seconds':>8}{'answers':>10}{'mails':>8}{'processes':>11}{'MB':>6}{'largest':>9}")
    while (passed := time.monotonic() - begun) < options.seconds:
        time.sleep(min(EVERY, options.seconds - passed))
        if options.kill and time.monotonic() - begun >= next_kill:
            next_kill += options.kill
            _kill_one(service)
        sizes = _sizes(service)
        answers = sum(load.answers for load in loads)
        passed = time.monotonic() - begun
        print(
            f"{passed:>8.0f}{answers:>10}{len(smtp.received):>8}{len(sizes):>11}"
            f"{sum(sizes):>6.0f}{max(sizes):>9.0f}",
            flush=True,
        )
        readings.append((passed, statistics.mean(sizes)))
        # What has arrived needs no memory here.
        for received in smtp.received:
            object.__setattr__(received, "content", received.content[:300])
    for load in loads:
        load.stop()
    queuing.stop()
    return _verdict(options, smtp, [loads, queuing, readings, folder])


def _sizes(service: WorkerService) -> list[float]:
    """Give the memory of each process that lives."""
    sizes = []
    for process in service.family():
        try:
            sizes.append(megabytes(process)[0])
        except (FileNotFoundError, ProcessLookupError, KeyError):
            continue
    return sizes


def _kill_one(service: WorkerService) -> None:
    running = service.processes()
    running.pop("supervisor", None)
    if len(running) > 1:
        os.kill(random.choice(list(running.values())), signal.SIGKILL)


def _verdict(options: argparse.Namespace, smtp: AioServer, found: list[Any]) -> int:
    loads, queuing, readings, folder = found
    end = time.monotonic() + DRAIN
    while _left(folder) and time.monotonic() < end:
        time.sleep(0.2)
    broken = [fault for load in loads for fault in load.broken]
    faults = {
        "refused connections": [fault for load in loads for fault in load.refused],
        "broken connections": [] if options.kill else broken,
        "wrong answers": [fault for load in loads for fault in load.wrong],
        "mails that did not arrive": _missing(queuing, smtp),
    }
    for what, cases in faults.items():
        print(f"{what}: {len(cases)} {cases[:3] if cases else ''}")
    if options.kill:
        print(f"connections that killed workers broke: {len(broken)}")
    warm = [size for passed, size in readings if passed >= WARM_UP]
    growth = warm[-1] / warm[0] if len(warm) > 1 else 1.0
    print(f"memory of a process in the end, times that after {WARM_UP:g} s: {growth:.2f}")
    return 1 if any(faults.values()) or growth > GROWTH else 0


def _left(folder: Path) -> list[Path]:
    """Give the mails that wait or are being delivered."""
    return [path for name in ("temp", "mail", "temp") for path in (folder / name).glob("mail_*")]


def _missing(queuing: Clients, smtp: AioServer) -> list[str]:
    arrived = b"".join(received.content[:300] for received in smtp.received)
    unique = [name.rpartition("_")[2].removesuffix(".json") for name in queuing.names]
    return [each for each in unique if each.encode() not in arrived]


if __name__ == "__main__":
    raise SystemExit(main())
