"""Which messages are rendered in one go, and which are written by somebody else's methods."""

from __future__ import annotations

import tracemalloc
import types
from typing import Any
from unittest import mock

import pytest

from mailbridge.render import Rendered
from mailbridge.testing import ScriptedServer
from mailbridge_flask import Attachment, Mail, Message, compose, fastpath
from mailbridge_flask.sending import prepared
from tests.flask.conftest import MakeApp
from tests.properties.meaning import meaning, parsed

MEGABYTE = 1024 * 1024
# One field: names are equal in any case of letters.
TWICE = {"Content-ID": "<a@example.org>", "content-id": "<a@example.org>"}


@pytest.mark.parametrize(
    ("covered", "values"),
    [
        (True, {}),
        (True, {"charset": "utf-8"}),
        (True, {"body": "Grüße"}),
        (True, {"html": "<p>Hi</p>", "alts": {"calendar": "BEGIN:VCALENDAR"}}),
        (True, {"attachments": [Attachment("a.pdf", "application/pdf", b"%PDF")]}),
        (True, {"attachments": [Attachment("a.csv", "text/csv", "a;ü")]}),
        (True, {"bcc": ["ü <b@example.com>"], "extra_headers": {"X-Tag": "Grüße"}}),
        (False, {"charset": "iso-8859-1"}),
        (False, {"body": "a\0b"}),
        # Somebody on the way may drop the space behind.
        (False, {"subject": "Hello "}),
        (False, {"extra_headers": {"X-Tag": "a "}}),
        (False, {"subject": "=?utf-8?q?x?="}),
        (False, {"cc": ["ü@example.com"]}),
        (False, {"extra_headers": {"Subject": "Another"}}),
        (False, {"extra_headers": {"Sender": "Ü <a@b.c>, d@e.f"}}),
        (False, {"attachments": [Attachment("m.eml", "message/rfc822", b"Subject: x\n\ny")]}),
        (False, {"attachments": [Attachment("a.csv", 'text/csv; charset="koi8-r"', "a")]}),
        (False, {"attachments": [Attachment("a", None, b"a", headers=TWICE)]}),
    ],
)
def test_what_is_covered(mail: Mail, covered: bool, values: dict[str, Any]) -> None:
    usual = {"subject": "Hello", "recipients": ["a@example.com"], "body": "A text"}
    message = Message(**{**usual, **values})
    assert (fastpath.render(message) is not None) is covered
    assert compose.content(message)


@pytest.mark.parametrize("name", ["recipients", "cc", "bcc"])
def test_addresses_that_are_no_list(mail: Mail, name: str) -> None:
    message = Message("Hello", ["a@example.com"])
    setattr(message, name, {"a@example.com"})
    assert fastpath.render(message) is None


def test_what_is_sent_is_rendered_in_one_go(
    mail: Mail, message: Message, smtpd: ScriptedServer
) -> None:
    with mock.patch.object(compose, "content", side_effect=AssertionError):
        mail.send(message)
    content = smtpd.messages[0].content
    assert parsed(content)["Subject"] == "Hello"
    assert parsed(content).get_content() == "Good day.\r\n"


def test_the_last_line_gets_its_end_either_way(mail: Mail, smtpd: ScriptedServer) -> None:
    for charset in (None, "us-ascii"):
        mail.send_message("Hi", ["a@example.com"], "no line end", charset=charset)
    assert all(each.content.endswith(b"\r\n\r\nno line end\r\n") for each in smtpd.messages)


def test_a_class_that_writes_its_messages_itself(mail: Mail, smtpd: ScriptedServer) -> None:
    class Signed(Message):
        def as_bytes(self) -> bytes:
            return b"X-Signature: 4711\n" + super().as_bytes()

    mail.send(Signed("Hi", ["a@example.com"], "Words"))
    content = smtpd.messages[0].content
    assert content.startswith(b"X-Signature: 4711\r\nSubject: Hi\r\n")


def test_a_message_with_a_method_of_its_own(
    mail: Mail, message: Message, smtpd: ScriptedServer
) -> None:
    message.as_bytes = lambda: b"Subject: Mine\r\n\r\nMy words\r\n"  # type: ignore[method-assign]
    mail.send(message)
    assert smtpd.messages[0].content == b"Subject: Mine\r\n\r\nMy words\r\n"


def test_a_class_that_says_itself_whom_to_send_to(mail: Mail, smtpd: ScriptedServer) -> None:
    class Staged(Message):
        @property
        def send_to(self) -> Any:
            return {"staging@example.org"}

    report = mail.send(Staged("Hi", ["a@example.com"], "Words"))
    assert report.accepted == smtpd.messages[0].recipients == ("staging@example.org",)
    assert parsed(smtpd.messages[0].content)["To"] == "a@example.com"


def test_a_subclass_with_nothing_to_say_of_that(mail: Mail, smtpd: ScriptedServer) -> None:
    class Tagged(Message):
        def __init__(self, *args: Any, tag: str, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.extra_headers = {"X-Tag": tag}

    with mock.patch.object(compose, "content", side_effect=AssertionError):
        mail.send(Tagged("Hi", ["a@example.com"], "Words", tag="bulk"))
    assert parsed(smtpd.messages[0].content)["X-Tag"] == "bulk"


def test_a_message_that_is_not_ours(mail: Mail, message: Message, smtpd: ScriptedServer) -> None:
    # Flask-Mail's, say, while an application changes from one to the other.
    other = types.SimpleNamespace(**vars(message), html=None, send_to={"a@example.com"})
    mail.send(other)  # type: ignore[arg-type]
    mail.send(message)
    first, second = (meaning(parsed(each.content)) for each in smtpd.messages)
    assert first == second
    assert smtpd.messages[0].recipients == ("a@example.com", "b@example.com")


def test_a_mailbox_without_a_domain(mail: Mail, smtpd: ScriptedServer) -> None:
    assert mail.send_message("Hi", ["postmaster", "postmaster"], "Words").accepted == (
        "postmaster",
    )


def test_file_names_in_ascii(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    with make_app(MAIL_ASCII_ATTACHMENTS=True).app_context():
        message = Message("Hi", ["a@example.com"], "Words")
        message.attach("Grüße.txt", "text/plain", b"x")
        Mail().send(message)
    (part,) = parsed(smtpd.messages[0].content).iter_attachments()
    assert part.get_filename() == "Grue.txt"


def test_an_attachment_is_never_whole_in_memory(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    with make_app().app_context():
        state = Mail().state
        message = Message("Hi", ["a@example.com"], "Words")
        message.attach("film.mp4", "video/mp4", bytes(8 * MEGABYTE))
        prepared(state, Message("warm", ["a@example.com"]))
        tracemalloc.start()
        try:
            _, content = prepared(state, message)
            assert isinstance(content, Rendered)
            size = sum(map(len, content.pieces()))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert size == content.size > 10 * MEGABYTE
        assert peak < 0.05 * size
        message.attachments[0].data = bytes(range(256)) * 1000
        Mail().send(message)
    (part,) = parsed(smtpd.messages[0].content).iter_attachments()
    assert part.get_payload(decode=True) == bytes(range(256)) * 1000
