"""Transport: mails in, reports out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from typing import Self

from ..envelope import Address, Envelope
from ..errors import Disconnected, InvalidInput, MailError, NotSupported, SenderRefused
from ..message import message_id, seven_bit
from ..options import Relay
from ..protocol import dialogue, transaction
from ..protocol.command import check_parameters
from ..protocol.content import canonical
from ..protocol.session import Session
from ..protocol.transaction import MailTransaction
from ..report import DeliveryReport, OnRefused, RecipientResult, State
from ..sendmail import plan
from .driver import Connection
from .opening import open_connection

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
        self._batches = 0

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
            self._keep = True
            if self._connection is not None:
                if self._connection.alive():
                    return False
                self._connection.close()
                self._connection = None
            try:
                self._connection = open_connection(self.relay)
            except BaseException:
                self._keep = False
                raise
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
            self._batches += 1
        try:
            # Between two mails the lock is free: whoever consumes us may take his time.
            for envelope, content in mails:
                try:
                    report = self.attempt(envelope, content, on_refused=policy)
                except InvalidInput as error:
                    report = _not_attempted(envelope, error)
                if report.failure(policy) is None:
                    _warn_of_refused(report, policy)
                yield report
        finally:
            with self._lock:
                self._batches -= 1
                if not (self._keep or self._batches):
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
        # UTF-8 in a parameter is judged when it is known whether SMTPUTF8 is used.
        mail_options = check_parameters(mail_options, smtputf8=True)
        rcpt_options = check_parameters(rcpt_options, smtputf8=True)
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
                self._connection = open_connection(self.relay)
            connection = self._connection
            mail = _fitted(connection.session, envelope, content, mail_options, rcpt_options)
            mail.all_or_nothing = on_refused is OnRefused.ABORT
            report = connection.run(transaction.deliver(connection.session, mail))
        except MailError as error:
            report = _not_attempted(envelope, error)
        except BaseException:
            self._release()
            raise
        self._describe(report, content)
        self._release()
        return report

    def _describe(self, report: DeliveryReport, content: bytes) -> None:
        """Add to a report, and to its error, what only we know."""
        report.relay = self.relay.address
        report.message_id = message_id(content)
        if isinstance(report.error, MailError):
            report.error.report = report
            report.error.located(host=self.relay.address)
            if self._connection is not None:
                report.error.located(transcript=self._connection.session.transcript.lines())

    def _release(self) -> None:
        """Let go of the connection, unless it is to be kept and fit for it."""
        connection = self._connection
        kept = self._keep or self._batches
        if connection is not None and not (kept and connection.session.usable):
            self._connection = None
            _quit(connection)


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
    error = report.error
    # A 421 to MAIL is an idle time-out of the server's that met our command half-way.
    closed = isinstance(error, Disconnected) or (
        isinstance(error, SenderRefused) and error.smtp_code == 421
    )
    return closed and len(report.not_attempted) == len(report.recipients)


def _not_attempted(envelope: Envelope, error: MailError | InvalidInput) -> DeliveryReport:
    reason = str(error)
    results = {
        a: RecipientResult(a, State.NOT_ATTEMPTED, None, None, reason) for a in envelope.recipients
    }
    report = DeliveryReport(results, envelope.sender, error=error)
    error.report = report
    return report


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
