"""From a host name to a connection: several addresses, source address, Unix sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mailbridge
from mailbridge import LMTP, SMTP
from mailbridge.testing import ScriptedServer
from tests.sync.servers import Peer, RawServer
from tests.sync.support import CONTENT, ENVELOPE, SENDER, TO, client, transport

Addresses = Callable[..., None]


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> Addresses:
    """Makes every name resolve to these (IP address, port) pairs."""

    def resolve(*pairs: tuple[str, int]) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", pair) for pair in pairs]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    return resolve


@pytest.fixture
def closed_port() -> Any:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and not listening
        yield bound.getsockname()[1]


def test_next_address_is_tried(
    smtpd: ScriptedServer, addresses: Addresses, closed_port: int
) -> None:
    """A host with several addresses: the next one, if one does not answer."""
    addresses(("127.0.0.1", closed_port), ("127.0.0.1", smtpd.port))
    assert transport(smtpd, host="mail.invalid").send(ENVELOPE, CONTENT).accepted == (TO,)
    with SMTP("mail.invalid", smtpd.port, timeout=5) as smtp:
        assert smtp.noop()[0] == 250


def test_no_address_answers(addresses: Addresses, closed_port: int) -> None:
    addresses(*[("127.0.0.1", closed_port)] * 3)
    with pytest.raises(mailbridge.ConnectRefused, match=r"mail\.invalid:25"):
        SMTP("mail.invalid", timeout=5)


def test_no_address_at_all(addresses: Addresses) -> None:
    addresses()
    with pytest.raises(mailbridge.HostNotFound, match=r"mail\.invalid"):
        SMTP("mail.invalid", timeout=5)


def test_many_silent_addresses_share_one_deadline(addresses: Addresses) -> None:
    """Many addresses: inside the one connect deadline."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        pair = full.getsockname()
        waiting = [socket.socket() for _ in range(8)]
        for each in waiting:  # a full backlog drops what comes, without a word
            each.setblocking(False)
            each.connect_ex(pair)
        addresses(*[pair] * 10)
        started = time.monotonic()
        with pytest.raises(TimeoutError, match="firewall") as caught:
            SMTP("mail.invalid", timeout=0.3)
        assert isinstance(caught.value, mailbridge.ConnectTimeout)
        assert time.monotonic() - started < 1.5
        for each in waiting:
            each.close()


def test_source_address() -> None:
    """The address to connect from."""
    seen: list[str] = []

    def dialogue(peer: Peer) -> None:
        seen.append(peer.sock.getpeername()[0])
        peer.until("QUIT")
        peer.say("221 bye")

    with RawServer(dialogue) as server:
        with client(server, source_address=("127.0.0.7", 0)) as smtp:
            smtp.noop()
        transport(server, source_address="127.0.0.8").send(ENVELOPE, CONTENT)
    assert seen == ["127.0.0.7", "127.0.0.8"]


def test_source_address_of_somebody_else(smtpd: ScriptedServer) -> None:
    with pytest.raises(mailbridge.ConnectError, match="assign"):
        client(smtpd, source_address=("192.0.2.1", 0))


def test_host_with_port(smtpd: ScriptedServer) -> None:
    with SMTP(f"{smtpd.host}:{smtpd.port}", timeout=5) as smtp:
        assert smtp.noop()[0] == 250
    with ScriptedServer(host="::1") as six, SMTP(f"[::1]:{six.port}", timeout=5) as smtp:
        assert smtp.noop()[0] == 250


def test_unix_socket(tmp_path: Path) -> None:
    """LMTP over a Unix socket: the path is the host."""
    path = tmp_path / "lmtp"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        peers: list[Peer] = []

        def serve() -> None:
            for _ in range(2):
                sock, _ = listener.accept()
                with sock:
                    peers.append(Peer(sock))
                    peers[-1].until("QUIT")
                    peers[-1].say("221 bye")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with LMTP(str(path), local_hostname="me", timeout=5) as lmtp:
            assert lmtp.sendmail(SENDER, TO, CONTENT) == {}
        relay = mailbridge.Relay(host=str(path), lmtp=True, local_hostname="me")
        assert mailbridge.Transport(relay).send(ENVELOPE, CONTENT).accepted == (TO,)
        mailbridge.close_pools()
        thread.join(5)
        assert not thread.is_alive()
    assert [peer.commands[0] for peer in peers] == ["LHLO me"] * 2
    with pytest.raises(mailbridge.ConnectError, match="lmtp"):
        LMTP(str(tmp_path / "no-lmtp"), timeout=5)
