"""Mail for Flask, by Flask-Mail's names; says who got it. ``mail = Mail(app)``."""

try:
    from .config import Config
    from .connection import Connection
    from .exceptions import (
        BadHeaderError,
        BatchError,
        DeliveryInDoubt,
        MailError,
        MessageRefused,
        MissingAddress,
        RecipientsRefused,
        SenderRefused,
        SomeRecipientsRefused,
    )
    from .extension import Mail
    from .headers import mailbox as sanitize_address
    from .headers import sanitized as sanitize_addresses
    from .headers import subject as sanitize_subject
    from .message import Attachment, Message
    from .signals import (
        CancelSend,
        email_dispatched,
        email_failed,
        email_refused,
        email_sending,
        email_sent,
        signals,
    )
    from .state import MailState
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] not in ("flask", "blinker"):
        raise
    raise ModuleNotFoundError(
        'mailbridge_flask needs Flask and blinker: pip install "mailbridge[flask]"',
        name=missing.name,
    ) from missing

__all__ = [  # noqa: RUF022 - in the order of a table of contents
    # Flask-Mail's names
    "Mail",
    "Message",
    "Attachment",
    "Connection",
    "BadHeaderError",
    "email_dispatched",
    "signals",
    "sanitize_address",
    "sanitize_addresses",
    "sanitize_subject",
    # signals
    "CancelSend",
    "email_failed",
    "email_refused",
    "email_sending",
    "email_sent",
    # what is behind them
    "Config",
    "MailState",
    # errors
    "BatchError",
    "DeliveryInDoubt",
    "MailError",
    "MessageRefused",
    "MissingAddress",
    "RecipientsRefused",
    "SenderRefused",
    "SomeRecipientsRefused",
]
