"""No field of a message becomes a header line of its own, and nothing is sent when one tries."""

from __future__ import annotations

import time
from datetime import datetime
from email.policy import EmailPolicy
from typing import Any

import pytest

from mailbridge.testing import ScriptedServer
from mailbridge_flask import Attachment, BadHeaderError, Mail, Message, compose, headers

EVIL = [
    "x\r\nBcc: evil@example.net",
    "x\nBcc: evil@example.net",
    "x\rBcc: evil@example.net",
    "x\r\n\r\nbody",
    "x\r\n",
    "x\n",
    "x\r",
    "\nx",
    "x\0y",
    "x\x0by",
    "x\x85y",
    "x\u2028Bcc: evil@example.net",
    "x\ud800y",
]

FIELDS: dict[str, Any] = {
    "subject": lambda evil: {"subject": evil},
    "sender": lambda evil: {"sender": f"{evil} <a@example.org>"},
    "sender address": lambda evil: {"sender": f"a@example.org{evil}"},
    "sender name": lambda evil: {"sender": (evil, "a@example.org")},
    "sender address in a pair": lambda evil: {"sender": ("A", f"a@example.org{evil}")},
    "recipient": lambda evil: {"recipients": [f"a@example.org{evil}"]},
    "recipient name": lambda evil: {"recipients": [(evil, "a@example.org")]},
    "cc": lambda evil: {"cc": [f"{evil} <a@example.org>"]},
    "bcc": lambda evil: {"bcc": [(evil, "a@example.org")]},
    "reply_to": lambda evil: {"reply_to": f"a@example.org{evil}"},
    "reply_to name": lambda evil: {"reply_to": (evil, "a@example.org")},
    "date": lambda evil: {"date": evil},
    "charset": lambda evil: {"charset": f"utf-8{evil}"},
    "extra value": lambda evil: {"extra_headers": {"X-A": evil}},
    "extra name": lambda evil: {"extra_headers": {evil: "x"}},
    "extra address": lambda evil: {"extra_headers": {"Sender": f"ö {evil} <a@example.org>"}},
    "alternative": lambda evil: {"alts": {evil: "x"}},
    "filename": lambda evil: {"attachments": [Attachment(evil, "image/png", b"x")]},
    "content type": lambda evil: {"attachments": [Attachment("a", f"image/png{evil}", b"x")]},
    "content type parameter": lambda evil: {
        "attachments": [Attachment("a", f'image/png; a="{evil}"', b"x")]
    },
    "disposition": lambda evil: {"attachments": [Attachment("a", "image/png", b"x", evil)]},
    "attachment header": lambda evil: {
        "attachments": [Attachment("a", "image/png", b"x", headers={"Content-ID": evil})]
    },
    "attachment header name": lambda evil: {
        "attachments": [Attachment("a", "image/png", b"x", headers={evil: "x"})]
    },
}


def new(**changes: Any) -> Message:
    return Message(**{"subject": "Hi", "recipients": ["b@example.com"], "body": "x", **changes})


@pytest.mark.parametrize("evil", EVIL, ids=ascii)
@pytest.mark.parametrize("field", FIELDS)
def test_injection(mail: Mail, smtpd: ScriptedServer, field: str, evil: str) -> None:
    message = new(**FIELDS[field](evil))
    with pytest.raises(BadHeaderError):
        mail.send(message)
    assert message.has_bad_headers()
    with pytest.raises(BadHeaderError):
        message.as_bytes()
    assert smtpd.connections == 0


def test_message_id(mail: Mail, smtpd: ScriptedServer) -> None:
    for evil in ("<a@b>\r\nX: y", "<a @b>", "", "<ä@b>"):
        message = new()
        message.msgId = evil
        with pytest.raises(BadHeaderError, match="msgId"):
            mail.send(message)
    assert smtpd.connections == 0


NAMES = ["", "X A", "X:", "Ü", "X\t", "x" * 77, "Content-Type", "MIME-version"]


