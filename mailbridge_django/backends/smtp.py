"""Django's SMTP backend over mailbridge."""

from __future__ import annotations

import logging
import os
import ssl
import threading
from collections.abc import Iterable
from smtplib import SMTPException, SMTPServerDisconnected
from typing import Any

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.utils.functional import cached_property

import mailbridge
from mailbridge import DeliveryReport, OptionError, Transport, forks
from mailbridge.deadline import Deadline
from mailbridge.outgoing import warn_of_refused

from .. import conf, exceptions, signals
from ..batch import Batch, attach, attempted, untried
from ..connection import (
    OpenConnection,
    connected_by_class,
    may_pipeline,
    may_still_go,
    only_ours,
    route,
)
from ..fastpath import Common
from ..message import Mail, addr_spec, to_mail
from ..single import goes_alone, methods, send_alone

logger = logging.getLogger("mailbridge")


class EmailBackend(BaseEmailBackend):
    """Sends Django's messages by SMTP and says what became of every recipient.

    Takes the arguments of Django's own SMTP backend in their order, and by keyword every option
    of `mailbridge.Relay.from_options` (`tls`, `url`, `ca_file`, ...) and of its
    `TRANSPORT_OPTIONS` (`on_refused`, `tries`, `relays`, `deadline`, ...). What is not given comes
    from EMAIL_* and MAILBRIDGE, unless there is an alias.
    Raises ImproperlyConfigured for a wrong option (InvalidMailer on Django 6.1 with an alias),
    ValueError for EMAIL_USE_TLS together with EMAIL_USE_SSL.

    A message may have an `esmtp`, a `mailbridge.Esmtp` that counts before the option. After
    sending each message has a `delivery_report`, a `mailbridge.DeliveryReport`.
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
        own = {name: kwargs.pop(name) for name in [*kwargs] if name in conf.OWN_OPTIONS}
        alias = kwargs.get("alias")
        conf.refuse_unknown(kwargs)
        super().__init__(**kwargs)
        # Before Django 6.1 the base class does not keep it.
        self.alias: str | None = alias
        self.fail_silently = fail_silently
        given = {
            "host": host, "port": port, "username": username, "password": password,
            "use_tls": use_tls, "use_ssl": use_ssl, "timeout": timeout,
            "ssl_keyfile": ssl_keyfile, "ssl_certfile": ssl_certfile,
        }  # fmt: skip
        self._config = config = conf.configure(alias, given, own)
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
        self.retry = config.retry
        self.relays = config.relays
        self.round_robin = config.round_robin
        self.deadline = config.deadline
        self.max_recipients = config.max_recipients
        self.esmtp = config.esmtp
        self.on_report = config.on_report
        self.before_final_dot = config.before_final_dot
        self.after_reply = config.after_reply
        self.options = dict(config.own)
        # An OpenConnection, or whatever a subclass puts here: anything with smtplib's sendmail.
        self.connection: Any = None
        self._partial_connection: Any = None
        # What open() did not raise, since fail_silently is set.
        self._not_opened: OSError | None = None
        self._lock = threading.RLock()
        forks.watch(self)

    @property
    def mailer(self) -> str:
        """The name of this mailer in reports and logs: its alias, "default" without one."""
        return self.alias or "default"

    # What subclasses override.

    @property
    def connection_class(self) -> type[Any]:
        """The class for a connection of level 1. A subclass that changes it is connected by it."""
        return mailbridge.SMTP_SSL if self.use_ssl else mailbridge.SMTP

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

    def after_fork(self) -> None:
        """In a forked child: the thread that may have held the lock does not exist here."""
        self._lock = threading.RLock()

    def open(self) -> bool | None:
        """Get a connection that is logged in, unless there is one: one that is kept, or a new one.

        Returns True if that was done, False if there was one, None if that failed and
        `fail_silently` is set. Raises ConnectError, TLSError, AuthenticationFailed or another
        MailError; ImproperlyConfigured for an option that turns out to be wrong.
        """
        with self._lock:
            self._not_opened = None
            if self.connection:
                return False
            self._close_partial()
            try:
                self.connection = self._connect()
            except OSError as exc:
                error = exceptions.about(exc) if isinstance(exc, mailbridge.MailError) else exc
                if not self.fail_silently:
                    raise error from error.__cause__
                self._not_opened = error
                self._silenced(error)
                return None
            return True

    def close(self) -> None:
        """Let go of the connection; the process keeps it for a while. Nothing if none is open."""
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
        if isinstance(connection, OpenConnection) and connection.give_back():
            return
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
            return connected_by_class(self, conf.helo_name())
        context = self._own_context()
        transport = Transport(self._relays(context), **route(self))
        try:
            transport.open()
        except OptionError as exc:
            raise conf.wrong_option(exc, conf.django_options(self), self.alias) from exc
        except mailbridge.MailError as exc:
            if not may_still_go(transport, exc):
                raise
        # Nobody else could use a connection that was made with a context of this backend's own.
        return OpenConnection(transport, private=context is not None)

    def all_relays(self) -> list[mailbridge.Relay]:
        """Where this backend sends to: its server, and those that it goes on to.

        Raises ImproperlyConfigured, also for a certificate file that cannot be read.
        """
        return self._relays(self._own_context())

    def _relays(self, context: ssl.SSLContext | None) -> list[mailbridge.Relay]:
        relay = conf.relay_of(self, context)
        if relay.ssl_context is not None and "allow_insecure_auth" not in self.options:
            # A context that does not verify is a decision of its author's, and made.
            relay = relay.using(allow_insecure_auth=relay.allow_insecure_auth or not relay.verifies)
        name = relay.local_hostname
        others = [r.using(local_hostname=r.local_hostname or name) for r in self.relays]
        return [relay, *(other.treating_content_as(relay) for other in others)]

    def _own_context(self) -> ssl.SSLContext | None:
        """The TLS context if somebody has made or changed it, else None: then one is shared."""
        if not (self.use_tls or self.use_ssl or self.options.get("tls")):
            return None
        overridden = type(self).ssl_context is not EmailBackend.ssl_context
        if overridden or "ssl_context" in vars(self):
            return self.ssl_context
        return None

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
            if goes_alone(self, email_messages, _OURS):
                return send_alone(self, *email_messages)
            deadline = None if self.deadline is None else Deadline.after(self.deadline)
            try:
                opened = self.open()
            except OSError as exc:
                self._none_sent(email_messages, exc)
                raise
            if not self.connection or opened is None:
                error = self._not_opened or mailbridge.Disconnected("there is no connection")
                self._none_sent(email_messages, error)
                return 0
            if opened and isinstance(self.connection, OpenConnection):
                # The first message has waited for the connection.
                self.connection.transport.resume(deadline)
            try:
                batch = Batch(self)
                if self._is_plain():
                    if not opened:
                        self.connection.renew()
                    batch.pipelined(email_messages, self.connection)
                else:
                    batch.one_by_one(email_messages)
                return batch.finish()
            finally:
                if opened:
                    self._close_quietly()

    def _none_sent(self, messages: Iterable[EmailMessage], error: OSError) -> None:
        messages = list(messages)
        for message in messages:
            report = untried(self, message, error)
            if isinstance(error, exceptions.MailError) and len(messages) == 1:
                error.message, error.report = message, report

    def _is_plain(self) -> bool:
        """True if no subclass and no test has a hand in how a message is sent."""
        overridden = type(self)._send is not _SEND or "_send" in vars(self)
        return not overridden and may_pipeline(self.connection)

    def _send(self, email_message: EmailMessage) -> bool:
        """Send one message over the open connection, and put the report on it.

        Returns True if the server took it for at least one recipient. Raises as
        `send_messages` does. `send_messages` calls it where it is overridden.
        """
        mail = self.prepare(email_message)
        if mail is None:
            return False
        connection = self.connection
        if not isinstance(connection, OpenConnection):
            option = only_ours(self, mail.envelope)
            if option is not None:
                raise conf.misconfigured(
                    f"{option} needs a connection that mailbridge has opened; open() or"
                    " connection_class of this backend is overridden.",
                    self.alias,
                )
        report = attempted(self, mail)
        warn_of_refused(report, self.on_refused)
        return self.settle(email_message, report)

    async def asend_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        """`send_messages` in an event loop, over connections that the loop keeps. No threads.

        What a subclass does in `open` or `_send` has no part in it.
        """
        from ..asending import send_messages

        return await send_messages(self, email_messages or ())

    def prepare(
        self,
        email_message: EmailMessage,
        common: Common | None = None,
        smtputf8: bool | None = None,
    ) -> Mail | None:
        """What is sent for a message, None for nothing: no recipients, or a receiver's wish.

        Raises ValueError, and what a receiver of `pre_send` raises.
        """
        may_send = signals.may_send(type(self), email_message)
        recipients = [*filter(None, email_message.recipients())] if may_send else []
        if not recipients:
            attach(email_message, DeliveryReport({}))
            return None
        if smtputf8 is None:
            connection = self.connection
            smtputf8 = isinstance(connection, OpenConnection) and connection.takes_unicode
        return to_mail(
            email_message,
            recipients,
            smtputf8=smtputf8,
            prepare=self.prep_address,
            common=common,
        )

    def settle(self, email_message: EmailMessage, report: DeliveryReport) -> bool:
        """Put the report on the message, and raise or log what `on_refused` says of it.

        Returns True if the server took it for at least one recipient.
        """
        attach(email_message, report)
        if report.error is None and report.recipients and report.all_accepted:
            if signals.post_send.receivers:
                signals.tell(type(self), email_message, report, None)
            return True
        failure = report.failure(self.on_refused)
        if isinstance(failure, mailbridge.MailError):
            failure = exceptions.about(failure, email_message)
        signals.tell(type(self), email_message, report, failure)
        if isinstance(failure, exceptions.MailError):
            self.raise_or_log(failure)
        elif failure is not None:
            raise failure
        return bool(report.accepted)

    def raise_or_log(self, error: exceptions.MailError) -> None:
        """Raise the error, unless `fail_silently` is set."""
        if not self.fail_silently:
            raise error from error.__cause__
        self._silenced(error)

    def _silenced(self, error: Exception) -> None:
        logger.warning("not raised, since fail_silently is set: %s", error)


_SEND, _OURS = EmailBackend._send, methods(EmailBackend)
