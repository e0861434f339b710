"""What `EmailBackend.connection` is while it is open: a transport with smtplib.SMTP's names.

And the other way round: what became of a mail, from what any object with a `sendmail` method of
smtplib's says of it.
"""

from __future__ import annotations

import contextlib
import smtplib
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import mailbridge
from mailbridge import DeliveryReport, Envelope, OnRefused, Transport, policy
from mailbridge.convert import boolean
from mailbridge.message import message_id
from mailbridge.protocol.content import Buffer
from mailbridge.render import Rendered
from mailbridge.report import Phase, RecipientResult, State

if TYPE_CHECKING:
    from mailbridge import SMTP, Esmtp
    from mailbridge.sync.driver import Connection

    from .backends.smtp import EmailBackend

Answer = tuple[int, bytes]


class Refused(dict[str, Answer]):
    """What `sendmail` returns, the refused recipients; with the whole `report`."""

    def __init__(self, refused: Mapping[str, Answer], report: DeliveryReport) -> None:
        super().__init__(refused)
        self.report = report


# What changes nothing about a session. After anything else it is not for the next user.
_HARMLESS = ("noop", "sock", "has_extn", "esmtp_features", "does_esmtp", "ehlo_resp")


class OpenConnection:
    """An open transport that looks like an `smtplib.SMTP` that is connected and logged in.

    `sendmail` goes through the transport, which replaces a connection that the server has closed
    in the meantime. Everything else (`noop`, `docmd`, `sock`, `has_extn`, `set_debuglevel`, ...)
    is done on the session of the moment and raises SMTPServerDisconnected if there is none.
    """

    def __init__(self, transport: Transport, *, private: bool = False) -> None:
        self.transport = transport
        #: True once something may have been done to the session that the next user must not meet.
        self.touched = False
        self._private = private
        self._took_unicode = True
        self._debuglevel = 0
        self._client: tuple[Connection | None, SMTP] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.transport.relay.address}>"

    @property
    def timeout(self) -> float | None:
        """Seconds for each reply; None waits for ever."""
        return self.transport.relay.timeouts.reply

    def sendmail(
        self,
        from_addr: str | None,
        to_addrs: str | Sequence[str],
        msg: str | bytes | Rendered | Buffer,
        mail_options: Iterable[str] = (),
        rcpt_options: Iterable[str] = (),
        *,
        esmtp: Esmtp | None = None,
    ) -> Refused:
        """Send one mail. Returns the refused recipients, {address: (code, text)}.

        If nothing is raised, at least one got the mail. Raises SMTPRecipientsRefused if nobody
        did, and the other errors of `Transport.send`, each with its `report`.
        """
        report = self.transport.attempt(
            Envelope(from_addr or None, to_addrs, esmtp),
            msg,
            mail_options=mail_options,
            rcpt_options=rcpt_options,
            on_refused=self.transport.on_refused,
        )
        failure = report.failure(OnRefused.RAISE_IF_ALL)
        if failure is not None:
            failure.report = report
            raise failure
        some = report.failure()
        refused = some.recipients if isinstance(some, mailbridge.RecipientsRefused) else {}
        return Refused(refused, report)

    def renew(self) -> None:
        """Take another connection, if the server has closed this one. Errors are told later."""
        if self.transport.connection is not None:
            with contextlib.suppress(mailbridge.MailError):
                self.transport.open()

    def send_many(
        self, mails: Iterable[tuple[Envelope, Rendered | Buffer]]
    ) -> Generator[DeliveryReport]:
        """Send mails as they come, pipelined, and yield a report for each, in their order."""
        # The batch has the connection for as long as it lasts.
        self._took_unicode = self.takes_unicode
        yield from self.transport.send_many(mails)

    @property
    def takes_unicode(self) -> bool:
        """False if the server is known to take no local part outside ASCII (RFC 6531)."""
        connection = self.transport.connection
        if connection is None or not connection.open:
            return self._took_unicode
        return connection.session.extensions.offers("SMTPUTF8")

    def set_debuglevel(self, debuglevel: int) -> None:
        """Print the dialogue to stderr, as smtplib does; credentials are masked."""
        self._debuglevel = debuglevel
        self.transport.listener = self._show if debuglevel else None
        if self.transport.connection is not None:
            self.transport.connection.session.transcript.listener = self.transport.listener

    def give_back(self) -> bool:
        """Let go of the connection: it may carry other mail. False if it must be closed instead."""
        connection = self.transport.connection
        if connection is not None and connection.open and (self.touched or self._private):
            return False
        self.transport.close()
        return True

    def quit(self) -> Answer:
        """Say QUIT and close. Returns the reply. Raises SMTPServerDisconnected if none comes."""
        try:
            return self._session().quit()
        finally:
            self.transport.close()

    def close(self) -> None:
        """Close without QUIT."""
        self._session().close()
        self.transport.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self._session(), name)
        if name not in _HARMLESS:
            self.touched = True
        return found

    def _session(self) -> SMTP:
        """The client of level 1 for the connection that the transport holds at the moment."""
        connection = self.transport.connection
        if self._client is None or self._client[0] is not connection:
            relay = self.transport.relay
            kind = mailbridge.LMTP if relay.lmtp else mailbridge.SMTP
            name = relay.local_hostname or "localhost"
            if connection is None:
                client = kind(local_hostname=name)
            else:
                client = kind.over(connection, local_hostname=name)
            self._client = connection, client
        return self._client[1]

    def _show(self, side: str, lines: list[str]) -> None:
        now = [time.strftime("%H:%M:%S")] if self._debuglevel > 1 else []
        for line in lines:
            print(*now, "send:" if side == "C" else "reply:", repr(line), file=sys.stderr)


