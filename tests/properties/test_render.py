"""Django's messages, rendered by Django and rendered by us: the two must mean the same."""

from __future__ import annotations

import email
import email.policy
import re
import string
from email.header import decode_header, make_header
from email.message import EmailMessage as MIMEMessage
from email.utils import getaddresses
from typing import Any

from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.utils.encoding import punycode
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import tests.django.conftest  # noqa: F401 - configures the settings
from mailbridge.protocol.content import canonical
from mailbridge_django.fastpath import MODERN_DJANGO, render

many = hypothesis_settings(max_examples=400, deadline=None)


# --- what a message means -------------------------------------------------------------------


def django_content(message: EmailMessage) -> bytes:
    if MODERN_DJANGO:
        return canonical(message.message(policy=email.policy.SMTP).as_bytes())
    return canonical(message.message().as_bytes(linesep="\r\n"))


# These say how a part is written; they are compared by what they mean.
_OF_THE_PART = {"content-type", "content-transfer-encoding", "mime-version", "content-disposition"}


def meaning(part: Any) -> Any:
    """A parsed message as plain data."""
    headers = [
        (name, field_meaning(value))
        for name, value in part.items()
        if name.lower() not in _OF_THE_PART
    ]
    type_parameters = {k: v for k, v in part["content-type"].params.items() if k != "boundary"}
    shape = {
        "headers": headers,
        "type": part.get_content_type(),
        "parameters": type_parameters,
        "disposition": part.get_content_disposition(),
        "filename": part.get_filename(),
        "defects": [type(defect) for defect in part.defects],
    }
    if part.is_multipart():
        return shape | {"parts": [meaning(each) for each in part.iter_parts()]}
    content = part.get_payload(decode=True)
    if part.get_content_maintype() == "text":
        content = re.sub(rb"\r\n|\r|\n", b"\n", content)
    return shape | {"encoding": part["content-transfer-encoding"], "content": content}


def field_meaning(value: Any) -> Any:
    if hasattr(value, "datetime"):
        return "date", value.datetime and value.datetime.utcoffset()
    if hasattr(value, "addresses"):
        return [(each.display_name, each.username, each.domain) for each in value.addresses]
    return re.sub(r"<\d+\.\d+\.\d+@", "<made@", str(value))


def intended(message: EmailMessage, name: str) -> Any:
    """What the field is to say, from the message itself."""
    source = {
        "Subject": message.subject,
        "From": message.from_email,
        "To": ", ".join(map(str, message.to)),
        "Cc": ", ".join(map(str, message.cc)),
        "Reply-To": ", ".join(map(str, message.reply_to)),
        **message.extra_headers,
    }
    says = field_meaning(email.policy.default.header_factory(name, str(source[name])))
    if isinstance(says, list):
        return [(display, local, punycode(domain)) for display, local, domain in says]
    return says


def check_meaning(message: EmailMessage, our_content: bytes, their_content: bytes) -> None:
    our_meaning, their_meaning = meaning(parsed(our_content)), meaning(parsed(their_content))
    our_fields, their_fields = our_meaning.pop("headers"), their_meaning.pop("headers")
    assert our_meaning == their_meaning
    assert [name for name, _ in our_fields] == [name for name, _ in their_fields]
    for (name, our_field), (_, their_field) in zip(our_fields, their_fields, strict=True):
        # The folding of email.policy loses spaces between words, or makes new ones.
        if our_field == their_field:
            continue
        says = intended(message, name)
        if our_field != says:
            # Its parser makes new spaces in names that take more than one encoded word.
            assert isinstance(says, list)
            assert older_meaning(our_content, name) == [
                (each[0], "@".join(each[1:])) for each in says
            ]


def older_meaning(content: bytes, name: str) -> list[tuple[str, str]]:
    """The addresses of a field, as the older half of `email` reads it."""
    written = email.message_from_bytes(content)[name]
    return [
        (str(make_header(decode_header(display_name))), address)
        for display_name, address in getaddresses([re.sub(r"\r?\n", "", written)])
    ]


def parsed(content: bytes) -> MIMEMessage:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, MIMEMessage)
    return message


def check(message: EmailMessage) -> bool:
    """Compare; return whether the fast path was taken."""
    rendered = render(message)
    try:
        theirs = django_content(message)
    except Exception:
        # Whatever Django refuses is left to Django, so that it is Django that raises.
        assert rendered is None
        return False
    if rendered is None:
        return False
    ours = bytes(rendered)
    check_meaning(message, ours, theirs)
    assert rendered.size == len(ours)
    assert canonical(ours) == ours
    assert max(map(len, ours.split(b"\r\n"))) <= 998
    assert rendered.eight_bit == (not ours.isascii())
    assert rendered.leading_dots == (b"\r\n." in ours)
    head = ours.partition(b"\r\n\r\n")[0]
    assert all(line.strip() for line in head.split(b"\r\n"))
    return True


