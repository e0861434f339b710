"""mailbridge: an SMTP client that tells you who got your mail.

Three levels over one engine: `SMTP`, `SMTP_SSL`, `LMTP` (one session, smtplib's interface);
`Transport` (messages in, reports out); and the packages `mailbridge_django` and `mailbridge_flask`.
"""

from typing import TYPE_CHECKING

from .dkim import Signer
from .envelope import Address, Envelope
from .errors import (
    AddressError,
    AuthenticationFailed,
    BatchError,
    CertificateError,
    ConnectError,
    ConnectRefused,
    ConnectTimeout,
    DeliveryInDoubt,
    DeliveryInDoubtTimeout,
    Disconnected,
    GreetingRefused,
    HeloRefused,
    HostNotFound,
    InvalidInput,
    MailError,
    MessageRefused,
    NonASCII,
    NonASCIIAddress,
    NotSupported,
    OptionError,
    PoolTimeout,
    PortError,
    ProtocolViolation,
    RecipientsRefused,
    ReplyTimeout,
    ResponseError,
    SenderRefused,
    SendStopped,
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPDataError,
    SMTPException,
    SMTPHeloError,
    SMTPNotSupportedError,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
    SomeRecipientsRefused,
    TLSError,
)
from .esmtp import DSN, DeliverBy, Esmtp
from .hooks import Handover
from .memory import forget_relays
from .options import TLS, PoolOptions, Relay, RetryPolicy, Timeouts
from .protocol.channel import Channel
from .protocol.content import Binary
from .protocol.reply import EnhancedStatus, Reply
from .protocol.sasl import Credentials, Mechanism
from .report import DeliveryReport, OnRefused, Phase, RecipientResult, State
from .secret import Secret
from .sendmail import quoteaddr, quotedata
from .sync.pool import close_pools
from .sync.smtp import LMTP, SMTP, SMTP_SSL
from .sync.transport import Transport

if TYPE_CHECKING:
    from .aio import AsyncLMTP, AsyncSMTP, AsyncTransport

# asyncio takes longer to import than all of this, so it is when one of these is asked for.
_OF_ASYNCIO = frozenset({"AsyncLMTP", "AsyncSMTP", "AsyncTransport"})


def __getattr__(name: str) -> object:
    if name in _OF_ASYNCIO:
        from . import aio

        return getattr(aio, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [  # noqa: RUF022 - in the order of a table of contents
    # one session
    "SMTP",
    "SMTP_SSL",
    "LMTP",
    "quoteaddr",
    "quotedata",
    "AsyncSMTP",
    "AsyncLMTP",
    # mails in, reports out
    "Transport",
    "AsyncTransport",
    "close_pools",
    "forget_relays",
    # values
    "Address",
    "Envelope",
    "Esmtp",
    "DSN",
    "DeliverBy",
    "Binary",
    "Handover",
    "Relay",
    "TLS",
    "Timeouts",
    "PoolOptions",
    "RetryPolicy",
    "Secret",
    "Signer",
    # SASL mechanisms of your own
    "Mechanism",
    "Credentials",
    "Channel",
    # results
    "DeliveryReport",
    "RecipientResult",
    "State",
    "Phase",
    "OnRefused",
    "Reply",
    "EnhancedStatus",
    # errors
    "AddressError",
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
    "InvalidInput",
    "MailError",
    "MessageRefused",
    "NonASCII",
    "NonASCIIAddress",
    "NotSupported",
    "OptionError",
    "PoolTimeout",
    "PortError",
    "ProtocolViolation",
    "RecipientsRefused",
    "ReplyTimeout",
    "ResponseError",
    "SendStopped",
    "SenderRefused",
    "SomeRecipientsRefused",
    "TLSError",
    # errors by smtplib's names
    "SMTPAuthenticationError",
    "SMTPConnectError",
    "SMTPDataError",
    "SMTPException",
    "SMTPHeloError",
    "SMTPNotSupportedError",
    "SMTPRecipientsRefused",
    "SMTPResponseException",
    "SMTPSenderRefused",
    "SMTPServerDisconnected",
]
