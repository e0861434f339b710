"""A message taken apart for reading. Whatever it holds, nothing here raises."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.policy import compat32
from html.parser import HTMLParser
from typing import Self

#: A larger message is not taken apart: its header and its source can be read.
MAX_PARSED = 25 * 1024 * 1024
MAX_PARTS = 500
# One image can be referred to many times, and each time it becomes part of the page.
MAX_INLINED = 2 * MAX_PARSED
_HEADER = 64 * 1024
_CID = re.compile(r"cid:([^\s\"'<>()]{1,500})", re.IGNORECASE)
_IMAGE = re.compile(r"image/[a-z0-9.+-]+")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_REMOTE = re.compile(r"(?:src|srcset|background|poster)\s*=\s*[\"']?\s*(?:https?:)?//"
                     r"|url\(\s*[\"']?\s*(?:https?:)?//", re.IGNORECASE)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A leaf of the message. `number` counts from 0; `filename` is what the message says."""

    number: int
    content_type: str
    filename: str
    disposition: str
    cid: str
    data: bytes = field(repr=False)
    charset: str = "utf-8"

    @property
    def text(self) -> str:
        """The data as text; octets that are none become U+FFFD."""
        try:
            return self.data.decode(self.charset, "replace")
        except (LookupError, ValueError):
            return self.data.decode("utf-8", "replace")

    @property
    def safe_name(self) -> str:
        """A name to save it under: no directories, no controls, no leading dot, never empty."""
        name = re.split(r"[/\\]", _CONTROLS.sub("", self.filename))[-1]
        name = re.sub(r'[\r\n\t<>:"|?*\u200e\u200f\u202a-\u202e\u2066-\u2069]', "_", name)
        return name.strip(" .")[-120:] or f"part-{self.number}"


@dataclass(frozen=True, slots=True)
class Reading:
    """Header fields, parts, and which of them are text, HTML and attachments.

    `complete` is False for a message that was too large or too odd to be taken apart.
    """

    headers: tuple[tuple[str, str], ...]
    parts: tuple[Part, ...] = ()
    complete: bool = True

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Take a message apart."""
        whole = len(content) <= MAX_PARSED
        try:
            message = message_from_bytes(content if whole else _head(content), policy=compat32)
            parts = tuple(_parts(message)) if whole else ()
        except (RecursionError, MessageError, ValueError, LookupError, TypeError, AttributeError):
            message, parts, whole = message_from_bytes(_head(content), policy=compat32), (), False
        fields = tuple((_clean(n), decoded(v)) for n, v in message.raw_items())
        return cls(fields, parts, whole)

    def header(self, name: str) -> str:
        """The first field of that name, decoded, on one line; empty if there is none."""
        return next((v for n, v in self.headers if n.lower() == name.lower()), "")

    def _body(self, content_type: str) -> Part | None:
        return next((p for p in self.parts if _is_body(p) and p.content_type == content_type), None)

    @property
    def text(self) -> str | None:
        """The plain text, None if there is none."""
        part = self._body("text/plain")
        return None if part is None else part.text

    @property
    def html(self) -> str | None:
        """The HTML as it was sent, not to be shown outside a sandbox; None if there is none."""
        part = self._body("text/html")
        return None if part is None else part.text

    @property
    def attachments(self) -> tuple[Part, ...]:
        """Every part that is neither the text nor the HTML."""
        bodies = {id(self._body("text/plain")), id(self._body("text/html"))}
        return tuple(part for part in self.parts if id(part) not in bodies)

    @property
    def has_remote(self) -> bool:
        """True if the HTML would load something from elsewhere."""
        return bool(_REMOTE.search(self.html or ""))

    def inlined(self) -> str:
        """The HTML with its ``cid:`` images put in as ``data:``."""
        images = {p.cid: p for p in self.parts if p.cid and _IMAGE.fullmatch(p.content_type)}
        left = MAX_INLINED

        def image(match: re.Match[str]) -> str:
            nonlocal left
            part = images.get(match[1])
            if part is None or len(part.data) > left:
                return match[0]
            left -= len(part.data)
            return f"data:{part.content_type};base64,{base64.b64encode(part.data).decode()}"

        return _CID.sub(image, self.html or "")

    def words(self) -> str:
        """The text, or what of the HTML is text."""
        if self.text is not None and self.text.strip():
            return self.text
        return words_of(self.html or "")


def decoded(value: object) -> str:
    """A header field's value on one line, encoded words (RFC 2047) decoded where they can be."""
    text = str(value)
    try:
        text = str(make_header(decode_header(value)))  # type: ignore[arg-type]
    except (MessageError, ValueError, LookupError, TypeError):
        text = text.encode("ascii", "surrogateescape").decode("utf-8", "replace")
    return _clean(re.sub(r"\s*[\r\n]+\s*", " ", text))


def _clean(text: str) -> str:
    return _CONTROLS.sub("\ufffd", text)


def _head(content: bytes) -> bytes:
    head = content[:_HEADER]
    return re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0]


def _is_body(part: Part) -> bool:
    return part.disposition != "attachment" and not part.filename


def _parts(message: Message) -> Iterator[Part]:
    number, waiting = 0, [message]
    while waiting and number < MAX_PARTS:
        each = waiting.pop()
        if each.get_content_maintype() == "multipart" and each.is_multipart():
            waiting.extend(reversed(each.get_payload()))  # type: ignore[arg-type]
        else:
            yield _part(number, each)
            number += 1


def _part(number: int, part: Message) -> Part:
    if part.is_multipart():  # message/rfc822: an attachment, whatever is in it
        data = b"\r\n".join(inner.as_bytes() for inner in part.get_payload())  # type: ignore[union-attr]
    else:
        payload = part.get_payload(decode=True)
        data = payload if isinstance(payload, bytes) else b""
    return Part(
        number,
        part.get_content_type(),
        decoded(part.get_filename() or ""),
        (part.get_content_disposition() or "").lower(),
        decoded(part.get("Content-ID", "")).strip().strip("<>"),
        data,
        str(part.get_content_charset() or "utf-8"),
    )


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._hidden = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in ("style", "script", "title"):
            self._hidden = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._hidden:
            self._hidden = ""

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.found.append(data)


def words_of(html: str) -> str:
    """What a reader sees of HTML, without its markup."""
    parser = _Words()
    try:
        parser.feed(html)
    except (ValueError, AssertionError, RecursionError):
        return " ".join(parser.found)  # HTMLParser gives up on some markup; what was found stays.
    return " ".join(parser.found)
