"""What of a content has left, where the kernel takes what a transport holds bit by bit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mailbridge import AsyncTransport
from mailbridge.aio.wire import Wire
from mailbridge.testing import ScriptedServer
from tests.aio.facade import Loop
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