@pytest.mark.parametrize("name", [*NAMES, "bcc", "Resent-Bcc"])
def test_names_that_no_extra_header_may_have(name: str) -> None:
    with pytest.raises(BadHeaderError):
        new(extra_headers={name: "x"}).as_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"date": "yesterday"},
        {"date": True},
        {"date": 1e20},
        {"date": float("nan")},
        {"date": datetime},
        {"charset": "no such thing"},
        {"charset": "utf-16"},
        {"charset": "base64"},
        {"alts": {"": "x"}},
        {"alts": {"multipart/mixed": "x"}},
        {"attachments": [Attachment("a", "png", b"x")]},
        {"attachments": [Attachment("a", "multipart/mixed", b"x")]},
        {"attachments": [Attachment("a", "text/plain; charset=nope", "x")]},
        {"attachments": [Attachment("a", "text/plain; charset=ascii", "ö")]},
        {"attachments": [Attachment("a", data=b"", disposition="in line")]},
        {"attachments": [Attachment("a", data=b"", headers={"Content-Transfer-Encoding": "x"})]},
        {"attachments": [Attachment("a" * 2000, data=b"")]},
        {"extra_headers": {"X-Long": "x" * 2000}},
    ],
)
def test_other_values_that_no_field_can_hold(changes: dict[str, Any]) -> None:
    with pytest.raises(BadHeaderError):
        new(sender="a@example.org", **changes).as_bytes()


@pytest.mark.parametrize("value", ["=?utf-8?q?a=0D=0ABcc=3A_evil?=", "=?utf-8?b?YQ0KQmNjOiBl?="])
def test_line_breaks_hidden_in_encoded_words(value: str) -> None:
    for changes in (
        {"sender": f"{value} <a@example.org>"},
        {"reply_to": f"{value} <a@example.org>"},
        {"extra_headers": {"X-A": value}},
    ):
        with pytest.raises(BadHeaderError):
            new(**{"sender": "a@example.org", **changes}).as_bytes()
    # A subject and the name in a pair are no header syntax: they are encoded as they are.
    text = new(subject=value, sender=(value, "a@example.org")).as_string()
    assert value not in text


def test_a_malformed_address_is_no_bad_header(mail: Mail) -> None:
    message = new(recipients=["nobody@"])
    assert not message.has_bad_headers()
    with pytest.raises(ValueError, match="nobody@"):
        mail.send(message)


def test_the_last_line_of_defence(monkeypatch: pytest.MonkeyPatch) -> None:
    # Were every check before it to fail, the written header block is looked at.
    def careless(name: str, value: object, charset: str = "") -> str:
        return str(value)

    monkeypatch.setattr(headers, "verbatim", careless)
    monkeypatch.setattr(compose, "check", lambda field, value: str(value))
    for evil in EVIL[:6]:
        message = new(sender="a@example.org", extra_headers={"X-A": evil})
        with pytest.raises(BadHeaderError):
            message.as_bytes()
    monkeypatch.setattr(compose.VerbatimPolicy, "fold_binary", EmailPolicy.fold_binary)
    monkeypatch.setattr(compose.VerbatimPolicy, "verify_generated_headers", False, raising=False)
    for evil in (*EVIL[:4], "x\r\nNot-Bcc: y", "x\r\n \r\n y", "x\0"):
        message = new(sender="a@example.org", extra_headers={"X-A": evil})
        with pytest.raises(BadHeaderError):
            message.as_bytes()


def test_long_values_take_no_time() -> None:
    start = time.process_time()
    for text in ("é" * 50_000, "a " * 50_000, '"' * 50_000, "=?" * 50_000, "\\" * 50_000):
        new(subject=text, sender="a@example.org", cc=[(text, "a@example.org")]).as_bytes()
        new(sender="a@example.org", extra_headers={"X": text}).has_bad_headers()
    # A slow machine takes some seconds; what takes the square of the length takes minutes.
    assert time.process_time() - start < 30
