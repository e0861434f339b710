"""Flask's messages, written part by part and rendered in one go: the two must mean the same."""

from __future__ import annotations

import email.policy
import re
import string
from datetime import datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailbridge.protocol.content import canonical, stuffed, stuffed_pieces
from mailbridge_flask import Attachment, Message, compose, fastpath, headers
from tests.examples import examples
from tests.properties.meaning import OF_THE_PART, field_meaning, meaning, parsed
from tests.properties.messages import (
    any_addresses,
    any_text,
    bodies,
    file_names,
    hostile,
    local_parts,
    nice_addresses,
    nice_headers,
    nice_lines,
    odd_headers,
)

# Hundreds of examples of everything there is: a busy machine takes its time.
pytestmark = pytest.mark.timeout(300)
many = examples(200)

pairs = st.tuples(nice_lines | hostile | any_text, local_parts.map("{}@example.org".format))
people = nice_addresses | st.tuples(nice_lines, nice_addresses)
anybody = any_addresses | pairs | st.tuples(hostile, any_addresses) | st.sampled_from(["ü@b.c", ""])
charsets = st.sampled_from([None, "", "utf-8", "UTF-8", "us-ascii", "iso-8859-1", "koi8-r", "x"])
texts = bodies | any_text | st.none()
types = st.sampled_from(
    [
        *("image/png", "application/pdf", "text/plain", "text/csv", "application/x-y.z+xml"),
        *("text/plain; charset=utf-8", 'text/plain; charset="koi8-r"', "text/calendar; method=A"),
        *("message/rfc822", "Text/Plain", "TEXT/HTML", "x", "a/b/c", "image/png; name=a.png"),
        *("multipart/mixed", "image/png\r\nX: y", "application/" + "x" * 90, "image/pñg"),
    ]
)
subtypes = st.sampled_from(
    [
        *("html", "html", "calendar", "text/markdown", "x-amp-html", "HTML", "application/json"),
        *("text/calendar; method=REQUEST", "a/b/c", "a b", "message/rfc822", "", "html\n"),
    ]
)
part_headers = st.dictionaries(
    st.sampled_from(["Content-ID", "content-id", "X-A", "Content-Description", "Content-Type"])
    | st.sampled_from(["Content-Disposition", "MIME-Version", "X A", "Content-Language"]),
    st.sampled_from(["<image@example.org>", "Größe", "<a> <b>"]) | hostile | nice_lines,
    max_size=2,
)
attachments = st.builds(
    Attachment,
    file_names,
    types,
    st.binary(max_size=200) | any_text | bodies | st.just(b"Subject: x\r\n\r\ny\r\n"),
    st.sampled_from([None, "attachment", "inline", "inline", "form-data", "a b", "x\r\ny"]),
    part_headers,
)
dates = (
    st.floats(-1e10, 1e11)
    | st.integers(-1000, 2**40)
    | st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.timezones())  # noqa: DTZ001
    | st.sampled_from([True, "now", float("nan"), float("inf")])
)


def divided(content: bytes) -> tuple[list[tuple[str, str]], bytes]:
    """The fields of a message, unfolded, and the message without them: what it consists of."""
    head, _, rest = content.partition(b"\r\n\r\n")
    fields: list[tuple[str, str]] = []
    about_content = b""
    for line in re.split(rb"\r\n(?![ \t])", head):
        name, _, value = line.decode("ascii").partition(": ")
        if name.lower() in OF_THE_PART:
            about_content += line + b"\r\n"
        else:
            fields.append((name, value.replace("\r\n", "")))
    return fields, about_content + b"\r\n" + rest


def intended(message: Message, name: str) -> Any:
    """What the field is to say, from the message itself."""
    value = headers.text_of((message.extra_headers or {}).get(name, message.subject))
    return says(name, headers.unfolded(value))


def says(name: str, value: str) -> Any:
    return field_meaning(email.policy.default.header_factory(name, value))


def check_meaning(message: Message, our_content: bytes, their_content: bytes) -> None:
    our_fields, our_rest = divided(our_content)
    their_fields, their_rest = divided(their_content)
    assert [name for name, _ in our_fields] == [name for name, _ in their_fields]
    for (name, our_field), (_, their_field) in zip(our_fields, their_fields, strict=True):
        # The parser of email.policy makes new spaces between encoded words of a name, say.
        if our_field != their_field and says(name, our_field) != says(name, their_field):
            assert says(name, our_field) == intended(message, name)
    ours = meaning(parsed(our_rest), encodings=False)
    theirs = meaning(parsed(their_rest), encodings=False)
    if ours["type"].startswith("text/"):
        # Mail ends with a line end, which is the text's own unless the text is in base64.
        for text in ours, theirs:
            text["content"] = text["content"].removesuffix(b"\n")
    assert ours == theirs


