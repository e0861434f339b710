"""Message objects to envelopes and octets."""

from __future__ import annotations

import email
import email.policy
from email.header import Header
from email.message import EmailMessage, Message
from email.mime.text import MIMEText

import pytest

from mailbridge import AddressError, InvalidInput, fields
from mailbridge.message import flattened, header_of, message_id


def message(**fields: str) -> EmailMessage:
    made = EmailMessage()
    for name, value in {"From": "Me <a@x.org>", "To": "b@x.org", **fields}.items():
        made[name.replace("_", "-")] = value
    made.set_content("Hello\n")
    return made


def test_the_envelope_is_that_of_the_header() -> None:
    flat = flattened(message(To='"B, b" <b@x.org>, b2@x.org', Cc="c@x.org", Bcc="d@x.org"))
    assert flat.sender == "a@x.org"
    assert sorted(flat.recipients) == ["b2@x.org", "b@x.org", "c@x.org", "d@x.org"]


def test_the_sender_field_comes_first() -> None:
    assert flattened(message(From="a@x.org, a2@x.org", Sender="s@x.org")).sender == "s@x.org"


def test_bcc_is_not_sent_and_the_message_is_left_alone() -> None:
    made = message(Bcc="d@x.org")
    content = flattened(made).content()
    assert b"d@x.org" not in content
    assert made["Bcc"] == "d@x.org"
    assert content.endswith(b"Hello\r\n")
    assert b"\n" not in content.replace(b"\r\n", b"")


def test_resent_fields_come_first() -> None:
    made = message(
        Resent_Date="Mon, 1 Jan 2024 00:00:00 +0000",
        Resent_From="r@x.org",
        Resent_To="t@x.org",
        Resent_Bcc="hidden@x.org",
    )
    flat = flattened(made)
    assert (flat.sender, set(flat.recipients)) == ("r@x.org", {"t@x.org", "hidden@x.org"})
    assert b"hidden" not in flat.content()


def test_two_sets_of_resent_fields() -> None:
    made = Message()
    made["Resent-Date"] = "Mon, 1 Jan 2024 00:00:00 +0000"
    made["Resent-Date"] = "Tue, 2 Jan 2024 00:00:00 +0000"
    with pytest.raises(InvalidInput, match="more than one 'Resent-'"):
        flattened(made)


@pytest.mark.parametrize("fields", [{"From": ""}, {"From": "undisclosed:;"}])
def test_no_sender(fields: dict[str, str]) -> None:
    with pytest.raises(AddressError, match="no sender"):
        flattened(message(**fields))


def test_what_is_given_wins() -> None:
    flat = flattened(message(), "x@x.org", "y@x.org")
    assert (flat.sender, flat.recipients) == ("x@x.org", ("y@x.org",))
    assert flattened(message(), None, ["y@x.org", "z@x.org"]).recipients == ("y@x.org", "z@x.org")


def test_old_messages_with_header_objects() -> None:
    made = MIMEText("Hällo\n", _charset="utf-8")
    made["From"] = Header("a@x.org")
    made["To"] = Header("Jörg <b@x.org>", "utf-8")
    flat = flattened(made)
    assert (flat.sender, flat.recipients) == ("a@x.org", ("b@x.org",))
    assert flat.content().isascii()


@pytest.mark.parametrize(
    ("sender", "recipients", "needed"),
    [
        ("a@x.org", ["b@x.org"], False),
        ("a@bücher.de", ["b@bücher.de"], False),
        ("ä@x.org", ["b@x.org"], True),
        ("a@x.org", ["b@x.org", "ß@x.org"], True),
        ("a@x.org", ["Jörg <j@x.org>"], False),
        ("", ["b@x.org"], False),
        ("<>", ["b@x.org"], False),
    ],
)
def test_whether_smtputf8_is_needed(sender: str, recipients: list[str], needed: bool) -> None:
    assert flattened(message(), sender, recipients).needs_smtputf8 is needed


def test_header_fields_in_utf8() -> None:
    flat = flattened(message(Subject="Grüße"))
    assert "Grüße".encode() in flat.content(utf8=True)
    assert flat.content().isascii()


