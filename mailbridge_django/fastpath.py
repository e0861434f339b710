"""Django's messages to bytes without Django's `message()`, where the result means the same.

`render` returns None for whatever it does not cover: a class that overrides how messages are
built, other encodings, ready-made MIME parts, unusual headers. And for whatever is wrong, so that
it is Django that raises the error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from email.headerregistry import HeaderRegistry
from email.utils import format_datetime, formatdate
from functools import lru_cache
from operator import attrgetter
from time import time
from typing import Any

import django
import django.core.mail.message as django_message
from django.conf import settings
from django.core.mail import EmailAlternative, EmailMessage, EmailMultiAlternatives
from django.core.mail.utils import DNS_NAME
from django.utils.functional import Promise
from django.utils.timezone import get_current_timezone

from mailbridge import header
from mailbridge.header import NotCovered
from mailbridge.render import (
    COMPAT32,
    MODERN,
    Binary,
    Multipart,
    Part,
    Rendered,
    RenderedBody,
    Text,
    disposition,
    render_body,
)

# From 6.0 on Django builds on `email.message.EmailMessage`, before that on `email.mime`, and a
# field that is not ASCII is encoded as a whole.
MODERN_DJANGO = django.VERSION >= (6, 0)
STYLE = MODERN if MODERN_DJANGO else COMPAT32

# What message() calls. A class in which one of them is not Django's own builds its own messages.
_METHODS = (
    ("message", "_add_bodies", "_add_attachments", "_add_attachment")
    if MODERN_DJANGO
    else (
        "message",
        "_create_message",
        "_create_attachments",
        "_create_attachment",
        "_create_alternatives",
        "_create_mime_attachment",
    )
) + ("_set_list_header_if_not_empty", "_idna_encode_address_header_domains")
_OVERRIDABLE = frozenset(_METHODS)

# These have a place of their own in message(); the rest of what has a parser is left to Django.
_PLACED = frozenset({"from", "to", "cc", "reply-to"})
_STRUCTURED = frozenset(HeaderRegistry().registry) | {"bcc"}
_WRITERS: dict[str, Callable[[str, str], str]] = {
    "sender": lambda name, value: header.addresses(name, [value]),
    "message-id": header.message_id,
    "date": header.date,
}

_MIMETYPE = re.compile(r"[a-z]+/[^/;]+")
_Key = tuple[Any, ...]


class Common:
    """What the messages of a batch have in common: the settings, and the last few bodies.

    Keep one for as long as a batch takes: what it holds, it keeps in memory.
    """

    def __init__(self, size: int = 4) -> None:
        # To ask Django for a setting takes its time.
        self.charset: Any = settings.DEFAULT_CHARSET
        self.local_time: bool = settings.EMAIL_USE_LOCALTIME
        self._size = size
        # The parts are kept with the body, so that the identities in the key stay theirs.
        self._bodies: dict[_Key, tuple[Part, RenderedBody]] = {}

    def body(self, part: Part) -> RenderedBody:
        """The body for `part`, from before if there was an equal one."""
        key = _key(part)
        if (found := self._bodies.get(key)) is not None:
            return found[1]
        if len(self._bodies) >= self._size:
            del self._bodies[next(iter(self._bodies))]
        body = render_body(part, STYLE)
        self._bodies[key] = part, body
        return body


def _key(part: Part) -> _Key:
    if isinstance(part, Text):
        return part
    if isinstance(part, Multipart):
        return part.subtype, *map(_key, part.parts)
    # Binaries are told apart by identity: comparing their octets would cost more than it saves.
    return id(part.content), part.type, part.fields


def render(message: EmailMessage, common: Common | None = None) -> Rendered | None:
    """The content of `message` for the wire, or None if that is for `message.message()`."""
    if common is None:
        common = Common()
    try:
        multiple = _builds_alternatives(message, common.charset)
        fields = _fields(message, common.local_time)
        part = _part(message, message.alternatives if multiple else ())  # type: ignore[attr-defined]
        return Rendered(fields, common.body(part))
    except NotCovered:
        return None


def _getter(kind: type) -> attrgetter[Any]:
    return attrgetter(*[name for name in _METHODS if hasattr(kind, name)])


_of_plain, _of_multiple = _getter(EmailMessage), _getter(EmailMultiAlternatives)
_PLAIN, _MULTIPLE = _of_plain(EmailMessage), _of_multiple(EmailMultiAlternatives)


def _builds_alternatives(message: EmailMessage, charset: Any) -> bool:
    """True if the message has alternatives. NotCovered unless it is built as Django builds it."""
    if not isinstance(message, EmailMessage):
        raise NotCovered("an object that is like a message")
    kind, multiple = type(message), isinstance(message, EmailMultiAlternatives)
    if not (_of_multiple(kind) == _MULTIPLE if multiple else _of_plain(kind) == _PLAIN):
        raise NotCovered("a class that builds its messages in its own way")
    if not _OVERRIDABLE.isdisjoint(vars(message)):
        raise NotCovered("a message with methods of its own")
    # An email.charset.Charset equals its name, and says more than that.
    encoding: Any = message.encoding or charset
    if type(encoding) is not str or encoding != "utf-8":
        raise NotCovered("another encoding than UTF-8")
    if MODERN_DJANGO:
        if hasattr(message, "mixed_subtype") or hasattr(message, "alternative_subtype"):
            raise NotCovered("Django 6 says what is wrong with this")
    elif django_message.utf8_charset.body_encoding is not None:
        raise NotCovered("a project that wants all its texts encoded")
    return multiple


def _fields(message: EmailMessage, local_time: bool) -> str:
    """The header, in Django's order."""
    extra = message.extra_headers
    if type(extra) is not dict:
        raise NotCovered("unusual headers")
    if extra:
        return "".join(_fields_with(message, extra, local_time))
    fields = _subject(message) + header.addresses("From", [str(message.from_email)])
    if message.to:
        fields += _mailboxes("To", message.to)
    if message.cc:
        fields += _mailboxes("Cc", message.cc)
    if message.reply_to:
        fields += _mailboxes("Reply-To", message.reply_to)
    return fields + _now(local_time) + header.new_message_id(str(DNS_NAME))