# --- generated messages ---------------------------------------------------------------------

WORDS = string.ascii_letters + string.digits + ".,!?'-_"
FOREIGN = "äöüßéÅ漢字かなЖпривет‎مرحبا😀👩‍👧 €"
nice_words = st.text(WORDS, min_size=1, max_size=20)
foreign_words = st.text(WORDS + FOREIGN.replace(" ", ""), min_size=1, max_size=12)
nice_lines = st.lists(nice_words | foreign_words, max_size=25).map(" ".join)
any_text = st.text(st.characters(codec=None), max_size=60)
hostile_bits = st.sampled_from(
    [
        *(
            "\r\n",
            "\n",
            "\r",
            "\0",
            "\x0b",
            "\x1c",
            "\x85",
            "\u2028",
            "\ud800",
            "\udc80",
            "\t",
            " ",
        ),
        *("=?utf-8?q?=41?=", "=?utf-8?b?QQ==?=", "=?", "?=", "\r\nBcc: x@example.org", "x" * 1100),
        *(
            "\ufeff",
            "\u200d",
            "é",
            "😀",
            '"',
            "\\",
            "<",
            ">",
            "(",
            ")",
            ",",
            ";",
            ":",
            "@",
            "[",
            "]",
        ),
    ]
)
hostile = st.lists(hostile_bits | nice_words, max_size=6).map("".join)

atoms = st.text(
    string.ascii_letters + string.digits + "!#$%&'*+/=^_`{|}~-", min_size=1, max_size=12
)
local_parts = st.lists(atoms, min_size=1, max_size=3).map(".".join) | st.just('"john doe"')
domains = st.sampled_from(
    ["example.org", "b.example", "localhost", "xn--bcher-kva.example", "bücher.example", "例え.jp"]
)
specs = st.builds("{}@{}".format, local_parts, domains)
names = st.lists(
    st.text(string.ascii_letters + "äé漢😀.", min_size=1, max_size=9), min_size=1, max_size=5
)
quoted_names = st.text(string.ascii_letters + "äé漢😀.,;:@()<> ", min_size=1, max_size=30).map(
    '"{}"'.format
)
named = st.builds("{} <{}>".format, names.map(" ".join) | quoted_names, specs)
nice_addresses = specs | named | st.sampled_from(["webmaster", "Root <root@localhost>"])
odd_addresses = st.sampled_from(
    [
        *("", "a@b@c", "x y@example.org", "me@example.org (Comment)", "Group: a@b.c, d@e.f;"),
        *('"a\\"b"@example.org', "ünder@example.org", "<a@b.c>", "a@[192.0.2.1]", "a@b.c, d@e.f"),
        *("A. <a@b.c>", '"" <a@b.c>', "  a@b.c", "a@b..c", "a..b@c", "@b.c", "a@", "a@-b-.c"),
        *("=?utf-8?q?=41?= <a@b.c>", "a@b.c\r\nBcc: d@e.f", "a@ b.c", "Ä  B <a@b.c>", "Ä <a@b.c"),
    ]
)
any_addresses = nice_addresses | odd_addresses | hostile

line_breaks = st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n", ""])
body_lines = nice_lines | st.sampled_from(
    [".", "..", ".x", "From me", "-- ", "trailing  ", "\ttab", "=", "=3D", "\x0c", "\x7f", "\0"]
)
long_lines = st.builds(
    "{}{}".format,
    nice_lines,
    st.integers(0, 1300).map("x".__mul__) | st.integers(0, 600).map("é".__mul__),
)
bodies = st.lists(st.tuples(body_lines | long_lines, line_breaks).map("".join), max_size=14).map(
    "".join
)

