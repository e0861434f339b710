"""Every error that mailbridge raises, each a subclass of its ``smtplib`` namesake.

::

    ValueError
        InvalidInput                    wrong before anything was sent
            NonASCII                    a text where only ASCII can go; also UnicodeEncodeError
            AddressError                an address that cannot become a command
                NonASCIIAddress         ... without SMTPUTF8; also NonASCII
            OptionError                 an unknown, malformed or contradictory option
                PortError               a port that is no number; also OSError, as in smtplib
    smtplib.SMTPException (an OSError)
        MailError                       alias SMTPException
            NotSupported                alias SMTPNotSupportedError
            SendStopped                 a hook of the application's stopped the send
            ConnectError                no connection; also ConnectionError
                HostNotFound            also socket.gaierror
                ConnectRefused          also ConnectionRefusedError
                ConnectTimeout          also TimeoutError
                    PoolTimeout         no connection of the pool's became free
            TLSError                    also ssl.SSLError
                CertificateError        also ssl.SSLCertVerificationError
            Disconnected                alias SMTPServerDisconnected
                ReplyTimeout            also TimeoutError
                ProtocolViolation       a reply that cannot be trusted; also SMTPResponseException
                DeliveryInDoubt         content handed over, reply never seen
                    DeliveryInDoubtTimeout   also TimeoutError
            ResponseError               alias SMTPResponseException
                GreetingRefused         alias SMTPConnectError
                HeloRefused             alias SMTPHeloError
                AuthenticationFailed    alias SMTPAuthenticationError
                SenderRefused           alias SMTPSenderRefused
                MessageRefused          alias SMTPDataError
            RecipientsRefused           alias SMTPRecipientsRefused
                SomeRecipientsRefused   the others were delivered to
            BatchError                  several messages of one batch failed

Every MailError answers: ``retryable`` (may the same mail be sent again without the risk of a
second copy, and with hope), ``transient`` (was it a 4yz reply), ``session_usable`` (may the
connection be kept), ``reply``, ``phase``, ``host``, ``report`` and ``transcript``. All of them
survive pickle and deepcopy.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .advice import usual

if TYPE_CHECKING:
    from .protocol.reply import Reply
    from .report import DeliveryReport


def printable(text: bytes) -> str:
    """`text` decoded, with what could move a terminal's cursor or fake a log line escaped."""
    decoded = text.decode("utf-8", "backslashreplace").replace("\n", " ")
    if decoded.isprintable():
        return decoded
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in decoded)


class InvalidInput(ValueError):
    """Input that cannot be sent as it is. Raised before anything is sent."""

    report: DeliveryReport | None = None


class AddressError(InvalidInput):
    """An address that is not one mailbox of RFC 5321 section 4.1.2."""


class NonASCII(InvalidInput, UnicodeEncodeError):
    """A text outside ASCII where only ASCII can be sent."""

    def __init__(self, message: str, text: str = "") -> None:
        start = next((i for i, char in enumerate(text) if ord(char) > 127), 0)
        UnicodeEncodeError.__init__(self, "ascii", text, start, start + 1, message)
        self.message = message
        self.text = text

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.message, self.text))


class NonASCIIAddress(AddressError, NonASCII):
    """A local part outside ASCII where SMTPUTF8 (RFC 6531) is not in use."""


class OptionError(InvalidInput):
    """An option that is unknown, malformed, or contradicts another."""


class PortError(OptionError, OSError):
    """A port that is no number between 0 and 65535. ``smtplib`` raises OSError here."""


def _blank(cls: type[MailError], args: tuple[object, ...]) -> MailError:
    error = cls.__new__(cls)
    error.args = args
    return error


