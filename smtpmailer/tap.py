# SPDX-License-Identifier: MIT
"""The composition root: from the twistd command line to a running graph of parts."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from twisted.application.service import IService, IServiceCollection
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, Logger, LogPublisher
from twisted.python import log as legacy_log
from twisted.python import usage
from twisted.python.components import Componentized

from smtpmailer import __version__, configuration
from smtpmailer.core.mime import MessageOptions, Stamp
from smtpmailer.core.model import Route
from smtpmailer.core.requests import MailParser
from smtpmailer.core.schemas import Schema
from smtpmailer.core.settings import Settings
from smtpmailer.dispatcher import Dispatcher, Gates, Handler
from smtpmailer.door_parts import build_auth, mail_limits, protocol_limits, wrap_tls
from smtpmailer.errors import OperatorError, SettingsError
from smtpmailer.garbage import GarbageCollector
from smtpmailer.interfaces import IThreads
from smtpmailer.lifecycle import OrderedService, Part
from smtpmailer.listener import Listener, at_once
from smtpmailer.log import LineObserver, syslog_writer
from smtpmailer.pacing import Pacer, paced
from smtpmailer.protocol import JsonFactory
from smtpmailer.queue_parts import QueueParts, build_queue
from smtpmailer.reloading import Reloader
from smtpmailer.schemafiles import load_schema
from smtpmailer.services.courier import Courier, MailDefaults
from smtpmailer.services.mail import MailService
from smtpmailer.services.queue import QueueTools
from smtpmailer.services.status import StatusService
from smtpmailer.stores.attachments import Attachments
from smtpmailer.stores.memory import MemoryCounters
from smtpmailer.template_parts import build_templates
from smtpmailer.threads import Threads

__all__ = ["Options", "Root", "build", "makeService"]

#: Requests that take a part of a millisecond and more.
_COSTLY = frozenset({"sendMail", "queueMail"})

#: Seconds that each part has to stop.
_STOP_LIMIT = 30.0


class Options(usage.Options):
    """The command line of ``twistd smtpmailer``."""

    longdesc = "Takes mails as JSON over TCP or TLS and delivers them through an SMTP server."
    optParameters: ClassVar[list[list[Any]]] = [
        ["env", "e", None, "Env file; .env in the base path when there is one."],
        ["basepath", "b", None, "Where relative paths begin; the env file's directory otherwise."],
    ]


class Root(OrderedService):
    """All parts; gives twistd the log observer that the settings ask for."""

    _log = Logger()

    def __init__(self, clock: Any, settings: Settings, observer: ILogObserver) -> None:
        """Hold no part yet."""
        super().__init__(clock, _STOP_LIMIT)
        self._settings = settings
        self._observer = observer
        #: What reads files again while the service runs.
        self.reloader: Reloader | None = None

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Join an application, before it begins to log."""
        if isinstance(parent, Componentized):
            parent.setComponent(legacy_log.ILogObserver, self._observer)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Open the port; a refusal is shown also where standard error is not the log."""
        try:
            super().privilegedStartService()
        except SystemExit as refusal:
            # twistd has made sys.stderr write to the log.
            if self._settings.mailer_log_output == "syslog" or not self._settings.mailer_log:
                print(refusal, file=sys.__stderr__)
            raise

    def startService(self) -> None:
        """Start all parts, saying first what is odd about the settings."""
        self._log.info("smtpmailer {version} starts", version=__version__, notice=True)
        for warning in self._settings.warnings:
            self._log.warn("{text}", text=warning)  # trial takes "warning" for Python's own
        super().startService()

    def reload(self) -> None:
        """Read certificates and keys again."""
        self._log.info("smtpmailer reads certificates and keys again", notice=True)
        if self.reloader is not None:
            self.reloader.reload()

    def stopService(self) -> Deferred[None]:
        """Stop all parts, saying so first; see OrderedService."""
        self._log.info("smtpmailer stops", notice=True)
        return super().stopService()


def makeService(options: Options) -> IService:
    """Read the settings and build the service, for twistd.

    Faulty settings end the process with status 1 and every fault on standard error. (twistd would
    show a UsageError from here as a traceback, and exit with 0 after one from parsing options.)
    """
    from twisted.internet import reactor

    try:
        settings = configuration.load(options["env"], options["basepath"], os.environ)
        faults = configuration.file_faults(settings)
        if faults:
            raise SettingsError(faults)
        # Twisted's timers stand still while the wall clock goes back; no timer exists yet.
        reactor.seconds = time.monotonic  # type: ignore[method-assign]
        reactor.callWhenRunning(_end_well_on_sigterm, reactor)
        # What we make is for us alone; twistd's --umask comes later and counts more.
        os.umask(0o077)
        root = build(settings, reactor, _observer(settings, options.parent or {}))
        reactor.callWhenRunning(_reload_on_sighup, reactor, root)
    except OperatorError as error:
        faults_text = str(error).replace("\n", "\n  ")
        raise SystemExit(f"smtpmailer: the configuration is faulty:\n  {faults_text}") from None
    return root


def _end_well_on_sigterm(reactor: Any) -> None:
    """Make SIGTERM an orderly end with status 0; the reactor's own handler ends with the signal.

    That one also logs a traceback when the signal comes again during the end.
    """
    received = False

    def stop(*_: object) -> None:
        nonlocal received
        if not received:
            received = True
            reactor.callFromThread(reactor.stop)

    signal.signal(signal.SIGTERM, stop)


def _reload_on_sighup(reactor: Any, root: Root) -> None:
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(root.reload))


def build(settings: Settings, reactor: Any, observer: ILogObserver) -> Root:
    """Put the parts together; opens nothing, starts nothing. Raises OperatorError."""
    # Importing these installs a reactor, so not before there is one.
    from smtpmailer.delivery.sender import Sender

    root = Root(reactor, settings, observer)
    threads = Threads(reactor, name="smtpmailer", size=8)
    pace = Pacer(reactor).turn
    sender = Sender(reactor, settings.smtp_delivery_limit, pace=pace)
    templates = build_templates(settings, threads) if settings.email_template else None
    courier = Courier(
        _mail_defaults(settings),
        attachments=_attachments(settings, threads),
        sender=sender,
        threads=threads,
        templates=templates.templates if templates else None,
    )
    counters = MemoryCounters()
    parser = MailParser(load_schema("sendMail"), mail_limits(settings))
    queue = None
    if settings.mailer_queue:
        update_schema = Schema(load_schema("updateQueuedMail"))
        tools = QueueTools(
            parser=parser, update_schema=update_schema, courier=courier, stamp=_stamp
        )
        queue = build_queue(settings, reactor, tools, counters)
    requeue = queue.requeue if queue else None
    mail = MailService(parser, courier, counters, _stamp, requeue)
    handlers = {
        **_handlers(mail, StatusService(counters, queue.store if queue else None), queue, pace),
        **(templates.handlers if templates else {}),
    }
    auth = build_auth(settings, reactor)
    dispatcher = Dispatcher(handlers, auth.auth, _gates(settings))
    factory = JsonFactory(dispatcher, reactor, protocol_limits(settings))
    served, tls_reloads = wrap_tls(settings, factory, reactor)
    root.reloader = Reloader(reactor, (*auth.reloads, *tls_reloads))

    def drain() -> Deferred[None]:
        auth.stop_delaying()
        factory.stop_reading()
        return factory.drained()

    address, port = settings.mailer_addr, settings.mailer_port
    ready = queue.ready if queue else at_once
    for part in (
        Part("threads", start=threads.start, stop=threads.stop),
        auth.threads,
        *(queue.stores if queue else ()),
        Part("deliveries", stop=sender.idle),
        *((queue.runner,) if queue else ()),
        root.reloader,
        GarbageCollector(reactor, lambda: factory.requests_in_flight),
        Part("requests", stop=drain),
        Listener(reactor, address, port, served, ready),
    ):
        part.setServiceParent(root)
    return root


def _handlers(
    mail: MailService,
    status: StatusService,
    queue: QueueParts | None,
    pace: Callable[[], Deferred[None]],
) -> Mapping[str, Handler]:
    handlers = {"ping": status.ping, "status": status.status, "sendMail": mail.send_mail}
    if queue is not None:
        handlers |= queue.handlers
    # A burst of mails is spread over turns of the reactor; what costs little goes in between.
    costly = {name: paced(pace, handlers[name]) for name in _COSTLY & handlers.keys()}
    return {**handlers, **costly}


def _stamp() -> Stamp:
    return Stamp(unique=secrets.token_hex(8), epoch_seconds=time.time())


def _mail_defaults(settings: Settings) -> MailDefaults:
    route = Route(
        host=settings.smtp_host,
        port=settings.smtp_port,
        encryption=settings.smtp_encryption,
        user=settings.smtp_user,
        password=settings.smtp_password,
        ehlo_name=settings.smtp_ehlo_name or _machine_name(),
        verify=settings.smtp_tls_verify,
        ca_file=settings.smtp_ca_file,
        timeout=settings.mailer_timeout,
    )
    options = MessageOptions(
        html=settings.mail_html,
        charset=settings.mail_charset,
        encoding=settings.mail_encoding,
        max_bytes=settings.mail_max_size,
    )
    return MailDefaults(
        from_email=settings.mail_from_addr,
        from_name=settings.mail_from_name,
        options=options,
        route=route,
    )


def _machine_name() -> str:
    """Give the machine's name as far as a server would take it (RFC 5321 section 4.1.1.1)."""
    name = socket.getfqdn()
    return (
        name if name.isascii() and name.replace(".", "").replace("-", "").isalnum() else "localhost"
    )


