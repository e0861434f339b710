"""AUTH and the first envelope in one write (RFC 4954 section 4): what a refused login comes to."""

from __future__ import annotations

import asyncio
import base64
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mailbridge
from mailbridge import Envelope, Relay, Transport
from mailbridge.sync.pool import pool_for
from mailbridge.testing import ScriptedServer
from tests.sync.servers import LOCK_STEP, Peer, RawServer
from tests.sync.support import CONTENT, ENVELOPE, SENDER, TO, transport, verbs

BULK = ("PIPELINING", "CHUNKING", "8BITMIME")
EHLO = ("250-raw.example", "250-PIPELINING", "250-CHUNKING", "250 AUTH PLAIN LOGIN")
USER = {"username": "user", "password": "right"}
PLAIN = "AUTH PLAIN " + base64.b64encode(b"\0user\0right").decode()
GROUP = [PLAIN, f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{TO}>"]


@pytest.fixture
def authd() -> Iterator[ScriptedServer]:
    """A server that takes no mail before a login. Its name is its own: see tests/aio."""
    with ScriptedServer(extensions=BULK, users={"user": "right"}, require_auth=True) as authd:
        yield authd


@pytest.fixture(autouse=True)
def logins_are_forgotten() -> Iterator[None]:
    yield
    mailbridge.close_pools()
    mailbridge.forget_relays()


def sender(server: RawServer | ScriptedServer, **options: Any) -> Transport:
    return transport(server, **{**USER, **options})


def answering(*replies: str, taken: list[bytes] | None = None) -> Callable[[Peer], None]:
    """A server that answers AUTH, MAIL and RCPT once all are there, then takes the mail."""

    def dialogue(peer: Peer) -> None:
        assert peer.until("AUTH", ehlo=EHLO) == PLAIN
        peer.line()
        peer.line()
        peer.say(*replies)
        peer.until("BDAT")
        content = peer.read(int(peer.commands[-1].split()[1]))
        if taken is not None:
            taken.append(content)
        peer.say("250 Ok")
        peer.until("QUIT")

    return dialogue


def in_turn(peer: Peer) -> None:
    """A server that takes AUTH only if nothing is behind it."""
    peer.until("AUTH", ehlo=EHLO)
    assert not peer.has_more
    peer.say("235 Welcome")
    peer.until("BDAT")
    peer.read(int(peer.commands[-1].split()[1]))
    peer.say("250 Ok")
    peer.until("QUIT")


def test_auth_and_the_envelope_are_one_write() -> None:
    taken: list[bytes] = []
    with RawServer(answering("235 Welcome", "250 Ok", "250 Ok", taken=taken)) as server:
        report = sender(server).send(ENVELOPE, CONTENT)
        assert report.accepted == (TO,)
        assert report.attempts == 1
        server.wait_until_closed()
    assert server.peers[0].commands[1:4] == GROUP
    assert taken == [CONTENT]


def test_a_batch_begins_so_as_well(authd: ScriptedServer) -> None:
    reports = sender(authd).send_many([(ENVELOPE, CONTENT)] * 3)
    assert [report.accepted for report in reports] == [(TO,)] * 3
    assert authd.connections == 1
    assert verbs(authd).count("AUTH") == 1


def test_on_asyncio_too(authd: ScriptedServer) -> None:
    async def send() -> mailbridge.DeliveryReport:
        async with mailbridge.AsyncTransport(sender(authd).relay) as transport:
            return await transport.send(ENVELOPE, CONTENT)

    assert asyncio.run(send()).accepted == (TO,)


async def _send(relay: Relay) -> None:
    transport = mailbridge.AsyncTransport(relay)
    try:
        await transport.send(ENVELOPE, CONTENT)
    finally:
        await transport.close()


def test_a_refused_login_delivers_nothing() -> None:
    """Though the server takes mail from anybody: no content was sent, and none is."""
    dialogue = answering("535 5.7.8 No", "250 Ok", "250 Ok")
    with RawServer(dialogue) as server:
        with pytest.raises(mailbridge.AuthenticationFailed, match="Check user name") as caught:
            sender(server).send(ENVELOPE, CONTENT)
        # Remembered, as after any other login: nobody asks again.
        with pytest.raises(mailbridge.AuthenticationFailed, match="was not asked"):
            sender(server).send(ENVELOPE, CONTENT)
        server.wait_until_closed()
    assert caught.value.report.not_attempted == (TO,)
    assert caught.value.phase == "auth"
    assert len(server.peers) == 1
    assert server.peers[0].commands[1:] == GROUP


def test_a_refused_login_in_asyncio_delivers_nothing() -> None:
    with RawServer(answering("535 5.7.8 No", "250 Ok", "250 Ok")) as server:
        with pytest.raises(mailbridge.AuthenticationFailed):
            asyncio.run(_send(sender(server).relay))
        server.wait_until_closed()
    assert server.peers[0].commands[1:] == GROUP


def test_a_login_that_is_deferred_may_be_tried_again() -> None:
    with RawServer(answering("454 4.7.0 Later", "530 No", "503 No"), in_turn) as server:
        with pytest.raises(mailbridge.AuthenticationFailed) as caught:
            sender(server).send(ENVELOPE, CONTENT)
        assert caught.value.retryable
        assert len(server.peers) == 1


@pytest.mark.parametrize(
    "reply",
    [
        "334 ",  # It wants to hear the initial response again, and would take MAIL for it.
        "504 5.5.4 Not PLAIN after all",
        "534 5.7.9 Too weak",
        "554 5.5.0 Error: SMTP protocol synchronization",
        "500 5.5.6 What?",
    ],
)
def test_a_server_that_wants_auth_alone_gets_it_alone(reply: str) -> None:
    """On a connection of its own; and from then on at once."""
    with RawServer(answering(reply, "503 No", "503 No"), in_turn) as server:
        report = sender(server).send(ENVELOPE, CONTENT)
        assert report.accepted == (TO,)
        assert report.attempts == 2
        mailbridge.close_pools()
        assert sender(server).send(ENVELOPE, CONTENT).attempts == 1
        server.wait_until_closed(3)


def test_a_server_that_hangs_up_on_both_gets_auth_alone() -> None:
    def lost(peer: Peer) -> None:
        peer.until("AUTH", ehlo=EHLO)

    with RawServer(lost, in_turn) as server:
        assert sender(server).send(ENVELOPE, CONTENT).accepted == (TO,)
        assert len(server.peers) == 2


def test_open_logs_in_by_itself(authd: ScriptedServer) -> None:
    with sender(authd):
        assert verbs(authd)[-1] == "AUTH"
    with pytest.raises(mailbridge.AuthenticationFailed):
        sender(authd, password="wrong").open()


def test_without_chunking_auth_goes_alone() -> None:
    """DATA would be in the group, and a server that refused the login could wait for content."""
    alone = ("250-raw.example", "250-PIPELINING", "250 AUTH PLAIN")

    def dialogue(peer: Peer) -> None:
        peer.until("AUTH", ehlo=alone)
        assert not peer.has_more
        peer.say("235 Welcome")
        peer.until("QUIT")

    with RawServer(dialogue) as server:
        assert sender(server).send(ENVELOPE, CONTENT).accepted == (TO,)
    with ScriptedServer(extensions=LOCK_STEP, users={"user": "right"}) as authd:
        assert sender(authd).send(ENVELOPE, CONTENT).accepted == (TO,)


def test_a_mechanism_that_asks_goes_alone() -> None:
    users = {"user": "right"}
    with ScriptedServer(extensions=BULK, users=users, mechanisms=["CRAM-MD5", "LOGIN"]) as authd:
        assert sender(authd).send(ENVELOPE, CONTENT).accepted == (TO,)
        assert authd.connections == 1


def test_a_mail_that_cannot_be_sent_here_holds_nobody_up(authd: ScriptedServer) -> None:
    """AUTH was begun, and no envelope follows: the next one logs in."""
    with pytest.raises(mailbridge.NotSupported):
        sender(authd).send(Envelope("bücher@example.org", TO), CONTENT)
    assert sender(authd).send(ENVELOPE, CONTENT).accepted == (TO,)


def test_a_lease_that_is_dropped_holds_nobody_up(authd: ScriptedServer) -> None:
    pool = pool_for(sender(authd).relay)
    lease = pool.acquire(mail_follows=True)
    assert lease.connection.session.login is not None
    lease.give_back()
    assert not lease.connection.open
    lost = pool.acquire(mail_follows=True)
    lost.connection.sock.close()
    del lost
    gc.collect()
    assert sender(authd).send(ENVELOPE, CONTENT).accepted == (TO,)


def test_nobody_to_offer_logs_in_all_the_same() -> None:
    with ScriptedServer(extensions=(*BULK, "SIZE 10"), users={"user": "right"}) as small:
        report = sender(small).attempt(ENVELOPE, CONTENT)
        assert report.refused == (TO,)
        assert sender(small).send(ENVELOPE, b"x\r\n").accepted == (TO,)
        assert small.connections == 1
