"""Servers that leave connections which are kept, in every way, and servers that never begin."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

import mailbridge
from mailbridge import Envelope, Relay, Transport
from mailbridge.options import PoolOptions, Timeouts
from mailbridge.sync.pool import pool_for
from mailbridge.testing import TestCA
from tests.hostile.servers import CHUNKING, IN_TURN, PIPELINING, Counted
from tests.sync.servers import PATIENCE, Peer, RawServer
from tests.sync.support import CONTENT, ENVELOPE, SENDER, TO, side_by_side, transport


@pytest.fixture(scope="module")
def ca() -> TestCA:
    return TestCA()


@pytest.fixture(scope="module")
def context(ca: TestCA) -> ssl.SSLContext:
    return ca.server_context("127.0.0.1")


def _unwrap(peer: Peer) -> None:
    """TLS's good-bye, and TCP stays open."""
    peer.sock.settimeout(0.2)
    with contextlib.suppress(OSError):
        peer.sock.unwrap()  # type: ignore[attr-defined]


def _half_close(peer: Peer) -> None:
    socket.socket.shutdown(peer.sock, socket.SHUT_WR)


LEAVES: dict[str, Callable[[Peer], None]] = {
    "421 and closes": lambda peer: (peer.say("421 4.4.2 idle for too long"), peer.sock.close())[1],
    "421 and stays": lambda peer: peer.say("421 4.4.2 idle for too long"),
    "half of a 421": lambda peer: peer.send(b"421 4.4"),
    "closes": lambda peer: peer.sock.close(),
    "resets": Peer.reset,
    "closes its half": _half_close,
    "says TLS's good-bye": _unwrap,
    "says something": lambda peer: peer.say("250 hello?"),
    "falls silent": lambda peer: None,
}


@pytest.mark.parametrize(
    ("leave", "tls"),
    [(leave, tls) for leave in LEAVES for tls in (False, True) if tls or "TLS" not in leave],
)
@pytest.mark.parametrize("sees", [True, False], ids=["known", "not yet known"])
@pytest.mark.parametrize("keep", [True, False], ids=["kept", "pooled"])
def test_a_connection_that_was_left_is_replaced(
    ca: TestCA, context: ssl.SSLContext, leave: str, tls: bool, sees: bool, keep: bool
) -> None:
    """The next mail goes out over a new connection, once, and its sender notices nothing."""
    idle, left = threading.Event(), threading.Event()
    kind = Counted(PIPELINING)

    def leaving(peer: Peer) -> None:
        if tls:
            peer.start_tls(context)
        peer.until("DATA", ehlo=PIPELINING)
        peer.say("354 go on")
        kind.taken.append(peer.read_content())
        peer.say("250 Ok")
        assert idle.wait(PATIENCE)
        if not sees:
            peer.line()  # The command is on its way already.
        LEAVES[leave](peer)
        left.set()
        with contextlib.suppress(OSError, ValueError):
            peer.wait_for_close()

    def staying(peer: Peer) -> None:
        if tls:
            peer.start_tls(context)
        kind(peer)

    with RawServer(leaving, staying) as server:
        relay = Relay(
            host=server.host,
            port=server.port,
            tls="implicit" if tls else "none",
            ca_file=ca.ca_file if tls else None,
            # Short is what a silent server is waited for; a busy machine takes its time for TLS.
            timeouts=Timeouts(10, 0.6, 10),
            local_hostname="me",
        )
        sender = Transport(relay)
        if keep:
            sender.open()
        assert sender.send(ENVELOPE, CONTENT).accepted == (TO,)
        idle.set()
        if sees:
            assert left.wait(PATIENCE)
        report = sender.send(ENVELOPE, b"second\r\n")
        assert report.accepted == (TO,)
        assert kind.taken == [CONTENT, b"second\r\n"]
        assert len(server.peers) == 2
        sender.close()
        assert "0 in use, 1 idle" in repr(pool_for(relay))


