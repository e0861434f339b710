"""Any text, anywhere: an error, or a message that says just that and has no other header line."""

from __future__ import annotations

import email
from email.header import decode_header, make_header
from email.message import Message as Parsed
from email.utils import collapse_rfc2231_value, parseaddr
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailbridge_flask import Attachment, BadHeaderError, Message
from tests.examples import examples

texts = st.one_of(
    st.text(max_size=200),
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=200),
    st.text(alphabet=' \t"\\;:,<>()@=?_é日\r\n\0', max_size=60),
    st.lists(st.sampled_from(["=?utf-8?q?a?=", " ", "  ", "a", "é", '"', "\r\n", "x" * 80]))
    .map("".join),
)  # fmt: skip
charsets = st.sampled_from([None, "utf-8", "us-ascii", "iso-8859-1", "shift_jis", "koi8-r"])


def lines(content: bytes) -> list[str]:
    """The names of the header fields, found without the help of a parser."""
    block, _, _ = content.partition(b"\r\n\r\n")
    assert b"\0" not in block
    names = []
    for line in block.split(b"\r\n"):
        assert b"\r" not in line
        assert b"\n" not in line
        assert line.strip()
        assert len(line) <= 998
        if line[:1] not in b" \t":
            names.append(line.partition(b":")[0].decode())
    return names


def written(**fields: Any) -> Parsed | None:
    """The message parsed back, None if it was refused."""
    message = Message(**{"sender": "s@example.org", "recipients": ["r@example.org"], **fields})
    try:
        content = message.as_bytes()
    except BadHeaderError:
        assert message.has_bad_headers()
        return None
    assert not message.has_bad_headers()
    expected = ["Subject"] if message.subject else []
    expected += ["From", "To", "Date", "Message-ID", *(message.extra_headers or {})]
    expected += ["Content-Type"]
    expected += [] if message.attachments else ["Content-Transfer-Encoding"]
    assert lines(content) == [*expected, "MIME-Version"]
    return email.message_from_bytes(content)


def decoded(value: Any) -> str:
    unfolded = str(value).replace("\r\n", "")
    return str(make_header(decode_header(unfolded)))


@given(texts, charsets)
@example("=?utf-8?q?a?=", None)
@example(" leading and trailing ", None)
@example("a\tb", None)
@example("x" * 2000, None)
@example("é" * 2000, "iso-8859-1")
def test_subject(text: str, charset: str | None) -> None:
    result = written(subject=text, charset=charset)
    if result is None:
        assert not text.isprintable() or not text.isascii()
    elif text and "\r\n" not in text:
        assert decoded(result["Subject"]) == text


@given(texts, charsets)
@example("a" * 300, None)
@example('"', None)
@example("Doe, J. (Jr.)", None)
@example("é" + '" <evil@example.net>, ', "koi8-r")
def test_display_name(name: str, charset: str | None) -> None:
    result = written(sender="x@example.org", recipients=[(name, "r@example.org")], charset=charset)
    if result is not None:
        found, address = parseaddr(str(result["To"]).replace("\r\n", ""))
        assert address == "r@example.org"
        assert decoded(found) == name.strip()


@given(texts)
def test_sender_pair(name: str) -> None:
    result = written(sender=(name, "x@example.org"))
    if result is not None:
        assert parseaddr(str(result["From"]).replace("\r\n", ""))[1] == "x@example.org"


@given(texts)
@example("x" * 900 + " y")
def test_extra_header(value: str) -> None:
    result = written(extra_headers={"X-Extra": value})
    if result is not None:
        raw = str(result["X-Extra"]).replace("\r\n", "")
        assert value.strip(" ") in (raw.strip(" "), decoded(raw).strip(" "))


@given(st.one_of(texts, st.from_regex(r"[!-~]{1,80}", fullmatch=True)))
def test_extra_header_name(name: str) -> None:
    taken = {"subject", "from", "to", "date", "message-id", "content-type", "mime-version", "cc"}
    if name.lower() in taken | {"content-transfer-encoding"}:
        return
    result = written(extra_headers={name: "value"})
    if result is not None:
        assert result[name] == "value"


@given(texts)
@example("a" * 300 + ".txt")
@example("é" * 100)
@example("\\")
@example("a'b%c")
def test_filename(name: str) -> None:
    result = written(attachments=[Attachment(name, "text/plain", b"x")])
    if result is None:
        return
    (_, part) = result.get_payload()  # type: ignore[misc]
    assert isinstance(part, Parsed)
    assert set(part.keys()) == {"Content-Type", "Content-Transfer-Encoding", "Content-Disposition"}
    found = part.get_param("filename", "", "content-disposition")
    assert collapse_rfc2231_value(found) == name


@given(st.text(max_size=300), charsets)
@examples(50)
def test_body(text: str, charset: str | None) -> None:
    result = written(body=text, charset=charset)
    assert result is not None
    content = result.get_payload(decode=True)
    assert isinstance(content, bytes)
    found = content.decode(result.get_content_charset() or "").replace("\r\n", "\n")
    expected = text.replace("\r\n", "\n").replace("\r", "\n")
    assert found == expected.encode("utf-8", "replace").decode()


@given(texts)
@examples(50)
def test_content_type(text: str) -> None:
    result = written(attachments=[Attachment("a", f"image/png{text}", b"x")])
    if result is not None:
        (_, part) = result.get_payload()  # type: ignore[misc]
        assert isinstance(part, Parsed)
        assert len(part.keys()) == 3


@pytest.mark.parametrize(
    "address", ["a@b.example", '"a b"@c.example', '"a<b"@c.example', "a@[::1]"]
)
def test_quoted_local_parts(address: str) -> None:
    if "::" in address:
        address = "a@[IPv6:::1]"
    for form in (address, f"Name <{address}>", ("Name", address)):
        result = written(recipients=[form])
        assert result is not None
        assert address in str(result["To"])
