"""Email message objects to envelopes and bytes."""

from __future__ import annotations

import copy
import email.errors
import email.generator
import email.message
import email.utils
import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .envelope import Address
from .errors import AddressError, InvalidInput

if TYPE_CHECKING:
    from email.policy import Policy


class Flattened(NamedTuple):
    """A message with the envelope that its header names, as texts, and without Bcc."""

    sender: str | None
    recipients: tuple[str, ...]
    message: email.message.Message

    @property
    def needs_smtputf8(self) -> bool:
        """True if a local part is outside ASCII; a domain can be written as A-labels."""
        addresses = (*self.recipients, self.sender or "")
        return any(Address.parse(t).needs_smtputf8 for t in addresses if t and t != "<>")

    def content(self, *, utf8: bool = False) -> bytes:
        """The message as bytes with CRLF; `utf8` writes header fields as RFC 6532 allows.

        Raises InvalidInput for a header field that is none, or would be more than one.
        """
        # Imported here: what is sent is mostly written already.
        from . import fields

        message, policy = self.message, self.message.policy
        if utf8:
            message, policy = _in_utf8(message)
        fields.check(message)
        buffer = io.BytesIO()
        try:
            email.generator.BytesGenerator(buffer, policy=policy).flatten(message, linesep="\r\n")
        except email.errors.MessageError as exc:
            raise InvalidInput(f"the message cannot be written: {exc}") from exc
        fields.check_written(message, content := buffer.getvalue())
        return content


def flattened(
    message: email.message.Message,
    sender: str | None = None,
    recipients: str | Sequence[str] | None = None,
) -> Flattened:
    """The envelope of `message`: its Sender or From, its To, Cc and Bcc, unless given.

    The Resent- fields come first, if there is one set of them (RFC 5322 section 3.6.6).
    Raises InvalidInput for more sets, AddressError if there is no sender.
    """
    from . import fields  # Imported here: as above.

    dates = message.get_all("Resent-Date")
    if dates is not None and len(dates) > 1:
        raise InvalidInput("message has more than one 'Resent-' header block")
    prefix = "" if dates is None else "Resent-"
    if sender is None:
        sender = _sender(message, prefix)
    if recipients is None:
        named = [message[prefix + field] for field in ("To", "Bcc", "Cc")]
        found = email.utils.getaddresses([str(value) for value in named if value is not None])
        recipients = [address for _, address in found if address]
    elif isinstance(recipients, str):
        recipients = [recipients]
    return Flattened(sender, tuple(recipients), fields.without_bcc(message))


def _in_utf8(message: email.message.Message) -> tuple[email.message.Message, Policy]:
    """The message and the policy by which its header fields are written as UTF-8."""
    # Imported here: it takes the parser of structured fields with it, and most mail is ASCII.
    from email.policy import SMTPUTF8, EmailPolicy

    policy = message.policy
    if isinstance(policy, EmailPolicy):
        return message, policy.clone(utf8=True)
    # compat32, the policy of old messages, cannot write UTF-8 header fields, and the others
    # cannot read its Header objects.
    return _with_text_fields(message), SMTPUTF8


def _with_text_fields(message: email.message.Message) -> email.message.Message:
    copied = copy.copy(message)
    items = copied.items()
    for name in {name for name, _ in items}:
        del copied[name]
    for name, value in items:
        copied[name] = str(value)
    return copied


def _sender(message: email.message.Message, prefix: str) -> str:
    # RFC 5322 section 3.6.2: the Sender field names the agent that sends.
    field = message[prefix + "Sender"] or message[prefix + "From"]
    addresses = [] if field is None else email.utils.getaddresses([str(field)])
    if not addresses or not addresses[0][1]:
        raise AddressError("the message has no sender: set its From field, or give from_addr")
    return addresses[0][1]


_MESSAGE_ID = re.compile(rb"^message-id:\s*(<[^<>\r\n]+>)", re.IGNORECASE | re.MULTILINE)


def message_id(content: bytes) -> str | None:
    """The Message-ID field of the header of `content`, None if there is none."""
    end = content.find(b"\r\n\r\n")
    end = len(content) if end < 0 else end + 2
    # As nearly everybody writes it; a plain search is the fastest way to get near.
    start = content.find(b"\nMessage-ID: <", 0, end) + 1
    match = _MESSAGE_ID.search(content, start, end)
    return None if match is None else match[1].decode("utf-8", "backslashreplace")


def header_of(pieces: Iterable[bytes]) -> bytes:
    """The header of a canonical content that comes in pieces, with the line end of its last field.

    Reads no further than to its end. All of it, if there is no empty line.
    """
    head = bytearray()
    for piece in pieces:
        looked_at = max(0, len(head) - 3)
        head += piece
        if head.startswith(b"\r\n"):
            return b""
        if (end := head.find(b"\r\n\r\n", looked_at)) >= 0:
            return bytes(head[: end + 2])
    return bytes(head)