@pytest.mark.parametrize("ehlo", [IN_TURN, PIPELINING, CHUNKING], ids=["turn", "group", "chunk"])
@pytest.mark.parametrize("good_bye", ["421 4.7.0 one is enough", None], ids=["421", "closes"])
def test_one_mail_a_connection_and_many_at_once(
    ehlo: tuple[str, ...], good_bye: str | None
) -> None:
    """Everybody's mail arrives once, over no more connections at a time than are allowed."""
    taken: list[bytes] = []
    present, most = 0, 0
    lock = threading.Lock()

    def one(peer: Peer) -> None:
        nonlocal present, most
        with lock:
            present += 1
            most = max(most, present)
        line = peer.until("BDAT" if ehlo is CHUNKING else "DATA", ehlo=ehlo)
        if line == "DATA":
            peer.say("354 go on")
            content = peer.read_content()
        else:
            content = peer.read(int(line.split()[1]))
        with lock:
            taken.append(content)
            present -= 1
        peer.say("250 Ok", *([good_bye] if good_bye else []))

    with RawServer(one) as server:
        sender = transport(server, max_connections=3)

        def work(n: int) -> list[mailbridge.DeliveryReport]:
            envelopes = [Envelope(SENDER, [f"{n}-{k}@example.com"]) for k in range(3)]
            return [sender.attempt(each, b"%d-%d\r\n" % (n, k)) for k, each in enumerate(envelopes)]

        reports = side_by_side([partial(work, n) for n in range(12)])
        assert [str(r) for some in reports for r in some if not r.accepted] == []
        assert sorted(taken) == sorted(b"%d-%d\r\n" % (n, k) for n in range(12) for k in range(3))
        assert most <= 3


@pytest.mark.parametrize("never", ["greets", "answers EHLO", "shakes hands"])
def test_a_server_that_never_begins_holds_nobody_for_long(ca: TestCA, never: str) -> None:
    """After some time-outs in a row the others are told at once, and told why."""

    def silent(peer: Peer) -> None:
        if never == "answers EHLO":
            peer.say("220 raw.example")
        with contextlib.suppress(OSError):
            peer.wait_for_close()

    with RawServer(silent) as server:
        relay = Relay(
            host=server.host,
            port=server.port,
            tls="implicit" if never == "shakes hands" else "none",
            timeouts=Timeouts.all(0.6),
            pool=PoolOptions(max_connections=2, breaker_failures=2, breaker_pause=30),
            ssl_context=ca.client_context(),
        )
        started = time.monotonic()
        reports = side_by_side([lambda: Transport(relay).attempt(ENVELOPE, CONTENT)] * 20)
        seconds = time.monotonic() - started
        assert all(report.not_attempted == (TO,) for report in reports)
        told_at_once = [str(r.error) for r in reports if "not tried" in str(r.error)]
        assert len(told_at_once) >= 14
        assert all("timed out after 0.6 s" in text for text in told_at_once)
        # One behind the other, two at a time, they would take ten times 0.6 s.
        assert seconds < 5
        assert len(server.peers) <= 6


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "pooled"])
def test_records_of_tls_without_data_are_no_sign_of_leaving(ca: TestCA, keep: bool) -> None:
    """The socket is readable, and nothing was said: the connection is the next mail's, too.

    A server of TLS 1.3 may send tickets and new keys at any moment; here it asks who we are.
    """
    context = ca.server_context("127.0.0.1")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(ca.ca_file)
    ours = ca.client_context()
    ours.post_handshake_auth = True
    idle, asked = threading.Event(), threading.Event()

    def take(peer: Peer) -> None:
        peer.until("DATA", ehlo=PIPELINING)
        peer.say("354 go on")
        peer.read_content()
        peer.say("250 Ok")

    def asking(peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.start_tls(context)
        take(peer)
        assert idle.wait(PATIENCE)
        peer.sock.verify_client_post_handshake()  # type: ignore[attr-defined]
        peer.sock.do_handshake()  # type: ignore[attr-defined]
        asked.set()
        take(peer)
        peer.until("QUIT")

    with RawServer(asking) as server:
        options = {"host": server.host, "port": server.port, "ssl_context": ours}
        sender = Transport(Relay(tls="implicit", local_hostname="me", **options))
        if keep:
            sender.open()
        assert sender.send(ENVELOPE, CONTENT).accepted == (TO,)
        idle.set()
        assert asked.wait(PATIENCE)
        assert sender.send(ENVELOPE, CONTENT).accepted == (TO,)
        assert len(server.peers) == 1
        sender.close()
