"""Content that a server does not take as it is: what is changed, what is refused, what is left."""

from __future__ import annotations

import email
import email.policy
import io
from email.message import EmailMessage, Message
from typing import Any

import pytest

from mailbridge import InvalidInput
from mailbridge.fitting import fitted
from mailbridge.protocol.content import PIECE, Buffer, body
from mailbridge.rewriting import re_encoded

LONG = b"x" * 999
EIGHT = "Grüße".encode()


def parsed(content: bytes) -> Any:
    return email.message_from_bytes(content, policy=email.policy.default)


def longest(content: bytes) -> int:
    return max(map(len, content.split(b"\r\n")))


def seven_bit(content: bytes) -> bytes:
    return re_encoded(content, eight_bit=False)[0]


def fold(content: bytes) -> tuple[bytes, tuple[str, ...]]:
    """What becomes of long lines where 8-bit octets are taken."""
    data, changes = re_encoded(content, eight_bit=True)
    assert longest(data) <= 998
    return data, changes


# -- 8-bit octets


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1"])
def test_eight_bit_text_becomes_seven_bit(charset: str) -> None:
    made = EmailMessage(policy=email.policy.SMTP)
    made["Subject"] = "x"
    made.set_content("Grüße\n", charset=charset, cte="8bit")
    content = made.as_bytes()
    assert not content.isascii()
    encoded, changes = re_encoded(content, eight_bit=False)
    assert encoded.isascii()
    assert parsed(encoded).get_content().splitlines() == ["Grüße"]
    assert b"\n" not in encoded.replace(b"\r\n", b"")
    (change,) = changes
    assert change.startswith("text/plain written as quoted-printable: it had 8-bit octets")


def test_what_fits_is_left_alone() -> None:
    content = b"Subject: x\r\nX:  odd \r\n\r\nHi\r\n" + b"y" * 998 + b"\r\n"
    for eight_bit in (False, True):
        assert re_encoded(content, eight_bit=eight_bit) == (content, ())
        assert re_encoded(content, eight_bit=eight_bit)[0] is content
    assert re_encoded(b"\r\n" + EIGHT, eight_bit=True) == (b"\r\n" + EIGHT, ())


def test_only_the_part_at_fault_is_rewritten() -> None:
    odd = b"--b\r\nContent-type:text/plain;\r\n\tcharset = us-ascii\r\n\r\n lines  \r\n\r\n"
    content = (
        b"MIME-Version: 1.0\r\nContent-Type:  multipart/mixed; boundary=b\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n\r\npreamble\r\n" + odd + b"--b\r\n"
        b"Content-Type: application/json\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + EIGHT
        + b"\r\n--b--\r\nepilogue\r\n"
    )
    data, changes = re_encoded(content, eight_bit=False)
    assert data.isascii()
    assert odd in data
    assert data.endswith(b"\r\n--b--\r\nepilogue\r\n")
    assert b"Content-Type:  multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 7bit" in data
    _, second = parsed(data).iter_parts()
    assert second.get_content() == EIGHT
    assert [change.split(":")[0] for change in changes] == ["application/json written as base64"]


def test_a_message_in_a_message_is_rewritten_inside() -> None:
    inner = b"Subject: inner\r\n\r\n" + EIGHT + b"\r\n"
    content = (
        b"MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n\r\n" + inner
    )
    data = seven_bit(content)
    assert data.isascii()
    message = parsed(data).get_content()
    assert message["Subject"] == "inner"
    assert message["MIME-Version"] == "1.0"
    assert message.get_payload(decode=True) == EIGHT + b"\r\n"
    assert parsed(data)["Content-Transfer-Encoding"] == "7bit"


def test_a_digest_holds_messages() -> None:
    content = (
        b'Content-Type: multipart/digest; boundary="b"\r\nMIME-Version: 1.0\r\n\r\n'
        b"--b\r\n\r\nSubject: inner\r\n\r\n" + EIGHT + b"\r\n--b--\r\n"
    )
    (inner,) = parsed(seven_bit(content)).iter_parts()
    assert inner.get_content_type() == "message/rfc822"
    assert inner.get_payload(0).get_payload(decode=True) == EIGHT


