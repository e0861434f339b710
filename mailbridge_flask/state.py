"""What there is to send by: the mail of one application, and a connection of it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

from flask import Flask, current_app

from mailbridge import (
    DeliveryReport,
    Envelope,
    InvalidInput,
    OnRefused,
    RecipientResult,
    State,
    Transport,
    policy,
)
from mailbridge import MailError as CoreMailError
from mailbridge.protocol.content import Buffer, canonical
from mailbridge.render import Rendered

from . import compose, fastpath, headers
from .config import Config, suppress_send
from .exceptions import MissingAddress, about
from .message import Message, Recipient, unique_recipients
from .outbox import outbox_of
from .signals import email_dispatched, recorded

_CAPTURED = "captured by MAIL_OUTBOX; set MAIL_OUTBOX_SEND to send as well"


class SuppressedReport(DeliveryReport):
    """The report of a message that was not to be sent: "not_attempted", and yet no failure."""

    __slots__ = ()

    def failure(self, on_refused: OnRefused = OnRefused.RAISE) -> None:
        """None: what went as it was configured to go is no error, in tests above all."""


class MailState:
    """The mail of one application: `config`, which is frozen, and what there is to send by it.

    Whether sending is suppressed is looked up at each send, in the application's config.
    """

    def __init__(self, config: Config, settings: Mapping[str, Any], app: Flask | None) -> None:
        self.config = config
        self._settings = settings
        self._app = app
        self._suppress: bool | None = None
        #: Where messages are captured, None if they are not.
        self.outbox = outbox_of(config.outbox, app)

    def send(self, message: Message, envelope_from: Recipient | None = None) -> DeliveryReport:
        """Send `message` and return the report on each recipient. Connections are kept and reused.

        `envelope_from` is the reverse-path, if it is not the sender; "<>" is the null one. When
        sending is suppressed, nobody is connected to and the report says "not_attempted".

        Raises BadHeaderError, AddressError or MissingAddress (ValueErrors) before anything is
        sent; the errors of `mailbridge_flask.exceptions` after that, each with its `report`:
        with the default MAIL_ON_REFUSED, SomeRecipientsRefused if some recipients were refused.
        """
        return self._deliver(self._transport(), message, envelope_from)

    def send_message(self, *args: Any, **kwargs: Any) -> DeliveryReport:
        """Send ``Message(*args, **kwargs)``. Returns and raises what `send` does."""
        return self.send(Message(*args, **kwargs))

    async def asend(
        self, message: Message, envelope_from: Recipient | None = None
    ) -> DeliveryReport:
        """`send` from an async view: the work is done in a thread, in this context."""
        return await asyncio.to_thread(self.send, message, envelope_from)

    def connect(self) -> Connection:
        """A connection for several messages: ``with mail.connect() as connection: ...``."""
        return Connection(self)

    @contextmanager
    def record_messages(self) -> Iterator[list[Message]]:
        """A list to which each message of this application is added when it is dispatched."""
        with recorded(self._application()) as outbox:
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
        self.config = replace(self.config, default_sender=value)

    @property
    def ascii_attachments(self) -> bool:
        """MAIL_ASCII_ATTACHMENTS. May be set."""
        return self.config.ascii_attachments

    @ascii_attachments.setter
    def ascii_attachments(self, value: bool) -> None:
        self.config = replace(self.config, ascii_attachments=value)

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

    # -- the work

    def _suppressed_because(self) -> str | None:
        if self._suppress is not None:
            return "state.suppress is set" if self._suppress else None
        because = suppress_send(self._settings)
        if because is None and self.outbox is not None and not self.config.outbox_send:
            return _CAPTURED
        return because

    def _transport(self) -> Transport:
        return Transport(
            [self.config.relay, *self.config.relays],
            on_refused=self.config.on_refused,
            retry=self.config.retry,
            round_robin=self.config.round_robin,
            deadline=self.config.deadline,
            esmtp=self.config.esmtp,
            listener=_tell if self.config.debug else None,
        )

    def _application(self) -> Flask:
        """The application itself, no proxy of it: the sender of the signal."""
        if self._app is not None:
            return self._app
        return current_app._get_current_object()  # type: ignore[attr-defined,no-any-return]

    def _deliver(
        self,
        transport: Transport,
        message: Message,
        envelope_from: Recipient | None,
        *,
        keep_open: bool = False,
    ) -> DeliveryReport:
        envelope, content = self._prepared(message, envelope_from)
        reason = self._suppressed_because()
        if self.outbox is None or reason not in (None, _CAPTURED):
            return self._hand_over(transport, message, envelope, content, reason, keep_open)
        captured = self.outbox.add(envelope, bytes(content))
        message.delivery_report = None
        try:
            return self._hand_over(transport, message, envelope, content, reason, keep_open)
        finally:
            report = getattr(message, "delivery_report", None)
            if reason is None and report is not None:
                self.outbox.settle(captured.id, report)

    def _hand_over(
        self,
        transport: Transport,
        message: Message,
        envelope: Envelope,
        content: Rendered | Buffer,
        reason: str | None,
        keep_open: bool,
    ) -> DeliveryReport:
        if reason is not None:
            report: DeliveryReport = SuppressedReport(
                _not_attempted(envelope, f"sending is suppressed: {reason}"),
                envelope.sender,
                message.msgId,
                attempts=0,
            )
            message.delivery_report = report
            email_dispatched.send(self._application(), message=message)
            return report
        try:
            if keep_open:
                self._open(transport)
            report = transport.send(
                envelope,
                content,
                mail_options=message.mail_options or (),
                rcpt_options=message.rcpt_options or (),
            )
        except (CoreMailError, InvalidInput) as exc:
            if exc.report is None:
                results = _not_attempted(envelope, str(exc))
                exc.report = DeliveryReport(results, envelope.sender, message.msgId, error=exc)
            message.delivery_report = exc.report
            if isinstance(exc, InvalidInput):
                raise
            error = about(exc, message)
            if exc.report.accepted:
                email_dispatched.send(self._application(), message=message)
            raise error from exc.__cause__
        message.delivery_report = report
        if report.accepted:
            email_dispatched.send(self._application(), message=message)
        return report

    def _prepared(
        self, message: Message, envelope_from: Recipient | None
    ) -> tuple[Envelope, Rendered | Buffer]:
        """Envelope and content, after everything that can be wrong with them was looked at."""
        if message.sender is None and self.default_sender is not None:
            message.sender = headers.mailbox_text(self.default_sender)
        if not message.sender:
            raise MissingAddress("the message has no sender: give one, or set MAIL_DEFAULT_SENDER")
        if message.date is None:
            message.date = time.time()
        content = self._rendered(message)
        recipients = [
            headers.parse_mailbox(recipient, "recipient").address for recipient in _send_to(message)
        ]
        if not recipients:
            raise MissingAddress("the message has no recipients: name one at least")
        # A message of Flask-Mail's own has no such attribute.
        esmtp = getattr(message, "esmtp", None)
        if envelope_from == "<>":
            return Envelope(None, recipients, esmtp), content
        reverse_path = headers.parse_mailbox(envelope_from or message.sender, "sender").address
        return Envelope(reverse_path, recipients, esmtp), content

    def _rendered(self, message: Any) -> Rendered | Buffer:
        ascii_attachments = self.ascii_attachments
        if isinstance(message, Message):
            if type(message).as_bytes is not Message.as_bytes or "as_bytes" in vars(message):
                return Buffer(canonical(message.as_bytes()))  # somebody's own way to write it
            rendered = fastpath.render(message, ascii_attachments=ascii_attachments)
            if rendered is not None:
                return rendered
        return Buffer(canonical(compose.content(message, ascii_attachments=ascii_attachments)))

    def _open(self, transport: Transport) -> None:
        """Have a connection kept. With MAIL_TRIES that may fail: the next try may find one."""
        try:
            transport.open()
        except CoreMailError as exc:
            report = DeliveryReport({}, error=exc)
            if transport.retry.tries == 1 or not policy.may_retry(report):
                raise


class Connection:
    """Sends several messages over one connection, in a ``with`` block.

    After MAIL_MAX_EMAILS messages the next one goes over a new connection, and so it does if the
    server has closed this one. Outside ``with`` no connection is held from one to the next.
    """

    def __init__(self, mail: MailState) -> None:
        self.mail = mail
        self.num_emails = 0
        self._transport = mail._transport()
        self._inside = False

    def __enter__(self) -> Self:
        """Connect, unless sending is suppressed. Raises a MailError if that fails."""
        self._inside = True
        self.num_emails = 0
        if not self.mail.suppress:
            try:
                self.mail._open(self._transport)
            except CoreMailError as exc:
                raise about(exc, None) from exc.__cause__
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Give the connection back. Never raises, so that an error in the block is the one seen."""
        self._inside = False
        self._transport.close()

    def send(self, message: Message, envelope_from: Recipient | None = None) -> DeliveryReport:
        """Send `message`; returns and raises what `Mail.send` does."""
        try:
            return self.mail._deliver(
                self._transport, message, envelope_from, keep_open=self._inside
            )
        finally:
            self.num_emails += 1

    def send_message(self, *args: Any, **kwargs: Any) -> DeliveryReport:
        """Send ``Message(*args, **kwargs)``. Returns and raises what `send` does."""
        return self.send(Message(*args, **kwargs))


def _send_to(message: Any) -> Iterable[Recipient]:
    # Flask-Mail's own messages have it in no order.
    return message.send_to if isinstance(message, Message) else unique_recipients(message)


def _not_attempted(envelope: Envelope, reason: str) -> dict[str, RecipientResult]:
    return {
        address: RecipientResult(address, State.NOT_ATTEMPTED, reason=reason)
        for address in envelope.recipients
    }


def _tell(side: str, lines: list[str]) -> None:
    """For MAIL_DEBUG: tell stderr what is said. Secrets are masked, content is left out."""
    for line in lines:
        print(f"{side}: {line}", file=sys.stderr)
