"""What there is to send by: the mail of one application."""

from __future__ import annotations

import sys
from collections import ChainMap
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from flask import Flask

from mailbridge import TLS, DeliveryReport, InvalidInput, OptionError, Transport, policy
from mailbridge import MailError as CoreMailError

from .batch import Batch
from .config import Config, suppress_send
from .connection import Connection
from .current import current
from .mailers import DEFAULT, config_of, mailers
from .message import Message, Recipient
from .outbox import outbox_of
from .sending import CAPTURED, Sending
from .signals import recorded


class MailState:
    """The mail of one application: `config`, which is frozen, and what there is to send by it.

    Whether sending is suppressed is looked up at each send, in the application's config. `name`
    is "default", or that of one of MAIL_MAILERS, each of which has a state of its own (`using`).
    """

    def __init__(
        self,
        config: Config,
        settings: Mapping[str, Any],
        app: Flask | None,
        name: str = DEFAULT,
        main: MailState | None = None,
    ) -> None:
        self.config = config
        self.name = name
        self._main = main
        self._mailers: dict[str, MailState] = {}
        self._settings = settings
        self._app = app
        self._suppress: bool | None = None
        self._made: tuple[Config, Transport] | None = None
        #: Where messages are captured, None if they are not.
        self.outbox = outbox_of(config.outbox, app)

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Any], app: Flask | None, *, debug: bool = False
    ) -> MailState:
        """The state for these settings, with one for each of MAIL_MAILERS in it.

        Raises OptionError (a ValueError) that names the setting, and the mailer.
        """
        state = cls(Config.from_mapping(settings, debug=debug), settings, app)
        for name, own in mailers(settings).items():
            config = config_of(name, own, settings, debug=debug)
            # What is looked up at each send, TESTING say, may be the mailer's own.
            looked_up = ChainMap(own, cast(dict[str, Any], settings))
            state._mailers[name] = cls(config, looked_up, app, name, state)
        return state

    def using(self, name: str) -> MailState:
        """The state of the mailer of that name. Raises OptionError if there is none."""
        main = self._main or self
        if name == DEFAULT:
            return main
        if name in main._mailers:
            return main._mailers[name]
        known = ", ".join(map(repr, (DEFAULT, *main._mailers)))
        raise OptionError(f"there is no mailer {name!r}: MAIL_MAILERS has {known}")

    def send(self, message: Message, envelope_from: Recipient | None = None) -> DeliveryReport:
        """Send `message` and return the report on each recipient. Connections are kept and reused.

        `envelope_from` is the reverse-path, if it is not the sender; "<>" is the null one. When
        sending is suppressed, nobody is connected to and the report says "not_attempted".

        Raises BadHeaderError, AddressError or MissingAddress (ValueErrors) before anything is
        sent; the errors of `mailbridge_flask.exceptions` after that, each with its `report`:
        with the default MAIL_ON_REFUSED, SomeRecipientsRefused if some recipients were refused.
        What a receiver of `email_sending` or `email_dispatched` raises comes through.
        """
        return self._deliver(self._shared(), message, envelope_from)

    def send_message(self, *args: Any, **kwargs: Any) -> DeliveryReport:
        """Send ``Message(*args, **kwargs)``. Returns and raises what `send` does."""
        return self.send(Message(*args, **kwargs))

    def send_many(self, messages: Iterable[Message]) -> Generator[DeliveryReport]:
        """Send messages as they come, and yield a report for each, in their order.

        They go over one connection, the next one on its way while the server works on this one.
        Nothing is raised for a message that fails, or is wrong: ``report.failure()`` says why. What
        a receiver of `email_sending` raises ends it.
        """
        return Batch(self, self._transport(), messages).reports()

    async def asend(
        self, message: Message, envelope_from: Recipient | None = None
    ) -> DeliveryReport:
        """`send` from an async view.

        In Quart on the asyncio core, in the server's event loop. Flask gives each async view a
        loop of its own, in which no connection would last: there the work is done in a thread, in
        this context, over the connections that the process keeps.
        """
        # Imported here: most applications have no event loop, and asyncio takes long to load.
        import asyncio

        if self._app is None or isinstance(cast(object, self._app), Flask):
            return await asyncio.to_thread(self.send, message, envelope_from)
        from mailbridge.aio import AsyncTransport

        sending = Sending(self, message)
        mail = sending.begin(envelope_from)
        if isinstance(mail, DeliveryReport):
            return mail
        try:
            report = await AsyncTransport(**self._route()).send(
                *mail,
                mail_options=message.mail_options or (),
                rcpt_options=message.rcpt_options or (),
            )
        except (CoreMailError, InvalidInput) as exc:
            raise sending.fail(exc, mail.envelope) from exc.__cause__
        except asyncio.CancelledError as cancelled:
            message.delivery_report = getattr(cancelled, "report", None)
            raise
        return sending.end(report)

    def connect(self) -> Connection:
        """A connection for several messages: ``with mail.connect() as connection: ...``."""
        return Connection(self)

    @contextmanager
    def record_messages(self) -> Iterator[list[Message]]:
        """A list to which each message of this application is added when it is dispatched."""
        with recorded(self.application()) as outbox:
            yield outbox

    # -- settings by Flask-Mail's names

    @property
    def suppress(self) -> bool:
        """Is sending suppressed now? May be set, which wins over the application's config."""
        return self._suppressed_because() is not None

    @suppress.setter
    def suppress(self, value: bool | None) -> None:
        self._suppress = value

    @property
    def default_sender(self) -> str | tuple[str, str] | None:
        """MAIL_DEFAULT_SENDER. May be set, in tests say."""
        return self.config.default_sender

    @default_sender.setter
    def default_sender(self, value: str | tuple[str, str] | None) -> None:
        self.config = self.config._replace(default_sender=value)

    @property
    def ascii_attachments(self) -> bool:
        """MAIL_ASCII_ATTACHMENTS. May be set."""
        return self.config.ascii_attachments

    @ascii_attachments.setter
    def ascii_attachments(self, value: bool) -> None:
        self.config = self.config._replace(ascii_attachments=value)

    @property
    def max_emails(self) -> int | None:
        """MAIL_MAX_EMAILS."""
        return self.config.max_emails

    @property
    def debug(self) -> bool:
        """MAIL_DEBUG."""
        return self.config.debug

    @property
    def server(self) -> str:
        """MAIL_SERVER."""
        return self.config.relay.host

    @property
    def port(self) -> int:
        """MAIL_PORT."""
        return self.config.relay.port

    @property
    def username(self) -> str | None:
        """MAIL_USERNAME."""
        return self.config.relay.username

    @property
    def use_tls(self) -> bool:
        """Is it STARTTLS, as by MAIL_USE_TLS?"""
        return self.config.relay.tls in (TLS.STARTTLS, TLS.OPPORTUNISTIC)

    @property
    def use_ssl(self) -> bool:
        """Is it TLS from the first byte, as by MAIL_USE_SSL?"""
        return self.config.relay.tls is TLS.IMPLICIT

    # -- the work

    def _suppressed_because(self) -> str | None:
        suppress = self._suppress
        if suppress is None and self._main is not None:
            suppress = self._main._suppress
        if suppress is not None:
            return "state.suppress is set" if suppress else None
        because = suppress_send(self._settings)
        if because is None and self.outbox is not None and not self.config.outbox_send:
            return CAPTURED
        return because

    def _transport(self) -> Transport:
        return Transport(**self._route())

    def _shared(self) -> Transport:
        """The transport for all threads: nobody opens it, so it keeps no connection."""
        made = self._made
        if made is None or made[0] is not self.config:
            made = self._made = self.config, self._transport()
        return made[1]

    def _route(self) -> dict[str, Any]:
        """What a transport is made of, blocking or not."""
        return {
            "relay": [self.config.relay, *self.config.relays],
            "on_refused": self.config.on_refused,
            "retry": self.config.retry,
            "round_robin": self.config.round_robin,
            "deadline": self.config.deadline,
            "max_recipients": self.config.max_recipients,
            "esmtp": self.config.esmtp,
            "on_report": self.config.on_report,
            "name": self.name,
            "before_final_dot": self.config.before_final_dot,
            "after_reply": self.config.after_reply,
            "listener": _tell if self.config.debug else None,
        }

    def application(self) -> Flask:
        """The application itself, no proxy of it: the sender of the signal."""
        if self._app is not None:
            return self._app
        return cast(Flask, current())

    def _deliver(
        self,
        transport: Transport,
        message: Message,
        envelope_from: Recipient | None,
        *,
        keep_open: bool = False,
    ) -> DeliveryReport:
        sending = Sending(self, message)
        mail = sending.begin(envelope_from)
        if isinstance(mail, DeliveryReport):
            return mail
        try:
            if keep_open:
                self._open(transport)
            report = transport.send(
                *mail,
                mail_options=message.mail_options or (),
                rcpt_options=message.rcpt_options or (),
            )
        except (CoreMailError, InvalidInput) as exc:
            raise sending.fail(exc, mail.envelope) from exc.__cause__
        return sending.end(report)

    def _open(self, transport: Transport) -> None:
        """Have a connection kept. With MAIL_TRIES that may fail: the next try may find one."""
        try:
            transport.open()
        except CoreMailError as exc:
            report = DeliveryReport({}, error=exc)
            if transport.retry.tries == 1 or not policy.may_retry(report):
                raise


def _tell(side: str, lines: list[str]) -> None:
    """For MAIL_DEBUG: tell stderr what is said. Secrets are masked, content is left out."""
    for line in lines:
        print(f"{side}: {line}", file=sys.stderr)