SIGNED = (
    b'Content-Type: multipart/signed; boundary="s"\r\n\r\n--s\r\n'
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"%b\r\n--s\r\nContent-Type: application/pkcs7-signature\r\n\r\nx\r\n--s--\r\n"
)


@pytest.mark.parametrize("bad", [EIGHT, LONG])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"MIME-Version: 1.0\r\n" + SIGNED, "in multipart/signed, which"),
        (
            b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n" + SIGNED + b"--o--\r\n",
            "in multipart/signed, which",
        ),
        (b"DKIM-Signature: v=1; b=x\r\nSubject: x\r\n\r\n%b\r\n", "DKIM signature"),
        (b"arc-message-signature : i=1;\r\n b=x\r\nSubject: x\r\n\r\n%b\r\n", "DKIM signature"),
        (
            b"Content-Type: message/rfc822\r\n\r\nDKIM-Signature: v=1\r\n\r\n%b\r\n",
            "DKIM signature",
        ),
        (b"Content-Type: multipart/mixed\r\n\r\n%b\r\n", "without a boundary"),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n%b\r\n", "outside the parts"),
        (
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n--b--\r\n%b\r\n",
            "outside the parts",
        ),
        (b"Content-Type: message/delivery-status\r\n\r\n%b\r\n", "never encoded"),
        (b"Content-Transfer-Encoding: x-uuencode\r\n\r\n%b\r\n", "x-uuencode"),
        (b"Content-Transfer-Encoding: base64\r\n\r\n!%b\r\n", "base64"),
        (b"a line that is no field\r\n%b\r\n", "no field"),
    ],
)
def test_what_cannot_be_changed_is_refused(content: bytes, why: str, bad: bytes) -> None:
    fault = "8-bit octets" if bad == EIGHT else "more than 998 octets"
    with pytest.raises(InvalidInput, match=why) as caught:
        seven_bit(content % bad)
    assert fault in str(caught.value)


def test_a_part_beside_a_signed_one_is_rewritten() -> None:
    signed = SIGNED % b"seven bits"
    content = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n"
        + signed
        + b"--o\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
        + EIGHT
        + b"\r\n--o--\r\n"
    )
    data = seven_bit(content)
    assert data.isascii()
    assert signed in data


def test_an_eight_bit_field_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"field Subject .*RFC 2047"):
        seven_bit(b"From: x\r\nSubject: " + EIGHT + b"\r\n\r\nx\r\n")


# -- long lines


@pytest.mark.parametrize("kind", ["text/plain", "text/html"])
def test_a_long_line_of_text_is_written_as_quoted_printable(kind: str) -> None:
    text = LONG + EIGHT + b" \r\n.\r\nshort=\r\n"
    content = b"MIME-Version: 1.0\r\nContent-Type: %b; charset=utf-8\r\n\r\n" % kind.encode() + text
    data, changes = fold(content)
    assert parsed(data).get_payload(decode=True) == text
    assert longest(data) <= 78
    assert changes == (
        f"{kind} written as quoted-printable: it had a line of more than 998 octets",
    )


def test_a_message_without_mime_fields_gets_them() -> None:
    data, _ = fold(b"Subject: log\r\n\r\n" + LONG + b"\r\n")
    assert data.startswith(b"MIME-Version: 1.0\r\nSubject: log\r\nContent-Transfer-Encoding: ")
    assert parsed(data).get_payload(decode=True) == LONG + b"\r\n"


def test_other_octets_are_written_as_base64() -> None:
    content = b"MIME-Version: 1.0\r\nContent-Type: application/json\r\n\r\n[%b]\r\n" % LONG
    data, _ = fold(content)
    assert data.endswith(b"=\r\n")
    assert parsed(data).get_payload(decode=True) == b"[%b]\r\n" % LONG
    assert longest(data) <= 78


def test_base64_without_line_ends_gets_them() -> None:
    encoded = b"QUJD" * 400
    content = (
        b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: BASE64\r\n\r\n"
        + encoded
        + b"\r\n"
    )
    data, changes = fold(content)
    assert b"".join(data.partition(b"\r\n\r\n")[2].split()) == encoded
    assert parsed(data).get_payload(decode=True) == b"ABC" * 400
    assert len(changes) == 1