def _attachments(settings: Settings, threads: IThreads) -> Attachments:
    queue = (settings.queue_dir, settings.queue_process_dir, settings.queue_failed_dir)
    own = queue if settings.mailer_queue else ()
    return Attachments(
        threads,
        directories=settings.attachment_dirs,
        forbidden=(*settings.secret_files, *own),
        limit_bytes=settings.mail_max_size or sys.maxsize,
    )


def _gates(settings: Settings) -> Gates:
    return Gates(
        queue_enabled=settings.mailer_queue,
        queue_read_only=settings.mailer_queue_api_read_only,
        template_enabled=settings.email_template,
        template_read_only=settings.email_template_api_read_only,
    )


def _observer(settings: Settings, twistd: Mapping[str, Any]) -> ILogObserver:
    """Make the observer for MAILER_LOG_OUTPUT: syslog, twistd's log file, or standard error."""
    if not settings.mailer_log:
        return LogPublisher()
    if settings.mailer_log_output == "syslog":
        return LineObserver(syslog_writer("smtpmailer"), settings.mailer_log_level)
    path = twistd.get("logfile") or ("-" if twistd.get("nodaemon", True) else "twistd.log")
    return LineObserver(_stream_writer(path), settings.mailer_log_level)


def _stream_writer(path: str) -> Callable[[str, str], None]:
    stream = sys.stderr if path == "-" else open(path, "a", encoding="utf-8")  # noqa: SIM115, PTH123

    def write(_level: str, line: str) -> None:
        stream.write(f"{line}\n")
        stream.flush()

    return write