def check(message: Message, *, ascii_attachments: bool = False) -> bool:
    """Compare; return whether the fast path was taken."""
    rendered = fastpath.render(message, ascii_attachments=ascii_attachments)
    try:
        theirs = canonical(compose.content(message, ascii_attachments=ascii_attachments))
    except Exception:
        # What is refused is left to compose, so that it raises the error.
        assert rendered is None
        return False
    if rendered is None:
        return False
    ours = bytes(rendered)
    check_meaning(message, ours, theirs)
    assert rendered.size == len(ours)
    assert rendered.is_ascii
    assert ours.isascii()
    assert b"\0" not in ours
    assert canonical(ours) == ours
    assert max(map(len, ours.split(b"\r\n"))) <= 998
    assert b"".join(stuffed_pieces(rendered)) == stuffed(ours)
    head = ours.partition(b"\r\n\r\n")[0]
    assert all(line.strip() for line in head.split(b"\r\n"))
    return True


def build(**values: Any) -> Message:
    """A message with attributes as they are given, whatever they are."""
    message = Message("x", ["b@example.org"], "A text", sender="a@example.org", date=10**9)
    for name, value in values.items():
        setattr(message, name, value)
    return message


def test_what_is_usual_takes_the_fast_path() -> None:
    usual: list[dict[str, Any]] = [
        {},
        {"subject": "Grüße aus Köln", "sender": "Köln <k@example.org>", "body": "Grüße\n" * 99},
        {"recipients": [("Ann Lee", "ann@example.com"), "b@bücher.example"], "cc": ["c@d.e"]},
        {"alts": {"html": "<p>Hi</p>"}, "reply_to": '"Lee, A." <a@b.c>', "bcc": [("", "a@b.c")]},
        {"subject": "", "body": None, "extra_headers": {"List-Unsubscribe": "<mailto:a@b.c>"}},
        {"attachments": [Attachment("фото.png", "image/png", b"x"), Attachment("a", data="é")]},
        {
            "alts": {"html": "<img src='cid:a@b'>"},
            "attachments": [
                Attachment(None, "image/png", b"x", "inline", {"Content-ID": "<a@b>"}),
                Attachment("b.txt", "text/plain", b"x"),
            ],
        },
    ]
    for values in usual:
        assert check(build(**values)), values


@given(
    st.fixed_dictionaries(
        {"subject": nice_lines, "sender": nice_addresses, "body": bodies},
        optional={
            "recipients": st.lists(people, max_size=9),
            "cc": st.lists(people, max_size=3),
            "bcc": st.lists(people, max_size=2),
            "reply_to": people,
            "extra_headers": nice_headers,
            "alts": st.fixed_dictionaries({"html": bodies}),
        },
    )
)
@many
def test_usual_messages(values: dict[str, Any]) -> None:
    check(build(**values))


@given(
    st.fixed_dictionaries(
        {"subject": hostile | any_text | st.none(), "sender": anybody},
        optional={
            "recipients": st.lists(anybody, max_size=4) | st.just(("a@b.c",)),
            "cc": st.lists(anybody, max_size=2) | st.none(),
            "bcc": st.lists(anybody, max_size=2),
            "reply_to": anybody,
            "charset": charsets,
            "extra_headers": odd_headers,
            "date": dates,
            "msgId": hostile | st.sampled_from(["<a@b>", "<a>", "a@b", "<a b@c>", "<é@b>"]),
        },
    )
)
@many
def test_any_header(values: dict[str, Any]) -> None:
    check(build(**values))


@given(st.sampled_from(["X-A", "Sender", "References", "Resent-To", "Errors-To"]), hostile)
@example("X-A", "white space behind ")
@example("X-A", "x" * 901)
@example("X-A", "a  b" * 40)
@many
def test_a_hostile_value_in_one_header(name: str, value: str) -> None:
    check(build(extra_headers={name: value}))


@given(hostile | any_text, st.sampled_from(["subject", "sender", "reply_to", "msgId"]))
@many
def test_a_hostile_value_in_one_attribute(value: str, name: str) -> None:
    check(build(**{name: value}))


@given(hostile, st.sampled_from(["recipients", "cc", "bcc"]), st.booleans())
@many
def test_a_hostile_value_among_addresses(value: str, name: str, pair: bool) -> None:
    given: Any = (value, "a@example.org") if pair else value
    check(build(**{name: ["b@example.org", given]}))


@given(texts, st.none() | st.dictionaries(subtypes, texts, max_size=3), charsets)
@example("a\0b", None, None)
@example("\ud800", None, None)
@example("é" * 999 + "\r\n.", None, None)
@example("no line end", {"html": ".x"}, None)
@many
def test_any_texts(body: str | None, alts: dict[str, str] | None, charset: str | None) -> None:
    check(build(body=body, alts=alts, charset=charset))


@given(
    texts, st.dictionaries(subtypes, bodies, max_size=2), st.lists(attachments, max_size=3),
    st.booleans(),
)  # fmt: skip
@many
def test_any_parts(
    body: str | None, alts: dict[str, str], attached: list[Attachment], ascii_attachments: bool
) -> None:
    check(build(body=body, alts=alts, attachments=attached), ascii_attachments=ascii_attachments)


@given(st.text(string.printable + "äöü漢😀", max_size=90), st.booleans())
@example("a;b.txt", False)
@example("漢", True)
@example("é" * 300, False)
@many
def test_any_file_name(name: str, ascii_attachments: bool) -> None:
    attachment = Attachment(name, "image/png", b"x")
    check(build(attachments=[attachment]), ascii_attachments=ascii_attachments)
