"""Mailbox: it reports as a server would, and its assertions say what was there instead."""

from __future__ import annotations

import asyncio
import io
import re
import threading
from collections.abc import AsyncIterator
from email.message import EmailMessage

import pytest

from mailbridge import (
    AsyncTransport,
    DeliveryReport,
    Envelope,
    MailError,
    RecipientsRefused,
    SomeRecipientsRefused,
    Transport,
)
from mailbridge.testing import Mailbox, ScriptedServer, captured

NOWHERE = "smtp://mail.invalid"
PLAIN = "Subject: Hello\n\nIt works.\n"


def rich() -> bytes:
    message = EmailMessage()
    message["Subject"] = "Your invoice, März"
    message.set_content("Dear Ada")
    message.add_alternative("<p>Dear <b>Ada</b></p>", subtype="html")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="invoice.pdf")
    return message.as_bytes()


@pytest.fixture
def box() -> Mailbox:
    """Two mails: one to two people of whom one is refused, and one with everything."""
    box = Mailbox()
    box.refuse("gone@example.net")
    box.defer("*@busy.example")
    with captured(box), Transport(NOWHERE, on_refused="report") as transport:
        transport.send(Envelope("me@example.org", ["ada@example.org", "gone@example.net"]), PLAIN)
        transport.send(Envelope(None, ["bob@example.org", "joe@busy.example"]), rich())
    return box


def outcome(url: str, to: list[str], on_refused: str) -> tuple[object, object]:
    transport = Transport(url, on_refused=on_refused)
    try:
        report, error = transport.send(Envelope("me@example.org", to), PLAIN), None
    except MailError as exc:
        report, error = exc.report, exc
    assert isinstance(report, DeliveryReport)
    results = [(r.address, r.state, r.phase, r.reply and r.reply.code, r.reason) for r in report]
    return results, type(error)


@pytest.mark.parametrize("on_refused", ["raise", "raise_if_all", "abort", "report"])
@pytest.mark.parametrize(
    "to",
    [
        ["ada@example.org"],
        ["ada@example.org", "gone@example.net"],
        ["ada@example.org", "gone@example.net", "joe@busy.example"],
        ["gone@example.net", "joe@busy.example"],
    ],
)
def test_it_reports_what_a_server_would(
    to: list[str], on_refused: str, smtpd: ScriptedServer
) -> None:
    box = Mailbox()
    for each in (smtpd, box):
        each.refuse("gone@example.net")
        each.defer("*@busy.example")
    with captured(box):
        taken = outcome(NOWHERE, to, on_refused)
    assert taken == outcome(smtpd.url, to, on_refused)


def test_a_mail_is_there_with_everything(box: Mailbox) -> None:
    first, second = box
    assert (first.sender, first.subject, first.text) == ("me@example.org", "Hello", "It works.\n")
    assert first.recipients == ("ada@example.org", "gone@example.net")
    assert first.report.refused == ("gone@example.net",)
    assert (second.sender, second.subject) == (None, "Your invoice, März")
    assert "<b>Ada</b>" in second.html
    assert second.message.get_body(("plain",)).get_content().strip() == "Dear Ada"  # type: ignore[union-attr]
    assert box[-1] == second
    assert len(box) == 2


def test_send_many_and_files(box: Mailbox) -> None:
    box.clear()
    mails = [
        (Envelope("me@example.org", "ada@example.org"), io.BytesIO(b"Subject: 1\n\n")),
        (Envelope("me@example.org", "gone@example.net"), "Subject: 2\n\n"),
        (Envelope("me@example.org", "ada@example.org"), "not ASCII: \xe4"),
        (Envelope("me@example.org", "ada@example.org"), b"Subject: 3\n\n"),
    ]
    with captured(box):
        reports = list(Transport(NOWHERE).send_many(mails, deadline=5))  # type: ignore[arg-type]
    assert [len(report.accepted) for report in reports] == [1, 0, 0, 1]
    assert isinstance(reports[1].failure(), RecipientsRefused)
    assert isinstance(reports[2].error, ValueError)
    assert [mail.subject for mail in box] == ["1", "2", "3"]


