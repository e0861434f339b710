"""Flask's messages to octets without a tree of MIME parts, where the result means the same.

`render` returns None for whatever it does not cover: other character sets, attached messages,
unusual header fields. And for whatever is wrong, so that it is `compose` that raises the error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from mailbridge import header
from mailbridge.header import NotCovered
from mailbridge.render import SEVEN_BIT, Binary, Multipart, Part, Rendered, Text, render_body

from . import headers
from .headers import BLIND, MAILBOXES, OURS, ascii_only, date, is_inline, pairs

# These have a place of their own in the header.
_PLACED: Final = frozenset({"subject", "from", "to", "cc", "reply-to", "date", "message-id"})
_UNUSUAL: Final = _PLACED | OURS | BLIND
# What `compose` makes of an attachment, and its headers may change.
_OF_THE_PART: Final = OURS | {"content-disposition"}
_TYPE: Final = re.compile(r"(?!message/|multipart/)[a-z]+/[^;]+")
_CHARSET: Final = '; charset="utf-8"'


def render(message: Any, *, ascii_attachments: bool = False) -> Rendered | None:
    """The content of `message` for the wire, or None if that is for `compose.content`."""
    try:
        charset = message.charset
        if charset and (type(charset) is not str or charset != "utf-8"):
            raise NotCovered("another character set than UTF-8")
        fields = "".join(_fields(message))
        return Rendered(fields, render_body(_part(message, ascii_attachments), SEVEN_BIT))
    except (NotCovered, ValueError):
        return None


def _fields(message: Any) -> Iterator[str]:
    """The header, in the order of `compose`."""
    if message.subject:
        yield _text("Subject", message.subject)
    if message.sender:
        yield _mailboxes("From", [message.sender])
    if message.recipients:
        yield _mailboxes("To", message.recipients)
    if message.cc:
        yield _mailboxes("Cc", message.cc)
    for blind in _listed(message.bcc or ()):
        _mailbox(blind)  # It is not written, and yet it has to be one.
    if message.reply_to:
        yield _mailboxes("Reply-To", [message.reply_to])
    yield f"Date: {date(message.date)}\r\n"
    yield header.message_id("Message-ID", message.msgId)
    if message.extra_headers:
        yield from _extra(message.extra_headers)


def _extra(fields: Any) -> Iterator[str]:
    seen = set()
    for name, value in pairs(fields):
        if type(name) is not str:
            raise NotCovered("a name that is no text")
        lowered = name.lower()
        if lowered in _UNUSUAL or lowered in seen:
            raise NotCovered("a field that is there already, or is refused")
        seen.add(lowered)
        text = "" if value is None else headers.text_of(value)
        if lowered in MAILBOXES and not text.isascii():
            raise NotCovered("names to be encoded among addresses")
        yield _text(name, value)


def _text(name: str, value: object) -> str:
    if value is None:
        raise NotCovered("a field without a value")
    text = headers.text_of(value)
    if text.endswith(" "):
        raise NotCovered("white space that would be lost on the way")
    return header.text(name, text)


def _mailboxes(name: str, values: Any) -> str:
    text = ", ".join(dict.fromkeys([_mailbox(value) for value in _listed(values)]))
    if len(name) + 2 + len(text) > header.SHORT_LINE:
        text = headers.folded(name, text)
    return f"{name}: {text}\r\n"


def _listed(values: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(values, (list, tuple)):
        raise NotCovered("no list of addresses")
    return values


def _mailbox(value: Any) -> str:
    text = headers.mailbox(value)
    if not text.isascii():
        raise NotCovered("an address that needs SMTPUTF8")
    return text


# -- body


def _part(message: Any, ascii_attachments: bool) -> Part:
    """The body, nested as `compose` nests it."""
    attachments, alternatives = message.attachments, message.alts
    part: Part = _text_part(message.body, "plain")
    if not attachments and not alternatives:
        return part
    attachments, alternatives = list(attachments or ()), dict(alternatives or {})
    inline = [a for a in attachments if is_inline(a)] if "html" in alternatives else []
    if alternatives:
        parts = [part]
        for subtype, text in alternatives.items():
            part = _text_part(text, subtype)
            if subtype == "html" and inline:
                part = Multipart("related", (part, *_attachments(inline, ascii_attachments)))
            parts.append(part)
        part = Multipart("alternative", tuple(parts))
    rest = [a for a in attachments if a not in inline]
    return Multipart("mixed", (part, *_attachments(rest, ascii_attachments))) if rest else part


def _text_part(text: Any, subtype: str) -> Text:
    if type(subtype) is not str or ";" in subtype:
        raise NotCovered("an unusual content type")
    text = "" if text is None else headers.text_of(text)
    if "\0" in text:
        raise NotCovered("what no server takes as it is")
    return Text(text, subtype.removeprefix("text/"))


def _attachments(attachments: list[Any], ascii_attachments: bool) -> Iterator[Binary]:
    for attachment in attachments:
        yield _attachment(attachment, ascii_attachments)


def _attachment(attachment: Any, ascii_attachments: bool) -> Binary:
    kind, data = attachment.content_type, attachment.data
    if type(kind) is not str or not _TYPE.fullmatch(kind):
        raise NotCovered("an unusual content type, or a message that is attached")
    if isinstance(data, str):
        data = data.encode()
        if "charset" in kind.lower():
            raise NotCovered("a text with a character set of its own")
        if kind.startswith("text/"):
            name, _, parameters = kind.partition(";")
            kind = f"{name}{_CHARSET};{parameters}" if parameters else name + _CHARSET
    elif type(data) is not bytes:
        raise NotCovered("octets that may change")
    return Binary(data, kind, _attachment_fields(attachment, ascii_attachments))


def _attachment_fields(attachment: Any, ascii_attachments: bool) -> str:
    kind, filename = attachment.disposition, attachment.filename
    if kind not in ("attachment", "inline") or not (filename is None or type(filename) is str):
        raise NotCovered("an unusual disposition or file name")
    if filename:
        filename = headers.check("filename", filename)
        if ascii_attachments:
            filename = ascii_only(filename)
    disposition = headers.disposition(kind, filename)
    if len(disposition) > header.LONGEST_WORD:
        raise NotCovered("a file name that is too long for one line")
    fields = f"Content-Disposition: {disposition}\r\n"
    seen = set(_OF_THE_PART)
    for name, value in pairs(attachment.headers):
        if type(name) is not str or name.lower() in seen:
            raise NotCovered("a field that takes the place of another")
        seen.add(name.lower())
        fields += _text(name, value)
    return fields
