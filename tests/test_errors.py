"""Errors: each its smtplib namesake's subclass, with what the caller needs; all of them travel."""

from __future__ import annotations

import copy
import pickle
import smtplib
import socket
import ssl
from collections.abc import Callable

import pytest

import mailbridge
from mailbridge import (
    AddressError,
    AuthenticationFailed,
    BatchError,
    CertificateError,
    ConnectError,
    ConnectRefused,
    ConnectTimeout,
    DeliveryInDoubt,
    DeliveryInDoubtTimeout,
    DeliveryReport,
    Disconnected,
    GreetingRefused,
    HeloRefused,
    HostNotFound,
    InvalidInput,
    MailError,
    MessageRefused,
    NonASCIIAddress,
    NotSupported,
    OptionError,
    PoolTimeout,
    PortError,
    ProtocolViolation,
    RecipientResult,
    RecipientsRefused,
    Reply,
    ReplyTimeout,
    ResponseError,
    SenderRefused,
    SendStopped,
    SomeRecipientsRefused,
    State,
    TLSError,
)

REFUSED = {"b@x.org": (550, b"5.1.1 No"), "c@x.org": (451, b"Later")}
REPLY = Reply(554, (b"5.7.1 No", b"really"))
EXAMPLES: list[Exception] = [
    InvalidInput("no"),
    AddressError("no"),
    NonASCIIAddress("needs SMTPUTF8", "jörg"),
    OptionError("host is missing"),
    PortError("nonnumeric port 'x'"),
    MailError("no"),
    NotSupported("no AUTH"),
    SendStopped("sent before"),
    ConnectError("unreachable"),
    HostNotFound("unknown host"),
    ConnectRefused("refused"),
    ConnectTimeout("too late"),
    PoolTimeout("all in use"),
    TLSError("handshake"),
    CertificateError("expired"),
    Disconnected("gone"),
    ReplyTimeout("too late"),
    ProtocolViolation("not a reply", -1, b"HTTP"),
    DeliveryInDoubt("who knows"),
    DeliveryInDoubtTimeout("who knows"),
    ResponseError.of(REPLY),
    GreetingRefused.of(REPLY),
    HeloRefused.of(REPLY),
    AuthenticationFailed(535, b"Wrong"),
    SenderRefused(550, b"No", "a@x.org"),
    SenderRefused(550, b"No", None, reply=REPLY),
    MessageRefused.of(REPLY),
    RecipientsRefused(REFUSED),
    RecipientsRefused(REFUSED, named={"b@x.org": REFUSED["b@x.org"]}),
    SomeRecipientsRefused(REFUSED, accepted=("d@x.org",)),
    BatchError((MessageRefused.of(REPLY), Disconnected("gone"))),
]
by_name = pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
travel = pytest.mark.parametrize(
    "travel",
    [
        lambda error: pickle.loads(pickle.dumps(error, 2)),
        lambda error: pickle.loads(pickle.dumps(error)),
        copy.copy,
        copy.deepcopy,
    ],
)


def test_every_error_is_among_the_examples() -> None:
    public = {getattr(mailbridge, name) for name in mailbridge.__all__}
    errors = {c for c in public if isinstance(c, type) and issubclass(c, Exception)}
    assert {cls.__name__ for cls in errors} - {type(e).__name__ for e in EXAMPLES} <= {"NonASCII"}


@pytest.mark.parametrize(
    "name",
    [name for name in smtplib.__all__ if name.startswith("SMTP") and "Err" in name]
    + ["SMTPException", "SMTPServerDisconnected", "SMTPSenderRefused", "SMTPRecipientsRefused"],
)
def test_each_is_a_subclass_of_its_namesake(name: str) -> None:
    ours, theirs = getattr(mailbridge, name), getattr(smtplib, name)
    assert issubclass(ours, theirs)
    assert issubclass(ours, MailError)


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (NonASCIIAddress, (UnicodeEncodeError, AddressError)),
        (PortError, (OSError, ValueError)),
        (ConnectError, (ConnectionError, smtplib.SMTPException)),
        (HostNotFound, (socket.gaierror,)),
        (ConnectRefused, (ConnectionRefusedError,)),
        (ConnectTimeout, (TimeoutError,)),
        (TLSError, (ssl.SSLError, smtplib.SMTPException)),
        (CertificateError, (ssl.SSLCertVerificationError,)),
        (ReplyTimeout, (TimeoutError, smtplib.SMTPServerDisconnected)),
        (ProtocolViolation, (smtplib.SMTPResponseException, smtplib.SMTPServerDisconnected)),
        (DeliveryInDoubt, (smtplib.SMTPServerDisconnected,)),
        (DeliveryInDoubtTimeout, (DeliveryInDoubt, TimeoutError)),
        (SomeRecipientsRefused, (smtplib.SMTPRecipientsRefused,)),
        (InvalidInput, (ValueError,)),
    ],
)
def test_other_bases(error: type[Exception], bases: tuple[type[Exception], ...]) -> None:
    assert all(issubclass(error, base) for base in bases)
    if not issubclass(error, ValueError):
        assert issubclass(error, OSError)


@by_name
@travel
def test_an_error_travels(error: Exception, travel: Callable[[Exception], Exception]) -> None:
    twin = travel(error)
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert repr(twin.args) == repr(error.args)
    for name in ("smtp_code", "smtp_error", "sender", "recipients", "accepted", "retryable"):
        assert getattr(twin, name, None) == getattr(error, name, None)
    for name in ("session_usable", "transient", "reply", "advice", "errno", "host", "phase"):
        assert getattr(twin, name, None) == getattr(error, name, None)


