"""From a host name to a connection: several addresses, source address, Unix sockets."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mailbridge
from mailbridge import LMTP, SMTP, resolve
from mailbridge.sync import connect
from mailbridge.testing import ScriptedServer
from tests.sync.servers import Peer, RawServer
from tests.sync.support import CONTENT, ENVELOPE, SENDER, TO, client, transport

Addresses = Callable[..., None]


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> Addresses:
    """Makes every name resolve to these (IP address, port) pairs."""

    def resolve(*pairs: tuple[str, int]) -> None:
        found = [
            (socket.AF_INET6 if ":" in pair[0] else socket.AF_INET, socket.SOCK_STREAM, 6, "", pair)
            for pair in pairs
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    return resolve


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port on all of 127.0.0.0/8: a full backlog drops what comes, without a word."""
    with socket.socket() as full:
        full.bind(("0.0.0.0", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(8)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        yield port
        for each in waiting:
            each.close()


@pytest.fixture
def silent_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """A name service that does not answer this process; what it was asked."""
    asked: list[object] = []
    answer, real, here = threading.Event(), socket.getaddrinfo, os.getpid()

    def getaddrinfo(host: object, port: int, *args: Any) -> Any:
        asked.append(host)
        if os.getpid() == here:
            answer.wait(10)
        return real("127.0.0.1", port, *args)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield asked
    answer.set()
    for thread in threading.enumerate():
        if thread.name == "mailbridge-name":
            thread.join(10)


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


def test_many_silent_addresses_share_one_deadline(
    addresses: Addresses, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many addresses: inside the one connect deadline."""
    monkeypatch.setattr(connect, "ATTEMPT_DELAY", 1.1)
    addresses(*((f"127.0.0.{n}", silent_port) for n in range(1, 11)))
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="firewall") as caught:
        SMTP("mail.invalid", timeout=2.0)
    assert isinstance(caught.value, mailbridge.ConnectTimeout)
    assert time.monotonic() - started < 5
    assert "127.0.0.1 (no answer), 127.0.0.2 (no answer), 8 not tried" in str(caught.value)


def test_a_silent_address_is_overtaken(
    addresses: Addresses, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 8305 section 5: the next is tried beside it, the first that connects is taken."""
    made: list[socket.socket] = []

    class Socket(socket.socket):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(connect, "ATTEMPT_DELAY", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as server:
        addresses(("127.0.0.2", silent_port), server.getsockname())
        monkeypatch.setattr(socket, "socket", Socket)
        started = time.monotonic()
        with connect.open_socket("mail.invalid", 25, 30) as sock:
            assert time.monotonic() - started < 10
            assert sock.getpeername() == server.getsockname()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert [each.fileno() for each in made if each is not sock] == [-1]


def test_one_that_refuses_is_not_waited_for(
    smtpd: ScriptedServer,
    addresses: Addresses,
    closed_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connect, "ATTEMPT_DELAY", 60)
    addresses(*[("127.0.0.1", closed_port), ("::1", closed_port)], (smtpd.host, smtpd.port))
    with SMTP("mail.invalid", timeout=5) as smtp:
        assert smtp.noop()[0] == 250


def test_families_take_turns_and_each_address_is_named(
    addresses: Addresses, closed_port: int, ipv6_loopback: str
) -> None:
    """RFC 8305 section 4: the family of the first begins."""
    v6, v4 = (ipv6_loopback, closed_port), ("127.0.0.1", closed_port)
    addresses(v6, (ipv6_loopback, closed_port, 0, 0), v4)
    with pytest.raises(mailbridge.ConnectRefused) as caught:
        SMTP("mail.invalid", timeout=5)
    refused = "(Connection refused)"
    expected = f"tried ::1 {refused}, 127.0.0.1 {refused}, ::1 {refused} (mail.invalid:25, connect)"
    assert expected in str(caught.value)
    assert caught.value.errno == caught.value.__cause__.errno  # type: ignore[union-attr]


def test_the_error_is_the_one_that_tells_most(
    addresses: Addresses, closed_port: int, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source address that does not fit one family; a port that nothing listens on."""
    addresses(("::1", closed_port), ("127.0.0.1", closed_port))
    with pytest.raises(mailbridge.ConnectRefused, match=r"::1 \(.*family.*127\.0\.0\.1 \(Conn"):
        SMTP("mail.invalid", timeout=5, source_address=("127.0.0.1", 0))
    monkeypatch.setattr(connect, "ATTEMPT_DELAY", 0.01)
    addresses(("127.0.0.1", silent_port), ("127.0.0.1", closed_port))
    with pytest.raises(mailbridge.ConnectTimeout, match=r"refused\), 127\.0\.0\.1 \(no answer\)"):
        SMTP("mail.invalid", timeout=1.0)


def test_without_a_timeout_there_is_no_deadline(
    smtpd: ScriptedServer, addresses: Addresses, closed_port: int
) -> None:
    addresses(("127.0.0.1", closed_port), (smtpd.host, smtpd.port))
    with SMTP("mail.invalid", timeout=None) as smtp:
        assert smtp.noop()[0] == 250


# -- the name service


def test_a_silent_name_service_is_not_waited_for(silent_resolver: list[object]) -> None:
    started = time.monotonic()
    with pytest.raises(mailbridge.ConnectTimeout, match=r"resolve.*mail\.invalid:25.*name service"):
        SMTP("mail.invalid", timeout=0.05)
    report = transport_to("mail.invalid").attempt(ENVELOPE, CONTENT)
    assert isinstance(report.error, TimeoutError)
    assert report.not_attempted == (TO,)
    assert time.monotonic() - started < 5


def transport_to(host: str) -> mailbridge.Transport:
    return mailbridge.Transport(f"smtp://{host}?tls=none&connect_timeout=0.05")


def test_one_look_up_for_all_who_wait(silent_resolver: list[object]) -> None:
    for _ in range(3):
        with pytest.raises(mailbridge.ConnectTimeout):
            SMTP("mail.invalid", timeout=0.05)
    assert silent_resolver == ["mail.invalid"]


def test_what_was_found_is_not_kept(
    smtpd: ScriptedServer, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    asked: list[object] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: object, port: int, *args: Any) -> Any:
        asked.append(host)
        return real(smtpd.host, port, *args)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    for _ in range(2):
        client(smtpd, timeout=5).close()
        SMTP("mail.invalid", smtpd.port, timeout=5).close()
    # An address is no question.
    assert asked == ["mail.invalid"] * 2


def test_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address takes no thread; a name makes do without one where there are no more."""

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    real = socket.getaddrinfo
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(threading.Thread, "start", start)
        connect.open_socket("127.0.0.1", port, 5).close()
        monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest: real("127.0.0.1", *rest))
        connect.open_socket("mail.invalid", port, 5).close()
    assert not resolve.under_way


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")
def test_a_forked_child_asks_for_itself(silent_resolver: list[object]) -> None:
    """The thread that asks in the parent is not there in the child."""
    with pytest.raises(mailbridge.ConnectTimeout):
        SMTP("mail.invalid", timeout=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a thread is running: on purpose
        child = os.fork()
    if not child:
        try:
            resolve.look_up("mail.invalid", 25, time.monotonic() + 5, "")
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


# -- where from, and where to


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


def test_ipv6_host_with_port(ipv6_loopback: str) -> None:
    with ScriptedServer(host=ipv6_loopback) as six, SMTP(f"[::1]:{six.port}", timeout=5) as smtp:
        assert smtp.noop()[0] == 250


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory for a socket, whose path must stay under 108 bytes, wherever TMPDIR is."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield Path(directory)


def test_unix_socket(short_path: Path) -> None:
    """LMTP over a Unix socket: the path is the host."""
    path = short_path / "lmtp"
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
        LMTP(str(short_path / "no-lmtp"), timeout=5)
