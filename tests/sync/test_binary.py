"""Binary content (RFC 3030 section 3): as it is where the server takes that, and nowhere else."""

from __future__ import annotations

import pytest

import mailbridge
from mailbridge import Binary, InvalidInput, NotSupported
from mailbridge.testing import ScriptedServer
from tests.sync.support import BOTH, CC, CONTENT, ENVELOPE, TO, transport, verbs

HEADER = (
    b"Subject: binary\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
    b"Content-Transfer-Encoding: binary\r\n\r\n"
)
OCTETS = bytes(range(256)) + b"\r.\r\n.\n.\r\n..\0" + b"x" * 2000
BINARY = HEADER + OCTETS
OFFERED = ("PIPELINING", "CHUNKING", "BINARYMIME", "8BITMIME", "SIZE")


@pytest.mark.parametrize(
    "content",
    [BINARY, HEADER + b"ascii\rwithout an end", HEADER, b"", HEADER + OCTETS * 2000],
    ids=["all octets", "ascii", "header", "empty", "chunks"],
)
@pytest.mark.parametrize(
    "others", [OFFERED, ("CHUNKING", "BINARYMIME", "8BITMIME")], ids=["all", "lock-step"]
)
def test_it_arrives_as_it_is(content: bytes, others: tuple[str, ...]) -> None:
    with ScriptedServer(extensions=others) as smtpd:
        assert transport(smtpd).send(BOTH, Binary(content)).accepted == (TO, CC)
        (message,) = smtpd.messages
        assert message.content == content
        assert "BODY=BINARYMIME" in message.mail_parameters


def test_among_others(smtpd: ScriptedServer) -> None:
    """The mail before and the mail behind are ordinary ones."""
    smtpd.with_("BINARYMIME", "CHUNKING")
    mails = [(ENVELOPE, CONTENT), (ENVELOPE, Binary(BINARY)), (ENVELOPE, b"\xff" + CONTENT)]
    assert all(report.accepted for report in transport(smtpd).send_many(mails))
    bodies = [[p for p in m.mail_parameters if "BODY" in p] for m in smtpd.messages]
    assert bodies == [[], ["BODY=BINARYMIME"], ["BODY=8BITMIME"]]


@pytest.mark.parametrize("missing", ["BINARYMIME", "CHUNKING"])
def test_where_it_is_not_offered(missing: str) -> None:
    with ScriptedServer(extensions=[e for e in OFFERED if e != missing]) as smtpd:
        sender = transport(smtpd)
        with pytest.raises(NotSupported, match=f"needs {missing}, not offered here") as caught:
            sender.send(ENVELOPE, Binary(BINARY))
        assert "Encode the binary parts as base64" in str(caught.value)
        assert caught.value.host == f"{smtpd.host}:{smtpd.port}"
        assert verbs(smtpd) == ["EHLO"]
        assert sender.send(ENVELOPE, CONTENT).accepted


def test_body_is_what_the_content_says(smtpd: ScriptedServer) -> None:
    smtpd.with_("BINARYMIME", "CHUNKING")
    transport(smtpd).send(ENVELOPE, Binary(BINARY), mail_options=["BODY=8BITMIME"])
    assert smtpd.messages[0].mail_parameters[1:] == ("BODY=BINARYMIME",)


def test_the_parameter_alone(smtpd: ScriptedServer) -> None:
    """smtplib's way: left out where it is not offered; without CHUNKING it never is."""
    relay = transport(smtpd)
    relay.send(ENVELOPE, CONTENT, mail_options=["BODY=BINARYMIME"])
    smtpd.with_("BINARYMIME", "CHUNKING")
    smtpd.without("CHUNKING")
    mailbridge.close_pools()
    relay.send(ENVELOPE, CONTENT, mail_options=["BODY=BINARYMIME"])
    assert not any("BODY" in p for m in smtpd.messages for p in m.mail_parameters)


def test_its_size_counts(smtpd: ScriptedServer) -> None:
    smtpd.with_("BINARYMIME", "CHUNKING", "SIZE 100")
    with pytest.raises(mailbridge.MessageRefused, match="exceeds the server's 100"):
        transport(smtpd).send(ENVELOPE, Binary(BINARY))
    assert "MAIL" not in verbs(smtpd)


@pytest.mark.parametrize("wrong", ["text", None, 5])
def test_what_is_no_binary(wrong: object) -> None:
    with pytest.raises(InvalidInput, match="binary content must be bytes"):
        Binary(wrong)  # type: ignore[arg-type]
