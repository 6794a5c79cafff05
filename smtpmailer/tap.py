# SPDX-License-Identifier: MIT
"""The composition root: from the twistd command line to a running graph of parts."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TextIO

from twisted.application.service import IService
from twisted.logger import ILogObserver, LogPublisher
from twisted.python import usage

from smtpmailer import configuration, heap
from smtpmailer.core.settings import Settings
from smtpmailer.errors import OperatorError
from smtpmailer.log import FORMATS, LineObserver, syslog_writer
from smtpmailer.processes.activation import take_socket
from smtpmailer.processes.inheritance import Descriptors, Part, read_settings
from smtpmailer.processes.notify import Notifier
from smtpmailer.root import Log, Root
from smtpmailer.signals import Ending, listen_to_signals
from smtpmailer.supervisor_parts import build_supervisor, wants_supervisor
from smtpmailer.surroundings import Surroundings

__all__ = ["Options", "makeService"]

#: As much of a message twistd reads.
_STATUS_BYTES = 100


class Options(usage.Options):
    """The command line of ``twistd smtpmailer``."""

    longdesc = "Takes mails as JSON over TCP or TLS and delivers them through an SMTP server."
    optParameters: ClassVar[list[list[Any]]] = [
        ["env", "e", None, "Env file; .env in the base path when there is one."],
        ["basepath", "b", None, "Where relative paths begin; the env file's directory otherwise."],
        ["child", None, None, "For the service's own use: which of several processes this is."],
    ]


def makeService(options: Options) -> IService:
    """Read the settings and build the service, for twistd.

    Faulty settings end the process with status 1 and every fault on standard error. (twistd would
    show a UsageError from here as a traceback, and exit with 0 after one from parsing options.)
    """
    from twisted.internet import reactor as the_reactor

    from smtpmailer.bundle import bundled

    # Twisted's timers stand still while the wall clock goes back; no timer exists yet.
    the_reactor.seconds = time.monotonic  # type: ignore[method-assign]
    reactor = bundled(the_reactor)
    # What we make is for us alone; twistd's --umask comes later and counts more.
    os.umask(0o077)
    _take_descriptors()
    heap.use_one_heap()
    ending = Ending(reactor)
    try:
        root = (_child if options["child"] else _service)(options, reactor, ending)
    except OperatorError as error:
        faults_text = str(error).replace("\n", "\n  ")
        raise SystemExit(f"smtpmailer: the configuration is faulty:\n  {faults_text}") from None
    reactor.callWhenRunning(listen_to_signals, reactor, ending, root.reload)
    return root


def _take_descriptors() -> None:
    """Use as many descriptors as are allowed: connections and mails being stored take some each.

    The usual first limit, 1024, is for programs that use select(2).
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Where even that is refused the service works as it is, with fewer clients.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _child(options: Options, reactor: Any, ending: Ending) -> Root:
    """Build one of several processes."""
    # A supervisor has no use for what serves.
    from smtpmailer.worker_parts import build_worker

    part = Part.parse(options["child"])
    settings = read_settings(Descriptors.SETTINGS).settings()
    log = Log(_log_maker(options), settings, part.name)
    return build_worker(settings, reactor, part, log, ending)


def _service(options: Options, reactor: Any, ending: Ending) -> Root:
    """Build the service: all of it in this process, or what supervises the others."""
    # The daemon changes its directory.
    env, base = (path and str(Path(path).absolute()) for path in _paths(options))
    read = partial(configuration.gather, env, base, dict(os.environ))
    gathered = read()
    settings = configuration.check(gathered)
    around = Surroundings(
        twistd=_log_options(options),
        read=read,
        notifier=Notifier.take(os.environ, os.getpid()),
        listening=take_socket(os.environ, os.getpid()),
        log=Log(_log_maker(options), settings),
        ending=ending,
        refused=partial(_tell_parent, options),
    )
    if wants_supervisor(settings):
        return build_supervisor(settings, gathered, reactor, around)
    from smtpmailer.single_parts import build_single

    return build_single(settings, reactor, around)


def _tell_parent(options: Options, why: str) -> None:
    """Tell the process that waits for the daemon's start; after a SystemExit it waits for ever."""
    pipe = _twistd(options).get("statusPipe")
    if pipe is not None:
        os.write(pipe, f"1 {why}".encode("ascii", "replace")[:_STATUS_BYTES])


def _paths(options: Options) -> tuple[str | None, str | None]:
    """Give env file and base path; where neither is named the present directory is the base."""
    env, base = options["env"], options["basepath"]
    return env, base if env or base else "."


def _twistd(options: Options) -> Mapping[str, Any]:
    """Give twistd's own options."""
    return options.parent or {}


def _log_path(twistd: Mapping[str, Any]) -> str:
    """Give twistd's log file, or "-" for standard error."""
    return twistd.get("logfile") or ("-" if twistd.get("nodaemon", True) else "twistd.log")


def _log_options(options: Options) -> tuple[str, ...]:
    """Give what makes a further process write to the same log."""
    path = _log_path(_twistd(options))
    return () if path == "-" else (f"--logfile={Path(path).absolute()}",)


def _log_maker(options: Options) -> Callable[[Settings], ILogObserver]:
    """Give what makes the observer, now and when the settings are read again."""
    twistd = _twistd(options)
    path = _log_path(twistd)
    if path != "-":
        # The daemon changes its directory.
        twistd = {**twistd, "logfile": str(Path(path).absolute())}
    # Twistd will make sys.stderr write to the log.
    return partial(_observer, twistd=twistd, stderr=sys.stderr)


def _observer(
    settings: Settings, twistd: Mapping[str, Any], stderr: TextIO | None = None
) -> ILogObserver:
    """Make the observer for MAILER_LOG_OUTPUT: syslog, twistd's log file, or standard error."""
    if not settings.mailer_log:
        return LogPublisher()
    form = FORMATS[settings.mailer_log_format]
    if settings.mailer_log_output == "syslog":
        return LineObserver(syslog_writer("smtpmailer"), settings.mailer_log_level, form)
    path = _log_path(twistd)
    stream = stderr or sys.stderr if path == "-" else open(path, "a", encoding="utf-8")  # noqa: SIM115, PTH123
    return LineObserver(_stream_writer(stream), settings.mailer_log_level, form)


def _stream_writer(stream: TextIO) -> Callable[[str, str], None]:

    def write(_level: str, line: str) -> None:
        stream.write(f"{line}\n")
        stream.flush()

    return write