file_names = st.one_of(
    st.none(),
    st.sampled_from(
        ["a.txt", "b.png", "c c.pdf", "фото.png", 'q"q.txt', "b\\b.txt", "s/l.txt", "x" * 200, ""]
    ),
    nice_lines,
    foreign_words.map("{}.bin".format),
    hostile,
)
text_types = st.sampled_from(["text/plain", "text/html", "text/csv", "text/calendar"])
binary_types = st.sampled_from(
    ["image/png", "application/pdf", "application/octet-stream", "application/x-y.z+xml"]
)
attachments = st.one_of(
    st.tuples(file_names, bodies, text_types),
    st.tuples(file_names, st.binary(max_size=200), binary_types),
    st.tuples(file_names, st.binary(max_size=30), text_types),
    st.tuples(file_names, any_text, binary_types),
    st.tuples(st.just("m.eml"), st.just("Subject: x\n\ny"), st.just("message/rfc822")),
    st.tuples(st.none(), st.just(b"x"), st.sampled_from(["Text/Plain", "x", "a/b/c", "a/b; c=d"])),
)
alternatives = st.lists(
    st.tuples(bodies, text_types) | st.tuples(st.binary(max_size=99), binary_types), max_size=3
)
nice_headers = st.dictionaries(
    st.sampled_from(
        ["X-Tag", "List-Unsubscribe", "References", "Auto-Submitted", "X_y", "Precedence"]
    ),
    nice_lines,
    max_size=3,
)
odd_headers = st.dictionaries(
    st.sampled_from(
        [
            *("From", "from", "To", "to", "Cc", "Reply-To", "reply-to", "Sender", "Subject", "Bcc"),
            *(
                "Date",
                "date",
                "Message-ID",
                "message-id",
                "MIME-Version",
                "Content-Type",
                "Resent-To",
            ),
            *(
                "X-A",
                "x-a",
                "X A",
                "X:A",
                "",
                "X\nA",
                "Ä",
                "Content-Language",
                "Content-ID",
                "X" * 80,
            ),
            *("Return-Path", "Received", "DKIM-Signature", "In-Reply-To"),
        ]
    ),
    hostile
    | any_addresses
    | nice_lines
    | st.sampled_from(
        [
            *("Tue, 24 Nov 2026 04:02:19 +0100", "Mon, 24 Nov 2026 04:02:19 -0000", "<a@b>", "1.0"),
            *("Tue, 31 Feb 2026 04:02:19 +0100", "2026-11-24", "<a b@c>", "<a@b> <c@d>", "a@b"),
        ]
    )
    | st.integers()
    | st.none(),
    max_size=3,
)


def build(kind: type[EmailMessage] = EmailMultiAlternatives, **values: Any) -> EmailMessage:
    headers = values.pop("headers", None)
    attached = values.pop("attachments", ())
    message = kind(**values)
    message.extra_headers = headers or {}
    message.attachments = [*attached]
    return message


headers_only = st.fixed_dictionaries(
    {"subject": nice_lines, "from_email": nice_addresses},
    optional={
        "to": st.lists(nice_addresses, max_size=9),
        "cc": st.lists(nice_addresses, max_size=3),
        "bcc": st.lists(nice_addresses, max_size=2),
        "reply_to": st.lists(nice_addresses, max_size=2),
        "headers": nice_headers,
    },
)


@given(headers_only)
@many
def test_usual_headers(values: dict[str, Any]) -> None:
    check(build(EmailMessage, **values))


@given(
    st.fixed_dictionaries(
        {"subject": hostile | any_text, "from_email": any_addresses},
        optional={
            "to": st.lists(any_addresses, max_size=4),
            "cc": st.lists(any_addresses, max_size=2),
            "reply_to": st.lists(any_addresses, max_size=2),
            "headers": odd_headers,
        },
    )
)
@many
def test_any_subject_and_addresses(values: dict[str, Any]) -> None:
    check(build(EmailMessage, **values))


@given(odd_headers | nice_headers)
@many
def test_any_extra_headers(headers: dict[str, Any]) -> None:
    check(build(subject="x", from_email="a@example.org", to=["b@example.org"], headers=headers))


@given(st.sampled_from(["X-A", "Subject", "From", "To", "Sender", "Message-ID", "Date"]), hostile)
@many
def test_a_hostile_value_in_one_header(name: str, value: str) -> None:
    values: dict[str, Any] = {
        "subject": "x",
        "from_email": "a@example.org",
        "to": ["b@example.org"],
    }
    if name == "Subject":
        values["subject"] = value
    else:
        values["headers"] = {name: value}
    check(build(**values))


@given(bodies | any_text, st.sampled_from(["plain", "html", "x-markdown", "a b", ""]))
@many
def test_any_body(body: str, subtype: str) -> None:
    message = build(EmailMessage, subject="x", body=body, from_email="a@b.c", to=["b@example.org"])
    message.content_subtype = subtype
    check(message)


@given(st.just("") | bodies, alternatives, st.lists(attachments, max_size=3))
@many
def test_any_parts(body: str, alternative: list[Any], attached: list[Any]) -> None:
    check(
        build(
            subject="x",
            body=body,
            from_email="a@b.c",
            to=["b@example.org"],
            alternatives=alternative,
            attachments=attached,
        )
    )
