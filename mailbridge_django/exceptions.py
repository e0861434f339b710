"""The core's errors with the Django message that they are about.

Each is a subclass of the core's error of the same name, so of its ``smtplib`` namesake and of
OSError. Everything that the backend raises for a mail that was not delivered is a `MailError`,
except a ValueError for an invalid message and an ImproperlyConfigured for an invalid option.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import mailbridge
from mailbridge.namesake import as_namesake

if TYPE_CHECKING:
    from django.core.mail import EmailMessage

__all__ = [
    "AuthenticationFailed",
    "BatchError",
    "CertificateError",
    "ConnectError",
    "ConnectRefused",
    "ConnectTimeout",
    "DeliveryInDoubt",
    "DeliveryInDoubtTimeout",
    "Disconnected",
    "GreetingRefused",
    "HeloRefused",
    "HostNotFound",
    "MailError",
    "MessageRefused",
    "NotSupported",
    "PoolTimeout",
    "ProtocolViolation",
    "RecipientsRefused",
    "ReplyTimeout",
    "ResponseError",
    "SendStopped",
    "SenderRefused",
    "SomeRecipientsRefused",
    "TLSError",
]


class MailError(mailbridge.MailError):
    """Base of these errors. `message` is the Django message, None where it was not about one.

    `report` is its DeliveryReport, the same as ``message.delivery_report``.
    """

    message: EmailMessage | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, args, state = super().__reduce__()
        if state.get("message") is not None:
            state["message"] = _without_backend(state["message"])
        return rebuild, args, state


def _without_backend(message: EmailMessage) -> EmailMessage:
    """The message, or a copy of it if it holds the backend, which holds locks and a password."""
    attributes = vars(message)
    held = [name for name in ("connection", "_connection") if attributes.get(name) is not None]
    if not held:
        return message
    message = copy.copy(message)
    vars(message).update(dict.fromkeys(held))
    return message


class NotSupported(MailError, mailbridge.NotSupported):
    """The server does not offer what the mail or an option needs."""


class SendStopped(MailError, mailbridge.SendStopped):
    """`before_final_dot` stopped the send; nobody got the mail."""


class ConnectError(MailError, mailbridge.ConnectError):
    """No connection."""


class HostNotFound(ConnectError, mailbridge.HostNotFound):
    """The host name does not resolve."""


class ConnectRefused(ConnectError, mailbridge.ConnectRefused):
    """Nothing listens on this port."""


class ConnectTimeout(ConnectError, mailbridge.ConnectTimeout):
    """No connection within the connect time-out."""


class PoolTimeout(ConnectTimeout, mailbridge.PoolTimeout):
    """All connections that the pool may have are in use, and none became free in time."""


class TLSError(MailError, mailbridge.TLSError):
    """The TLS handshake failed, or TLS was required and not to be had."""


class CertificateError(TLSError, mailbridge.CertificateError):
    """The server's certificate is not one to trust."""


class Disconnected(MailError, mailbridge.Disconnected):
    """The connection was lost before the mail was handed over."""


class ReplyTimeout(Disconnected, mailbridge.ReplyTimeout):
    """No complete reply in time."""


class ProtocolViolation(Disconnected, mailbridge.ProtocolViolation):
    """A reply that cannot be trusted."""


class DeliveryInDoubt(Disconnected, mailbridge.DeliveryInDoubt):
    """The mail was handed over and the reply never came: sending again may send it twice."""


class DeliveryInDoubtTimeout(DeliveryInDoubt, mailbridge.DeliveryInDoubtTimeout):
    """In doubt because no reply came in time."""


class ResponseError(MailError, mailbridge.ResponseError):
    """A reply that is not the one hoped for."""


class GreetingRefused(ResponseError, mailbridge.GreetingRefused):
    """The server greeted with something other than 220."""


class HeloRefused(ResponseError, mailbridge.HeloRefused):
    """Neither EHLO nor HELO was accepted."""


class AuthenticationFailed(ResponseError, mailbridge.AuthenticationFailed):
    """The server did not accept the credentials."""


class SenderRefused(ResponseError, mailbridge.SenderRefused):
    """The server did not accept the sender; nobody got the mail."""


class MessageRefused(ResponseError, mailbridge.MessageRefused):
    """The server did not accept the content; nobody got the mail."""


class RecipientsRefused(MailError, mailbridge.RecipientsRefused):
    """Recipients were refused, and nobody got the mail."""


class SomeRecipientsRefused(RecipientsRefused, mailbridge.SomeRecipientsRefused):
    """Some recipients were refused; `accepted` names those that got the mail."""


class BatchError(MailError, mailbridge.BatchError):
    """More than one message of one `send_messages` call failed; every one of them was tried.

    `errors` are the errors, in the order of their messages: a MailError with its `message`, or
    a ValueError where a message was invalid. `reports` has a DeliveryReport for each message of
    the batch.
    """

    def __init__(
        self,
        errors: tuple[Exception, ...],
        reports: tuple[mailbridge.DeliveryReport, ...] = (),
    ) -> None:
        super(Exception, self).__init__(errors, reports)
        self.errors = errors  # type: ignore[assignment]  # wider: invalid messages are in it too
        self.reports = reports
        self.retryable = all(getattr(error, "retryable", False) for error in errors)


_OURS: dict[type[mailbridge.MailError], type[MailError]] = {
    getattr(mailbridge, name): globals()[name] for name in __all__
}


def about(error: mailbridge.MailError, message: EmailMessage | None = None) -> MailError:
    """`error` as the class of this module that stands for it, with `message`."""
    if isinstance(error, MailError):
        ours = error
    else:
        cls = next(_OURS[base] for base in type(error).__mro__ if base in _OURS)
        ours = as_namesake(error, cls)
    if message is not None:
        ours.message = message
    return ours
