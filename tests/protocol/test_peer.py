"""ScriptedPeer: it holds a client to the script, to the letter."""

from __future__ import annotations

import pytest

from mailbridge import Disconnected, ReplyTimeout
from mailbridge.protocol import dialogue
from mailbridge.protocol.command import Raw
from mailbridge.protocol.session import Session
from mailbridge.testing import ScriptedPeer
from mailbridge.testing.peer import SPEEDS, Speed


@pytest.mark.parametrize("speed", SPEEDS)
def test_three_speeds(speed: Speed) -> None:
    peer = ScriptedPeer("S: 220-a\nS: 220 b\nC: NOOP\nS: 250 Ok\n", speed)
    pieces = []
    while peer.speaks:
        pieces.append(peer.data_to_send())
    assert b"".join(pieces) == b"220-a\r\n220 b\r\n"
    assert len(pieces) == {"whole": 1, "lines": 2, "bytes": 14}[speed]
    peer.receive(b"NO")
    peer.receive(b"OP\r\n")
    assert peer.speaks


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("C: NOOP", b"NOOP \r\n"),
        ("C: NOOP", b"noop\r\n"),
        ("C: NOOP", b"NOOP\r\nNOOP\r\n"),
        ("S: 220 mx\nC: NOOP", b"NOOP\r\n"),
        ("C: (content) a\\r\\n", b"b\r\n.\r\n"),
        ("", b"NOOP\r\n"),
    ],
)
def test_another_line_fails(script: str, said: bytes) -> None:
    with pytest.raises(AssertionError, match="the client s"):
        ScriptedPeer(script).receive(said)


@pytest.mark.parametrize("script", ["C: NOOP", "S: 250 Ok", "-- TLS", "C: (content)"])
def test_a_client_that_leaves_early_fails(script: str) -> None:
    with pytest.raises(AssertionError, match="the client has gone"):
        ScriptedPeer(script).finish()


def test_half_a_line_is_none() -> None:
    peer = ScriptedPeer("C: NOOP")
    peer.receive(b"NOOP")
    with pytest.raises(AssertionError, match="and no more"):
        peer.finish()


def test_content_is_unstuffed() -> None:
    peer = ScriptedPeer("C: (content) .a\\r\\n..\\r\\n\nC: QUIT")
    peer.receive(b"..a\r\n...\r\n.\r\nQUIT\r\n")
    peer.finish()


def test_a_client_that_waits_for_nothing_fails() -> None:
    session = Session()
    with pytest.raises(AssertionError, match="waits for the server"):
        ScriptedPeer("C: EHLO x").run(session, dialogue.greet(session))


def test_the_server_closes_or_is_silent() -> None:
    session = Session()
    peer = ScriptedPeer("S: 220 mx\nC: NOOP\nS: (close)")
    peer.run(session, dialogue.greet(session))
    with pytest.raises(Disconnected):
        peer.run(session, session.command(Raw("NOOP")))
    assert peer.closed
    session = Session()
    with pytest.raises(ReplyTimeout):
        ScriptedPeer("S: (silence)").run(session, dialogue.greet(session))


@pytest.mark.parametrize("script", ["X: 250", "S 250", "250 Ok"])
def test_what_is_no_script(script: str) -> None:
    with pytest.raises(ValueError, match="not a line of a script"):
        ScriptedPeer(script)
    with pytest.raises(ValueError, match="speed"):
        ScriptedPeer("", "slowly")  # type: ignore[arg-type]