def test_asyncio(box: Mailbox) -> None:
    box.clear()
    mails = [(Envelope("me@example.org", f"{name}@example.org"), PLAIN) for name in ("ada", "bob")]

    async def later() -> AsyncIterator[tuple[Envelope, str]]:
        for mail in mails:
            yield mail

    async def send() -> list[DeliveryReport]:
        async with AsyncTransport(NOWHERE) as transport:
            reports = [report async for report in transport.send_many(mails, deadline=5)]
            reports += [report async for report in transport.send_many(later())]
            with pytest.raises(RecipientsRefused):
                await transport.send(Envelope("me@example.org", "gone@example.net"), PLAIN)
            return reports

    with captured(box):
        reports = asyncio.run(send())
    assert [len(report.accepted) for report in reports] == [1] * 4
    box.assert_sent(to="ada@example.org", count=2)
    box.assert_sent(to="bob@example.org", count=2)
    box.assert_refused("gone@example.net")


def test_all_threads_are_captured(box: Mailbox) -> None:
    box.clear()

    def send() -> None:
        Transport(NOWHERE).send(Envelope("me@example.org", "ada@example.org"), PLAIN)

    with captured(box):
        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    box.assert_sent(to="ada@example.org", count=8)


def test_it_ends(box: Mailbox, smtpd: ScriptedServer) -> None:
    smtpd.refuse("gone@example.net")
    with pytest.raises(SomeRecipientsRefused):
        Transport(smtpd.url).send(
            Envelope("me@example.org", ["ada@example.org", "gone@example.net"]), PLAIN
        )
    assert len(smtpd.messages) == 1
    assert len(box) == 2


@pytest.mark.parametrize(
    "wanted",
    [
        {"to": "ada@example.org", "subject": "Hello", "sender": "me@example.org"},
        {"to": ["bob@example.org"], "subject": re.compile("^Your invoice"), "sender": ""},
        {"html_contains": "<b>Ada</b>", "text_contains": "Dear", "attachment": "invoice.pdf"},
        {"count": 2},
    ],
    ids=str,
)
def test_what_was_sent_is_found(box: Mailbox, wanted: dict[str, object]) -> None:
    assert box.assert_sent(**wanted) in list(box)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"to": "eve@example.org"}, "to: eve@example.org is not among its recipients"),
        ({"to": "gone@example.net"}, "to: gone@example.net: refused (550 5.1.1 No such user)"),
        ({"subject": "Hallo"}, "subject: expected 'Hallo', got 'Hello'"),
        ({"subject": re.compile("^Hallo$")}, "subject: expected /^Hallo$/, got 'Hello'"),
        ({"sender": "you@example.org"}, "sender: expected <you@example.org>, got <>"),
        ({"html_contains": "Eve"}, "html: no 'Eve' in '<p>Dear <b>Ada</b></p>"),
        ({"text_contains": "Eve"}, "text: no 'Eve' in 'It works.\\n'"),
        ({"attachment": "bill.pdf"}, "attachments: no 'bill.pdf' in ['invoice.pdf']"),
        ({"subject": "Hello", "count": 2}, "expected 2 mails, got 1, with the subject 'Hello'"),
        ({"subject": "Hello", "count": 0}, "expected 0 mails, got 1, with the subject 'Hello'"),
    ],
    ids=str,
)
def test_what_was_not_sent_is_explained(box: Mailbox, wanted: dict[str, object], said: str) -> None:
    with pytest.raises(AssertionError) as caught:
        box.assert_sent(**wanted)  # type: ignore[arg-type]
    text = str(caught.value)
    assert said in text
    assert "1. 'Hello' from <me@example.org>: ada@example.org: accepted" in text
    assert "2. 'Your invoice, März' from <>" in text


def test_none_can_be_counted(box: Mailbox) -> None:
    assert box.assert_sent(subject="Nothing", count=0) is None


def test_refused(box: Mailbox) -> None:
    assert box.assert_refused("gone@example.net").subject == "Hello"
    assert box.assert_refused("joe@busy.example", code=451).sender is None
    for address, code in (("ada@example.org", None), ("gone@example.net", 551)):
        with pytest.raises(AssertionError, match=r"(?s)to be refused.*1\. 'Hello'"):
            box.assert_refused(address, code=code)


def test_none(box: Mailbox) -> None:
    box.assert_none(to="eve@example.org")
    box.assert_none(to="gone@example.net")  # was refused, so nothing was sent to it
    box.assert_none(subject="Hallo")
    with pytest.raises(AssertionError, match=r"(?s)no mail to ada@example.org\n.*1\. 'Hello'"):
        box.assert_none(to="ada@example.org")
    with pytest.raises(AssertionError, match=r"(?s)expected no mail\n.*1\. 'Hello'"):
        box.assert_none()
    box.clear()
    box.assert_none()
    with pytest.raises(AssertionError, match="The mailbox is empty"):
        box.assert_sent()
    assert box, "an empty mailbox is not false"
