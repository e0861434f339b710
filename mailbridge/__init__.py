"""mailbridge: an SMTP client that tells you who got your mail.

Three levels over one engine: `SMTP`, `SMTP_SSL`, `LMTP` (one session, smtplib's interface);
`Transport` (messages in, reports out); and the packages `mailbridge_django` and `mailbridge_flask`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .aio import AsyncLMTP, AsyncSMTP, AsyncTransport
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

# A name is loaded when it is first asked for: one session takes no pool and no policy, and asyncio
# alone takes longer to import than all the rest.
# This is where those are that are no errors.
_HOMES = {
    "SMTP": "sync.smtp",
    "SMTP_SSL": "sync.smtp",
    "LMTP": "sync.smtp",
    "quoteaddr": "sendmail",
    "quotedata": "sendmail",
    "AsyncSMTP": "aio",
    "AsyncLMTP": "aio",
    "Transport": "sync.transport",
    "AsyncTransport": "aio",
    "close_pools": "sync.pool",
    "forget_relays": "memory",
    "Address": "envelope",
    "Envelope": "envelope",
    "Esmtp": "esmtp",
    "DSN": "esmtp",
    "DeliverBy": "esmtp",
    "Binary": "protocol.content",
    "Handover": "hooks",
    "Relay": "options",
    "TLS": "options",
    "Timeouts": "options",
    "PoolOptions": "options",
    "RetryPolicy": "options",
    "Secret": "secret",
    "Signer": "dkim",
    "Mechanism": "protocol.sasl",
    "Credentials": "protocol.sasl",
    "Channel": "protocol.channel",
    "DeliveryReport": "report",
    "RecipientResult": "report",
    "State": "report",
    "Phase": "report",
    "OnRefused": "report",
    "Reply": "protocol.reply",
    "EnhancedStatus": "protocol.reply",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f".{_HOMES.get(name, 'errors')}", __name__)
    # Found without asking from now on.
    value: object = globals().setdefault(name, getattr(home, name))
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
