"""Bodies and whole messages: the pieces, their size, and what is known of them."""

from __future__ import annotations

import base64
import email
import email.policy
import tracemalloc
from typing import Any

import pytest

from mailbridge.header import NotCovered, text
from mailbridge.protocol.content import PIECE, body, stuffed, stuffed_pieces
from mailbridge.render import (
    COMPAT32,
    MODERN,
    SEVEN_BIT,
    Base64,
    Binary,
    Multipart,
    Part,
    Rendered,
    Style,
    Text,
    disposition,
    render_body,
)

STYLES = [MODERN, COMPAT32, SEVEN_BIT]


def rendered(part: Part, style: Style = MODERN) -> Rendered:
    return Rendered(text("Subject", "x"), render_body(part, style))


def parsed(message: Rendered) -> Any:
    return email.message_from_bytes(bytes(message), policy=email.policy.default)


SIZES = [0, 1, 2, 56, 57, 58, 1200, 3647, 3648, 3649, 58367, 58368, 58369, 58368 * 2, 150_000]


@pytest.mark.parametrize("size", SIZES)
def test_base64_is_cut_into_lines(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    encoded = Base64(data)
    written = b"".join(encoded)
    assert written.replace(b"\r\n", b"\n") == base64.encodebytes(data)
    assert written.count(b"\r\n") == written.count(b"\n")
    assert encoded.size == len(written)


def test_base64_of_a_view_of_numbers() -> None:
    view = memoryview(b"abcdefgh").cast("I")
    assert b"".join(Base64(view)) == b"YWJjZGVmZ2g=\r\n"


@pytest.mark.parametrize(
    ("content", "style", "encoding", "written"),
    [
        ("", MODERN, "7bit", b"\r\n"),
        ("", COMPAT32, "7bit", b""),
        ("a", MODERN, "7bit", b"a\r\n"),
        ("a", COMPAT32, "7bit", b"a\r\n"),
        ("a\r\n", MODERN, "7bit", b"a\r\n"),
        ("a\rb\n\n", COMPAT32, "7bit", b"a\r\nb\r\n\r\n"),
        ("ä", MODERN, "8bit", b"\xc3\xa4\r\n"),
        ("ä", COMPAT32, "8bit", b"\xc3\xa4\r\n"),
        ("Café", SEVEN_BIT, "quoted-printable", b"Caf=C3=A9\r\n"),
        ("你好世界", SEVEN_BIT, "base64", b"5L2g5aW95LiW55WM\r\n"),
        ("x" * 79, MODERN, "quoted-printable", b"x" * 75 + b"=\r\nxxxx\r\n"),
        ("x" * 79, COMPAT32, "7bit", b"x" * 79 + b"\r\n"),
        ("é " * 400 + "x" * 999, COMPAT32, "quoted-printable", None),
        ("é" * 40, MODERN, "base64", None),
    ],
)
def test_the_encoding_of_a_text(
    content: str, style: Style, encoding: str, written: bytes | None
) -> None:
    message = rendered(Text(content), style)
    part = parsed(message)
    assert part["Content-Transfer-Encoding"] == encoding
    assert written is None or bytes(message).partition(b"\r\n\r\n")[2] == written
    assert part.get_content().split() == content.split()
    assert message.is_ascii == (encoding != "8bit")


@pytest.mark.parametrize("style", STYLES)
def test_the_parts_of_a_message(style: Style) -> None:
    message = rendered(
        Multipart(
            "mixed",
            (
                Multipart("alternative", (Text("hi"), Text("<p>hi</p>", "html"))),
                Binary(b"\x89PNG", "image/png", disposition("inline", "ü.png")),
                Binary(b"a,b", 'text/csv; charset="utf-8"', disposition("attachment")),
            ),
        ),
        style,
    )
    alternative, image, table = parsed(message).iter_parts()
    assert [part.get_content().strip() for part in alternative.iter_parts()] == ["hi", "<p>hi</p>"]
    assert (image.get_content(), image.get_filename()) == (b"\x89PNG", "ü.png")
    assert (table.get_content(), table.get_content_disposition()) == ("a,b", "attachment")
    assert message.size == len(bytes(message))
    assert message.is_ascii
    assert not message.leading_dots


@pytest.mark.parametrize(
    ("part", "dots"),
    [
        (Text("a.b"), False),
        (Text(".a"), True),
        (Text("a\n."), True),
        (Multipart("mixed", (Text(".", "html"), Binary(b"x"))), True),
        (Multipart("mixed", (Binary(b"x"), Text("a\n..b"))), True),
        (Multipart("mixed", (Binary(b"."), Text("a"))), False),
    ],
)
def test_leading_dots_are_known(part: Part, dots: bool) -> None:
    assert rendered(part).leading_dots is dots


def test_one_body_under_many_heads() -> None:
    body = render_body(Multipart("alternative", (Text("hi"), Text("hi", "html"))))
    first, second = (Rendered(text("Subject", subject), body) for subject in "ab")
    assert bytes(first).replace(b"Subject: a", b"Subject: b") == bytes(second)


@pytest.mark.parametrize(
    "part",
    [
        Text("a", "plain\r\nBcc: x@example.org"),
        Text("a", "plain; charset=utf-8"),
        Text("a", ""),
        Text("\ud800"),
        Binary(b"", "image"),
        Binary(b"", "image/png\n"),
        Binary(b"", 'image/png; name="a\nb"'),
        Binary(b"", "image/" + "x" * 80),
        Multipart("mixed; x=y", (Text(""),)),
        Multipart("mixed", (Binary(b"", "a b/c"),)),
    ],
)
def test_what_is_left_alone(part: Part) -> None:
    with pytest.raises(NotCovered):
        render_body(part)


def test_a_large_attachment_is_never_whole_in_memory() -> None:
    message = rendered(Multipart("mixed", (Text("a"), Binary(bytes(8 * 2**20)))))
    tracemalloc.start()
    size = sum(map(len, message.pieces()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == message.size
    assert peak < 2**20


def test_a_long_file_name_stands_on_a_line_of_its_own() -> None:
    field = disposition("attachment", "x" * 100)
    assert field.split("\r\n") == [
        "Content-Disposition: attachment;",
        f' filename="{"x" * 100}"',
        "",
    ]


def test_a_message_can_be_sent_as_it_is() -> None:
    message = rendered(Multipart("mixed", (Text("." + "ä\n" * 100_000), Binary(bytes(100_000)))))
    assert body(message) is message
    pieces = list(message.pieces())
    assert max(map(len, pieces)) < 2 * PIECE
    assert b"".join(pieces) == bytes(message)
    assert b"".join(stuffed_pieces(message)) == stuffed(bytes(message))