@travel
def test_a_located_error_keeps_what_it_knows(travel: Callable[[Exception], Exception]) -> None:
    error = ConnectRefused("refused")
    error.errno = 111
    error.advice = "Check the port"
    error.located(host="h:25", phase="connect", transcript=("C: EHLO x",))
    twin = travel(error)
    assert isinstance(twin, ConnectRefused)
    assert (twin.errno, twin.host, twin.phase) == (111, "h:25", "connect")
    assert twin.transcript == ("C: EHLO x",)
    assert str(twin) == "refused (h:25, connect). Check the port"


@travel
def test_an_error_and_its_report_point_at_each_other(
    travel: Callable[[Exception], Exception],
) -> None:
    error = MessageRefused.of(REPLY)
    result = RecipientResult("b@x.org", State.REFUSED, None, REPLY)
    error.report = DeliveryReport({"b@x.org": result}, "a@x.org", reply=REPLY, error=error)
    twin = travel(error)
    assert isinstance(twin, MessageRefused)
    assert twin.report is not None
    assert twin.report.refused == ("b@x.org",)
    if travel is not copy.copy:
        assert twin.report.error is twin
    batch = BatchError((error,), (error.report,))
    assert str(travel(batch)) == str(batch)


def test_located_fills_in_what_is_missing() -> None:
    error = Disconnected("gone")
    error.located(host="a:25", phase="mail")
    error.located(host="b:25", phase="rcpt", transcript=("x",))
    assert (error.host, error.phase, error.transcript) == ("a:25", "mail", ("x",))


@by_name
def test_the_text_is_one_readable_line(error: Exception) -> None:
    text = str(error)
    assert text
    assert "\n" not in text
    assert not text.startswith("[Errno")


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (MessageRefused.of(REPLY), ["554", "5.7.1 No", "really"]),
        (SenderRefused(550, b"No", "a@x.org"), ["<a@x.org>", "550 No"]),
        (SenderRefused(550, b"No", None), ["<>"]),
        (ResponseError(550, "text"), ["550 text"]),
        (RecipientsRefused(REFUSED), ["<b@x.org> 550 5.1.1 No", "<c@x.org> 451", "nobody"]),
        (SomeRecipientsRefused(REFUSED, accepted=("d@x.org",)), ["accepted for: <d@x.org>"]),
        (BatchError((Disconnected("gone"),) * 5), ["gone", "and 2 more"]),
        (ResponseError(550, b"\xff\xfe"), ["550", "\\xff"]),
    ],
)
def test_the_text_says_what_happened(error: MailError, parts: list[str]) -> None:
    assert all(part in str(error) for part in parts), str(error)


@pytest.mark.parametrize("text", [b"a\r\nb", b"\x1b[2J", b"\x00", b"a\nb"])
def test_the_text_of_a_reply_moves_no_cursor(text: bytes) -> None:
    errors: list[Exception] = [
        ResponseError(550, text),
        SenderRefused(550, text, "a@x.org"),
        RecipientsRefused({"b@x.org": (550, text)}),
    ]
    assert all(str(error).isprintable() for error in errors)


@pytest.mark.parametrize(
    ("error", "retryable", "usable"),
    [
        (ResponseError(451, b""), True, True),
        (ResponseError(550, b""), False, True),
        (ResponseError(421, b""), True, False),
        (GreetingRefused(451, b""), True, False),
        (RecipientsRefused({"b": (451, b"")}), True, True),
        (RecipientsRefused(REFUSED), False, True),
        (RecipientsRefused({"b": (421, b"")}), True, False),
        (Disconnected("gone"), True, False),
        (ReplyTimeout("late"), True, False),
        (ConnectRefused("no"), True, False),
        (DeliveryInDoubt("?"), False, False),
        (DeliveryInDoubtTimeout("?"), False, False),
        (NotSupported("no"), False, True),
        (SendStopped("no"), False, True),
        (CertificateError("no"), False, False),
        (BatchError((ResponseError(451, b""), Disconnected("gone"))), True, False),
        (BatchError((ResponseError(451, b""), DeliveryInDoubt("?"))), False, False),
    ],
)
def test_what_may_be_done_next(error: MailError, retryable: bool, usable: bool) -> None:
    assert (error.retryable, error.session_usable) == (retryable, usable)


def test_smtplibs_attributes() -> None:
    error = MessageRefused.of(REPLY)
    assert (error.smtp_code, error.smtp_error) == (554, b"5.7.1 No\nreally")
    assert error.args == (554, b"5.7.1 No\nreally")
    assert (error.reply, error.transient) == (REPLY, False)
    sender = SenderRefused(550, b"No", "a@x.org")
    assert (sender.sender, sender.args) == ("a@x.org", (550, b"No", "a@x.org"))
    recipients = RecipientsRefused(REFUSED)
    assert (recipients.recipients, recipients.args) == (REFUSED, (REFUSED,))
    violation = ProtocolViolation("no reply", 500, b"Line too long.")
    assert (violation.smtp_code, violation.smtp_error) == (500, b"Line too long.")


def test_existing_except_clauses_work() -> None:
    for error in (e for e in EXAMPLES if isinstance(e, MailError)):
        with pytest.raises(smtplib.SMTPException):
            raise error
        with pytest.raises(OSError):  # noqa: PT011
            raise error
