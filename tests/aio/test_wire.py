"""What of a content has left, where the kernel takes what a transport holds bit by bit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from mailbridge import AsyncSMTP, AsyncTransport
from mailbridge.aio.records import READ, RECORD, Records
from mailbridge.aio.timer import Timer
from mailbridge.aio.wire import Wire
from mailbridge.options import Timeouts
from mailbridge.protocol.command import Command, Content
from mailbridge.protocol.mail import Group
from mailbridge.protocol.session import Session
from mailbridge.testing import ScriptedServer
from tests.aio.facade import Loop
from tests.sync.servers import Peer, RawServer
from tests.sync.support import CONTENT, ENVELOPE, TO, transport

END = CONTENT[-6:] + b".\r\n"


class Reluctant:
    """A transport whose kernel has no room for the end of a content, and little for what follows.

    It holds the end for a moment, and most of the group behind it until `take_all`.
    """

    def __init__(self, transport: asyncio.Transport, wire: Wire) -> None:
        self._transport, self.wire = transport, wire
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def get_write_buffer_size(self) -> int:
        return len(self._held)

    def write(self, data: bytes) -> None:
        data = bytes(data)
        if END in data and not data.endswith(END):
            self._transport.write(data[:3])
            self._held = data[3:]
            end = self._held.index(END) + len(END)
            asyncio.get_running_loop().call_soon(self._take, end + 4)
        else:
            self._transport.write(data)

    def _take(self, octets: int) -> None:
        self._transport.write(self._held[:octets])
        self._held = self._held[octets:]

    def take_all(self) -> None:
        self._take(len(self._held))
        self.wire.resume_writing()


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[Reluctant], None]]:
    """Have each transport be reluctant; what is in the list happens to it instead of a reply."""
    instead: list[Callable[[Reluctant], None]] = []
    made, received = Wire.connection_made, Wire.data_received

    def connection_made(wire: Wire, transport: asyncio.Transport) -> None:
        made(wire, transport)
        wire._transport = Reluctant(transport, wire)  # type: ignore[assignment]

    def data_received(wire: Wire, data: bytes) -> None:
        transport: Any = wire._transport
        holds = transport.get_write_buffer_size()
        if holds and instead:
            instead.pop()(transport)
            return
        received(wire, data)
        if holds:
            transport.take_all()

    monkeypatch.setattr(Wire, "connection_made", connection_made)
    monkeypatch.setattr(Wire, "data_received", data_received)
    return instead


class Full:
    """A transport whose kernel takes nothing any more."""

    def __init__(self) -> None:
        self.held = 0

    def write(self, data: bytes) -> None:
        self.held += len(data)

    def get_write_buffer_size(self) -> int:
        return self.held

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass


class Sealed(Records):
    """TLS after the handshake, that has `answer` to say to what comes."""

    answer = b""

    def __init__(self) -> None:
        pass

    def sealed(self, data: bytes | memoryview) -> bytes:
        return bytes(data) + b"tag"

    def plain(self) -> bytes:
        return b""

    def to_send(self) -> bytes:
        return self.answer

    eof = False


def test_a_reply_may_be_longer_than_what_is_read_at_a_time(loop: Loop) -> None:
    lines = [b"a line of a long reply " * 3] * (2 * READ // 69)

    def dialogue(peer: Peer) -> None:
        peer.until("HELP")
        peer.send(b"".join(b"214-%b\r\n" % line for line in lines) + b"214 end\r\n")

    async def main(port: int) -> tuple[int, bytes]:
        smtp = AsyncSMTP("127.0.0.1", port)
        await smtp.connect("127.0.0.1", port)
        try:
            return await smtp.docmd("HELP")
        finally:
            smtp.close()

    with RawServer(dialogue) as server:
        code, text = loop.run(main(server.port))
    assert (code, text.split(b"\n")) == (214, [*lines, b"end"])


def written(loop: Loop, *commands: Command) -> Wire:
    """A wire in TLS that has given its transport these commands."""

    async def main() -> Wire:
        wire = Wire(Session(), Timeouts(), "mx.example.org")
        wire._loop = asyncio.get_running_loop()
        wire._timer = Timer(wire._loop, lambda: None)
        wire._blocks = deque()
        wire._transport, wire._records = Full(), Sealed()  # type: ignore[assignment]
        wire.session.send(*commands)
        wire._write()
        wire._timer.stop()
        return wire

    return loop.run(main())


def test_nothing_of_a_record_has_left_before_its_end(loop: Loop) -> None:
    """Neither has a content, though its end is not the record's; records before it may have."""
    contents = [Content([b"x" * size + b"\r\n.\r\n"]) for size in (10, RECORD + 1, RECORD)]
    behind = Group([b"MAIL FROM:<a@example.org>\r\n"])
    left = [written(loop, each, behind).session.has_left(each) for each in contents]
    assert left == [False, False, False]
    first = Content([b"x" * (RECORD - 5) + b"\r\n.\r\n"])
    assert written(loop, first, behind).session.has_left(first)


def test_what_is_behind_an_answer_of_tls_may_have_left(loop: Loop) -> None:
    content = Content([b"x\r\n.\r\n"])
    wire = written(loop, content)
    assert not wire.session.has_left(content)
    records: Any = wire._records
    records.answer = b"new keys"
    wire._unseal(records)
    assert wire.session.has_left(content)


def two_mails(loop: Loop, smtpd: ScriptedServer) -> list[Any]:
    async def main() -> list[Any]:
        sender = AsyncTransport(transport(smtpd).relay)
        return [report async for report in sender.send_many([(ENVELOPE, CONTENT)] * 2)]

    return loop.run(main())


@pytest.mark.usefixtures("heard")
def test_a_content_has_left_though_what_follows_it_has_not(loop: Loop) -> None:
    """The reply to it is one, and no answer to what was not sent to its end."""
    with ScriptedServer(extensions=["PIPELINING"]) as smtpd:
        reports = two_mails(loop, smtpd)
        assert [report.accepted for report in reports] == [(TO,), (TO,)]
        assert (len(smtpd.messages), smtpd.connections) == (2, 1)


@pytest.mark.parametrize("event", ["lost", "late", "closed"])
def test_it_may_have_left_when_its_reply_never_comes(
    loop: Loop, heard: list[Callable[[Reluctant], None]], event: str
) -> None:
    events: dict[str, Callable[[Reluctant], None]] = {
        "lost": lambda transport: transport.abort(),
        "late": lambda transport: transport.wire._late(),
        "closed": lambda transport: transport.wire.close(),
    }
    heard.append(events[event])
    with ScriptedServer(extensions=["PIPELINING"]) as smtpd:
        first, second = two_mails(loop, smtpd)
        assert first.in_doubt == (TO,)
        assert second.accepted == (TO,)
        assert len(smtpd.messages) == 2