class MailError(smtplib.SMTPException):
    """Base of all errors of a session with a server.

    `host` is "name:port", `phase` one of `Phase`'s words, `advice` what to do next.
    """

    retryable: bool = False
    session_usable: bool = False
    phase: str | None = None
    host: str | None = None
    advice: str | None = None
    reply: Reply | None = None
    report: DeliveryReport | None = None
    transcript: tuple[str, ...] = ()

    def located(
        self, *, host: str | None = None, phase: str | None = None, transcript: tuple[str, ...] = ()
    ) -> None:
        """Fill in what the raiser did not know; what is already there stays."""
        self.host = self.host or host
        self.phase = self.phase or phase
        self.transcript = self.transcript or transcript
        code = None if self.reply is None else self.reply.code
        self.advice = self.advice or usual(type(self), retryable=self.retryable, code=code)

    @property
    def transient(self) -> bool:
        """True after a 4yz reply (RFC 5321 section 4.2.1)."""
        return self.reply is not None and self.reply.transient

    def _what(self) -> str:
        return " ".join(str(part) for part in self.args if part not in (None, ""))

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.host, self.phase) if part)
        text = f"{self._what()} ({where})" if where else self._what()
        return f"{text}. {self.advice}" if self.advice else text

    def __reduce__(self) -> tuple[Any, ...]:
        # A third element, not an argument: an error and its report may point at each other.
        state = dict(self.__dict__)
        if self.errno is not None:
            state |= {"errno": self.errno, "strerror": self.strerror}
        return (_blank, (type(self), self.args), state)


class NotSupported(MailError, smtplib.SMTPNotSupportedError):
    """The server does not offer what was asked for; nothing was sent."""

    session_usable = True


class SendStopped(MailError):
    """A hook of the application's, its cause, stopped the send: the server did not get the mail."""

    session_usable = True


class ConnectError(MailError, ConnectionError):
    """No connection: the network, the name service or the server said no."""

    retryable = True


class HostNotFound(ConnectError, socket.gaierror):
    """The host name does not resolve."""


class ConnectRefused(ConnectError, ConnectionRefusedError):
    """Nothing listens on this port."""


class ConnectTimeout(ConnectError, TimeoutError):
    """No connection within the connect time-out."""


class PoolTimeout(ConnectTimeout):
    """All connections that the pool may have are in use, and none became free in time."""


class TLSError(MailError, ssl.SSLError):
    """The TLS handshake failed, or TLS was required and not to be had."""


class CertificateError(TLSError, ssl.SSLCertVerificationError):
    """The certificate is not one that was asked for: wrong name, expired, unknown issuer."""


class Disconnected(MailError, smtplib.SMTPServerDisconnected):
    """The connection is gone. Nothing was accepted that was not reported as accepted."""

    retryable = True


class ReplyTimeout(Disconnected, TimeoutError):
    """No complete reply in time. The connection was closed, so that no late reply is mispaired."""


class ProtocolViolation(Disconnected, smtplib.SMTPResponseException):
    """A reply that cannot be paired or trusted; the session was ended (RFC 5321 section 4.3.2).

    `smtp_code` is -1 for a line that is no reply, 500 for one that is too long, as in smtplib.
    """

    smtp_error: bytes

    def __init__(self, message: str, code: int = -1, error: bytes = b"") -> None:
        super(Exception, self).__init__(message)
        self.smtp_code = code
        self.smtp_error = error


class DeliveryInDoubt(Disconnected):
    """All of the content was handed over and the reply never came (RFC 1047).

    The server may have accepted it. Sending again may deliver a second copy.
    """

    retryable = False


class DeliveryInDoubtTimeout(DeliveryInDoubt, TimeoutError):
    """In doubt because no reply came in time after the final dot."""


class ResponseError(MailError, smtplib.SMTPResponseException):
    """A reply that is not the one hoped for. `smtp_code`, `smtp_error` as in smtplib."""

    def __init__(self, code: int, error: bytes | str, *, reply: Reply | None = None) -> None:
        super(Exception, self).__init__(code, error)
        self.smtp_code = code
        self.smtp_error = error
        self.reply = reply
        self.retryable = 400 <= code < 500
        # RFC 5321 section 3.8: after a 421 the server closes the connection.
        self.session_usable = code != 421

    @classmethod
    def of(cls, reply: Reply) -> ResponseError:
        """This error for that reply."""
        return cls(reply.code, reply.message, reply=reply)

    def _what(self) -> str:
        text = self.smtp_error
        if isinstance(text, str):
            text = text.encode("utf-8", "backslashreplace")
        return f"{self.smtp_code} {printable(text)}".rstrip()


