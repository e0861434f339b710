"""Captured messages: kept, found, dropped, taken apart, whatever is in them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from mailbridge import DeliveryReport, Envelope, RecipientResult, State
from mailbridge.outbox import MaildirOutbox, MemoryOutbox, Outbox, Reading, reading

ENVELOPE = Envelope("a@example.org", ["b@example.org", "c@example.org"])
MAIL = b"From: A <a@example.org>\r\nSubject: =?utf-8?q?gr=C3=BCn?=\r\n\r\nHello\r\n"


@pytest.fixture(params=["memory", "maildir"])
def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> Outbox:
    return MemoryOutbox(3) if request.param == "memory" else MaildirOutbox(tmp_path / "box", 3)


def content(outbox: Outbox, name: str) -> bytes:
    file = outbox.open(name)
    assert file is not None
    with file:
        return file.read()


def test_a_message_is_kept_as_it_is(outbox: Outbox) -> None:
    captured = outbox.add(ENVELOPE, MAIL)
    assert content(outbox, captured.id) == MAIL
    assert outbox.get(captured.id) == captured
    assert (captured.subject, captured.snippet) == ("grün", "Hello")
    assert (captured.sender, captured.recipients) == (ENVELOPE.sender, ENVELOPE.recipients)


def test_the_newest_comes_first_and_the_oldest_are_dropped(outbox: Outbox) -> None:
    names = [outbox.add(ENVELOPE, MAIL).id for _ in range(5)]
    assert [each.id for each in outbox.entries()] == names[:1:-1]
    assert outbox.open(names[0]) is None


def test_the_report_is_kept_beside_it(outbox: Outbox) -> None:
    captured = outbox.add(ENVELOPE, MAIL)
    refused = RecipientResult("b@example.org", State.REFUSED, reason="no")
    outbox.settle(captured.id, DeliveryReport({"b@example.org": refused}))
    found = outbox.get(captured.id)
    assert found is not None
    assert found.trouble == 1
    assert content(outbox, captured.id) == MAIL


def test_the_token_is_another_after_each_change(outbox: Outbox) -> None:
    tokens = [outbox.token()]
    captured = outbox.add(ENVELOPE, MAIL)
    tokens.append(outbox.token())
    outbox.settle(captured.id, DeliveryReport({}))
    tokens.append(outbox.token())
    outbox.delete([captured.id, "gone"])
    assert len({*tokens, outbox.token()}) >= 3
    assert outbox.entries() == []


@pytest.mark.parametrize("name", ["", "..", "../about", "/etc/passwd", "0" * 20, "\0", "x" * 9999])
def test_only_an_id_names_a_message(outbox: Outbox, name: str) -> None:
    outbox.add(ENVELOPE, MAIL)
    assert outbox.get(name) is None
    assert outbox.open(name) is None
    outbox.delete([name])
    assert len(outbox.entries()) == 1


def test_a_maildir_is_shared(tmp_path: Path) -> None:
    one, other = MaildirOutbox(tmp_path), MaildirOutbox(tmp_path)
    threads = [threading.Thread(target=one.add, args=(ENVELOPE, MAIL)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(other.entries()) == 8
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_mail_program_may_have_seen_it(tmp_path: Path) -> None:
    outbox = MaildirOutbox(tmp_path)
    name = outbox.add(ENVELOPE, MAIL).id
    (tmp_path / "new" / name).rename(tmp_path / "cur" / f"{name}:2,S")
    assert content(outbox, name) == MAIL


def test_the_maildir_is_for_its_owner(tmp_path: Path) -> None:
    outbox = MaildirOutbox(tmp_path / "box")
    outbox.add(ENVELOPE, MAIL)
    assert {p.stat().st_mode & 0o077 for p in (tmp_path / "box").iterdir() if p.is_dir()} == {0}


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"\0\xff\xfe",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n",
        b"Content-Type: text/plain; charset=no-such\r\n\r\nx",
        b"Content-Type: text/html; charset=\"utf-8\0\"\r\n\r\nx",
        b"Content-Transfer-Encoding: base64\r\n\r\n!!!!=",
        b"Subject: =?utf-8?b?////?=\r\n =?x?q?=\r\n\r\n",
        b"Content-Disposition: attachment; filename*=x''%ff\r\n\r\nx",
        b"Content-Type: message/rfc822\r\n\r\nSubject: \xff\r\n\r\n\xff",
        b"Content-Type: text/html\r\n\r\n<![if <!-- <a <<<",
        b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n)
                 for n in range(2000)),
    ],
)  # fmt: skip
def test_whatever_a_message_holds_it_can_be_read(hostile: bytes, outbox: Outbox) -> None:
    captured = outbox.add(ENVELOPE, hostile)
    found = Reading.of(hostile)
    assert "\0" not in captured.subject + str(found.headers)
    assert all(part.safe_name for part in found.parts)
    found.inlined()
    assert content(outbox, captured.id) == hostile


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "..\\..\\x", "/", "", ".htaccess", "a\r\nSet-Cookie: x", "\u202efdp.exe"],
)
def test_the_name_of_an_attachment_is_made_safe(name: str) -> None:
    safe = reading.Part(0, "text/plain", name, "attachment", "", b"").safe_name
    assert safe
    assert not set(safe) & set('/\\\r\n"\u202e')
    assert not safe.startswith(".")


def test_what_is_too_large_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_PARSED", 100)
    found = Reading.of(MAIL + b"x" * 100)
    assert not found.complete
    assert found.parts == ()
    assert found.header("subject") == "grün"
