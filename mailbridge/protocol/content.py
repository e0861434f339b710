"""Content as it goes over the wire: CRLF line ends, dot-stuffing (RFC 5321 section 4.5.2), chunks.

A Body is content in its canonical form, given out in pieces, so that what came from a file is
never whole in memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import IO, Protocol

from ..errors import InvalidInput, NonASCII

# Written piece by piece, so that a reply in the middle is seen before the rest is sent.
PIECE = 64 * 1024
# Octets in a BDAT chunk: large enough to keep a long path busy, and a refusal in the middle still
# saves most of a large content.
CHUNK = 1024 * 1024
# RFC 5321 section 4.5.3.1.6: without the line end, and without the dot of dot-stuffing.
LONGEST_LINE = 998
FINAL_DOT = b".\r\n"
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

    @property
    def long_lines(self) -> bool:
        """True if a line is longer than LONGEST_LINE."""

    def pieces(self) -> Iterator[bytes]:
        """The content from its beginning, as often as it is asked for."""


class Buffer:
    """A Body in memory."""

    __slots__ = ("data", "is_ascii", "size")
    leading_dots = True

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.is_ascii = data.isascii()

    def __bytes__(self) -> bytes:
        return self.data

    @property
    def long_lines(self) -> bool:
        """True if a line is longer than LONGEST_LINE."""
        return has_long_line(self.data)

    def pieces(self) -> Iterator[bytes]:
        """The content in slices."""
        return iter((self.data,)) if self.size <= PIECE else pieces(self.data)


class Binary(Buffer):
    """Content that is sent as it is, bare CR, LF and NUL included (BINARYMIME, RFC 3030 section 3).

    Its parts that are not text have ``Content-Transfer-Encoding: binary``; lines in the header
    and in texts end in CRLF, which is for its author to see to.
    """

    __slots__ = ()

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise InvalidInput(f"binary content must be bytes, not {type(data).__name__}")
        super().__init__(bytes(data))

    @property
    def long_lines(self) -> bool:
        """True: it has no lines that a limit could be for, so none is short enough."""
        return True


class Prefixed:
    """A Body with a header field in front of it, which is ASCII and has no long line."""

    def __init__(self, field: bytes, content: Body) -> None:
        self._field = field
        self._content = content
        self.size = len(field) + content.size
        self.is_ascii = content.is_ascii
        self.long_lines = content.long_lines
        self.leading_dots = getattr(content, "leading_dots", True)

    def pieces(self) -> Iterator[bytes]:
        """The field, and the content behind it."""
        yield self._field
        yield from self._content.pieces()


class File:
    """A Body in a file that can be read again. It begins where the file stands now.

    Raises InvalidInput for a file that is not read as bytes, and while it is read again, if it
    was changed in the meantime: the server was told what it is to get.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file: IO[bytes] = file
        self._start = file.tell()
        self.size = 0
        self.is_ascii = True
        self.long_lines = False
        tail = b""
        for piece in self._canonical():
            self.size += len(piece)
            self.is_ascii = self.is_ascii and piece.isascii()
            if not self.long_lines:
                # A line may go on in the next piece.
                tail += piece
                self.long_lines = has_long_line(tail)
                tail = tail[tail.rfind(b"\n") + 1 :]

    def pieces(self) -> Iterator[bytes]:
        """The content, read as it is needed."""
        left = self.size
        for piece in self._canonical():
            left -= len(piece)
            if left < 0 or (self.is_ascii and not piece.isascii()):
                raise _changed()
            yield piece
        if left:
            raise _changed()

    def _canonical(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        return canonical_pieces(iter(self._read, b""))

    def _read(self) -> bytes:
        piece = self._file.read(PIECE)
        if not isinstance(piece, bytes):
            # A text of no encoding that we know of, or None from a file that does not block.
            raise InvalidInput(f"the content's read() gives {type(piece).__name__}, not bytes")
        return piece


def _changed() -> InvalidInput:
    return InvalidInput("the file with the content was changed while it was being sent")


class Spool(File):
    """A Body of what can be had only once: kept in memory, or in a temporary file if it is large.

    Raises InvalidInput for what is no bytes.
    """

    def __init__(self, content: Iterable[bytes]) -> None:
        import tempfile  # Imported here: content is mostly bytes.

        self._file = tempfile.SpooledTemporaryFile(SPOOL)  # noqa: SIM115 - closed by __del__
        for piece in content:
            if not isinstance(piece, (bytes, bytearray, memoryview)):
                raise InvalidInput(f"content must yield bytes, not {type(piece).__name__}")
            self._file.write(piece)
        self._file.seek(0)
        super().__init__(self._file)

    def __del__(self) -> None:
        self._file.close()


def body(content: object) -> Body:
    """The canonical form of content: bytes, str, a binary file, an iterable of bytes, or a Body.

    Raises NonASCII for a str outside ASCII, InvalidInput for what is none of these.
    """
    held = in_memory(content)
    if held is not None:
        return held
    if isinstance(content, io.TextIOBase):
        raise InvalidInput("the content is a file opened as text: open it with mode 'rb'")
    if hasattr(content, "read"):
        if hasattr(content, "seekable") and content.seekable():
            return File(content)  # type: ignore[arg-type]
        return Spool(iter(lambda: content.read(PIECE), b""))
    if isinstance(content, Iterable):
        return Spool(content)
    kind = type(content).__name__
    raise InvalidInput(f"content must be bytes, a file or an iterable of bytes, not {kind}")


def in_memory(content: object) -> Body | None:
    """The same of bytes, str or a Body; None for what would have to be read first."""
    if isinstance(content, (bytes, bytearray, memoryview, str)):
        return Buffer(canonical(content))
    return content if hasattr(content, "pieces") else None  # type: ignore[return-value]


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
    # It takes note of the kinds of line ends that it sees, in one look at each octet; piece by
    # piece, since it looks at a text, which is a copy.
    seen, size = io.IncrementalNewlineDecoder(None, translate=False), len(data)
    for start in range(0, size, PIECE):
        text = data[start : start + PIECE].decode("latin-1")
        seen.decode(text, final=start + PIECE >= size)
    if seen.newlines in ("\r\n", None):
        return data
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def has_long_line(data: bytes, longest: int = LONGEST_LINE) -> bool:
    """True if a line of `data` is longer than `longest`, the last one with or without its end.

    Looks from one line end to the last one that is near enough, so it reads little of the rest.
    """
    start, enough, reach = 0, len(data) - longest, longest + 2
    while start < enough:
        start = data.rfind(b"\n", start, start + reach) + 1
        if not start:
            return True
    return False


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
    return dotted(content) + FINAL_DOT


def dotted(content: bytes) -> bytes:
    """Canonical content with each leading dot doubled."""
    if content.startswith(b"."):
        content = b"." + content
    # Mostly there is none, and from the end that is found out in half the time.
    if content.rfind(b"\r\n.") >= 0:
        content = content.replace(b"\r\n.", b"\r\n..")
    return content


def wire_of(content: Body, *, dots: bool) -> bytes | Iterable[bytes]:
    """A content as it is sent: whole if it is small, else piece by piece.

    With `dots` as it follows DATA, `stuffed`; else as it follows BDAT.
    """
    if content.size > PIECE:
        return stuffed_pieces(content) if dots else content.pieces()
    data = in_one_piece(content, dots=dots)
    return data + FINAL_DOT if dots else data


def in_one_piece(content: Body, *, dots: bool) -> bytes:
    """A small content, as it is before the final dot; with `dots` those that lead are doubled."""
    data = content.data if isinstance(content, Buffer) else b"".join(content.pieces())
    return dotted(data) if dots and getattr(content, "leading_dots", True) else data


def stuffed_pieces(content: Body) -> Iterable[bytes]:
    """What `stuffed` makes of the whole, piece by piece."""
    if getattr(content, "leading_dots", True):
        return _stuffed_in_pieces(content)
    return chain(content.pieces(), (b".\r\n",))


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
