"""Django's SMTP backend over mailbridge."""

from __future__ import annotations

import copy
import logging
import os
import ssl
import threading
from collections.abc import Iterable
from contextlib import suppress
from smtplib import SMTPException, SMTPServerDisconnected
from typing import Any

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.utils.functional import cached_property

import mailbridge
from mailbridge import SMTP, SMTP_SSL, DeliveryReport, OptionError, Transport

from .. import conf, exceptions
from ..connection import OpenConnection, attempt
from ..message import addr_spec, to_mail
from ..report import not_tried, warn_of_refused

logger = logging.getLogger("mailbridge")

# Where these come from, the next message of a batch would only wait for the same again.
_UNREACHABLE = (
    mailbridge.ConnectError,
    mailbridge.TLSError,
    mailbridge.AuthenticationFailed,
    mailbridge.GreetingRefused,
    mailbridge.HeloRefused,
)


class EmailBackend(BaseEmailBackend):
    """Sends Django's messages by SMTP and says what became of every recipient.

    Takes the arguments of Django's own SMTP backend in their order, and by keyword every option
    of `mailbridge.Relay.from_options` (`tls`, `url`, `ca_file`, `local_hostname`, ...) and
    `on_refused`. What is not given comes from EMAIL_* and MAILBRIDGE, unless there is an alias.
    Raises ImproperlyConfigured for a wrong option (InvalidMailer on Django 6.1 with an alias),
    ValueError for EMAIL_USE_TLS together with EMAIL_USE_SSL.

    After sending each message has a `delivery_report`, a `mailbridge.DeliveryReport`.
    """

    #: An instance may be kept and shared between threads, which take turns.
    cacheable = True

    def __init__(
        self,
        host: str | None = None,
        port: int | str | None = None,
        username: str | None = None,
        password: str | None = None,
        use_tls: bool | None = None,
        fail_silently: bool = False,
        use_ssl: bool | None = None,
        timeout: float | None = None,
        ssl_keyfile: str | os.PathLike[str] | None = None,
        ssl_certfile: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        own = {name: kwargs.pop(name) for name in conf.OWN_OPTIONS & kwargs.keys()}
        alias = kwargs.get("alias")
        ignored = {"alias", "_ignore_unknown_kwargs", *(kwargs.get("_ignore_unknown_kwargs") or ())}
        unknown = [name for name in kwargs if name not in ignored]
        if unknown and alias is not None:
            raise conf.misconfigured(conf.unknown_options(unknown), alias)
        super().__init__(**kwargs)
        # Before Django 6.1 the base class does not keep it.
        self.alias: str | None = alias
        self.fail_silently = fail_silently
        given = {
            "host": host,
            "port": port,
            "username": username,
            "password": password,
            "use_tls": use_tls,
            "use_ssl": use_ssl,
            "timeout": timeout,
            "ssl_keyfile": ssl_keyfile,
            "ssl_certfile": ssl_certfile,
        }
        config = conf.configure(alias, given, own)
        self.host = config.host
        self.port = config.port
        self.username = config.username
        self.password = config.password
        self.use_tls = config.use_tls
        self.use_ssl = config.use_ssl
        self.timeout = config.timeout
        self.ssl_keyfile = config.ssl_keyfile
        self.ssl_certfile = config.ssl_certfile
        self.on_refused = config.on_refused
        self.options = config.own
        # An OpenConnection, or whatever a subclass puts here: anything with smtplib's sendmail.
        self.connection: Any = None
        self._partial_connection: Any = None
        self._lock = threading.RLock()

    # What subclasses override.

    @property
    def connection_class(self) -> type[Any]:
        """The class for a connection of level 1. A subclass that changes it is connected by it."""
        return SMTP_SSL if self.use_ssl else SMTP

    @cached_property
    def ssl_context(self) -> ssl.SSLContext:
        """A TLS context of this instance's own, free to be changed. It verifies certificates.

        Raises ImproperlyConfigured for certificate files that cannot be used.
        """
        given = self.options.get("ssl_context")
        if given is not None:
            context: ssl.SSLContext = given() if callable(given) else given
            return context
        return conf.new_context(self)

    def prep_address(self, address: str, force_ascii: bool = True) -> str:
        """The bare address for the envelope; see `mailbridge_django.message.addr_spec`."""
        return addr_spec(address, force_ascii)

    # Opening and closing.

    def open(self) -> bool | None:
        """Connect, start TLS and log in, unless that was done.

        Returns True if a connection was made, False if there was one, None if that failed and
        `fail_silently` is set. Raises ConnectError, TLSError, AuthenticationFailed or another
        MailError; ImproperlyConfigured for an option that turns out to be wrong.
        """
        with self._lock:
            if self.connection:
                return False
            self._close_partial()
            try:
                self.connection = self._connect()
            except mailbridge.MailError as exc:
                error = exceptions.about(exc)
                if not self.fail_silently:
                    raise error from error.__cause__
                self._silenced(error)
                return None
            except OSError as exc:
                if not self.fail_silently:
                    raise
                self._silenced(exc)
                return None
            return True

    def close(self) -> None:
        """Say QUIT and close. Does nothing if nothing is open."""
        with self._lock:
            try:
                self._close_partial()
            finally:
                connection, self.connection = self.connection, None
                if connection is not None:
                    self._close_connection(connection)

    def _close_quietly(self) -> None:
        # RFC 5321 section 4.1.1.10: what was accepted stays so, whatever the answer to QUIT. To
        # raise for it would have the mail sent twice.
        try:
            self.close()
        except SMTPException as exc:
            logger.warning("after sending: %s", exc)

    def _close_partial(self) -> None:
        partial, self._partial_connection = self._partial_connection, None
        if partial is not None:
            self._close_connection(partial)

    def _close_connection(self, connection: Any) -> None:
        try:
            connection.quit()
        except (ssl.SSLError, SMTPServerDisconnected):
            # The server was first to close; nothing is lost by that.
            connection.close()
        except SMTPException:
            if not self.fail_silently:
                raise

    def _connect(self) -> Any:
        if type(self).connection_class is not EmailBackend.connection_class:
            return self._connect_by_class()
        context = self._own_context()
        relay = conf.relay_of(self, context)
        if context is not None and "allow_insecure_auth" not in self.options:
            # A context that does not verify is a decision of its author's, and made.
            relay = relay.using(allow_insecure_auth=relay.allow_insecure_auth or not relay.verifies)
        transport = Transport(relay, on_refused=self.on_refused)
        try:
            transport.open()
        except OptionError as exc:
            raise conf.wrong_option(exc, conf.django_options(self), self.alias) from exc
        return OpenConnection(transport)

    def _own_context(self) -> ssl.SSLContext | None:
        """The TLS context if somebody has made or changed it, else None: then one is shared."""
        if not (self.use_tls or self.use_ssl or self.options.get("tls")):
            return None
        overridden = type(self).ssl_context is not EmailBackend.ssl_context
        if overridden or "ssl_context" in vars(self) or "ssl_context" in self.options:
            return self.ssl_context
        return None

    def _connect_by_class(self) -> Any:
        """Connect as smtplib is used, with a `connection_class` of the subclass's own."""
        parameters: dict[str, Any] = {"local_hostname": conf.helo_name()}
        if self.timeout is not None:
            parameters["timeout"] = self.timeout
        if self.use_ssl:
            parameters["context"] = self.ssl_context
        partial = self.connection_class(self.host, self.port, **parameters)
        self._partial_connection = partial
        if self.use_tls and not self.use_ssl:
            partial.starttls(context=self.ssl_context)
        if self.username and self.password:
            partial.login(self.username, self.password)
        self._partial_connection = None
        return partial

    # Sending.

    def send_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        """Send messages over one connection; return how many were handed to the server.

        Every message is tried, whatever becomes of the others; those without recipients are
        passed over. Then the error is raised, or BatchError if there were several: the errors of
        `mailbridge_django.exceptions`, and the ValueError of an invalid message. With
        `fail_silently` a ValueError is still raised; a MailError is logged instead.
        """
        if not email_messages:
            return 0
        with self._lock:
            try:
                opened = self.open()
            except OSError as exc:
                self._none_sent(email_messages, exc)
                raise
            if not self.connection or opened is None:
                self._none_sent(email_messages, mailbridge.Disconnected("there is no connection"))
                return 0
            try:
                return self._send_each(email_messages)
            finally:
                if opened:
                    self._close_quietly()

    def _none_sent(self, messages: Iterable[EmailMessage], error: OSError) -> None:
        messages = list(messages)
        for message in messages:
            report = not_tried(message, error)
            _attach(message, report)
            if isinstance(error, exceptions.MailError) and len(messages) == 1:
                error.message, error.report = message, report

    def _send_each(self, messages: Iterable[EmailMessage]) -> int:
        sent = 0
        errors: list[Exception] = []
        reports: list[DeliveryReport] = []
        unreachable: mailbridge.MailError | None = None
        for message in messages:
            _attach(message, None)
            try:
                if unreachable is None:
                    sent += bool(self._send(message))
                else:
                    self._give_up(message, unreachable)
            except Exception as exc:
                # One bad message must not stop the rest: it is raised when they are sent.
                if getattr(message, "delivery_report", None) is None:
                    _attach(message, not_tried(message, exc))
                errors.append(exc)
            report = getattr(message, "delivery_report", None) or DeliveryReport({})
            reports.append(report)
            if isinstance(report.error, _UNREACHABLE):
                unreachable = report.error
        if len(errors) > 1:
            raise exceptions.BatchError(tuple(errors), tuple(reports)) from errors[0]
        if errors:
            raise errors[0]
        return sent

    def _send(self, email_message: EmailMessage) -> bool:
        """Send one message over the open connection, and put the report on it.

        Returns True if the server took it for at least one recipient. Raises as
        `send_messages` does.
        """
        if not any(email_message.recipients()):
            _attach(email_message, DeliveryReport({}))
            return False
        connection = self.connection
        ours = isinstance(connection, OpenConnection)
        mail = to_mail(
            email_message,
            smtputf8=ours and connection.takes_unicode,
            prepare=self.prep_address,
        )
        if not ours and self.on_refused is mailbridge.OnRefused.ABORT:
            raise conf.misconfigured(
                "on_refused='abort' needs a connection that mailbridge has opened; open() or"
                " connection_class of this backend is overridden.",
                self.alias,
            )
        report = attempt(connection, mail.envelope, mail.content)
        _attach(email_message, report)
        failure = report.failure(self.on_refused)
        if failure is None:
            warn_of_refused(report, self.on_refused)
        elif not isinstance(failure, mailbridge.MailError):
            raise failure
        else:
            error = exceptions.about(failure, email_message)
            if ours:
                error.located(transcript=connection.transcript)
            if not self.fail_silently:
                raise error from error.__cause__
            self._silenced(error)
        return bool(report.accepted)

    def _give_up(self, message: EmailMessage, because: mailbridge.MailError) -> None:
        """A message of a batch that is not tried any more, since there is no way to the server."""
        if not any(message.recipients()):
            return
        error = exceptions.about(copy.copy(because), message)
        error.report = not_tried(message, error)
        _attach(message, error.report)
        if not self.fail_silently:
            raise error
        self._silenced(error)

    def _silenced(self, error: Exception) -> None:
        logger.warning("not raised, since fail_silently is set: %s", error)


def _attach(message: EmailMessage, report: DeliveryReport | None) -> None:
    # Not everything in a batch is a message that takes attributes; that is its own error.
    with suppress(AttributeError):
        message.delivery_report = report  # type: ignore[attr-defined]
