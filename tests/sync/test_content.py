"""Content and addresses: what goes over the wire, and what is refused before anything does."""

from __future__ import annotations

import email.message
import io
import pickle
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mailbridge
from mailbridge import Address, Envelope
from mailbridge.outgoing import Outgoing
from mailbridge.testing import ScriptedServer
from tests.sync.servers import LOCK_STEP, Peer, RawServer
from tests.sync.support import (
    CONTENT,
    ENVELOPE,
    SENDER,
    TO,
    client,
    heard,
    transport,
    verbs,
)

# -- line ends, dots, the final CRLF

SMUGGLED = [
    b"a" + end_1 + b"." + end_2 + b"MAIL FROM:<evil@example.org>" + end_1
    for end_1 in (b"\n", b"\r", b"\r\n")
    for end_2 in (b"\n", b"\r", b"\r\n", b"\r\r\n")
]


BLOCK = (b"y" * 98 + b"\r\n") * 655 + b"y" * 36
DOTS = (b"." * 98 + b"\r\n") * 700


def _lines(content: bytes) -> bytes:
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return lines.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("content", [*SMUGGLED, b"a\r", b"a\n\rb\n", b"\r\n\r", b"\n", b"a\r\r\nb"])
def test_bare_lf_and_cr_never_reach_the_wire(content: bytes) -> None:
    """Body with bare LF / CR: only CRLF is sent, and no line is a lone dot before the end."""

    def dialogue(peer: Peer) -> None:
        peer.until("QUIT")
        peer.say("221 bye")

    expected = _lines(content)
    if not expected.endswith(b"\r\n"):
        expected += b"\r\n"
    with RawServer(dialogue) as server:
        with client(server) as smtp:
            smtp.sendmail(SENDER, TO, content)
        transport(server).send(ENVELOPE, content)
        transport(server).send(ENVELOPE, io.BytesIO(content))
        transport(server).send(ENVELOPE, (bytes([octet]) for octet in content))
        server.wait_until_closed(2)
        for peer in server.peers:
            assert peer.content.replace(b"\r\n..", b"\r\n.") == expected
            assert [line.split()[0] for line in peer.commands[-2:]] == ["DATA", "QUIT"]


@pytest.mark.parametrize(
    ("content", "stored"),
    [
        (b".", b".\r\n"),
        (b"..\r\n.\r\n", b"..\r\n.\r\n"),
        (b".a\r\n\r\n.b\r\n..c", b".a\r\n\r\n.b\r\n..c\r\n"),
        (b"no final CRLF", b"no final CRLF\r\n"),
        (b"one final CRLF\r\n", b"one final CRLF\r\n"),
        (b"two\r\n\r\n", b"two\r\n\r\n"),
        (b"", b""),
        (b"\r\n", b"\r\n"),
        (bytearray(b"bytearray\n"), b"bytearray\r\n"),
        ("a text\n", b"a text\r\n"),
        (b"x" * 998 + b"\r\n", b"x" * 998 + b"\r\n"),
        (BLOCK[:-1] + b"\r\n.z\r\n" + DOTS, BLOCK[:-1] + b"\r\n.z\r\n" + DOTS),
    ],
)
def test_dot_stuffing_and_final_crlf(smtpd: ScriptedServer, content: bytes, stored: bytes) -> None:
    """Dot stuffing; final CRLF added only if missing; empty stays empty."""
    stored += b"" if stored.endswith(b"\r\n") or not stored else b"\r\n"
    with client(smtpd) as smtp:
        smtp.sendmail(SENDER, TO, content)
    transport(smtpd).send(ENVELOPE, content)
    assert [message.content for message in smtpd.messages] == [stored, stored]


@pytest.mark.parametrize("offset", range(-3, 4))
def test_dot_at_the_border_of_a_block(smtpd: ScriptedServer, offset: int) -> None:
    """A dot at a buffer border is stuffed with state over the whole content."""
    content = (BLOCK + b"yyy")[: 65536 + offset] + b"\r\n.\r\n.y\r\n"
    transport(smtpd).send(ENVELOPE, content)
    assert smtpd.messages[0].content == content


