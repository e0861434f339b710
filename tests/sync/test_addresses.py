"""Addresses as they come from an application, and what of them reaches the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import mailbridge
from mailbridge import Envelope
from mailbridge.testing import ScriptedServer
from tests.sync.support import CONTENT, SENDER, TO, client, heard, transport

Send = Callable[[ScriptedServer, object, object], None]


def by_smtp(smtpd: ScriptedServer, sender: object, recipient: object) -> None:
    with client(smtpd) as smtp:
        smtp.sendmail(sender, [recipient], CONTENT)


def by_transport(smtpd: ScriptedServer, sender: object, recipient: object) -> None:
    transport(smtpd).send(Envelope(sender, [recipient]), CONTENT)


@pytest.fixture(params=[by_smtp, by_transport])
def send(request: pytest.FixtureRequest) -> Send:
    return request.param


def paths(smtpd: ScriptedServer) -> list[str]:
    """What stands in MAIL and RCPT, without SIZE."""
    lines = [line for line in heard(smtpd) if line[:4] in ("MAIL", "RCPT")]
    return [" ".join(word for word in line.split(" ") if "SIZE=" not in word) for line in lines]


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("b@example.com", "<b@example.com>"),
        ("B.o'b+tag@Example.COM", "<B.o'b+tag@Example.COM>"),
        ("Name <b@example.com>", "<b@example.com>"),
        ('"Doe, John" <b@example.com>', "<b@example.com>"),
        ("<b@example.com>", "<b@example.com>"),
        ('"a b"@example.com', '<"a b"@example.com>'),
        ('"quoted"@example.com', '<"quoted"@example.com>'),
        ('"a@b"@example.com', '<"a@b"@example.com>'),
        ('"a>b\\"c"@example.com', '<"a>b\\"c"@example.com>'),
        ("b@[192.0.2.1]", "<b@[192.0.2.1]>"),
        ("b@[IPv6:2001:db8::1]", "<b@[IPv6:2001:db8::1]>"),
        ("b@bücher.example", "<b@xn--bcher-kva.example>"),
        ("b@faß.example", "<b@xn--fa-hia.example>"),
        ("b@BÜCHER.example", "<b@xn--bcher-kva.example>"),
    ],
)
def test_path_on_the_wire(smtpd: ScriptedServer, send: Send, given: str, path: str) -> None:
    """IDN domain, quoted local part, display name: the path that RFC 5321 wants."""
    smtpd.without("SMTPUTF8")
    mailbridge.close_pools()  # what was offered is known for the connection's life
    send(smtpd, given, given)
    assert paths(smtpd) == [f"MAIL FROM:{path}", f"RCPT TO:{path}"]


@pytest.mark.parametrize("sender", [None, "<>"])
def test_null_sender(smtpd: ScriptedServer, send: Send, sender: str | None) -> None:
    """Null sender: `<>`, once."""
    send(smtpd, sender, TO)
    assert paths(smtpd)[0] == "MAIL FROM:<>"


def test_empty_sender(smtpd: ScriptedServer) -> None:
    """An empty text is smtplib's null sender; for an Envelope it is a sender left out."""
    by_smtp(smtpd, "", TO)
    assert paths(smtpd)[0] == "MAIL FROM:<>"
    with pytest.raises(ValueError, match="no sender"):
        Envelope("", [TO])


