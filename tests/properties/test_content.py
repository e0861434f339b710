"""Content: what the server un-stuffs is the canonical content, and nothing ends it early."""

from __future__ import annotations

import io
import itertools
import re
import tracemalloc

from hypothesis import example, given
from hypothesis import strategies as st

from mailbridge.protocol.content import (
    PIECE,
    Buffer,
    Prefixed,
    body,
    canonical,
    pieces,
    stuffed,
    stuffed_pieces,
)

contents = st.lists(
    st.one_of(st.binary(max_size=6), st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"\r\n.\r\n"])),
    max_size=20,
).map(b"".join)


def received(wire: bytes) -> tuple[bytes, bytes]:
    """Content and rest, read as RFC 5321 section 4.5.2 tells a server."""
    lines = []
    while True:
        line, _, wire = wire.partition(b"\r\n")
        if line == b".":
            return b"".join(lines), wire
        lines.append(line.removeprefix(b".") + b"\r\n")


def test_what_is_canonical_already_is_not_copied() -> None:
    """Octets that somebody holds are looked at in pieces: there may be many of them."""
    whole = (b"x" * 76 + b"\r\n") * (60 * PIECE // 78)
    tracemalloc.start()
    try:
        assert canonical(whole) is whole
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * PIECE


@given(st.integers(0, 4), st.sampled_from([b"\r\n", b"\r", b"\n", b"\n\r"]))
def test_line_ends_at_the_border_of_a_piece(before: int, line_end: bytes) -> None:
    start = b"x\r\n" + b"y" * (PIECE - 3 - before)
    expected = start + line_end.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(
        b"\n", b"\r\n"
    )
    assert canonical(start + line_end + b"z") == expected + b"z\r\n"


@given(contents)
@example(b"a\r\n.\r\nRSET\r\n")
@example(b"a\n.\nRSET")
@example(b"a\r.\rRSET")
@example(b".")
@example(b"\r\r\n")
def test_what_is_stuffed_arrives(content: bytes) -> None:
    data = canonical(content)
    wire = stuffed(data)
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", wire)
    assert received(wire) == (data, b"")
    assert not re.search(rb"(?:^|\r\n)\.\r\n", wire[:-3] if data else b"")


@given(contents)
def test_canonical_content(content: bytes) -> None:
    data = canonical(content)
    assert canonical(data) == data
    assert canonical(bytearray(content)) == canonical(memoryview(content)) == data
    assert data.endswith(b"\r\n") or data == content == b""
    # RFC 5321 section 4.1.1.4: no CRLF more than is missing.
    assert re.split(rb"\r\n|\r|\n", content.rstrip(b"\r\n")) == re.split(
        rb"\r\n", data.rstrip(b"\r\n")
    )


@given(st.text(max_size=30))
def test_a_text_is_ascii_or_a_value_error(content: str) -> None:
    try:
        data = canonical(content)
    except ValueError:
        assert not content.isascii()
    else:
        assert data == canonical(content.encode("ascii"))


@given(st.integers(0, 3 * PIECE))
@example(PIECE)
@example(PIECE + 1)
@example(0)
def test_pieces_are_the_whole(size: int) -> None:
    wire = bytes(size)
    parts = list(pieces(wire))
    assert b"".join(parts) == wire
    assert all(len(part) <= PIECE for part in parts)


@given(contents, st.lists(st.integers(0, 40), max_size=8))
@example(b"a\r\n.\r\n", [1, 2, 3])
@example(b"a\r", [2])
@example(b"\r\n.\r\rx", [1, 2, 4, 5])
def test_content_is_the_same_wherever_it_comes_from(content: bytes, cuts: list[int]) -> None:
    """Octets, a file, an iterator of any pieces: CRLF only, and the same octets on the wire."""
    places = [0, *sorted(cuts), len(content)]
    parts = [content[a:b] for a, b in itertools.pairwise(places)]
    expected = canonical(content)
    for given_as in (content, bytearray(content), io.BytesIO(content), Unseekable(parts), parts):
        made = body(given_as)
        for _ in range(2):
            assert b"".join(made.pieces()) == expected
        assert (made.size, made.is_ascii) == (len(expected), expected.isascii())
        assert b"".join(stuffed_pieces(made)) == stuffed(expected)
        signed = Prefixed(b"DKIM-Signature: x\r\n", made)
        assert b"".join(signed.pieces()) == b"DKIM-Signature: x\r\n" + expected
        assert signed.size == made.size + 19
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", expected)
    assert Buffer(expected).long_lines is False


class Unseekable:
    """A file as a socket or a pipe is one: read once, in whatever pieces come."""

    def __init__(self, parts: list[bytes]) -> None:
        self._rest = b"".join(parts)
        self._sizes = [len(part) for part in parts if part]

    def read(self, size: int) -> bytes:
        size = self._sizes.pop(0) if self._sizes else size
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece
