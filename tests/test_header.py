"""Header fields: what is written, and what is left to the slow way."""

from __future__ import annotations

import contextlib
import email
import email.policy
import time
from typing import Any

import pytest

from mailbridge import header
from mailbridge.header import NotCovered


def value(field: str) -> Any:
    """The field as it is read."""
    name = field.partition(":")[0]
    return email.message_from_bytes(field.encode("ascii"), policy=email.policy.default)[name]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("hello", "Subject: hello\r\n"),
        ("", "Subject: \r\n"),
        ("two  spaces ", "Subject: two  spaces \r\n"),
        ("x" * 69, f"Subject: {'x' * 69}\r\n"),
        ("x" * 300, f"Subject: {'x' * 300}\r\n"),
        ("Grüße an alle", "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= an alle\r\n"),
        ("an alle: Grüße", "Subject: an alle: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"),
        ("ä b ö", "Subject: =?utf-8?q?=C3=A4_b_=C3=B6?=\r\n"),
        ("你好世界", "Subject: =?utf-8?b?5L2g5aW95LiW55WM?=\r\n"),
    ],
)
def test_a_text_is_written(text: str, field: str) -> None:
    assert header.text("Subject", text) == field


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("hello", "Subject: hello\r\n"),
        ("an alle Mütter", "Subject: =?utf-8?q?an_alle_M=C3=BCtter?=\r\n"),
        ("Grüße an alle", "Subject: =?utf-8?b?R3LDvMOfZSBhbiBhbGxl?=\r\n"),
    ],
)
def test_a_text_is_encoded_as_a_whole(text: str, field: str) -> None:
    assert header.text("Subject", text, whole=True) == field
    assert value(field) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "a\r\nBcc: x@example.org",
            "a\n",
            "\ra",
            "a\0",
            "\x0b",
            "\x1c",
            "a\x85",
            "ä\u2028",
            "\x7f",
        ),
        *("\ud800", "ä\udc80", "\ta", " a", "=?utf-8?q?a?=", "ä =?", "x" * 1000, "ä  b"),
        *("a" + " " * 80 + "b", "word " * 20),
    ],
)
def test_a_text_is_left_alone(text: str) -> None:
    with pytest.raises(NotCovered):
        header.text("Subject", text)


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\nb", "ä", "-a", "x" * 77, "a\r", ".a", "a\n"])
def test_a_name_is_left_alone(name: str) -> None:
    with pytest.raises(NotCovered):
        header.text(name, "x")
    with pytest.raises(NotCovered):
        header.addresses(name, ["a@example.org"])


@pytest.mark.parametrize(
    "text",
    [
        "words and more words, " * 30 + "end",
        "Überschriften mit vielen Wörtern und Umlauten " * 9 + "!",
        "漢字" * 120,
        "😀👩‍👧 " * 40 + "x",
        "a" * 60 + "ä" + "b" * 60,
        "plain words in front of it all, some of them, " * 2 + "ä",
    ],
)
def test_a_long_text_is_folded(text: str) -> None:
    field = header.text("Subject", text)
    assert value(field) == text
    lines = field.removesuffix("\r\n").split("\r\n")
    assert len(lines) > 1
    assert max(map(len, lines)) <= 78
    assert all(line.strip() for line in lines)


@pytest.mark.parametrize(
    ("entries", "written"),
    [
        (["a@example.org"], "a@example.org"),
        (["a@example.org", "B. C. <d@example.org>"], "a@example.org, B. C. <d@example.org>"),
        (['"C, D" <d@example.org>, e@example.org'], '"C, D" <d@example.org>, e@example.org'),
        (['"a b"@example.org'], '"a b"@example.org'),
        (["webmaster"], "webmaster"),
        (["Jürgen M <j@example.org>"], "=?utf-8?q?J=C3=BCrgen_M?= <j@example.org>"),
        (['"Mü, x" <b@example.org>'], "=?utf-8?q?M=C3=BC=2C_x?= <b@example.org>"),
        (["a@faß.example"], "a@xn--fa-hia.example"),
        (["B <a@bücher.example>"], "B <a@xn--bcher-kva.example>"),
        (['"B (c)" <a@bücher.example>'], '"B (c)" <a@xn--bcher-kva.example>'),
    ],
)
def test_addresses_are_written(entries: list[str], written: str) -> None:
    assert header.addresses("To", entries) == f"To: {written}\r\n"


@pytest.mark.parametrize(
    "entry",
    [
        *(
            "",
            "a b@example.org",
            "a@b@c",
            "Group: a@b.c;",
            "a@b.c (comment)",
            "a@b.c\r\nBcc: d@e.f",
        ),
        *("a@b.c,d@e.f", "a@b.c, ", "ünder@example.org", "ü <ünder@example.org>", "a@[192.0.2.1]"),
        *('"a\\"b"@c.d', "ä <a@b.c", "ä a@b.c>", "<a@b.c>", '"ä\n" <a@b.c>', "ä@", "a@ä b.c", "ä"),
        *("a@ä..example", "=?utf-8?q?a?= <a@b.c>", "ä =?x <a@b.c>", "\ud800 <a@b.c>", "a@b.c\n"),
        *("ä, b <a@b.c>", "ä <a@b.c>, d@e.f", "a@-ä-.example"),
    ],
)
def test_addresses_are_left_alone(entry: str) -> None:
    with pytest.raises(NotCovered):
        header.addresses("To", [entry])


def test_a_local_mailbox_beside_a_foreign_name_is_left_alone() -> None:
    # Django 5 takes such an address by itself only.
    with pytest.raises(NotCovered):
        header.addresses("To", ["webmaster", "ä <a@example.org>"])


def test_many_addresses_are_folded() -> None:
    entries = [f"Person {number} <p{number}@example.org>" for number in range(500)]
    field = header.addresses("To", entries)
    assert max(map(len, field.split("\r\n"))) <= 78
    assert [str(each) for each in value(field).addresses] == entries


@pytest.mark.parametrize(
    "text",
    [
        '"' * 9000,
        "a." * 9000,
        "a " * 9000 + "<",
        "a@" * 9000,
        "ä " * 9000,
        "a, " * 9000,
        "(" * 9000,
    ],
)
def test_a_hostile_text_takes_no_time(text: str) -> None:
    start = time.process_time()
    for write in (header.text, lambda name, value: header.addresses(name, [value])):
        with contextlib.suppress(NotCovered):
            write("To", text)
    # Some hundredths; what takes the square of the length takes minutes on a slow machine.
    assert time.process_time() - start < 5


def test_identifiers_and_dates() -> None:
    assert header.message_id("Message-ID", "<a.b@c>") == "Message-ID: <a.b@c>\r\n"
    date = "Tue, 24 Nov 2026 04:02:19 +0100"
    assert header.date("Date", date) == f"Date: {date}\r\n"
    for bad in ("<a@b> <c@d>", "a@b", "<a@b\r\n>", "<ä@b>", "<a@b>\n"):
        with pytest.raises(NotCovered):
            header.message_id("Message-ID", bad)
    for bad in ("tomorrow", date + "\n", "Tue, 24 Nov 2026 25:02:19 +0100"):
        with pytest.raises(NotCovered):
            header.date("Date", bad)


@pytest.mark.parametrize("name", ["a.txt", "a b.txt", "фото.png", "x;y=z.txt", "100%'.txt", "ä b"])
def test_a_parameter_is_written(name: str) -> None:
    field = f"Content-Disposition: attachment; {header.parameter('filename', name)}\r\n"
    assert value(field).params == {"filename": name}


@pytest.mark.parametrize("name", ["", 'a"b', "a\\b", "a\r\nb", "ä\n", "ä" * 400, "=?utf-8?q?a?="])
def test_a_parameter_is_left_alone(name: str) -> None:
    with pytest.raises(NotCovered):
        header.parameter("filename", name)