def test_str_outside_ascii_is_refused(smtpd: ScriptedServer) -> None:
    """A text outside ASCII has no encoding: refused before anything is sent."""
    with client(smtpd) as smtp:
        with pytest.raises(ValueError, match="ASCII"):
            smtp.sendmail(SENDER, TO, "é")
    assert verbs(smtpd) == []
    with pytest.raises(ValueError, match="ASCII"):
        transport(smtpd).send(ENVELOPE, "é")
    assert smtpd.connections == 1


@pytest.mark.parametrize("keywords", [(), ("PIPELINING", "CHUNKING")], ids=" ".join)
@pytest.mark.parametrize(
    ("at", "written"), [(4000, b""), (-1, b"more\r\n" * 90_000), (1000, b"\n"), (99_998, b"\xff")]
)
def test_a_file_that_changes_on_the_way_is_not_delivered(
    keywords: tuple[str, ...], at: int, written: bytes, tmp_path: Path
) -> None:
    """What was announced is what is sent, or the connection ends before the final dot."""
    path = tmp_path / "content"
    path.write_bytes(CONTENT + b"x" * 74 + b"\r\n" + (b"x" * 98 + b"\r\n") * 999)
    with ScriptedServer(extensions=("SIZE", *keywords)) as smtpd, path.open("r+b") as file:
        relay = transport(smtpd)
        outgoing = Outgoing(ENVELOPE, file)
        if written:
            file.seek(at, io.SEEK_END if at < 0 else io.SEEK_SET)
            file.write(written)
            file.flush()
        else:
            file.truncate(at)
        with pytest.raises(mailbridge.InvalidInput, match="changed"):
            relay.submit(outgoing)
        assert smtpd.messages == ()
        assert relay.send(ENVELOPE, CONTENT).accepted == (TO,)


@pytest.mark.parametrize("piece", ["a text", None])
def test_a_file_of_no_bytes_is_refused(piece: object) -> None:
    """Such as codecs.open() gives, or a pipe that does not block."""

    class Odd(io.BytesIO):
        def read(self, size: int | None = -1) -> Any:
            return piece

    with pytest.raises(mailbridge.InvalidInput, match="not bytes"):
        Outgoing(ENVELOPE, Odd())


@pytest.mark.parametrize("keywords", [(), ("250-PIPELINING", "250-CHUNKING")], ids=["DATA", "BDAT"])
def test_a_large_content_is_never_whole_in_memory(
    keywords: tuple[str, ...], tmp_path: Path
) -> None:
    """Read from a file piece by piece, while it is looked at and while it is sent."""
    path, size = tmp_path / "content", 0
    with path.open("wb") as file:
        file.write(CONTENT)
        for _ in range(200):
            file.write((b"." + b"x" * 97 + b"\n") * 1000)

    def dialogue(peer: Peer) -> None:
        nonlocal size
        line = peer.until("BDAT" if keywords else "DATA", ehlo=("250-raw", *keywords, "250 SIZE"))
        if line == "DATA":
            peer.say("354 go on")
            size = peer.skip_content()
        while line.startswith("BDAT"):
            size += peer.skip(int(line.split()[1]))
            peer.say("250 Ok")
            line = "" if line.endswith("LAST") else peer.line()
        peer.say(*["250 Ok"] * (not keywords))
        peer.until("QUIT")

    with RawServer(dialogue) as server, path.open("rb") as file:
        relay = transport(server, timeout=20)
        relay.open()
        tracemalloc.start()
        try:
            assert relay.send(ENVELOPE, file).accepted == (TO,)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        relay.close()
    assert size > 20_000_000
    assert peak < 3_000_000


# -- 8 bits and SIZE

EIGHT_BIT = (
    b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n\xc3\xa9\r\n"
)
SIGNED = (
    b"MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xc3\xa9\r\n--b\r\n\r\nsignature\r\n--b--\r\n"
)


def test_8bit_is_declared(smtpd: ScriptedServer) -> None:
    """8-bit body: BODY=8BITMIME where it is offered; not for 7-bit content."""
    for content in (EIGHT_BIT, CONTENT):
        with client(smtpd) as smtp:
            smtp.sendmail(SENDER, TO, content)
        transport(smtpd).send(ENVELOPE, content)
    declared = ["BODY=8BITMIME" in message.mail_parameters for message in smtpd.messages]
    assert declared == [True, True, False, False]
    assert smtpd.messages[0].content == smtpd.messages[1].content == EIGHT_BIT