def _fields_with(message: EmailMessage, extra: dict[str, Any], local_time: bool) -> Iterator[str]:
    """The header, with fields of the message's own or in place of others."""
    if not all(type(name) is str for name in extra):
        raise NotCovered("unusual headers")
    yield _subject(message)
    addresses = {
        "From": [message.from_email],
        "To": message.to,
        "Cc": message.cc,
        "Reply-To": message.reply_to,
    }
    for name, values in addresses.items():
        if name in extra:
            yield header.addresses(name, [_header_value(extra[name])])
        elif values:
            yield _mailboxes(name, values)
    names = [name.lower() for name in extra]
    if "date" not in names:
        yield _now(local_time)
    if "message-id" not in names:
        yield header.new_message_id(str(DNS_NAME))
    yield from _extra(extra, names)


def _subject(message: EmailMessage) -> str:
    return header.text("Subject", str(message.subject), whole=not MODERN_DJANGO)


def _mailboxes(name: str, values: Iterable[object]) -> str:
    return header.addresses(name, [*map(str, values)])


def _extra(extra: dict[str, Any], names: Iterable[str]) -> Iterator[str]:
    seen = set()
    for name, lowered in zip(extra, names, strict=True):
        if lowered in seen:
            raise NotCovered("a header that stands twice")
        seen.add(lowered)
        if lowered in _PLACED:
            continue
        value = _header_value(extra[name])
        if (write := _WRITERS.get(lowered)) is not None:
            header.check_name(name)
            yield write(name, value)
        elif lowered in _STRUCTURED or lowered.startswith("content-"):
            raise NotCovered("a header that Django parses, or refuses")
        else:
            yield header.text(name, value, whole=not MODERN_DJANGO)


