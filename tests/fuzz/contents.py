"""Fuzz what becomes of content with atheris: canonical, stuffed, in pieces, in chunks, re-encoded.

Not run by pytest. ``pip install atheris`` (Linux, CPython up to 3.13), then

    python -m tests.fuzz.contents -max_total_time=600 -max_len=3000
"""

from __future__ import annotations

import email
import email.message
import email.policy
import re
import sys
from collections.abc import Iterator

import atheris

from tests.fuzz.words import spelled

with atheris.instrument_imports(include=["mailbridge"]):
    from mailbridge.errors import InvalidInput
    from mailbridge.protocol import content
    from mailbridge.protocol.content import Buffer, Chunks, body, canonical, stuffed
    from mailbridge.rewriting import re_encoded

WORDS = [
    *(
        b"\r\n",
        b"\r\n.\r\n",
        b".",
        b"\r\n..",
        b"\r",
        b"\n",
        b"\r\n\r\n",
        b"\xff",
        b"\xc3\xa9",
        b"\0",
    ),
    *(b"Subject: x\r\n", b"MIME-Version: 1.0\r\n", b"Content-Type: text/plain; charset=utf-8\r\n"),
    *(b"Content-Type: ", b"text/html", b"image/png", b"message/rfc822", b"multipart/mixed; "),
    *(
        b"multipart/signed; ",
        b"boundary=b\r\n",
        b"--b\r\n",
        b"--b--\r\n",
        b"--b",
        b"charset=",
        b";",
    ),
    *(b"Content-Transfer-Encoding: ", b"8bit\r\n", b"7bit\r\n", b"binary\r\n", b"base64\r\n"),
    *(
        b"quoted-printable\r\n",
        b"=C3=A9",
        b"w6k=",
        b"=\r\n",
        b" ",
        b"\t",
        b'"',
        b"x" * 100,
        b"y" * 990,
        b"DKIM-Signature: x\r\n",
    ),
]
POLICY = email.policy.compat32
BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
# Small, so that short contents have borders in every place.
content.PIECE = 32


def one_input(data: bytes) -> None:
    """However the content comes and goes, the server has the canonical one, and no more."""
    sizes = [octet % 97 + 1 for octet in data[:4]] or [1]
    given = b"".join(spelled(data[4:], WORDS))
    whole = canonical(given)
    assert not BARE.search(whole)
    assert canonical(whole) == whole
    assert whole.endswith(b"\r\n") or not given
    check_dots(whole, stuffed(whole))
    for each in (body(given), body(cut(given, sizes)), Buffer(whole)):
        assert each.size == len(whole)
        assert b"".join(each.pieces()) == whole
        check_dots(whole, b"".join(content.stuffed_pieces(each)))
        check_chunks(whole, each, sizes)
    for eight_bit in (True, False):
        check_fitting(whole, eight_bit=eight_bit)


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """`data` in pieces of these sizes, over and over."""
    while data:
        for size in sizes:
            yield data[:size]
            data = data[size:]


def check_dots(whole: bytes, wire: bytes) -> None:
    """A server that reads as RFC 5321 section 4.5.2 says has the whole, and nothing is left."""
    lines = wire.split(b"\r\n")
    end = lines.index(b".")
    assert lines[end + 1 :] == [b""]
    received = b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:end])
    assert received == whole
    assert not BARE.search(wire)


def check_chunks(whole: bytes, each: object, sizes: list[int]) -> None:
    """Chunks are of the size that was announced, and together the whole."""
    chunks, left, received = Chunks(each), len(whole), b""
    for size in sizes * (left // sum(sizes) + 1):
        size = min(size, left)
        chunk = b"".join(chunks.take(size))
        assert len(chunk) == size
        received, left = received + chunk, left - size
    assert received == whole


def check_fitting(whole: bytes, *, eight_bit: bool) -> None:
    """What a server cannot take means the same in what it can, or it is an error that says why."""
    takes = (eight_bit or whole.isascii()) and max(map(len, whole.split(b"\r\n"))) <= 998
    try:
        fitted, changes = re_encoded(whole, eight_bit=eight_bit)
    except InvalidInput:
        assert not takes
        return
    assert (fitted == whole, bool(changes)) == (True, False) if takes else changes
    assert eight_bit or fitted.isascii()
    assert max(map(len, fitted.split(b"\r\n"))) <= 998
    assert not BARE.search(fitted)
    if takes:
        return
    before, after = (email.message_from_bytes(c, policy=POLICY) for c in (whole, fitted))
    leaves = list(zip(before.walk(), after.walk(), strict=True))
    if any(part.defects for part, _ in leaves):
        return
    for was, now in leaves:
        # Where it is folded says nothing.
        assert was.get_content_type().split() == now.get_content_type().split()
        if not was.is_multipart():
            assert decoded(was) == decoded(now)


def decoded(part: email.message.Message) -> list[bytes]:
    """What a reader sees of it, line by line."""
    payload = part.get_payload(decode=True)
    return payload.splitlines() if isinstance(payload, bytes) else []


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
