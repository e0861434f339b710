"""Content as it goes over the wire: CRLF line ends, dot-stuffing (RFC 5321 section 4.5.2), chunks.

A Body is content in its canonical form, given out in pieces, so that what came from a file is
never whole in memory.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import IO, Protocol

from ..errors import InvalidInput, NonASCII

# Written piece by piece, so that a reply in the middle is seen before the rest is sent.
PIECE = 64 * 1024
# What an iterator yields is kept in memory up to here, beyond in a temporary file: it may be
# needed again, and its size is to be known before the first octet goes out.
SPOOL = 1024 * 1024


class Body(Protocol):
    """Content with CRLF for every line end and one at the end; empty content stays empty."""

    @property
    def size(self) -> int:
        """Octets, as SIZE counts them (RFC 1870 section 5): without stuffed and final dots."""

    @property
    def is_ascii(self) -> bool:
        """False if there are octets above 127, so that 8BITMIME is needed."""

    def pieces(self) -> Iterator[bytes]:
        """The content from its beginning, as often as it is asked for."""


class Buffer:
    """A Body in memory."""

    __slots__ = ("data", "is_ascii", "size")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.is_ascii = data.isascii()

    def __bytes__(self) -> bytes:
        return self.data

    def pieces(self) -> Iterator[bytes]:
        """The content in slices."""
        return pieces(self.data)


class File:
    """A Body in a file that can be read again. `start` is where it begins."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._start = file.tell()
        self.size = 0
        self.is_ascii = True
        for piece in self.pieces():
            self.size += len(piece)
            self.is_ascii = self.is_ascii and piece.isascii()

    def pieces(self) -> Iterator[bytes]:
        """The content, read as it is needed."""
        self._file.seek(self._start)
        return canonical_pieces(iter(lambda: self._file.read(PIECE), b""))


def body(content: object) -> Body:
    """The canonical form of content: bytes, str, a binary file, an iterable of bytes, or a Body.

    Raises NonASCII for a str outside ASCII, InvalidInput for what is none of these.
    """
    if isinstance(content, (bytes, bytearray, memoryview, str)):
        return Buffer(canonical(content))
    if isinstance(content, (Buffer, File)) or hasattr(content, "pieces"):
        return content  # type: ignore[return-value]
    if isinstance(content, io.TextIOBase):
        raise InvalidInput("the content is a file opened as text: open it with mode 'rb'")
    if hasattr(content, "read"):
        if hasattr(content, "seekable") and content.seekable():
            return File(content)  # type: ignore[arg-type]
        return File(_spooled(iter(lambda: content.read(PIECE), b"")))
    if isinstance(content, Iterable):
        return File(_spooled(content))
    kind = type(content).__name__
    raise InvalidInput(f"content must be bytes, a file or an iterable of bytes, not {kind}")


def _spooled(content: Iterable[bytes]) -> IO[bytes]:
    spool = tempfile.SpooledTemporaryFile(SPOOL)  # noqa: SIM115 - closed with the last reference
    for piece in content:
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise InvalidInput(f"content must yield bytes, not {type(piece).__name__}")
        spool.write(piece)
    spool.seek(0)
    return spool


def canonical(content: bytes | bytearray | memoryview | str) -> bytes:
    """`content` with CRLF for every line end (CRLF, LF or CR), and one at the end.

    RFC 5321 section 2.3.8: bare CR and LF must not be transmitted; what one server takes for
    the end of the data and another does not is how mail is smuggled. Empty content stays empty.
    Raises NonASCII (a UnicodeEncodeError) for a str outside ASCII: how it is encoded is for its
    author to say.
    """
    if isinstance(content, str):
        if not content.isascii():
            raise NonASCII(
                "the content is a str with characters outside ASCII: encode it, and say how in its"
                " MIME header (an EmailMessage does both)",
                content[:100],
            )
        content = content.encode("ascii")
    data = _with_crlf(bytes(content))
    return data if not data or data.endswith(b"\r\n") else data + b"\r\n"


def _with_crlf(data: bytes) -> bytes:
    line_ends = data.count(b"\r\n")
    if line_ends != data.count(b"\n") or line_ends != data.count(b"\r"):
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return data


def canonical_pieces(content: Iterable[bytes]) -> Iterator[bytes]:
    """What `canonical` makes of the whole, piece by piece."""
    held = b""
    ended = True
    for piece in content:
        if not piece:
            continue
        data = held + piece
        # A CR at the end may be the first half of a CRLF.
        held = b"\r" if data.endswith(b"\r") else b""
        data = _with_crlf(data.removesuffix(b"\r"))
        if data:
            ended = data.endswith(b"\n")
            yield data
    if held or not ended:
        yield b"\r\n"


def stuffed(content: bytes) -> bytes:
    """Canonical content with each leading dot doubled, and the final dot behind it."""
    if content.startswith(b"."):
        content = b"." + content
    return content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def stuffed_pieces(content: Body) -> Iterable[bytes]:
    """What `stuffed` makes of the whole, piece by piece."""
    if not getattr(content, "leading_dots", True):
        return chain(content.pieces(), (b".\r\n",))
    if content.size > PIECE:
        return _stuffed_in_pieces(content)
    return (stuffed(b"".join(content.pieces())),)


def _stuffed_in_pieces(content: Body) -> Iterator[bytes]:
    tail = b"\r\n"
    for piece in content.pieces():
        # With the two octets before it, a dot at a border is seen to begin a line.
        yield (tail + piece).replace(b"\r\n.", b"\r\n..")[2:]
        tail = (tail + piece)[-2:]
    yield b".\r\n"


def pieces(wire: bytes) -> Iterator[bytes]:
    """`wire` in pieces of at most PIECE octets."""
    if len(wire) <= PIECE:
        return iter((wire,))
    return (wire[start : start + PIECE] for start in range(0, len(wire), PIECE))


class Chunks:
    """Cuts the pieces of a body into runs of so many octets, for BDAT."""

    def __init__(self, content: Body) -> None:
        self._pieces = content.pieces()
        self._held = b""

    def take(self, octets: int) -> Iterator[bytes]:
        """The next `octets`. Must be used up before the next are taken."""
        while octets:
            piece = self._held or next(self._pieces)
            self._held = piece[octets:]
            octets -= len(piece) - len(self._held)
            yield piece[: len(piece) - len(self._held)] if self._held else piece
