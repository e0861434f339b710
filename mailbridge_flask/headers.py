"""Texts and addresses as they stand in header fields: encoded, folded, never with a line break.

The folding of ``email.policy`` differs between the Python versions in use, and some of them write
out what they should refuse. Values are therefore made here, out of RFC 2047 encoded words
(``email.header``), quoted strings and RFC 2231 parameters, and stored as they are.
"""

from __future__ import annotations

import codecs
import re
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from email.charset import Charset
from email.errors import HeaderParseError
from email.header import Header, decode_header, make_header
from email.utils import format_datetime, formatdate, parseaddr
from functools import lru_cache
from math import floor
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from mailbridge import Address, AddressError, fields

from .exceptions import BadHeaderError

MAX_LINE: Final = 998  # RFC 5322 section 2.1.1
_FOLD_AT: Final = 78
_ENCODED_WORD: Final = 75  # RFC 2047 section 2
# A display name that is longer goes into encoded words, which can be folded anywhere.
_LONG_NAME: Final = 60
_LONGEST_FIELD_NAME: Final = 76

# Tab is white space. The others, and the line separators of Unicode, end a line somewhere.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# A pattern that knows all of Unicode takes long to make.
_FOREIGN_CONTROL: Final = r"[\x80-\x9f\u2028\u2029\ud800-\udfff]"
_FOLD: Final = r"(?<=[^\r\n])\r\n(?=[ \t]+[^\s])"
_PLAIN: Final = re.compile(r"[!-~]+(?: +[!-~]+)*")
_ATOMS: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_DISPLAY_NAME: Final = re.compile(r'((?:"(?:\\.|[^"\\])*"|[^"<])*)<')
_QUOTED: Final = r'"((?:\\.|[^"\\])*)"'
# Some parsers of parameters stumble over an escaped quote, a semicolon or an encoded word.
_SIMPLE_FILENAME: Final = r"[A-Za-z0-9!#$&+,.@^_`{}~()\[\]-]+(?: [\w!#$&+,.@()\[\]-]+)*"

# Our own fields, which say how to read the content, and those that must never go out.
OURS: Final = {"mime-version", "content-type", "content-transfer-encoding"}
BLIND: Final = {"bcc", "resent-bcc"}
# Fields whose value is a list of mailboxes: only the names in them may be encoded.
MAILBOXES: Final = {
    *("from", "sender", "reply-to", "to", "cc", "resent-from", "resent-sender", "resent-to"),
    *("resent-cc", "errors-to", "return-receipt-to", "disposition-notification-to"),
}


class Mailbox(NamedTuple):
    """A display name, which may be empty, and an address."""

    name: str
    address: Address


