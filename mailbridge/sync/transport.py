"""Transport: mails in, reports out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from typing import Self

from ..envelope import Address, Envelope
from ..errors import Disconnected, MailError, NotSupported, ResponseError, TLSError
from ..message import seven_bit
from ..options import TLS, Relay
from ..protocol import dialogue, transaction
from ..protocol.content import canonical
from ..protocol.sasl import Credentials
from ..protocol.session import Session
from ..protocol.transaction import MailTransaction
from ..report import DeliveryReport, OnRefused, RecipientResult, State
from ..sendmail import plan
from .connect import context_for, literal_of, open_socket
from .driver import Connection

logger = logging.getLogger("mailbridge")

Content = bytes | bytearray | memoryview | str


class Transport:
    """Sends mail through a relay. Safe to share between threads, which take turns.

    `relay` is a Relay or a URL. By default each call of `send` or `send_many` has a connection
    of its own; between `open()` and `close()`, or inside ``with``, one connection is kept, and
    replaced without a word if the server has closed it in the meantime.
    """

    def __init__(
        self, relay: Relay | str, *, on_refused: OnRefused | str = OnRefused.RAISE
    ) -> None:
        self.relay = Relay.from_url(relay) if isinstance(relay, str) else relay
        self.on_refused = OnRefused.parse(on_refused)
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._keep = False

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Transport({self.relay!r}, on_refused={str(self.on_refused)!r})"

    def open(self) -> bool:
        """Connect now and keep the connection. True if that was done, False if it was open.

        Raises ConnectError, TLSError, AuthenticationFailed or another MailError.
        """
        with self._lock:
            if self._connection is not None and self._connection.alive():
                return False
            self._connection = self._connect()
            self._keep = True
            return True

    def close(self) -> None:
        """Say QUIT and close, if a connection is open. Never raises: the mail is gone already."""
        with self._lock:
            connection, self._connection = self._connection, None
            self._keep = False
            if connection is not None:
                _quit(connection)

    def send(
        self,
        envelope: Envelope,
        content: Content,
        *,
        mail_options: Iterable[str] = (),
        rcpt_options: Iterable[str] = (),
        on_refused: OnRefused | str | None = None,
    ) -> DeliveryReport:
        """Send one mail and return the report on every recipient.

        Raises what `on_refused` says of refused recipients (RecipientsRefused,
        SomeRecipientsRefused), SenderRefused, MessageRefused, DeliveryInDoubt, ConnectError,
        TLSError, AuthenticationFailed, Disconnected: each with its `report`.
        """
        policy = self.on_refused if on_refused is None else OnRefused.parse(on_refused)
        report = self.attempt(
            envelope,
            content,
            mail_options=mail_options,
            rcpt_options=rcpt_options,
            on_refused=policy,
        )
        failure = report.failure(policy)
        if failure is not None:
            raise failure
        _warn_of_refused(report, policy)
        return report

    def send_many(
        self,
        mails: Iterable[tuple[Envelope, Content]],
        *,
        on_refused: OnRefused | str | None = None,
    ) -> Iterator[DeliveryReport]:
        """Send mails as they come, and yield a report for each, in their order.

        Nothing is raised for a mail that fails: its report says so, and `report.failure()` is
        the error. All go over one connection, and a new one when that is lost.
        """
        policy = self.on_refused if on_refused is None else OnRefused.parse(on_refused)
        with self._lock:
            kept = self._keep
            self._keep = True
            try:
                for envelope, content in mails:
                    report = self.attempt(envelope, content, on_refused=policy)
                    if report.failure(policy) is None:
                        _warn_of_refused(report, policy)
                    yield report
            finally:
                self._keep = kept
                if not kept:
                    self.close()

    def attempt(
        self,
        envelope: Envelope,
        content: Content,
        *,
        mail_options: Iterable[str] = (),
        rcpt_options: Iterable[str] = (),
        on_refused: OnRefused = OnRefused.RAISE,
    ) -> DeliveryReport:
        """Like `send`, but every failure is in the report. Raises for invalid input only."""
        data = canonical(content)
        mail_options, rcpt_options = tuple(mail_options), tuple(rcpt_options)
        with self._lock:
            reused = self._connection is not None
            report = self._try(envelope, data, mail_options, rcpt_options, on_refused)
            if reused and _nothing_handed_over(report):
                # The server had closed the idle connection: a fresh one, once.
                report = self._try(envelope, data, mail_options, rcpt_options, on_refused)
                report.attempts = 2
        return report

    def _try(
        self,
        envelope: Envelope,
        content: bytes,
        mail_options: tuple[str, ...],
        rcpt_options: tuple[str, ...],
        on_refused: OnRefused,
    ) -> DeliveryReport:
        try:
            if self._connection is None:
                self._connection = self._connect()
            connection = self._connection
            mail = _fitted(connection.session, envelope, content, mail_options, rcpt_options)
            mail.all_or_nothing = on_refused is OnRefused.ABORT
            report = connection.run(transaction.deliver(connection.session, mail))
        except MailError as error:
            report = _not_attempted(envelope, error)
        self._settle(report)
        return report

    def _settle(self, report: DeliveryReport) -> None:
        """Note where the mail went, and let go of a connection that is not to be kept."""
        report.relay = self.relay.address
        connection = self._connection
        if report.error is not None:
            report.error.report = report
            report.error.located(host=self.relay.address)
            if connection is not None:
                report.error.located(transcript=connection.session.transcript.lines())
        if connection is not None and not (self._keep and connection.session.usable):
            self._connection = None
            _quit(connection)

    def _connect(self) -> Connection:
        """A connection that is ready for MAIL: greeted, in TLS as asked, logged in."""
        relay = self.relay
        context = context_for(relay)
        sock = open_socket(relay.host, relay.port, relay.timeouts.connect, relay.source_address)
        session = Session(lmtp=relay.lmtp, ignore_extensions=relay.ignore_extensions)
        connection = Connection(
            sock,
            session,
            relay.timeouts,
            relay.address,
            server_hostname=relay.server_hostname or relay.host,
            context=context,
        )
        name = relay.local_hostname or literal_of(sock)
        try:
            connection.run(dialogue.greet(session, implicit_tls=relay.tls is TLS.IMPLICIT))
            connection.run(dialogue.hello(session, name))
            self._start_tls(connection, name)
            self._log_in(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _start_tls(self, connection: Connection, name: str) -> None:
        session, mode = connection.session, self.relay.tls
        offered = session.extensions.offers("STARTTLS")
        if mode is TLS.STARTTLS and not offered:
            error = TLSError("the server does not offer STARTTLS, which is required here")
            error.advice = "Use tls='implicit' if this port speaks TLS at once, or another port"
            error.located(host=connection.host, phase="starttls")
            raise error
        if offered and mode in (TLS.STARTTLS, TLS.OPPORTUNISTIC):
            try:
                connection.run(dialogue.starttls(session))
            except ResponseError as refused:
                error = TLSError(f"the server refused STARTTLS: {refused.reply}")
                error.reply = refused.reply
                error.retryable = refused.retryable
                error.located(host=connection.host, phase="starttls")
                raise error from refused
            connection.run(dialogue.hello(session, name))

    def _log_in(self, connection: Connection) -> None:
        relay, session = self.relay, connection.session
        if relay.username is None or relay.password is None:
            return
        verified = session.tls and relay.verifies
        connection.run(
            dialogue.login(
                session,
                Credentials(relay.username, relay.password),
                confidential=verified or relay.is_loopback,
                allow_insecure=relay.allow_insecure_auth,
            )
        )


def _fitted(
    session: Session,
    envelope: Envelope,
    content: bytes,
    mail_options: tuple[str, ...],
    rcpt_options: tuple[str, ...],
) -> MailTransaction:
    """The transaction for what this server offers: SMTPUTF8 where needed, 7bit where it must."""
    utf8 = session.extensions.offers("SMTPUTF8")
    unreachable: list[Address] = []
    if envelope.needs_smtputf8:
        if utf8 and "SMTPUTF8" not in mail_options:
            mail_options = (*mail_options, "SMTPUTF8")
        elif not utf8 and envelope.reverse_path and envelope.reverse_path.needs_smtputf8:
            raise NotSupported(
                f"the sender {envelope.sender} needs SMTPUTF8, which the server does not offer"
            )
        elif not utf8:
            unreachable = [a for a in envelope.forward_paths if a.needs_smtputf8]
    if not session.extensions.offers("8BITMIME"):
        content = seven_bit(content)
    mail = plan(session, envelope, content, mail_options, rcpt_options)
    mail.settle(unreachable, State.REFUSED, None, reason="needs SMTPUTF8, not offered here")
    return mail


def _nothing_handed_over(report: DeliveryReport) -> bool:
    return isinstance(report.error, Disconnected) and len(report.not_attempted) == len(
        report.recipients
    )


def _not_attempted(envelope: Envelope, error: MailError) -> DeliveryReport:
    reason = str(error)
    results = {
        a: RecipientResult(a, State.NOT_ATTEMPTED, None, None, reason) for a in envelope.recipients
    }
    return DeliveryReport(results, envelope.sender, error=error)


def _quit(connection: Connection) -> None:
    if connection.session.usable:
        try:
            connection.run(dialogue.quit_(connection.session))
        except MailError:
            logger.debug("%s: no answer to QUIT", connection.host)
    connection.close()


def _warn_of_refused(report: DeliveryReport, policy: OnRefused) -> None:
    if policy is OnRefused.RAISE_IF_ALL:
        for result in report:
            if result.state is not State.ACCEPTED:
                logger.warning("%s: recipient not reached: %s", report.relay, result)