class GreetingRefused(ResponseError, smtplib.SMTPConnectError):
    """The server greeted with something other than 220."""

    def __init__(self, code: int, error: bytes | str, *, reply: Reply | None = None) -> None:
        super().__init__(code, error, reply=reply)
        self.session_usable = False


class HeloRefused(ResponseError, smtplib.SMTPHeloError):
    """Neither EHLO nor HELO was accepted."""


class AuthenticationFailed(ResponseError, smtplib.SMTPAuthenticationError):
    """The server did not accept the credentials, or could not check them now (454).

    `remembered_at` says when it did not, where this process did not ask again.
    """

    remembered_at: datetime | None = None


class SenderRefused(ResponseError, smtplib.SMTPSenderRefused):
    """The server did not accept the reverse-path; nobody got the mail."""

    def __init__(
        self, code: int, error: bytes | str, sender: str | None, *, reply: Reply | None = None
    ) -> None:
        super().__init__(code, error, reply=reply)
        self.args = (code, error, sender)  # type: ignore[assignment]
        # None is the null reverse-path; typeshed knows only smtplib's str.
        self.sender = sender  # type: ignore[assignment]

    def _what(self) -> str:
        return f"sender <{self.sender or ''}> refused: {super()._what()}"


class MessageRefused(ResponseError, smtplib.SMTPDataError):
    """The server did not accept the content; nobody got the mail."""


class RecipientsRefused(MailError, smtplib.SMTPRecipientsRefused):
    """Recipients were refused.

    `recipients` maps each address that did not get the mail to (code, text as bytes);
    `accepted` names those that did get it, so that nobody sends to them twice.
    `args[0]` holds those that the server refused by name: after a 421 the rest are in
    `recipients` only.
    """

    session_usable = True

    def __init__(
        self,
        recipients: Mapping[str, tuple[int, bytes]],
        *,
        named: Mapping[str, tuple[int, bytes]] | None = None,
        accepted: tuple[str, ...] = (),
    ) -> None:
        super(Exception, self).__init__(dict(recipients if named is None else named))
        self.recipients = dict(recipients)
        self.accepted = accepted
        codes = [code for code, _ in self.recipients.values()]
        # Never for those who have it: sending all of it again would reach them twice.
        self.retryable = self.transient and not accepted
        self.session_usable = 421 not in codes

    @property
    def transient(self) -> bool:
        """True when every refusal was a 4yz reply."""
        codes = [code for code, _ in self.recipients.values()]
        return bool(codes) and all(400 <= code < 500 for code in codes)

    def _what(self) -> str:
        refused = "; ".join(
            f"<{address}> {code} {printable(text)}"
            for address, (code, text) in self.recipients.items()
        )
        if not self.accepted:
            return f"nobody got the mail; recipients refused: {refused}"
        delivered = ", ".join(f"<{address}>" for address in self.accepted)
        return f"recipients refused: {refused}; accepted for: {delivered}"


class SomeRecipientsRefused(RecipientsRefused):
    """Some recipients were refused; the mail was delivered to the others (`accepted`)."""


class BatchError(MailError):
    """More than one message of a batch failed.

    `errors` are the errors, `reports` one DeliveryReport for each message of the batch, in order.
    """

    def __init__(
        self, errors: tuple[MailError, ...], reports: tuple[DeliveryReport, ...] = ()
    ) -> None:
        super(Exception, self).__init__(errors, reports)
        self.errors = errors
        self.reports = reports
        self.retryable = all(getattr(error, "retryable", False) for error in errors)

    def _what(self) -> str:
        first = "; ".join(str(error) for error in self.errors[:3])
        more = f"; and {len(self.errors) - 3} more" if len(self.errors) > 3 else ""
        return f"{len(self.errors)} of {len(self.reports)} messages failed: {first}{more}"


# smtplib's names, for code that says ``import mailbridge as smtplib``.
SMTPException = MailError
SMTPNotSupportedError = NotSupported
SMTPServerDisconnected = Disconnected
SMTPResponseException = ResponseError
SMTPConnectError = GreetingRefused
SMTPHeloError = HeloRefused
SMTPAuthenticationError = AuthenticationFailed
SMTPSenderRefused = SenderRefused
SMTPDataError = MessageRefused
SMTPRecipientsRefused = RecipientsRefused