@pytest.mark.parametrize("options", [[], ["BODY=8BITMIME"], ["8bitmime"], ["BODY=7BIT"]])
def test_8bit_without_8bitmime_is_refused(smtpd: ScriptedServer, options: list[str]) -> None:
    """8-bit body, 8BITMIME not offered: "must not, under any circumstances"."""
    smtpd.without("8BITMIME")
    with client(smtpd) as smtp:
        with pytest.raises(mailbridge.SMTPNotSupportedError, match="8BITMIME"):
            smtp.sendmail(SENDER, TO, EIGHT_BIT, options)
    assert smtpd.messages == ()
    assert "MAIL" not in verbs(smtpd)


def test_8bit_is_not_declared_as_7bit(smtpd: ScriptedServer) -> None:
    """BODY=7BIT for 8-bit content is a contradiction, whatever the server offers."""
    with client(smtpd) as smtp:
        try:
            smtp.sendmail(SENDER, TO, EIGHT_BIT, ["BODY=7BIT"])
        except (ValueError, mailbridge.SMTPNotSupportedError):
            return
    assert "BODY=7BIT" not in smtpd.messages[0].mail_parameters


@pytest.mark.parametrize("options", [[], ["BODY=8BITMIME"]])
def test_8bit_without_8bitmime_is_downgraded(smtpd: ScriptedServer, options: list[str]) -> None:
    """8-bit body, 8BITMIME not offered: the transport sends it as 7bit MIME, the text the same."""
    smtpd.without("8BITMIME")
    transport(smtpd).send(ENVELOPE, EIGHT_BIT, mail_options=options)
    (message,) = smtpd.messages
    assert message.content.isascii()
    assert message.message.get_content().split() == ["é"]
    assert message.message["Subject"] == "x"


def test_signed_8bit_without_8bitmime_is_refused(smtpd: ScriptedServer) -> None:
    """What would break a signature is not done; the connection is not left open."""
    smtpd.without("8BITMIME")
    with pytest.raises((ValueError, mailbridge.NotSupported), match="signed"):
        transport(smtpd).send(ENVELOPE, SIGNED)
    assert smtpd.messages == ()


@pytest.mark.parametrize("content", [b"a\nb\n", b".a\r\n.b\r\n", b"no end", b""])
def test_size_counts_crlf_and_no_stuffed_dots(smtpd: ScriptedServer, content: bytes) -> None:
    """SIZE: octets with CRLFs, without stuffed dots and the final one."""
    with client(smtpd) as smtp:
        smtp.sendmail(SENDER, TO, content)
    transport(smtpd).send(ENVELOPE, content)
    for message in smtpd.messages:
        assert message.mail_parameters == (f"SIZE={len(message.content)}",)


def test_size_limit_is_kept(smtpd: ScriptedServer) -> None:
    """SIZE: the server's limit is kept before MAIL, and the connection goes on."""
    smtpd.with_("SIZE 100")
    with client(smtpd) as smtp:
        with pytest.raises(mailbridge.SMTPResponseException) as caught:
            smtp.sendmail(SENDER, TO, b"x" * 99)
        assert caught.value.smtp_code == 552
        assert smtp.sendmail(SENDER, TO, b"x" * 98) == {}
    with transport(smtpd) as relay:
        with pytest.raises(mailbridge.MessageRefused, match="552") as caught:
            relay.send(ENVELOPE, b"x" * 99)
        assert caught.value.report.refused == (TO,)
        assert relay.send(ENVELOPE, b"x" * 98).accepted == (TO,)
    assert smtpd.connections == 2
    assert verbs(smtpd).count("MAIL") == 2


@pytest.mark.parametrize("value", ["", " 0", " -5", " lots", " " + "9" * 30, " 1 2"])
def test_odd_size_is_no_limit(value: str) -> None:
    """Odd SIZE values: no limit known."""

    def dialogue(peer: Peer) -> None:
        peer.until("QUIT", ehlo=("250-raw.example", f"250 SIZE{value}"))
        peer.say("221 bye")

    with RawServer(dialogue) as server:
        assert transport(server).send(ENVELOPE, CONTENT).accepted == (TO,)