def text_of(value: object) -> str:
    """A text, a lazy translation or UTF-8 bytes as str."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return str(value)


def check(field: str, value: object) -> str:
    """`value` as text. Raises BadHeaderError if it has a line break or a control character."""
    text = text_of(value)
    found = _CONTROL.search(text)
    if found is None and not text.isascii():
        found = re.search(_FOREIGN_CONTROL, text)
    if found is not None:
        raise BadHeaderError(
            f"{field} contains {found[0]!a}: line breaks and control characters are not allowed"
        )
    return text


def unfolded(value: object) -> str:
    """A text whose lines were folded by the rules (CRLF, then white space) as one line."""
    return re.sub(_FOLD, "", text_of(value))


def check_name(name: object) -> str:
    """The name of a field. Raises BadHeaderError unless it is one (RFC 5322 section 3.6.8)."""
    text = text_of(name)
    if not fields.NAME.fullmatch(text) or len(text) > _LONGEST_FIELD_NAME:
        raise BadHeaderError(f"{text[:80]!a} is no name for a header field")
    return text


def codec(charset: str | None) -> str:
    """The character set to write texts in: Shift_JIS goes out as ISO-2022-JP, as is the custom.

    Raises BadHeaderError for a name that Python does not know.
    """
    name = charset or "utf-8"
    try:
        codecs.lookup(name)
        output = Charset(name).output_charset or name
        if "a".encode(output) != b"a":
            raise LookupError  # UTF-16, which no header can be written in
    except (LookupError, ValueError, AttributeError):
        raise BadHeaderError(f"charset {name!a} cannot be used for mail; try 'utf-8'") from None
    return output


def folded(name: str, value: str) -> str:
    """`value` with line breaks before spaces, so that most lines of the field are short."""
    lines: list[str] = []
    line = f"{name}:"
    for word in re.findall(r" *[^ ]+", f" {value}"):
        if len(line) + len(word) > _FOLD_AT and (lines or len(line) > len(name) + 1):
            lines.append(line)
            line = word
        else:
            line += word
    lines.append(line)
    return "\r\n".join(lines)[len(name) + 2 :]


def encoded_words(text: str, charset: str = "utf-8") -> str:
    """`text` as encoded words with a space between them, in `charset` if that can hold it."""
    for name in (charset, "utf-8"):
        encoding = Charset(name)
        if encoding.header_encoding is not None:
            try:
                return Header(text, encoding, maxlinelen=_ENCODED_WORD).encode(linesep="")
            except UnicodeError:
                continue
    raise BadHeaderError(f"the text {text[:80]!a} cannot be encoded")


def unstructured(name: str, text: str, charset: str = "utf-8") -> str:
    """A text such as a subject as the value of the field `name`; decodes to just that text."""
    plain = _PLAIN.fullmatch(text) and "=?" not in text
    if not plain or max(map(len, text.split(" "))) > MAX_LINE - len(name) - 2:
        text = encoded_words(text, charset) if text else ""
    return folded(name, text)


def subject(value: object, charset: str = "utf-8") -> str:
    """The value of the field Subject. One that came folded by the rules keeps its folds."""
    text = unfolded(value)
    if text != text_of(value) and text.isascii() and "=?" not in text:
        return text_of(value)
    return unstructured("Subject", text, charset)


def verbatim(name: str, value: object, charset: str = "utf-8") -> str:
    """A value that a developer gives for a field of any kind. ASCII stays as it is written.

    Raises BadHeaderError for line breaks, also for one that hides in an encoded word.
    """
    text = check(name, value)
    if "=?" in text:
        check(name, _decoded(text))
    if _PLAIN.fullmatch(text):
        return folded(name, text)
    return unstructured(name, text, charset)


def parse_mailbox(value: Any, field: str = "address") -> Mailbox:
    """A mailbox from ``a@b``, ``Name <a@b>`` or ``("Name", "a@b")``.

    Raises BadHeaderError for line breaks and control characters, AddressError (both are
    ValueErrors) for anything else that is not one mailbox.
    """
    if type(value) is str or _is_pair(value):
        try:
            return _known_mailbox(value)
        except ValueError:
            pass  # The cache does not know the name of the field for the error.
    return _mailbox_from(value, field)


def _is_pair(value: Any) -> bool:
    """Two texts, and nothing but what is equal in each letter to what it equals."""
    return type(value) is tuple and len(value) == 2 and type(value[0]) is type(value[1]) is str


def _mailbox_from(value: Any, field: str) -> Mailbox:
    if isinstance(value, (tuple, list)) and len(value) == 2:
        name, address = value
        name = check(field, "" if name is None else name).strip()
        return Mailbox(name, Address.parse(check(field, "" if address is None else address)))
    if isinstance(value, Address):
        return Mailbox("", value)
    if value is None or isinstance(value, (int, float)):
        raise AddressError(f"{field}: {value!r} is no address")
    text = check(field, value).replace("\t", " ").strip()
    address = Address.parse(text)
    found = _DISPLAY_NAME.match(text) if text.endswith(">") else None
    return Mailbox(check(field, _name_of(found[1]) if found else ""), address)


@lru_cache(maxsize=4096)
def _known_mailbox(value: str | tuple[str, str]) -> Mailbox:
    return _mailbox_from(value, "address")


def mailbox_text(value: Any) -> str:
    """``("Name", "a@b")`` as ``Name <a@b>``; other values as text."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return text_of(value)
    name, address = ("" if part is None else text_of(part) for part in value)
    if "=?" in name or any(char in '",:;<>@\\' for char in name):
        name = _quoted(name)
    return f"{name} <{address}>" if name.strip() else address