BAD = [
    "a@b.example\r\nRCPT TO:<evil@example.org>",
    "a@b.example\n",
    "\ra@b.example",
    "a\x00@b.example",
    "a\x0b@b.example",
    "a@b.example\x7f",
    "a@b.example\x85",
    "a@b.example\u2028x",
    "a@b.example SIZE=1",
    "<a@b.example> SIZE=1",
    "a@b.example> BODY=7BIT",
    "a@b.example><evil@example.org",
    "a b@c.example",
    "a @b.example",
    "a@b .example",
    "a@b@c.example",
    "a@x.example,b@x.example",
    "a@x.example, b@x.example",
    "a@x.example;b@x.example",
    "Name <a@x.example>, Other <b@x.example>",
    "Group: a@x.example;",
    "Group:;",
    "undisclosed-recipients:;",
    "@example.org",
    "a@",
    "a@-x.example",
    "a@exam ple.org",
    "a@[1.2.3]",
    "a@b.example (comment\r\n)",
    '"a@b.example',
    "<a@b.example",
    "a@b.example>",
    "x" * 65 + "@example.org",
    "a@" + "x" * 64 + ".example",
    "a@" + ".".join(["x" * 60] * 5),
    "a@\udc80.example",
    "\udc80@b.example",
    "(" * 10_000,
    "a@b..example",
    b"a@b.example",
    5,
]


@pytest.mark.parametrize("bad", BAD, ids=[repr(bad)[:40] for bad in BAD])
@pytest.mark.parametrize("place", ["sender", "recipient"])
def test_bad_address_sends_nothing(
    smtpd: ScriptedServer, send: Send, place: str, bad: object
) -> None:
    """Space, parameter injection, line breaks, two addresses, groups: refused, never rewritten."""
    arguments = (bad, TO) if place == "sender" else (SENDER, bad)
    with pytest.raises(mailbridge.AddressError) as caught:
        send(smtpd, *arguments)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    assert set(heard(smtpd)) <= {"QUIT"}


@pytest.mark.parametrize("method", ["mail", "rcpt", "vrfy", "expn"])
@pytest.mark.parametrize("bad", ["a@b.example\r\nRSET", "<a@b.example> SIZE=1", "a@x.example,b"])
def test_bad_address_in_single_commands(smtpd: ScriptedServer, method: str, bad: str) -> None:
    """The caller's own steps have the same check."""
    with client(smtpd) as smtp:
        smtp.ehlo()
        with pytest.raises(ValueError, match=r"address|newline"):
            getattr(smtp, method)(bad)
    assert heard(smtpd) == ["EHLO me", "QUIT"]


def test_local_part_outside_ascii(smtpd: ScriptedServer) -> None:
    """A local part outside ASCII: with SMTPUTF8, or refused before MAIL."""
    address = "jörg@example.org"
    with client(smtpd) as smtp:
        smtp.sendmail(SENDER, address, CONTENT, ["SMTPUTF8"])
    by_transport(smtpd, SENDER, address)
    assert [message.recipients for message in smtpd.messages] == [(address,)] * 2
    smtpd.without("SMTPUTF8")
    mailbridge.close_pools()  # what was offered is known for the connection's life
    smtpd.clear()
    with client(smtpd) as smtp:
        with pytest.raises(UnicodeEncodeError):
            smtp.sendmail(SENDER, address, CONTENT)
        with pytest.raises(mailbridge.SMTPNotSupportedError):
            smtp.sendmail(SENDER, address, CONTENT, ["SMTPUTF8"])
    with pytest.raises(mailbridge.RecipientsRefused, match="SMTPUTF8"):
        by_transport(smtpd, SENDER, address)
    with pytest.raises(mailbridge.NotSupported, match="SMTPUTF8"):
        by_transport(smtpd, address, TO)
    assert paths(smtpd) == []


def test_only_who_needs_smtputf8_is_left_out(smtpd: ScriptedServer) -> None:
    """One recipient that this server cannot be asked for: the others get the mail."""
    smtpd.without("SMTPUTF8")
    mailbridge.close_pools()  # what was offered is known for the connection's life
    envelope = Envelope(SENDER, ["jörg@example.org", TO])
    with pytest.raises(mailbridge.SomeRecipientsRefused) as caught:
        transport(smtpd).send(envelope, CONTENT)
    assert (caught.value.accepted, list(caught.value.recipients)) == ((TO,), ["jörg@example.org"])
    with pytest.raises(mailbridge.RecipientsRefused):
        transport(smtpd, "abort").send(envelope, CONTENT)
    assert len(smtpd.messages) == 1
