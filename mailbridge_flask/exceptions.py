"""The core's errors with the message they are about, and the errors of a message itself.

Each error of a delivery is a subclass of its namesake in ``mailbridge``, so also of the one in
``smtplib``, and carries ``message``, the Flask message::

    try:
        mail.send(message)
    except SomeRecipientsRefused as error:      # or mailbridge.RecipientsRefused, or smtplib's
        error.message, error.accepted, error.report
    except MailError as error:                  # everything else that can happen on the way
        if error.retryable: ...

What is wrong before anything is sent is a ValueError: `BadHeaderError`, `MissingAddress`,
``mailbridge.AddressError``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mailbridge
from mailbridge.namesake import as_namesake

if TYPE_CHECKING:
    from .message import Message


class BadHeaderError(mailbridge.InvalidInput):
    """A line break, a control character or another thing that no header field can hold."""


class MissingAddress(mailbridge.AddressError, AssertionError):
    """A message without a sender or without recipients. Flask-Mail raises AssertionError here."""


class MailError(mailbridge.MailError):
    """Base of all errors of a delivery. `message` is the Flask message."""

    message: Message | None = None


class NotSupported(MailError, mailbridge.NotSupported):
    """The server does not offer what the message needs."""


class SendStopped(MailError, mailbridge.SendStopped):
    """MAIL_BEFORE_FINAL_DOT stopped the send; nobody got the message."""


class ConnectError(MailError, mailbridge.ConnectError):
    """No connection to the mail server."""


class HostNotFound(ConnectError, mailbridge.HostNotFound):
    """MAIL_SERVER does not resolve."""


class ConnectRefused(ConnectError, mailbridge.ConnectRefused):
    """Nothing listens on MAIL_PORT."""


class ConnectTimeout(ConnectError, mailbridge.ConnectTimeout):
    """No connection within MAIL_CONNECT_TIMEOUT."""


class PoolTimeout(ConnectTimeout, mailbridge.PoolTimeout):
    """MAIL_MAX_CONNECTIONS are in use, and none became free within MAIL_POOL_TIMEOUT."""


class TLSError(MailError, mailbridge.TLSError):
    """TLS was required and is not to be had."""


class CertificateError(TLSError, mailbridge.CertificateError):
    """The server's certificate is not one to trust."""


class Disconnected(MailError, mailbridge.Disconnected):
    """The connection was lost; nobody got the message."""


class ReplyTimeout(Disconnected, mailbridge.ReplyTimeout):
    """The server did not answer within MAIL_TIMEOUT; nobody got the message."""


class ProtocolViolation(Disconnected, mailbridge.ProtocolViolation):
    """The server answered something that is no SMTP."""


class DeliveryInDoubt(Disconnected, mailbridge.DeliveryInDoubt):
    """The content was handed over and the reply never came. Sending again may send it twice."""


class DeliveryInDoubtTimeout(DeliveryInDoubt, mailbridge.DeliveryInDoubtTimeout):
    """In doubt because the last reply did not come in time."""


class ResponseError(MailError, mailbridge.ResponseError):
    """A reply that is not the one hoped for."""


class GreetingRefused(ResponseError, mailbridge.GreetingRefused):
    """The server does not want to talk to us."""


class HeloRefused(ResponseError, mailbridge.HeloRefused):
    """The server did not accept our name; see MAIL_LOCAL_HOSTNAME."""


class AuthenticationFailed(ResponseError, mailbridge.AuthenticationFailed):
    """The server did not accept MAIL_USERNAME and MAIL_PASSWORD."""


class SenderRefused(ResponseError, mailbridge.SenderRefused):
    """The server did not accept the sender; nobody got the message."""


class MessageRefused(ResponseError, mailbridge.MessageRefused):
    """The server did not accept the content; nobody got the message."""


class RecipientsRefused(MailError, mailbridge.RecipientsRefused):
    """Recipients were refused; `accepted` names those that got the message, if any did."""


class SomeRecipientsRefused(RecipientsRefused, mailbridge.SomeRecipientsRefused):
    """Some recipients were refused; the others got the message (`accepted`)."""


class BatchError(MailError, mailbridge.BatchError):
    """Several messages of one batch failed."""


def _namesakes() -> dict[type[mailbridge.MailError], type[MailError]]:
    ours = [item for item in globals().values() if isinstance(item, type)]
    return {
        getattr(mailbridge, cls.__name__): cls
        for cls in ours
        if issubclass(cls, MailError) and hasattr(mailbridge, cls.__name__)
    }


_NAMESAKES = _namesakes()


def about(error: mailbridge.MailError, message: Any) -> mailbridge.MailError:
    """`error` as its namesake here, with `message`. One without a namesake gets `message` only."""
    cls = _NAMESAKES.get(type(error))
    if cls is None:
        error.message = message  # type: ignore[attr-defined]
        return error
    ours = as_namesake(error, cls)
    ours.message = message
    if ours.advice:
        from .config import in_our_names  # Imported here: it needs the errors above.

        ours.advice = in_our_names(ours.advice)
    return ours
