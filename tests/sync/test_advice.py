"""What an error tells to do next, where the server's own words are not enough."""

from __future__ import annotations

import pytest

import mailbridge
from mailbridge.testing import ScriptedServer
from tests.sync.servers import Peer, RawServer
from tests.sync.support import BOTH, CONTENT, ENVELOPE, transport


@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        ("530 5.7.0 Must issue a STARTTLS command first", "wants TLS first: set tls='starttls'"),
        ("530 5.7.0 Authentication required", "wants a login first: set username and password"),
    ],
)
def test_530_to_the_sender(smtpd: ScriptedServer, reply: str, advice: str) -> None:
    smtpd.reply("MAIL", reply)
    with pytest.raises(mailbridge.SenderRefused) as caught:
        transport(smtpd).send(ENVELOPE, CONTENT)
    assert advice in str(caught.value)


def test_relaying_is_denied(smtpd: ScriptedServer) -> None:
    """The addresses are right: to drop them would be wrong."""
    smtpd.refuse("*", 554, "5.7.1 Relay access denied")
    with pytest.raises(mailbridge.RecipientsRefused, match="set username and password") as caught:
        transport(smtpd).send(BOTH, CONTENT)
    assert "drop" not in str(caught.value)


def test_a_server_that_drops_what_is_pipelined() -> None:
    def dialogue(peer: Peer) -> None:
        peer.until("MAIL", ehlo=("250-raw.example", "250 PIPELINING"))
        peer.say("250 2.1.0 Ok")
        peer.wait_for_close()

    with RawServer(dialogue) as server:
        with pytest.raises(mailbridge.ReplyTimeout, match="ignore_extensions='PIPELINING'"):
            transport(server, timeout=0.2).send(ENVELOPE, CONTENT)


def test_a_server_that_cannot_do_bdat() -> None:
    def dialogue(peer: Peer) -> None:
        peer.until("BDAT", ehlo=("250-raw.example", "250-PIPELINING", "250 CHUNKING"))
        peer.say("502 5.5.1 What?")

    with RawServer(dialogue) as server:
        with pytest.raises(mailbridge.MessageRefused, match="ignore_extensions='CHUNKING'"):
            transport(server).send(ENVELOPE, CONTENT)