#: What tests and subclasses put something else in place of; then mails go through it, one by one.
_SENDMAIL = OpenConnection.sendmail


def may_pipeline(connection: Any) -> bool:
    """True if `connection` is ours and nobody has a hand in how it sends."""
    return takes_bodies(connection) and not connection.touched


def takes_bodies(connection: Any) -> bool:
    """True if the `sendmail` of `connection` is ours, which takes a content that is no bytes."""
    return (
        type(connection) is OpenConnection and "sendmail" not in vars(connection) and is_untouched()
    )


def is_untouched() -> bool:
    """True if nobody has put something in the place of how a connection of ours sends."""
    return OpenConnection.sendmail is _SENDMAIL


def may_still_go(transport: Transport, error: mailbridge.MailError) -> bool:
    """True if a mail may be tried although there is no connection: the next try may find one."""
    return transport.retry.tries > 1 and policy.may_retry(DeliveryReport({}, error=error))


def only_ours(backend: EmailBackend, envelope: Envelope) -> str | None:
    """The option in use that a connection with smtplib's interface knows nothing of, if any."""
    wanted = {
        "on_refused='abort'": backend.on_refused is OnRefused.ABORT,
        "esmtp": backend.esmtp or envelope.esmtp,
        "strict": boolean("strict", backend.options.get("strict", False)),
        "dkim": any(name.startswith("dkim") for name in backend.options),
        "deadline": backend.deadline,
        "max_recipients": backend.max_recipients,
        "before_final_dot": backend.before_final_dot,
        "after_reply": backend.after_reply,
    }
    return next((option for option, given in wanted.items() if given), None)


def attempt(connection: Any, envelope: Envelope, content: Rendered | Buffer) -> DeliveryReport:
    """Send through `connection.sendmail` and report, whatever kind of object it is.

    Raises nothing that `sendmail` says of the mail: it is the report's `error`. An OSError that
    is no SMTPException, and any other exception, comes through.
    """
    if takes_bodies(connection):
        transport: Transport = connection.transport
        return transport.attempt(envelope, content, on_refused=transport.on_refused)
    sender, recipients = envelope.sender, list(envelope.recipients)
    given: Rendered | Buffer | bytes = content
    changes: tuple[str, ...] = ()
    try:
        # What was put in the place of ours takes bytes, as smtplib's does.
        given = bytes(content)
        if not isinstance(connection, OpenConnection):
            # Not every sendmail knows how to encode a domain, or declares what is 8bit.
            sender, *recipients = (path.decode() for path in _paths(envelope))
            given, changes = _fitted(connection, bytes(given))
        asked = {} if envelope.esmtp is None else {"esmtp": envelope.esmtp}
        outcome = connection.sendmail(sender or "", recipients, given, **asked)
    except smtplib.SMTPException as exc:
        report = _report_of_error(exc, sender, recipients)
    else:
        if isinstance(outcome, Refused):
            return outcome.report
        refused = outcome if isinstance(outcome, dict) else {}
        report = DeliveryReport(_results(recipients, refused, State.ACCEPTED), sender)
    report.changes = report.changes or changes
    report.message_id = report.message_id or message_id(next(content.pieces(), b""))
    return report


def _paths(envelope: Envelope) -> Iterator[bytes]:
    yield b"" if envelope.reverse_path is None else envelope.reverse_path.path()
    yield from (address.path() for address in envelope.forward_paths)