@pytest.mark.parametrize("width", range(990, 1010))
def test_a_long_line_of_quoted_printable_is_divided(width: int) -> None:
    line = (b"=C3=A9" * 400)[: width // 3 * 3] + b"a" * (width % 3)
    content = b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + line + b"=\r\n\xff \r\n"
    data, _ = re_encoded(content, eight_bit=False)
    assert longest(data) <= 998
    assert parsed(data).get_payload(decode=True) == parsed(content).get_payload(decode=True)


def test_a_long_field_is_folded() -> None:
    references = b" ".join(b"<%d@example.org>" % number for number in range(90))
    content = b"Subject: x\r\nReferences: " + references + b"  \r\nX: y\r\n\r\nHi\r\n"
    data, changes = fold(content)
    assert longest(data) <= 998
    assert data.replace(b"\r\n <", b" <") == content
    assert parsed(data)["References"].strip() == references.decode()
    assert changes == ("header field References folded: it had a line of more than 998 octets",)


def test_a_long_word_goes_to_a_line_of_its_own() -> None:
    word = b"x" * 996
    data, _ = fold(b"Subject: " + word + b" y\r\n\r\nHi\r\n")
    assert data == b"Subject:\r\n " + word + b"\r\n y\r\n\r\nHi\r\n"


@pytest.mark.parametrize("field", [b"Subject: " + LONG, b"Subject:%b" % (b" " * 1200), LONG + b":"])
def test_a_field_that_cannot_be_folded_is_refused(field: bytes) -> None:
    with pytest.raises(InvalidInput, match="no space at which it can be folded"):
        fold(field + b"\r\n\r\nHi\r\n")


def test_deep_nesting_ends_in_an_error() -> None:
    content = LONG
    for _ in range(100):
        content = b"Content-Type: message/rfc822\r\n\r\n" + content
    with pytest.raises(InvalidInput, match="within 50 others"):
        fold(content)


# -- a Body


def test_a_body_that_fits_is_passed_on() -> None:
    content = Buffer(b"Subject: x\r\n\r\n" + EIGHT + b"\r\n")
    assert fitted(content, eight_bit=True, strict=True) == (content, ())


@pytest.mark.parametrize(
    ("text", "why"),
    [(EIGHT, "8-bit octets"), (LONG, "more than 998 octets"), (LONG + EIGHT, "998")],
)
def test_strict_refuses_instead(text: bytes, why: str) -> None:
    content = Buffer(b"Subject: x\r\n\r\n" + text + b"\r\n")
    assert fitted(content, eight_bit=False).changes
    with pytest.raises(InvalidInput, match=f"{why}.*strict"):
        fitted(content, eight_bit=False, strict=True)


@pytest.mark.parametrize("octets", [997, 998, 999, 1000, 1001, 5000])
@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n\r\n", b"\r\nshort"])
@pytest.mark.parametrize("before", [b"", b"\r\n", b"y" * 998 + b"\r\n"])
def test_long_lines_are_seen_wherever_content_comes_from(
    before: bytes, octets: int, end: bytes
) -> None:
    content = before + b"x" * octets + end
    assert body(content).long_lines == (octets > 998)
    for size in (1, 7, 600, 1000):
        pieces = [content[at : at + size] for at in range(0, len(content), size)]
        assert body(pieces).long_lines == (octets > 998)


@pytest.mark.parametrize("octets", [998, 999, 3000])
@pytest.mark.parametrize("before", [1, 500, 998, 1000])
def test_long_lines_are_seen_across_the_pieces_of_a_file(before: int, octets: int) -> None:
    block = (b"y" * 62 + b"\r\n") * (PIECE // 64 * 2)
    content = block[: PIECE - before - 2] + b"\r\n" + b"x" * octets + b"\r\n" + block
    assert body(io.BytesIO(content)).long_lines == (octets > 998)


def test_old_messages_are_read_by_old_rules() -> None:
    """A part whose header names no type is a text."""
    made: Message = email.message_from_bytes(seven_bit(b"\r\n" + EIGHT + b"\r\n"))
    assert made.get_payload(decode=True) == EIGHT + b"\r\n"