def _header_value(value: object) -> str:
    if isinstance(value, (str, Promise)):
        return str(value)
    raise NotCovered("a header value that is no text")


def _now(local_time: bool) -> str:
    """The Date field."""
    if not local_time:
        return _utc(int(time()))
    if not MODERN_DJANGO:
        return f"Date: {formatdate(localtime=True)}\r\n"
    return f"Date: {format_datetime(datetime.now(get_current_timezone()))}\r\n"


@lru_cache(maxsize=1)
def _utc(second: int) -> str:
    if not MODERN_DJANGO:
        return f"Date: {formatdate(second)}\r\n"
    return f"Date: {format_datetime(datetime.fromtimestamp(second, UTC))}\r\n"


def _part(message: EmailMessage, alternatives: Iterable[Any]) -> Part:
    """The body with its alternatives and attachments, nested as Django nests them."""
    body: Any = message.body
    if not isinstance(body, str):
        raise NotCovered("a body that is no text")
    text, attachments = Text(body, message.content_subtype), message.attachments
    if not (alternatives or attachments):
        return text
    parts: list[Part] = [text] if body else []
    if alternatives:
        parts += map(_alternative, alternatives)
        parts = [Multipart(_subtype(message, "alternative"), tuple(parts))]
    if attachments:
        parts += map(_attachment, attachments)
        return Multipart(_subtype(message, "mixed"), tuple(parts))
    return parts[0]


def _subtype(message: EmailMessage, name: str) -> str:
    subtype = getattr(message, f"{name}_subtype", name)
    if not isinstance(subtype, str):
        raise NotCovered("an unusual subtype")
    return subtype


def _alternative(alternative: object) -> Part:
    if not isinstance(alternative, EmailAlternative):
        raise NotCovered("an alternative that was not attached by a method")
    content, mimetype = alternative
    if type(mimetype) is not str or not _MIMETYPE.fullmatch(mimetype):
        raise NotCovered("an unusual content type")
    if not mimetype.startswith("text/"):
        return _binary(content, mimetype, "")
    if not isinstance(content, str):
        raise NotCovered("octets that are to be a text")
    return Text(content, mimetype[5:])


def _attachment(attachment: object) -> Part:
    if not isinstance(attachment, tuple) or len(attachment) != 3:
        raise NotCovered("an attachment that is a MIME part already, or none at all")
    filename, content, mimetype = attachment
    if type(mimetype) is not str or not _MIMETYPE.fullmatch(mimetype):
        raise NotCovered("an unusual content type")
    if filename is not None and (type(filename) is not str or not filename):
        raise NotCovered("an unusual file name")
    # Django 5 says nothing of what has no name.
    named = filename is not None or MODERN_DJANGO
    fields = disposition("attachment", filename) if named else ""
    if not mimetype.startswith("text/"):
        return _binary(content, mimetype, fields)
    if isinstance(content, bytes) and MODERN_DJANGO:
        try:
            content = content.decode()
        except UnicodeDecodeError:
            return _binary(content, django_message.DEFAULT_ATTACHMENT_MIME_TYPE, fields)
    if not isinstance(content, str):
        raise NotCovered("octets that are to be a text")
    return Text(content, mimetype[5:], fields)


def _binary(content: object, mimetype: str, fields: str) -> Binary:
    if mimetype.startswith(("message/", "multipart/")):
        raise NotCovered("a part with parts of its own")
    if isinstance(content, bytes):
        return Binary(content, mimetype, fields)
    if isinstance(content, str) and content.isascii():
        return Binary(content.encode("ascii"), mimetype, fields)
    if isinstance(content, (bytearray, memoryview)) and MODERN_DJANGO:
        # The caller may change these while the message waits to be sent.
        return Binary(bytes(content), mimetype, fields)
    raise NotCovered("a content that is neither octets nor text")
