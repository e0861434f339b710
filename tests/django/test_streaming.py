"""Content on its way to the server: encoded in a stream, rendered once, bytes for a stranger."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from django.core.mail import EmailMessage, EmailMultiAlternatives

from mailbridge.testing import ScriptedServer
from mailbridge_django import EmailBackend, fastpath
from mailbridge_django.connection import OpenConnection
from mailbridge_django.message import to_mail
from tests.properties.meaning import meaning, parsed

Make = Callable[..., EmailBackend]

MEGABYTE = 1024 * 1024


def with_attachment(data: bytes, to: str = "a@example.com") -> EmailMultiAlternatives:
    message = EmailMultiAlternatives("Subject", ".Body\n.\n", "me@example.org", [to])
    message.attach("data.bin", data, "application/octet-stream")
    return message


def attached(content: bytes) -> bytes:
    (part,) = parsed(content).iter_attachments()
    data: bytes = part.get_payload(decode=True)
    return data


def test_an_attachment_arrives_as_it_was(backend: Make, smtpd: ScriptedServer) -> None:
    data = bytes(range(256)) * 2000
    assert backend().send_messages([with_attachment(data)]) == 1
    smtpd.without("CHUNKING")
    assert backend(timeout=5).send_messages([with_attachment(data)]) == 1
    by_bdat, by_data = smtpd.messages
    assert attached(by_bdat.content) == attached(by_data.content) == data
    # "." and ".Body" stand at the beginning of a line.
    assert b"\r\n.Body\r\n.\r\n" in by_data.content


def test_a_file_is_attached(backend: Make, smtpd: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"\x00\xff" * 1000)
    message = EmailMessage("Subject", "Body", "me@example.org", ["a@example.com"])
    message.attach_file(str(tmp_path / "data.bin"))
    backend().send_messages([message])
    assert attached(smtpd.messages[0].content) == b"\x00\xff" * 1000


def test_an_attachment_is_never_whole_in_memory() -> None:
    message = with_attachment(bytes(8 * MEGABYTE))
    to_mail(with_attachment(b"warm"))
    tracemalloc.start()
    try:
        mail = to_mail(message)
        size = sum(map(len, mail.content.pieces()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == mail.content.size > 10 * MEGABYTE
    assert peak < 0.05 * size


def test_one_body_for_many_is_rendered_once(backend: Make, smtpd: ScriptedServer) -> None:
    data = b"%PDF" * 1000
    messages = [with_attachment(data, f"r{number}@example.com") for number in range(5)]
    with mock.patch.object(fastpath, "render_body", wraps=fastpath.render_body) as render_body:
        assert backend().send_messages(messages) == 5
    assert render_body.call_count == 1
    assert [parsed(each.content)["To"] for each in smtpd.messages] == [
        f"r{number}@example.com" for number in range(5)
    ]
    assert {attached(each.content) for each in smtpd.messages} == {data}


def test_another_body_is_another_one(backend: Make, smtpd: ScriptedServer) -> None:
    messages = [with_attachment(b"first"), with_attachment(b"other"), with_attachment(b"first")]
    backend().send_messages(messages)
    assert [attached(each.content) for each in smtpd.messages] == [b"first", b"other", b"first"]


def test_what_django_renders_means_the_same(backend: Make, smtpd: ScriptedServer) -> None:
    class Own(EmailMultiAlternatives):
        def message(self, *args: Any, **kwargs: Any) -> Any:
            return super().message(*args, **kwargs)

    message = Own("Subject", "Body", "me@example.org", ["a@example.com"])
    message.attach("data.bin", b"\x00" * 100, "application/octet-stream")
    message.extra_headers = {
        "Message-ID": "<1@example.org>",
        "Date": "Mon, 1 Jan 2024 00:00:00 +0000",
    }
    backend().send_messages([message])
    message.__class__ = EmailMultiAlternatives
    backend().send_messages([message])
    first, second = (meaning(parsed(each.content)) for each in smtpd.messages)
    assert first == second


class Foreign:
    """A connection with smtplib's `sendmail` and nothing else of ours."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def sendmail(self, sender: str, recipients: Sequence[str], content: Any) -> dict[str, Any]:
        self.sent.append(content)
        return {}

    def quit(self) -> None: ...


def test_a_connection_of_somebody_elses_gets_bytes() -> None:
    sender, foreign = EmailBackend(alias="test", host="192.0.2.1"), Foreign()
    sender.connection = foreign
    assert sender.send_messages([with_attachment(b"data")]) == 1
    (content,) = foreign.sent
    assert type(content) is bytes
    assert attached(content) == b"data"


def test_a_sendmail_that_was_replaced_gets_bytes(backend: Make, smtpd: ScriptedServer) -> None:
    sent: list[Any] = []

    def sendmail(self: Any, sender: str, recipients: Any, content: Any) -> dict[str, Any]:
        sent.append(content)
        return {}

    with mock.patch.object(OpenConnection, "sendmail", sendmail):
        backend().send_messages([with_attachment(b"data"), with_attachment(b"data")])
    assert list(map(type, sent)) == [bytes, bytes]


def test_a_server_that_takes_no_8_bit_gets_none(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.without("8BITMIME", "SMTPUTF8")
    message = with_attachment(b"data")
    message.body = "Grüße\n"
    message.content_subtype = "plain"
    backend().send_messages([message])
    content = smtpd.messages[0].content
    assert content.isascii()
    assert parsed(content).get_body().get_content().splitlines() == ["Grüße"]