def mended(value: Any) -> Any:
    """What is like an address in `value`, to be shown and never to be sent to."""
    found = parseaddr(re.sub(r"[\r\n]|(?<=>)>+", "", mailbox_text(value))) if value else ("", "")
    return found if found[1] else value


def mailbox(value: Any, charset: str = "utf-8", field: str = "address") -> str:
    """A mailbox as it stands in a header field, the domain in A-labels. Not folded yet."""
    if type(value) is str or _is_pair(value):
        try:
            return _known_text(value, charset)
        except ValueError:
            pass
    return _written(parse_mailbox(value, field), charset)


@lru_cache(maxsize=4096)
def _known_text(value: str | tuple[str, str], charset: str) -> str:
    return _written(_known_mailbox(value), charset)


def _written(mailbox: Mailbox, charset: str) -> str:
    name, address = mailbox
    domain = address.ascii_domain
    spec = address.local_part if domain is None else f"{address.local_part}@{domain}"
    return f"{_phrase(name, charset)} <{spec}>" if name else spec


def sanitized(values: Iterable[Any], charset: str = "utf-8") -> list[str]:
    """Each of the mailboxes as it stands in a header field."""
    return [mailbox(value, charset) for value in values]


def mailboxes(field: str, values: Iterable[Any], charset: str = "utf-8") -> str:
    """The value of an address field: each mailbox once, in the order given."""
    texts = dict.fromkeys(mailbox(value, charset, field) for value in values)
    return folded(field, ", ".join(texts))


def disposition(kind: str, filename: str | None) -> str:
    """The value of Content-Disposition (RFC 2183, with RFC 2231 where the name needs it)."""
    if not filename:
        return kind
    if re.fullmatch(_SIMPLE_FILENAME, filename) and filename.isascii():
        parameter = f'filename="{filename}"'
    else:
        parameter = f"filename*=utf-8''{quote(filename, safe='')}"
    fits = len(f"Content-Disposition: {kind}; {parameter}") <= _FOLD_AT
    return f"{kind}; {parameter}" if fits else f"{kind};\r\n {parameter}"


def _phrase(name: str, charset: str) -> str:
    if "=?" in name or not name.isascii() or len(name) > _LONG_NAME or "\t" in name:
        return encoded_words(name, charset)
    return name if re.fullmatch(_ATOMS, name) else _quoted(name)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _name_of(phrase: str) -> str:
    """What a phrase says: quoted strings without their quotes, encoded words decoded."""
    if '"' not in phrase:
        return _decoded(phrase).strip()
    return re.sub(_QUOTED, lambda match: re.sub(r"\\(.)", r"\1", match[1]), phrase).strip()


def _decoded(text: str) -> str:
    if "=?" not in text:
        return text
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):
        return text


def pairs(fields: Any) -> Iterator[tuple[Any, Any]]:
    """A dict or an iterable of pairs, which early versions of Flask-Mail took."""
    yield from fields.items() if isinstance(fields, Mapping) else fields or ()


def date(date: float | datetime | None) -> str:
    """The value of the field Date: now, if there is none. Raises BadHeaderError."""
    if isinstance(date, datetime):
        return format_datetime(date)
    if date is not None and (isinstance(date, bool) or not isinstance(date, (int, float))):
        raise BadHeaderError(f"date {date!a} is neither a timestamp nor a datetime")
    try:
        seconds = floor(time.time() if date is None else date)
        return _local_time(seconds, (time.timezone, time.altzone))
    except (ValueError, OverflowError, OSError) as exc:
        raise BadHeaderError(f"date {date!a} is out of range") from exc


@lru_cache(maxsize=1)
def _local_time(seconds: int, zone: tuple[int, int]) -> str:
    # The zone is there to tell the times of one from those of another, after a tzset().
    return formatdate(seconds, localtime=True)


def is_inline(attachment: Any) -> bool:
    """Is this an image, say, that the HTML shows by ``cid:`` (RFC 2387)?"""
    names = [text_of(name).lower() for name, _ in pairs(attachment.headers)]
    return attachment.disposition == "inline" and "content-id" in names


def ascii_only(filename: str) -> str:
    """`filename` without its accents, and without what has no counterpart in ASCII."""
    plain = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode("ascii")
    return " ".join(plain.split())
