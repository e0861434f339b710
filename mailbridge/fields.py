"""Header fields of message objects: none becomes two, ends the header, or tells of Bcc.

Versions of Python differ in what their email package refuses of this, and none refuses all of it.
So values are looked at before they are written, and the header after it was.
"""

from __future__ import annotations

import copy
import email.message
import re
from collections.abc import Iterable
from typing import Final

from .errors import InvalidInput

#: The name of a field (RFC 5322 section 3.6.8).
NAME: Final = re.compile(r"[!-9;-~]+")
# NUL, and what ends a line for Python's email package or for others, unless it folds the field:
# then something must follow, since a line of blanks is the end of the header to some.
_BROKEN = re.compile(r"[\0\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]|\n(?![ \t]+\S)")


def check(message: email.message.Message) -> None:
    """Raise InvalidInput for a field, of the message or a part, that could not stay one field."""
    for name, value in message.raw_items():
        if not NAME.fullmatch(name):
            raise InvalidInput(f"{name!a:.80} is no name of a header field")
        if _BROKEN.search(str(value).replace("\r\n", "\n")):
            raise InvalidInput(f"header field {name}: a line break, or a NUL, in its value")
    # Not the fields of messages that are attached: those are content of this one.
    if message.is_multipart() and message.get_content_maintype() == "multipart":
        for part in _parts(message):
            check(part)


def _parts(message: email.message.Message) -> Iterable[email.message.Message]:
    payload = message.get_payload()
    found = payload if isinstance(payload, list) else []
    return (part for part in found if isinstance(part, email.message.Message))


def check_written(message: email.message.Message, content: bytes) -> None:
    """Raise InvalidInput unless the header of `content` has the fields of `message`, and no more.

    `content` is in canonical form, CRLF at the end of each line.
    """
    header, _, _ = content.partition(b"\r\n\r\n")
    lines = header.split(b"\r\n") if header.strip() else []
    names = [line.partition(b":")[0].lower() for line in lines if line[:1] not in (b" ", b"\t")]
    wanted = [name.lower().encode("utf-8", "surrogateescape") for name in message]
    # What Python adds to a message with octets that it has to encode.
    rest = [name for name in names[len(wanted) :] if name != b"content-transfer-encoding"]
    if names[: len(wanted)] != wanted or rest or re.search(rb"[\0\r\n]", b"".join(lines)):
        raise InvalidInput("a header field would be written as more than one, or as none")


def without_bcc(message: email.message.Message) -> email.message.Message:
    """The message without Bcc and Resent-Bcc (RFC 5322 section 3.6.3); a copy if it has them."""
    if "Bcc" in message or "Resent-Bcc" in message:
        message = copy.copy(message)
        del message["Bcc"]
        del message["Resent-Bcc"]
    return message
