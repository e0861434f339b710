"""What an event loop cannot do without: the floors of the asyncio contenders, as in `limit`.

None is a client, for they can do nothing but succeed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from functools import partial
from typing import cast

from benchmarks.contenders import SENDER, Job, Prepare, contender
from benchmarks.contenders.aio import each, loop_for
from benchmarks.contenders.core import accepted, mails
from mailbridge import DeliveryReport, Envelope, RecipientResult, State
from mailbridge.message import message_id
from mailbridge.protocol.content import canonical, has_long_line, stuffed
from mailbridge.protocol.reply import Reply, ReplyParser
from mailbridge.report import Phase


class Wire(asyncio.BufferedProtocol):
    """A connection that calls back when so many lines have come."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._create_future = loop.create_future
        # Read into again and again: what is made anew for each read is for asyncio 256 KiB.
        self._buffer = memoryview(bytearray(65536))
        self._said = b""
        # The greeting may come before the first command goes out: it waits for that one's reply.
        self._lines = 2
        self._then: Callable[[bytes], object] = lambda said: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, octets: bytes, lines: int, then: Callable[[bytes], object]) -> None:
        """Write, and call `then` with the replies once these have come."""
        self._lines, self._then = lines, then
        self._transport.write(octets)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        said = self._said + self._buffer[:nbytes]
        if said.count(b"\n") < self._lines:
            self._said = said
            return
        self._said = b""
        self._then(said)

    def exchange(self, octets: bytes, lines: int) -> asyncio.Future[bytes]:
        """Write. The result are the replies."""
        future: asyncio.Future[bytes] = self._create_future()
        self.send(octets, lines, future.set_result)
        return future

    def close(self) -> None:
        self._transport.close()


async def connected(job: Job) -> Wire:
    """A connection that has said EHLO."""
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(lambda: Wire(loop), job.host, job.port)
    await wire.exchange(b"NOOP\r\n", 2)
    said = await wire.exchange(b"EHLO bench.example.org\r\n", 1)
    while b"\n250 " not in b"\n" + said:
        said += await wire.exchange(b"", 1)
    return wire


def group_of(envelope: Envelope, size: int) -> bytes:
    """MAIL, RCPT and DATA in one write."""
    assert envelope.reverse_path is not None
    lines = [b"MAIL FROM:<%b> SIZE=%d\r\n" % (envelope.reverse_path.path(), size)]
    lines += [b"RCPT TO:<%b>\r\n" % address.path() for address in envelope.forward_paths]
    return b"".join((*lines, b"DATA\r\n"))


def report_on(envelope: Envelope, content: bytes, reply: Reply) -> DeliveryReport:
    """The report on a mail that was accepted for everybody."""
    results = {
        address.text: RecipientResult(address.text, State.ACCEPTED, Phase.CONTENT, reply)
        for address in envelope.forward_paths
    }
    return DeliveryReport(results, envelope.sender, message_id(content), reply=reply)


@contender("limit.aio.octets")
def octets(job: Job) -> Iterator[Prepare]:
    """Octets that were made before, one write and one read a message; no task is woken."""
    content, group = stuffed(job.content()), group_of(Envelope(SENDER, job.to), job.size)
    mail, replies = content + group, len(job.to) + 3

    async def send(n: int) -> None:
        done, left = asyncio.get_running_loop().create_future(), n

        def go_on(_: bytes) -> None:
            nonlocal left
            left -= 1
            if left:
                wire.send(mail, replies, go_on)
            else:
                wire.send(content, 1, done.set_result)

        wire.send(group, replies - 1, go_on)
        await done

    with loop_for(job) as loop:
        wire = loop.run_until_complete(connected(job))
        yield each(loop, send)
        wire.close()


@contender("limit.aio.single")
def single(job: Job) -> Iterator[Prepare]:
    """Octets that were made before, two writes and two reads a message; a task is woken once."""
    content, group = stuffed(job.content()), group_of(Envelope(SENDER, job.to), job.size)
    replies = len(job.to) + 2

    def send_content(then: Callable[[bytes], object], _: bytes) -> None:
        wire.send(content, 1, then)

    async def send(n: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(n):
            done: asyncio.Future[bytes] = loop.create_future()
            wire.send(group, replies, partial(send_content, done.set_result))
            await done

    with loop_for(job) as loop:
        wire = loop.run_until_complete(connected(job))
        yield each(loop, send)
        wire.close()


@contender("limit.aio.function")
def function(job: Job) -> Iterator[Prepare]:
    """A batch in one generator: addresses parsed, content checked, replies read, reports made."""
    content = job.content()
    parser = ReplyParser()
    replies = len(job.to) + 3

    async def reports(mails: Iterable[tuple[Envelope, bytes]]) -> AsyncGenerator[DeliveryReport]:
        waiting: tuple[Envelope, bytes] | None = None
        for envelope, octets in mails:
            mail = canonical(octets)
            assert mail.isascii()
            assert not has_long_line(mail)
            group = group_of(envelope, len(mail))
            if waiting is None:
                await wire.exchange(group, replies - 1)
            else:
                parser.feed(await wire.exchange(stuffed(waiting[1]) + group, replies))
                reply, *others = [parser.next_reply() for _ in range(replies)]
                assert reply is not None
                assert reply.positive
                assert all(other is not None and other.code < 400 for other in others)
                yield report_on(*waiting, reply)
            waiting = envelope, mail
        if waiting is not None:
            parser.feed(await wire.exchange(stuffed(waiting[1]), 1))
            last = parser.next_reply()
            assert last is not None
            assert last.positive
            yield report_on(*waiting, last)

    async def send(n: int) -> None:
        async for report in reports(mails(job, content, n)):
            accepted(report)

    with loop_for(job) as loop:
        wire = loop.run_until_complete(connected(job))
        yield each(loop, send)
        wire.close()
