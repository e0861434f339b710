"""Content: what the server un-stuffs is the canonical content, and nothing ends it early."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from mailbridge.protocol.content import PIECE, canonical, pieces, stuffed

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