# -- lines that are too long

LONG = b"MIME-Version: 1.0\r\nSubject: x\r\nContent-Type: text/plain\r\n\r\n.%b\r\n.\r\n" % (
    b"x" * 5000
)
WAYS = [(), ("CHUNKING",), ("PIPELINING",), ("PIPELINING", "CHUNKING")]


@pytest.mark.parametrize("keywords", WAYS, ids=" ".join)
@pytest.mark.parametrize("kind", [bytes, io.BytesIO, lambda content: iter([content])])
def test_long_lines_are_re_encoded(keywords: tuple[str, ...], kind: Callable[..., Any]) -> None:
    """Line > 998: the transport writes the part as quoted-printable, the text the same."""
    with ScriptedServer(extensions=(*LOCK_STEP, *keywords)) as smtpd:
        report = transport(smtpd).send(ENVELOPE, kind(LONG))
        (message,) = smtpd.messages
    assert max(map(len, message.content.split(b"\r\n"))) <= 998
    assert message.message.get_payload(decode=True) == LONG.partition(b"\r\n\r\n")[2]
    assert message.message["Subject"] == "x"
    assert [change.partition(":")[0] for change in report.changes] == [
        "text/plain written as quoted-printable"
    ]
    assert message.mail_parameters == (f"SIZE={len(message.content)}",)
    twin = pickle.loads(pickle.dumps(report))
    assert twin.changes == report.changes == tuple(report.to_dict()["changes"])


def test_nothing_is_changed_where_nothing_must_be(smtpd: ScriptedServer) -> None:
    assert transport(smtpd, strict=True).send(ENVELOPE, EIGHT_BIT).changes == ()
    assert smtpd.messages[0].content == EIGHT_BIT


def test_the_size_limit_is_that_of_the_final_form(smtpd: ScriptedServer) -> None:
    """SIZE: re-encoded first, counted then."""
    smtpd.with_(f"SIZE {len(LONG) + 50}")
    with pytest.raises(mailbridge.MessageRefused, match="552"):
        transport(smtpd).send(ENVELOPE, LONG)
    assert "MAIL" not in verbs(smtpd)
    smtpd.with_(f"SIZE {len(LONG) + 500}")
    report = transport(smtpd, max_messages=1).send(ENVELOPE, LONG)
    assert report.accepted == (TO,)


@pytest.mark.parametrize("keywords", WAYS, ids=" ".join)
def test_strict_refuses_before_anything_is_sent(keywords: tuple[str, ...]) -> None:
    """With `strict` nothing is changed; the connection goes on, and so does a batch."""
    with ScriptedServer(extensions=("SIZE", *keywords)) as smtpd:
        with transport(smtpd, strict=True) as relay:
            with pytest.raises(ValueError, match="more than 998 octets, and strict is set"):
                relay.send(ENVELOPE, LONG)
            with pytest.raises(ValueError, match=r"no 8BITMIME.*strict is set"):
                relay.send(ENVELOPE, EIGHT_BIT)
            reports = list(relay.send_many([(ENVELOPE, c) for c in (CONTENT, LONG, CONTENT)]))
        assert [len(report.accepted) for report in reports] == [1, 0, 1]
        assert isinstance(reports[1].error, mailbridge.InvalidInput)
        assert [message.content for message in smtpd.messages] == [CONTENT, CONTENT]
        assert (verbs(smtpd).count("MAIL"), smtpd.connections) == (2, 1)


def test_strict_in_a_url(smtpd: ScriptedServer) -> None:
    with pytest.raises(ValueError, match="strict"):
        mailbridge.Transport(f"{smtpd.url}?strict=yes").send(ENVELOPE, LONG)


def test_the_client_sends_long_lines_as_they_are(smtpd: ScriptedServer) -> None:
    """As smtplib does: `sendmail` sends what it is given."""
    with client(smtpd) as smtp:
        smtp.sendmail(SENDER, TO, LONG)
    assert smtpd.messages[0].content == LONG


# -- send_message