def test_old_messages_in_utf8() -> None:
    old = MIMEText("x")
    old["Subject"] = Header("Grüße", "utf-8")
    content = flattened(old, "a@x.org", "b@x.org").content(utf8=True)
    parsed = email.message_from_bytes(content, policy=email.policy.default)
    assert parsed["Subject"] == "Grüße"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"Message-ID: <a@b>\r\n\r\nx", "<a@b>"),
        (b"From: x\r\nmessage-id:\r\n <a@b>\r\n\r\n", "<a@b>"),
        (b"From: x\r\n\r\nMessage-ID: <a@b>\r\n", None),
        (b"X-Message-ID: <a@b>\r\n\r\n", None),
        (b"Message-ID: none\r\n\r\n", None),
        (b"", None),
    ],
)
def test_message_ids(content: bytes, expected: str | None) -> None:
    assert message_id(content) == expected


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (b"A: b\r\n c\r\n\r\nbody\r\n\r\n", b"A: b\r\n c\r\n"),
        (b"A: b\r\n", b"A: b\r\n"),
        (b"\r\nbody\r\n\r\nmore", b""),
        (b"", b""),
    ],
)
def test_the_header_of_a_content_in_pieces(content: bytes, header: bytes) -> None:
    for size in (1, 2, 3, 5, 100):
        pieces = [content[at : at + size] for at in range(0, len(content), size)]
        assert header_of(pieces) == header


BROKEN = [
    *("a\nBcc: evil@x.org", "a\r\nBcc: evil@x.org", "a\rBcc: evil@x.org", "a\n", "a\r", "\na"),
    *("a\n\nbody", "a\r\n\r\nbody", "a\n \n b", "a\r\n \r\nbody", "a\n ", "a\0b", "\0"),
    *("a\x0bBcc: evil@x.org", "a\x0cb", "a\x1cb", "a\x1eb", "a\x85b", "a\u2028b"),
]
KINDS = [Message, EmailMessage]


@pytest.mark.parametrize("value", BROKEN, ids=ascii)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_part", [False, True], ids=["header", "part"])
def test_no_field_becomes_two(kind: type[Message], value: str, in_part: bool) -> None:
    """Whatever this version of Python's email package makes of it."""
    outer, part = kind(), kind()
    for made in (outer, part):
        made["From"], made["To"] = "a@x.org", "b@x.org"
    part["X-A"] = "x"
    # Past what the class refuses by itself.
    part._headers.append(("X-B", value))  # type: ignore[attr-defined]
    part.set_payload("Hello\n")
    outer["Content-Type"] = "multipart/mixed; boundary=b"
    outer.attach(part)
    with pytest.raises(InvalidInput, match=r"X-B: a line break, or a NUL"):
        flattened(outer if in_part else part).content()


@pytest.mark.parametrize(
    "name", ["X-A\nBcc", "X-A\r\nBcc", "X-A: x\nBcc", "X A", "X:A", "", "X\0", "Ä"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_name_of_a_field(kind: type[Message], name: str) -> None:
    made = kind()
    made["From"], made["To"] = "a@x.org", "b@x.org"
    made._headers.append((name, "x"))  # type: ignore[attr-defined]
    with pytest.raises(InvalidInput, match="no name of a header field"):
        flattened(made).content()


def test_fields_that_are_folded_already_are_sent_as_they_are() -> None:
    """A message that was received and is sent on, octets outside ASCII and long fields included."""
    written = (
        b"Received: from x.org\r\n\tby y.org;\r\n Mon, 1 Jan 2024 00:00:00 +0000\r\n"
        b"From: a@x.org\r\nTo: b@x.org\r\nSubject: caf\xe9\r\nX-Empty: \r\n"
        b"X-Long: " + b"word " * 40 + b"end\r\n\r\nHello\r\n"
    )
    content = flattened(email.message_from_bytes(written)).content()
    assert b"Received: from x.org\r\n\tby y.org;\r\n Mon" in content
    assert content.endswith(b"\r\n\r\nHello\r\n")


def test_fields_of_an_attached_message_are_content() -> None:
    outer = message()
    outer.add_attachment(email.message_from_bytes(b"Sub ject: x\r\nX-A: a\0b\r\n\r\nHello\r\n"))
    assert b"a\0b" in flattened(outer).content()


def test_what_was_written_is_looked_at_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the look at the values to miss something, the header is still that of the message."""
    monkeypatch.setattr(fields, "check", lambda message: None)
    for value in ("a\nBcc: evil@x.org", "a\n\nbody", "a\0b"):
        made = EmailMessage()
        made["From"], made["To"] = "a@x.org", "b@x.org"
        made._headers.append(("X-B", value))  # type: ignore[attr-defined]
        made["Subject"] = "x"
        with pytest.raises(InvalidInput):
            flattened(made).content()
