"""Header fields as they go on the wire, for what nearly all mail holds.

A field is checked by one regular expression and written in one go: no parse tree, no refolding.
What is not covered raises NotCovered; the caller then takes the slow way of its framework, which
also raises the framework's own errors. So nothing that could end a line is ever written here.

The functions return str: ASCII only, folded, with a CRLF at the end.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from os import getpid
from random import getrandbits
from time import time
from urllib.parse import quote

from .envelope import to_ascii_domain

# RFC 5322 section 2.1.1: a line should have 78 characters, and must not have more than 998.
SHORT_LINE = 78
LONGEST_WORD = 900
# RFC 2047 section 2: an encoded word has at most 75 characters, of which these hold the text.
ENCODED_TEXT = 75 - len("=?utf-8?q??=")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,75}")
# A tab, and a space in front, are left to the slow way: each library has its own view of them.
_TEXT = re.compile(r"(?:[!-~][ -~]*)?")
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
# A word that is too long for a line stays whole; `sub` and `findall` never fail on it.
_LINE = re.compile(rf"(.{{1,{SHORT_LINE - 1}}}|[^ ]+)(?: |\Z)")

# Every repetition is possessive, so that no text takes more than one pass.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]++"
_DOT_ATOM = rf"{_ATOM}(?:\.{_ATOM})*+"
_LABEL = r"[A-Za-z0-9_-]++"
_QUOTED = r'"[ !#-\[\]-~]*+"'
_SPEC = rf"(?:{_DOT_ATOM}|{_QUOTED})@{_LABEL}(?:\.{_LABEL})*+"
# A dot in a name is obsolete and everywhere. In front of a word some parsers stumble over it.
_WORD = rf"{_ATOM}(?:\.++(?:{_ATOM})?+)*+"
_PHRASE = rf"(?:{_WORD}(?: {_WORD})*+|{_QUOTED})"
_MAILBOX = rf"(?:{_SPEC}(?=, |\Z)|{_PHRASE} <{_SPEC}>)"
# An address without a domain is a mailbox of the server's own.
_LOCAL = rf"(?:{_MAILBOX}|{_DOT_ATOM}(?=, |\Z))"
_LOCAL_MAILBOXES = re.compile(rf"(?:{_LOCAL}(?:, (?!\Z)|\Z))++")
# The same with a name or a domain outside ASCII; the groups are name, quoted name, address.
_SPECIALS = r'()<>\[\]@,;:\\"'
_NAMED = rf'(?:([^ {_CONTROL}{_SPECIALS}][^{_CONTROL}{_SPECIALS}]*+)|"([^{_CONTROL}\\"]*+)") ?<'
_FOREIGN_DOMAIN = rf"[^ {_CONTROL}{_SPECIALS}]++"

_ODD_NAME = re.compile(r"^[ .]| [ .]| \Z")

_MESSAGE_ID = re.compile(rf"<{_DOT_ATOM}@{_DOT_ATOM}>")

# RFC 2047 section 5 (3): what a "Q" word may hold wherever it stands, in a phrase as well.
_Q = [f"={octet:02X}" for octet in range(256)]
for _safe in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/":
    _Q[_safe] = chr(_safe)
_Q[0x20] = "_"


# These are made when they are needed: most fields are ASCII, and a pattern that knows all of
# Unicode takes as long to make as a mail to send. Few give a date of their own.


@cache
def _prohibited() -> re.Pattern[str]:
    return re.compile(f"[{_CONTROL}]")


@cache
def _mailboxes() -> re.Pattern[str]:
    return re.compile(rf"(?:{_MAILBOX}(?:, (?!\Z)|\Z))++")


@cache
def _international() -> re.Pattern[str]:
    return re.compile(rf"(?:{_NAMED})?({_DOT_ATOM})@({_FOREIGN_DOMAIN})(>?)")


@cache
def _date() -> re.Pattern[str]:
    return re.compile(
        r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d"
        r" (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [12]\d{3}"
        r" (?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d [+-](?:0\d|1[0-4])[0-5]\d",
        re.ASCII,
    )


class NotCovered(Exception):
    """This input is for the slow way: it is unusual, or it is wrong."""


def text(name: str, value: str, *, whole: bool = False) -> str:
    """An unstructured field: Subject, List-Unsubscribe, X-...

    What is not ASCII is encoded from the first such word to the last, or as a `whole`.
    """
    check_name(name)
    if "=?" in value:
        raise NotCovered("it looks like an encoded word")
    if _TEXT.fullmatch(value):
        short = len(name) + 2 + len(value) <= SHORT_LINE
        return f"{name}: {value}\r\n" if short else _folded(name, value)
    if value.isascii():
        raise NotCovered("white space in front, or a control character")
    _check_characters(value)
    return _folded(name, _encoded_text(value, SHORT_LINE - len(name) - 2, whole))


def addresses(
    name: str, entries: Sequence[str], to_ascii: Callable[[str], str] = to_ascii_domain
) -> str:
    """A field of mailboxes. An entry holds one mailbox or more, as people write them."""
    joined = entries[0] if len(entries) == 1 else ", ".join(entries)
    if len(name) + 2 + len(joined) <= SHORT_LINE and (short := _short_addresses(name, joined)):
        return short
    check_name(name)
    if _is_ordinary(joined):
        return _folded(name, joined)
    return _folded(name, ", ".join([_mailbox(entry, to_ascii) for entry in entries]))


@lru_cache(maxsize=1024)
def _short_addresses(name: str, joined: str) -> str | None:
    # An application writes from the same mailbox nearly always, and again to the same ones.
    check_name(name)
    return f"{name}: {joined}\r\n" if _is_ordinary(joined) else None


def _is_ordinary(joined: str) -> bool:
    return (
        joined.isascii() and _LOCAL_MAILBOXES.fullmatch(joined) is not None and "=?" not in joined
    )


def new_message_id(domain: str) -> str:
    """The Message-ID field with a new identifier, as `email.utils.make_msgid` makes them."""
    _check_id_domain(domain)
    return f"Message-ID: <{int(time() * 100)}.{getpid()}.{getrandbits(64)}@{domain}>\r\n"


@lru_cache(maxsize=16)
def _check_id_domain(domain: str) -> None:
    message_id("Message-ID", f"<0@{domain}>")


def message_id(name: str, value: str) -> str:
    """A field of one message identifier."""
    if len(value) > LONGEST_WORD or not _MESSAGE_ID.fullmatch(value) or "=?" in value:
        raise NotCovered("no plain message identifier")
    return f"{name}: {value}\r\n"


def date(name: str, value: str) -> str:
    """A field of one date, as `email.utils.format_datetime` writes it."""
    if not _date().fullmatch(value):
        raise NotCovered("no plain date")
    return f"{name}: {value}\r\n"


def parameter(name: str, value: str) -> str:
    """`value` as a parameter of a field, by RFC 2231 if it is not ASCII."""
    if "=?" in value:
        raise NotCovered("it looks like an encoded word")
    if not value.isascii():
        _check_characters(value)
        formatted = f"{name}*=utf-8''{quote(value, safe='')}"
    elif value and _TEXT.fullmatch(value) and not ('"' in value or "\\" in value):
        formatted = f'{name}="{value}"'
    else:
        raise NotCovered("a control character, quote or backslash in a parameter")
    if len(formatted) > LONGEST_WORD:
        raise NotCovered("a parameter is too long for one line")
    return formatted


@lru_cache(maxsize=256)
def check_name(name: str) -> None:
    """Raise NotCovered unless `name` is a plain name of a field."""
    if not _NAME.fullmatch(name):
        raise NotCovered("an unusual field name")


def _check_characters(value: str) -> None:
    if _prohibited().search(value):
        raise NotCovered("a control character or a lone surrogate")


def _folded(name: str, value: str) -> str:
    if len(name) + 2 + len(value) <= SHORT_LINE:
        return f"{name}: {value}\r\n"
    if "  " in value or value.endswith(" "):
        # A line of nothing but white space is obsolete (RFC 5322 section 4.2).
        raise NotCovered("white space at which no line should be folded")
    # The space behind the colon is put in last, since no line is folded there.
    lines = _LINE.findall(f"{name}:{value}")
    if len(value) > LONGEST_WORD and max(map(len, lines)) > LONGEST_WORD:
        raise NotCovered("a word is too long for one line")
    whole = "\r\n ".join(lines)
    return f"{name}: {whole[len(name) + 1 :]}\r\n"


def _encoded_text(value: str, room: int, whole: bool) -> str:
    """`value` with the words from the first to the last outside ASCII as encoded words, or all."""
    words = value.split(" ")
    if "" in words:
        # White space beside an encoded word is not always kept.
        raise NotCovered("white space beside white space")
    if whole:
        return " ".join(_encoded_words(value, room, favour=0))
    foreign = [number for number, word in enumerate(words) if not word.isascii()]
    first, behind = foreign[0], foreign[-1] + 1
    room -= sum(map(len, words[:first])) + first
    encoded = _encoded_words(" ".join(words[first:behind]), room)
    return " ".join([*words[:first], *encoded, *words[behind:]])


def _encoded_words(value: str, room: int, favour: int = 4) -> Iterator[str]:
    """`value` as encoded words (RFC 2047), the first of at most `room` characters if it can be.

    In base64 where that is shorter by more than `favour`: a person may have to read it. A character
    is never divided between two words (section 5).
    """
    data = value.encode()
    quoted = "".join(map(_Q.__getitem__, data))
    start, limit = 0, min(ENCODED_TEXT, room - 12)
    if limit < 16:
        limit = ENCODED_TEXT
    if len(quoted) <= (len(data) + 2) // 3 * 4 + favour:
        while start < len(quoted):
            end = _end_of_q_word(quoted, start + limit)
            yield f"=?utf-8?q?{quoted[start:end]}?="
            start, limit = end, ENCODED_TEXT
        return
    while start < len(data):
        end = start + limit // 4 * 3
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        yield f"=?utf-8?b?{b2a_base64(data[start:end], newline=False).decode()}?="
        start, limit = end, ENCODED_TEXT


def _end_of_q_word(quoted: str, end: int) -> int:
    if end >= len(quoted):
        return len(quoted)
    while True:
        # Not inside "=C3", and not in front of "=80" to "=BF", which go on with a character.
        if quoted[end - 1] == "=":
            end -= 1
        elif quoted[end - 2] == "=":
            end -= 2
        if quoted[end] != "=" or quoted[end + 1] not in "89AB":
            return end
        end -= 3


def _mailbox(entry: str, to_ascii: Callable[[str], str]) -> str:
    """One mailbox, or several in ASCII, ready for the wire."""
    if "=?" in entry:
        raise NotCovered("it looks like an encoded word")
    if entry.isascii():
        if _mailboxes().fullmatch(entry):
            return entry
        raise NotCovered("an unusual address")
    match = _international().fullmatch(entry)
    if match is None:
        raise NotCovered("an unusual address")
    bare, quoted, local_part, domain, closed = match.groups()
    # The space in front of the "<" is no part of a bare name.
    name = bare.rstrip(" ") if bare is not None else quoted
    if (name is None) != (not closed) or name == "" or _ODD_NAME.search(name or ""):
        raise NotCovered("an unusual address")
    if not domain.isascii():
        try:
            domain = to_ascii(domain)
        except ValueError:
            raise NotCovered("no domain") from None
    spec = f"{local_part}@{domain}"
    if not _mailboxes().fullmatch(spec):
        raise NotCovered("no domain")
    return spec if name is None else f"{_phrase(name, quoted is not None)} <{spec}>"


def _phrase(name: str, quoted: bool) -> str:
    if not name.isascii():
        return " ".join(_encoded_words(name, SHORT_LINE - len("Reply-To: ")))
    return f'"{name}"' if quoted else name