def test_bcc_is_not_sent(smtpd: ScriptedServer) -> None:
    """Bcc and Resent-Bcc are recipients, and never in the content; the message keeps them."""
    message = email.message.EmailMessage()
    message["From"], message["To"], message["Bcc"] = SENDER, TO, "secret@example.com"
    message.set_content("text")
    with client(smtpd) as smtp:
        smtp.send_message(message)
        message["Resent-Date"] = "Mon, 1 Jan 2024 00:00:00 +0000"
        message["Resent-From"], message["Resent-To"] = SENDER, TO
        message["Resent-Bcc"] = "secret@example.com"
        smtp.send_message(message)
    assert len(smtpd.messages) == 2
    for received in smtpd.messages:
        assert set(received.recipients) == {TO, "secret@example.com"}
        assert b"secret@" not in received.content
        assert b"bcc" not in received.content.lower()
    assert message["Bcc"] == message["Resent-Bcc"] == "secret@example.com"


def test_idn_domain_and_send_message_on_an_old_server(smtpd: ScriptedServer) -> None:
    """IDN domain + send_message on a server without SMTPUTF8: the A-label, not an error."""
    smtpd.without("SMTPUTF8")
    message = email.message.EmailMessage()
    message["From"], message["To"] = SENDER, "b@bücher.example"
    message.set_content("text")
    with client(smtpd) as smtp:
        smtp.send_message(message)
    assert smtpd.messages[0].recipients == ("b@xn--bcher-kva.example",)


def test_ehlo_name_is_ascii(smtpd: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """EHLO name from a non-ASCII host name: an A-label or an address literal."""
    with client(smtpd, local_hostname="büro.example") as smtp:
        smtp.ehlo()
    monkeypatch.setattr(socket, "getfqdn", lambda: "bü ro.example")
    with client(smtpd, local_hostname=None) as smtp:
        smtp.ehlo()
    first, second = (line for line in heard(smtpd) if line.startswith("EHLO"))
    assert first == "EHLO xn--bro-hoa.example"
    assert second.startswith("EHLO [")


@pytest.mark.parametrize("name", ["a.b\r\nRSET", "a.b\0", "a b.c", "a.b\n", "." + "x" * 300])
def test_ehlo_name_from_a_hostile_name_service(
    smtpd: ScriptedServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Line breaks, NUL or a space in what reverse DNS says: an address literal instead."""
    monkeypatch.setattr(socket, "getfqdn", lambda: name)
    with client(smtpd, local_hostname=None) as smtp:
        assert smtp.sendmail(SENDER, TO, CONTENT) == {}
    (ehlo,) = (line for line in heard(smtpd) if line.startswith("EHLO"))
    assert ehlo == "EHLO [127.0.0.1]"
    assert len(smtpd.messages) == 1


def test_vrfy_outside_ascii(smtpd: ScriptedServer) -> None:
    """VRFY with non-ASCII: with the SMTPUTF8 parameter, or refused before it is sent."""
    with client(smtpd) as smtp:
        smtp.ehlo()
        smtp.vrfy("jörg@example.org")
        smtp.expn("jörg@example.org")
    assert "VRFY jörg@example.org SMTPUTF8" in heard(smtpd)
    assert "EXPN jörg@example.org SMTPUTF8" in heard(smtpd)
    smtpd.without("SMTPUTF8")
    with client(smtpd) as smtp:
        smtp.ehlo()
        with pytest.raises(ValueError, match="SMTPUTF8"):
            smtp.vrfy("jörg@example.org")


def test_requiretls_is_never_dropped(smtpd: ScriptedServer) -> None:
    """Envelope option REQUIRETLS: not sent where it is not offered, and neither is the mail."""
    with client(smtpd) as smtp:
        with pytest.raises(mailbridge.SMTPNotSupportedError, match="REQUIRETLS"):
            smtp.sendmail(SENDER, TO, CONTENT, ["REQUIRETLS"])
    with pytest.raises(mailbridge.NotSupported, match="REQUIRETLS"):
        transport(smtpd).send(ENVELOPE, CONTENT, mail_options=["requiretls"])
    assert "MAIL" not in verbs(smtpd)


def test_address_is_a_value() -> None:
    """What an Envelope keeps is parsed once."""
    envelope = Envelope(Address.parse(SENDER), f"Name <{TO}>")
    assert envelope.recipients == (TO,)
