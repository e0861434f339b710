"""Messages to bytes without a tree of objects: parts in, canonical content out.

    body = render_body(Multipart("alternative", (Text("hi"), Text("<p>hi</p>", "html"))))
    content = Rendered(text("Subject", "hello") + addresses("To", ["a@example.org"]), body)
    content.size, bytes(content)

What comes out means the same as what `email.message` would have written, in fewer steps. The body
can be rendered once and sent with many heads. An attachment is encoded while it is iterated over.
What is not covered raises `header.NotCovered`: the caller then takes the slow way.
"""

from __future__ import annotations

import email.quoprimime
import re
import secrets
import struct
from binascii import b2a_base64, b2a_qp
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from io import BytesIO
from itertools import chain
from typing import NamedTuple, TypeAlias

from .header import SHORT_LINE, NotCovered, parameter
from .protocol.content import PIECE, has_long_line
from .protocol.content import pieces as slices

_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*+/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*+")
_PARAMETERS = re.compile(r"(?:; [a-z]++=(?:[A-Za-z0-9.-]++|\"[A-Za-z0-9 .-]*+\"))*+")

# RFC 2045 section 6.8: 76 characters a line, which hold 57 octets.
LINE_LENGTH = 76
LINE = 57
# Lines that are encoded at once; a piece is then about as large as what a socket takes.
LINES = 1024
# Cut as many at a time as there are.
_CUTS = [struct.Struct(f"{LINE_LENGTH}s" * lines) for lines in (LINES, 64, 16, 4, 1)]
# What quoted-printable leaves as it is, with the line ends.
_PRINTABLE = bytes(range(32, 61)) + bytes(range(62, 127)) + b"\t\r\n"


class Style(NamedTuple):
    """What the library of the slow way decides differently from its brothers."""

    # The longest line in octets that is not encoded.
    longest_line: int
    # Lines outside ASCII are not encoded either.
    eight_bit: bool
    # Base64 is used where it is shorter than quoted-printable.
    weighs_base64: bool
    # A text always ends with a line end.
    ends_text: bool


# `email.message.EmailMessage` with `email.policy.SMTP`; `email.mime` in the hands of Django 5;
# and texts that every server takes.
MODERN = Style(78, eight_bit=True, weighs_base64=True, ends_text=True)
COMPAT32 = Style(998, eight_bit=True, weighs_base64=False, ends_text=False)
SEVEN_BIT = Style(998, eight_bit=False, weighs_base64=True, ends_text=False)


class Text(NamedTuple):
    """A text/* part in UTF-8. `fields` are further content fields, as `header` writes them."""

    content: str
    subtype: str = "plain"
    fields: str = ""


class Binary(NamedTuple):
    """A part of any type, in base64. `type` may have parameters."""

    content: bytes | memoryview
    type: str = "application/octet-stream"
    fields: str = ""


class Multipart(NamedTuple):
    """A multipart/* of `parts`."""

    subtype: str
    parts: tuple[Part, ...]


Part: TypeAlias = Text | Binary | Multipart


class Base64:
    """Octets that are encoded piece by piece while one iterates; `size` is known before."""

    __slots__ = ("data", "size")

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = memoryview(data).cast("B") if isinstance(data, memoryview) else data
        octets = len(self.data)
        self.size = (octets + 2) // 3 * 4 + (octets + LINE - 1) // LINE * 2

    def __iter__(self) -> Iterator[bytes]:
        view = memoryview(self.data)
        for start in range(0, len(view), LINE * LINES):
            yield _base64(view[start : start + LINE * LINES])


def _base64(data: bytes | memoryview) -> bytes:
    """`data` in base64, in lines."""
    encoded = b2a_base64(data, newline=False)
    lines: list[bytes] = []
    at = 0
    for cut in _CUTS:
        while len(encoded) - at >= cut.size:
            lines += cut.unpack_from(encoded, at)
            at += cut.size
    if at < len(encoded):
        lines.append(encoded[at:])
    lines.append(b"")
    return b"\r\n".join(lines)


Piece: TypeAlias = bytes | Base64


class RenderedBody:
    """A rendered body: its content fields, and its pieces. It never changes; use it often."""

    __slots__ = ("content", "fields", "is_ascii", "leading_dots", "size", "small")

    def __init__(self, fields: str, pieces: Sequence[Piece]) -> None:
        self.fields = fields
        self.content: tuple[Piece, ...] = tuple(pieces if len(pieces) == 1 else _merged(pieces))
        only = self.content[0] if len(self.content) == 1 else None
        #: All of it, if it is small and no attachment: what nearly every body is.
        self.small = only if isinstance(only, bytes) and len(only) <= PIECE else None
        self.size = 0
        self.is_ascii, self.leading_dots = True, False
        # Each begins a line, or with a line end.
        for piece in pieces:
            if not isinstance(piece, bytes):
                # A piece of base64 has no dots.
                self.size += piece.size
                continue
            self.size += len(piece)
            self.is_ascii = self.is_ascii and piece.isascii()
            # A dot is looked for first, since one octet is found in a fraction of the time for two;
            # and those from the end, which takes half the time.
            self.leading_dots = self.leading_dots or (
                b"." in piece and (piece.rfind(b"\n.") >= 0 or piece.startswith(b"."))
            )

    def __iter__(self) -> Iterator[bytes]:
        """The octets in pieces, encoded as they are asked for."""
        return chain.from_iterable(slices(p) if isinstance(p, bytes) else p for p in self.content)


