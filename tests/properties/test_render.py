"""Django's messages, rendered by Django and rendered by us: the two must mean the same."""

from __future__ import annotations

import email.policy
from email.headerregistry import Address
from typing import Any

import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.utils.encoding import punycode
from hypothesis import example, given
from hypothesis import strategies as st

import tests.django.conftest  # noqa: F401 - configures the settings
from mailbridge.protocol.content import canonical, stuffed, stuffed_pieces
from mailbridge_django.fastpath import MODERN_DJANGO, render
from tests.examples import examples
from tests.properties.meaning import field_meaning, meaning, older_meaning, parsed
from tests.properties.messages import (
    alternatives,
    any_addresses,
    any_text,
    attachments,
    bodies,
    headers_only,
    hostile,
    nice_headers,
    odd_headers,
)

# Hundreds of examples of everything there is: a busy machine takes its time.
pytestmark = pytest.mark.timeout(300)
many = examples(200)


def django_content(message: EmailMessage) -> bytes:
    if MODERN_DJANGO:
        return canonical(message.message(policy=email.policy.SMTP).as_bytes())
    return canonical(message.message().as_bytes(linesep="\r\n"))


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
                (display, Address(username=local, domain=domain).addr_spec)
                for display, local, domain in says
            ]


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
    assert rendered.is_ascii == ours.isascii()
    assert b"".join(stuffed_pieces(rendered)) == stuffed(ours)
    assert rendered.leading_dots == (b"\r\n." in ours)
    head = ours.partition(b"\r\n\r\n")[0]
    assert all(line.strip() for line in head.split(b"\r\n"))
    return True


def build(kind: type[EmailMessage] = EmailMultiAlternatives, **values: Any) -> EmailMessage:
    headers = values.pop("headers", None)
    attached = values.pop("attachments", ())
    message = kind(**values)
    message.extra_headers = headers or {}
    message.attachments = [*attached]
    return message


# A local part that is quoted, beside a name that takes two encoded words.
ODD = '"john doe"@example.org'
LONG = "AAAAAä AAAAA.ä漢 AAAAAAAAA AAAAAAAA. <0@example.org>"


@given(headers_only)
@example({"subject": "", "from_email": "0@example.org", "to": [ODD, LONG]})
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
