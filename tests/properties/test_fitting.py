"""Fitting: whatever is changed decodes to the same, fits afterwards, and is not changed again."""

from __future__ import annotations

import email
import email.policy
import re
from email.message import EmailMessage, Message

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailbridge import InvalidInput
from mailbridge.protocol.content import canonical
from mailbridge.rewriting import re_encoded

FRAGMENTS = (
    b"Subject: |Content-Type: |text/plain; charset=|utf-8|nonesuch|8bit|base64|\xff|--b|--b--|x|"
    b"Content-Transfer-Encoding: |multipart/mixed; boundary=b|message/rfc822|\xc3\xa9|text/html"
    b"|\r\n"
)
chunks = st.sampled_from([*FRAGMENTS.split(b"|"), b"\r\n\r\n", b"x" * 999, b" y" * 600])


def longest(content: bytes) -> int:
    return max(map(len, content.split(b"\r\n")))


@given(
    st.one_of(st.lists(chunks, max_size=14).map(b"".join), st.binary(max_size=40)), st.booleans()
)
@example(b"Subject: \xff\r\n\r\n\xff", False)
@example(b"Content-Type: text/plain; charset=nonesuch\r\n\r\n\xc3\xa9", False)
@example(b"Content-Type: message/rfc822\r\n\r\n\xff", False)
def test_any_content_fits_afterwards_or_is_refused(content: bytes, eight_bit: bool) -> None:
    content = canonical(content)
    try:
        data, changes = re_encoded(content, eight_bit=eight_bit)
    except InvalidInput:
        assert longest(content) > 998 or not content.isascii()
    else:
        assert longest(data) <= 998
        assert eight_bit or data.isascii()
        assert canonical(data) == data
        assert bool(changes) == (data != content)
        assert re_encoded(data, eight_bit=eight_bit) == (data, ())


lines = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=80),
    st.builds(
        lambda text, times: text * times, st.text("aé= .\t", min_size=1), st.integers(1, 900)
    ),
    st.sampled_from(["", ".", "..", "--b", "From me", "x" * 998, "x" * 999, "é" * 600, " " * 1200]),
)
texts = st.lists(lines, max_size=6).map("\r\n".join)


@st.composite
def parts(draw: st.DrawFn, depth: int = 2) -> EmailMessage:
    """A message of any shape, with its texts as they are, not encoded."""
    part = EmailMessage(policy=email.policy.SMTP)
    kind = draw(st.sampled_from(["text", "octets", "multipart", "message"] if depth else ["text"]))
    if kind == "multipart":
        part["Content-Type"] = draw(st.sampled_from(["multipart/mixed", "multipart/alternative"]))
        inner = draw(st.lists(parts(depth - 1), min_size=1, max_size=3))
        part.set_payload(inner)
    elif kind == "message":
        part["Content-Type"] = "message/rfc822"
        message = draw(parts(depth - 1))
        message["Subject"] = "inner"
        part.set_payload([message])
    else:
        octets = draw(texts).encode()
        encoding = draw(st.sampled_from(["7bit", "8bit", "8bit", "quoted-printable", "base64"]))
        names = ["text/plain; charset=utf-8", "text/html; charset=utf-8"]
        part["Content-Type"] = (
            draw(st.sampled_from(names)) if kind == "text" else "application/x-lines"
        )
        part["Content-Transfer-Encoding"] = encoding
        if encoding in ("quoted-printable", "base64"):
            octets = octets.hex().encode()
        part.set_payload(octets.decode("ascii", "surrogateescape"))
    return part


def decoded(message: Message) -> list[object]:
    """The structure of a message with what every part decodes to."""
    found: list[object] = []
    for part in message.walk():
        found.append(part.get_content_type())
        if not part.is_multipart():
            octets = part.get_payload(decode=True)
            assert isinstance(octets, bytes)
            # At the end of a message, whether there is a line end is for the message to say.
            found.append(re.sub(rb"\r?\n\Z", b"", octets))
    return found


@given(parts(), st.booleans())
def test_what_was_changed_decodes_to_the_same(part: EmailMessage, eight_bit: bool) -> None:
    part["MIME-Version"] = "1.0"
    part["Subject"] = "outer"
    content = canonical(part.as_bytes())
    data, changes = re_encoded(content, eight_bit=eight_bit)
    assert longest(data) <= 998
    assert eight_bit or data.isascii()
    assert bool(changes) == (data != content)
    assert canonical(data) == data
    before = email.message_from_bytes(content, policy=email.policy.default)
    after = email.message_from_bytes(data, policy=email.policy.default)
    assert decoded(after) == decoded(before)
    assert re_encoded(data, eight_bit=eight_bit) == (data, ())


words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=1200)


@given(st.lists(words, max_size=20), st.sampled_from([" ", "  ", " \t"]))
def test_a_folded_field_unfolds_to_the_same(value: list[str], space: str) -> None:
    content = canonical(f"From: a@x.org\r\nSubject: {space.join(value)}\r\n\r\nx\r\n")
    try:
        data, _ = re_encoded(content, eight_bit=False)
    except InvalidInput:
        assert max(map(len, value)) > 990
        return
    assert longest(data) <= 998
    assert re.sub(rb"\r\n(?=[ \t])", b"", data) == content
    assert not re.search(rb"\r\n[ \t]+\r\n", data)


@pytest.mark.parametrize("boundary", ["b", "b b", "=_(b)", "'+_,-./:=?"])
def test_any_boundary_is_found(boundary: str) -> None:
    content = (
        f'Content-Type: multipart/mixed; boundary="{boundary}"\r\nMIME-Version: 1.0\r\n\r\n'
        f"--{boundary}  \r\n\r\none\r\n--{boundary}\r\n\r\n{'x' * 2000}\r\n--{boundary}x\r\n"
        f"\r\n--{boundary}--\r\n"
    ).encode()
    data, changes = re_encoded(content, eight_bit=True)
    assert len(changes) == 1
    before = email.message_from_bytes(content, policy=email.policy.default)
    after = email.message_from_bytes(data, policy=email.policy.default)
    assert decoded(after) == decoded(before)
