"""Content as it goes over the wire: CRLF line ends and dot-stuffing (RFC 5321 section 4.5.2)."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import NonASCII

# Written piece by piece, so that a reply in the middle is seen before the rest is sent.
PIECE = 64 * 1024


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
    data = bytes(content)
    line_ends = data.count(b"\r\n")
    if line_ends != data.count(b"\n") or line_ends != data.count(b"\r"):
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    if data and not data.endswith(b"\r\n"):
        data += b"\r\n"
    return data


def stuffed(content: bytes) -> bytes:
    """Canonical content with each leading dot doubled, and the final dot behind it."""
    if content.startswith(b"."):
        content = b"." + content
    return content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def pieces(wire: bytes) -> Iterator[bytes]:
    """`wire` in pieces of at most PIECE octets."""
    if len(wire) <= PIECE:
        yield wire
        return
    for start in range(0, len(wire), PIECE):
        yield wire[start : start + PIECE]
