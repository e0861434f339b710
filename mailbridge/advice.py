"""What to do next about an error, where nobody knows better."""

from __future__ import annotations

from typing import Final

#: For an answer that is none to what was asked.
ODD: Final = "Is this a mail server? The transcript shows what it said"
_LATER: Final = {
    "MailError": "Try again later",
    "ReplyTimeout": "Try again later, or raise reply_timeout for a slow server",
    "ProtocolViolation": ODD,
}
_FOR_GOOD: Final = {
    "GreetingRefused": "This server takes no mail from here: check host and port",
    "TLSError": "Check which TLS the server takes, and whether it asks for a certificate",
    "HeloRefused": "Set local_hostname to a name that the server accepts",
    "AuthenticationFailed": "Check user name and password",
    "SenderRefused": "Use a sender that belongs to your account",
    "RecipientsRefused": "Correct or drop these addresses",
    "MessageRefused": "Change the message: the reply says why",
}


def usual(kind: type, *, retryable: bool, code: int | None = None) -> str | None:
    """The usual advice about an error of this class, None if there is nothing to say.

    `code` is that of the reply, if there is one: a 2yz or 3yz reply is no refusal.
    """
    if code is not None and 200 <= code < 400:
        return ODD
    table = _LATER if retryable else _FOR_GOOD
    return next((table[cls.__name__] for cls in kind.__mro__ if cls.__name__ in table), None)