class Rendered:
    """A whole message, canonical as it is: a `protocol.content.Body`.

    `bytes()` of it is the message in one. `size` is in octets. Where `is_ascii` is true there is
    no need for 8BITMIME; where `leading_dots` is false, none for dot-stuffing.
    """

    __slots__ = ("body", "head", "is_ascii", "leading_dots", "size")

    #: No line is longer than a server must take: what would be is encoded, or not covered.
    long_lines = False

    def __init__(self, fields: str, body: RenderedBody) -> None:
        self.head = f"MIME-Version: 1.0\r\n{body.fields}{fields}\r\n".encode("ascii")
        self.body = body
        self.size = len(self.head) + body.size
        self.is_ascii = body.is_ascii
        self.leading_dots = body.leading_dots

    def pieces(self) -> Iterator[bytes]:
        """The message from its beginning, as often as it is asked for; first the header."""
        small = self.body.small
        if small is None or self.size > PIECE:
            return chain((self.head,), self.body)
        return iter((self.head + small,))

    def __bytes__(self) -> bytes:
        if len(self.body.content) == 1:
            return b"".join(self.pieces())
        # Joining the pieces of an attachment would hold it twice.
        whole = BytesIO()
        whole.writelines(self.pieces())
        return whole.getvalue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} message of {self.size} octets>"


def render_body(part: Part, style: Style = MODERN) -> RenderedBody:
    """`part` as the body of a message. Raises NotCovered."""
    pieces: list[Piece] = []
    fields = _write(part, style, pieces)
    last = pieces[-1]
    if isinstance(last, bytes) and last and not last.endswith(b"\r\n"):
        pieces.append(b"\r\n")
    return RenderedBody(fields, pieces)


def disposition(kind: str, filename: str | None = None) -> str:
    """The Content-Disposition field. Raises NotCovered."""
    if filename is None:
        return f"Content-Disposition: {kind}\r\n"
    field = f"Content-Disposition: {kind}; {parameter('filename', filename)}"
    if len(field) > SHORT_LINE:
        field = field.replace("; ", ";\r\n ", 1)
    return field + "\r\n"


def _write(part: Part, style: Style, out: list[Piece]) -> str:
    """Append the content of `part` to `out`; return its content fields."""
    if isinstance(part, Multipart):
        return _write_multipart(part, style, out)
    piece: Piece
    if isinstance(part, Text):
        encoding, piece = _encoded(part.content, style)
        kind = _checked_type(f"text/{part.subtype}", '; charset="utf-8"')
    else:
        encoding, piece = "base64", Base64(part.content)
        name, semicolon, parameters = part.type.partition(";")
        kind = _checked_type(name, semicolon + parameters)
    out.append(piece)
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n{part.fields}"


@lru_cache(maxsize=256)
def _checked_type(name: str, parameters: str = "") -> str:
    if not _TYPE.fullmatch(name) or not _PARAMETERS.fullmatch(parameters):
        raise NotCovered("an unusual content type")
    if len(name) + len(parameters) > SHORT_LINE - len("Content-Type: "):
        raise NotCovered("a content type that is too long for one line")
    return name + parameters


def _write_multipart(part: Multipart, style: Style, out: list[Piece]) -> str:
    # 128 random bits: nobody can write the boundary into a text, and it need not be looked for.
    # The "=" keeps it out of quoted-printable and base64.
    boundary = f"==============={secrets.token_hex(16)}=="
    delimiter = f"--{boundary}\r\n"
    for child in part.parts:
        content: list[Piece] = []
        fields = _write(child, style, content)
        out.append(f"{delimiter}{fields}\r\n".encode("ascii"))
        out += content
        delimiter = f"\r\n--{boundary}\r\n"
    out.append(f"\r\n--{boundary}--\r\n".encode("ascii"))
    kind = _checked_type(f"multipart/{part.subtype}")
    return f'Content-Type: {kind};\r\n boundary="{boundary}"\r\n'


def _merged(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The same with neighbours made one, where both are bytes already."""
    texts: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            texts.append(piece)
            continue
        if texts:
            yield b"".join(texts)
            texts.clear()
        yield piece
    if texts:
        yield b"".join(texts)


def _encoded(content: str, style: Style) -> tuple[str, bytes]:
    """The transfer encoding for a text, and the text in it."""
    try:
        data = content.encode()
    except UnicodeEncodeError:
        raise NotCovered("a lone surrogate") from None
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    data = data.replace(b"\n", b"\r\n")
    closed = data.endswith(b"\n")
    if style.ends_text and not closed:
        # An empty text becomes an empty line.
        data, closed = data + b"\r\n", True
    ascii_only = content.isascii()
    if (ascii_only or style.eight_bit) and not has_long_line(data, style.longest_line):
        return "7bit" if ascii_only else "8bit", data
    if style.weighs_base64 and _base64_is_shorter(data):
        return "base64", _base64(data)
    if closed:
        return "quoted-printable", b2a_qp(data, istext=True)
    # Without a line end in the text, b2a_qp would break lines by a bare LF.
    return "quoted-printable", b2a_qp(data + b"\r\n", istext=True)[:-2]


def _base64_is_shorter(data: bytes) -> bool:
    """Decide as `email.contentmanager` does, from the first ten lines."""
    lines = data.split(b"\r\n", 10)
    sniff = b"\r\n".join(lines[:10])
    if len(lines) > 10 or lines[-1]:
        sniff += b"\r\n"
    base64 = (len(sniff) + 2) // 3 * 4 + 1
    # Each octet that is not printable takes three; line breaks add a little, at most this.
    quoted = len(sniff) + 2 * len(sniff.translate(None, _PRINTABLE)) - 10
    if quoted > base64:
        return True
    if quoted + 50 + quoted // 30 <= base64:
        return False
    return len(email.quoprimime.body_encode(sniff.decode("latin-1"), SHORT_LINE)) > base64
