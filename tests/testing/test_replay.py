"""A session is recorded, and repeated: same client, same outcome, nothing secret in the file."""

from __future__ import annotations

from pathlib import Path

import pytest

import mailbridge
from mailbridge import DeliveryReport, Envelope, Relay, Transport
from mailbridge.testing import Recording, ReplayServer, ScriptedServer, TestCA
from tests.conversations.format import HERE as CONVERSATIONS

TO = ["ada@example.org", "gone@example.net"]


def send(relay: Relay, recording: Recording | None = None, text: str = "Hi.\n") -> DeliveryReport:
    transport = Transport(relay, on_refused="report", listener=recording)
    return transport.send(Envelope("me@example.org", TO), f"Subject: Hello\n\n{text}")


@pytest.fixture
def recorded(smtpd: ScriptedServer, tmp_path: Path) -> Path:
    """The file of a session in which one recipient was refused."""
    recording = Recording()
    smtpd.refuse("gone@example.net")
    send(Relay.from_options(smtpd.relay_options()), recording)
    recording.save(tmp_path / "session.txt")
    return tmp_path / "session.txt"


def test_the_script_is_readable(recorded: Path) -> None:
    lines = recorded.read_text("utf-8").splitlines()
    assert lines[1:3] == ["S: 220 scripted.example ESMTP", "C: (like) EHLO *"]
    assert (
        lines[-10:]
        == [
            "C: (like) MAIL FROM:<me@example.org> SIZE=*",
            "C: RCPT TO:<ada@example.org>",
            "C: RCPT TO:<gone@example.net>",
            "S: 250 2.1.0 Ok",
            "S: 250 2.1.5 Ok",
            "S: 550 5.1.1 No such user",
            "C: (chunk) LAST",
            "S: 250 2.0.0 Ok: queued as 00010001",
            "C: (anything)",
        ][-10:]
        or lines[-9:]
    )


@pytest.mark.parametrize("text", ["Hi.\n", "A longer text than the one that was recorded.\n" * 9])
def test_a_session_is_repeated(recorded: Path, text: str) -> None:
    mailbridge.close_pools()
    with ReplayServer(recorded) as server:
        report = send(Relay.from_options(server.relay_options()), text=text)
        mailbridge.close_pools()
    assert report.accepted == ("ada@example.org",)
    assert str(report["gone@example.net"].reply) == "550 5.1.1 No such user"
    assert report.queue_id == "00010001"


def test_a_client_that_says_something_else_fails(recorded: Path) -> None:
    with (
        pytest.raises(AssertionError, match=r"RCPT TO:<eve@example\.org>"),
        ReplayServer(recorded) as server,
        pytest.raises(mailbridge.MailError),
    ):
        Transport(server.url).send(Envelope("me@example.org", "eve@example.org"), "Hi.\n")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_tls_and_a_login(mechanism: str, smtpd_ca: TestCA, tmp_path: Path) -> None:
    context = smtpd_ca.server_context("127.0.0.1")
    more = {"ca_file": smtpd_ca.ca_file, "auth_mechanisms": mechanism}
    recording = Recording()
    with ScriptedServer(
        tls_context=context, users={"shop": "s3cret"}, mechanisms=[mechanism], extensions=["SIZE"]
    ) as smtpd:
        send(Relay.from_options(smtpd.relay_options(), **more), recording)
        mailbridge.close_pools()
    script = recording.script
    assert "s3cret" not in script
    assert "c2hvcA" not in script  # "shop" in base64
    assert "-- TLS" in script
    assert "C: (content)" in script
    with pytest.raises(ValueError, match="give a tls_context"):
        ReplayServer(script)
    with ReplayServer(script, tls_context=context, users={"shop": "other"}) as server:
        report = send(Relay.from_options(server.relay_options(), **more))
        mailbridge.close_pools()
    assert report.accepted == tuple(TO)


def test_a_recording_is_of_one_session(smtpd: ScriptedServer) -> None:
    recording = Recording()
    with pytest.raises(ValueError, match="this one has 0"):
        recording.script
    for _ in range(2):
        send(Relay.from_options(smtpd.relay_options()), recording)
        mailbridge.close_pools()
    with pytest.raises(ValueError, match="this one has 2"):
        recording.script


def test_the_conversations_of_our_own_tests_can_be_repeated() -> None:
    with ReplayServer(CONVERSATIONS / "transaction.txt") as server:
        with mailbridge.SMTP("127.0.0.1", server.port, local_hostname="client.example") as client:
            client.sendmail("a@x.org", "b@y.org", "Subject: hi\r\n\r\nHi.\r\n")