def _fitted(connection: Any, content: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The content as the server takes it, if `connection` can say that, and what was changed."""
    # Imported here: our own connections do this themselves.
    from mailbridge.rewriting import re_encoded

    eight_bit = True
    if not content.isascii():
        with contextlib.suppress(AttributeError):
            connection.ehlo_or_helo_if_needed()
            eight_bit = connection.has_extn("8bitmime")
    return re_encoded(content, eight_bit=eight_bit)


def _report_of_error(
    exc: smtplib.SMTPException, sender: str | None, recipients: Sequence[str]
) -> DeliveryReport:
    report = getattr(exc, "report", None)
    if isinstance(report, DeliveryReport):
        return report
    if isinstance(exc, smtplib.SMTPRecipientsRefused):
        results = _results(recipients, exc.recipients, State.NOT_ATTEMPTED)
        return DeliveryReport(results, sender)
    error = exc if isinstance(exc, mailbridge.MailError) else _as_ours(exc)
    results = _results(recipients, {}, State.NOT_ATTEMPTED, str(error))
    if isinstance(error, mailbridge.ResponseError):
        refused = (error.smtp_code, error.reply.message if error.reply is not None else b"")
        results = _results(recipients, dict.fromkeys(recipients, refused), State.NOT_ATTEMPTED)
    elif isinstance(error, mailbridge.DeliveryInDoubt):
        results = _results(recipients, {}, State.IN_DOUBT, str(error))
    report = DeliveryReport(results, sender, error=error)
    error.report = report
    return report


def _as_ours(exc: smtplib.SMTPException) -> mailbridge.MailError:
    """The core's error for one of smtplib's own."""
    error: mailbridge.MailError
    if isinstance(exc, smtplib.SMTPResponseException):
        text = _bytes(exc.smtp_error)
        reply = mailbridge.Reply(exc.smtp_code, tuple(text.split(b"\n")))
        if isinstance(exc, smtplib.SMTPSenderRefused):
            error = mailbridge.SenderRefused(reply.code, text, exc.sender, reply=reply)
        else:
            kinds: tuple[tuple[type, type[mailbridge.ResponseError]], ...] = (
                (smtplib.SMTPDataError, mailbridge.MessageRefused),
                (smtplib.SMTPHeloError, mailbridge.HeloRefused),
                (smtplib.SMTPAuthenticationError, mailbridge.AuthenticationFailed),
                (smtplib.SMTPException, mailbridge.ResponseError),
            )
            ours = next(ours for theirs, ours in kinds if isinstance(exc, theirs))
            error = ours(reply.code, text, reply=reply)
    elif isinstance(exc, smtplib.SMTPServerDisconnected):
        # smtplib does not say how far it came, so this may have been after the final dot.
        error = mailbridge.DeliveryInDoubt(f"delivery in doubt: {exc}")
        error.advice = "The message may have been delivered; sending it again may deliver it twice"
    elif isinstance(exc, smtplib.SMTPNotSupportedError):
        error = mailbridge.NotSupported(str(exc))
    else:
        error = mailbridge.MailError(str(exc))
    error.__cause__ = exc
    return error


def _results(
    recipients: Iterable[str],
    refused: Mapping[str, Answer],
    otherwise: State,
    reason: str | None = None,
) -> dict[str, RecipientResult]:
    results = {}
    for address in recipients:
        if address not in refused:
            results[address] = RecipientResult(address, otherwise, None, None, reason)
            continue
        code, text = refused[address]
        reply = mailbridge.Reply(code, tuple(_bytes(text).split(b"\n")))
        state = State.DEFERRED if reply.transient else State.REFUSED
        results[address] = RecipientResult(address, state, Phase.RCPT, reply)
    return results


def _bytes(text: object) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode()


def connected_by_class(backend: EmailBackend, local_hostname: str | None) -> Any:
    """Connect as smtplib is used, with a `connection_class` of the subclass's own."""
    parameters: dict[str, Any] = {"local_hostname": local_hostname}
    if backend.timeout is not None:
        parameters["timeout"] = backend.timeout
    if backend.use_ssl:
        parameters["context"] = backend.ssl_context
    partial = backend.connection_class(backend.host, backend.port, **parameters)
    backend._partial_connection = partial
    if backend.use_tls and not backend.use_ssl:
        partial.starttls(context=backend.ssl_context)
    if backend.username and backend.password:
        partial.login(backend.username, backend.password)
    backend._partial_connection = None
    return partial


def route(backend: EmailBackend) -> dict[str, Any]:
    """What a transport, blocking or not, is told of this backend's options besides its relays."""
    return {
        "on_refused": backend.on_refused,
        "retry": backend.retry,
        "round_robin": backend.round_robin,
        "deadline": backend.deadline,
        "max_recipients": backend.max_recipients,
        "esmtp": backend.esmtp,
        "on_report": backend.on_report,
        "name": backend.mailer,
        "before_final_dot": backend.before_final_dot,
        "after_reply": backend.after_reply,
    }
