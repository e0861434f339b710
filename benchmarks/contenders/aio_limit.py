"""What an event loop cannot do without: the floors of the asyncio contenders, as in `limit`.

None is a client, for they can do nothing but succeed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any, TypeAlias, cast

from benchmarks.contenders import SENDER, Job, Prepare, contender
from benchmarks.contenders.aio import each, loop_for
from benchmarks.contenders.core import accepted, mails
from benchmarks.contenders.limit import checked, consent, group_of, report_on
from mailbridge import DeliveryReport, Envelope, Relay
from mailbridge.aio.timer import Timer
from mailbridge.observe import Observer
from mailbridge.policy import Use, room
from mailbridge.protocol.content import stuffed
from mailbridge.protocol.reply import ReplyParser

#: Sends mails over a connection, and gives a report on each.
Reports: TypeAlias = Callable[
    ["Wire", Iterable[tuple[Envelope, bytes]]], AsyncGenerator[DeliveryReport]
]


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

    @property
    def holds(self) -> bool:
        """True if the kernel has not taken all that was written."""
        return self._transport.is_closing() or self._transport.get_write_buffer_size() > 0

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


def running(job: Job, send: Callable[[Wire, int], Coroutine[Any, Any, None]]) -> Iterator[Prepare]:
    """`send` with a connection, on the loop of the job."""
    with loop_for(job) as loop:
        wire = loop.run_until_complete(connected(job))
        yield each(loop, partial(send, wire))
        wire.close()


def batches(job: Job, reports: Reports) -> Iterator[Prepare]:
    """Batches of mails by `reports`, each of which is looked at."""
    content = job.content()

    async def send(wire: Wire, n: int) -> None:
        async for report in reports(wire, mails(job, content, n)):
            accepted(report)

    return running(job, send)


@contender("limit.aio.octets")
def octets(job: Job) -> Iterator[Prepare]:
    """Octets that were made before, one write and one read a message; no task is woken."""
    content, group = stuffed(job.content()), group_of(Envelope(SENDER, job.to), job.size)
    mail, replies = content + group, len(job.to) + 3

    async def send(wire: Wire, n: int) -> None:
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

    return running(job, send)


@contender("limit.aio.single")
def single(job: Job) -> Iterator[Prepare]:
    """Octets that were made before, two writes and two reads a message; a task is woken once."""
    content, group = stuffed(job.content()), group_of(Envelope(SENDER, job.to), job.size)
    replies = len(job.to) + 2

    def send_content(wire: Wire, then: Callable[[bytes], object], _: bytes) -> None:
        wire.send(content, 1, then)

    async def send(wire: Wire, n: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(n):
            done: asyncio.Future[bytes] = loop.create_future()
            wire.send(group, replies, partial(send_content, wire, done.set_result))
            await done

    return running(job, send)


@contender("limit.aio.function")
def function(job: Job) -> Iterator[Prepare]:
    """A batch in one generator: addresses parsed, content checked, replies read, reports made."""
    parser = ReplyParser()
    replies = len(job.to) + 3

    async def reports(
        wire: Wire, mails: Iterable[tuple[Envelope, bytes]]
    ) -> AsyncGenerator[DeliveryReport]:
        waiting: tuple[Envelope, bytes] | None = None
        for envelope, octets in mails:
            mail = checked(octets)
            group = group_of(envelope, len(mail))
            if waiting is None:
                await wire.exchange(group, replies - 1)
            else:
                said = await wire.exchange(stuffed(waiting[1]) + group, replies)
                yield report_on(*waiting, consent(parser, said, replies))
            waiting = envelope, mail
        if waiting is not None:
            said = await wire.exchange(stuffed(waiting[1]), 1)
            yield report_on(*waiting, consent(parser, said, 1))

    return batches(job, reports)


@contender("limit.aio.promises")
def promises(job: Job) -> Iterator[Prepare]:
    """The same, keeping what is promised while all goes well, in one generator all the same.

    A connection that is young enough, and said nothing unasked; a time-out for each reply; to know
    what the kernel has taken; the last lines of the dialogue; a report that is complete, and told.
    """
    options = Relay(host=job.host).pool
    parser, past = ReplyParser(), deque[Any](maxlen=8)
    replies = len(job.to) + 3
    logger = logging.getLogger("mailbridge")
    observers: tuple[Observer, ...] = ()
    use = Use(time.monotonic(), math.inf)

    async def reports(
        wire: Wire, mails: Iterable[tuple[Envelope, bytes]]
    ) -> AsyncGenerator[DeliveryReport]:
        timer = Timer(asyncio.get_running_loop(), wire.close)
        waiting: tuple[Envelope, bytes] | None = None
        for envelope, octets in mails:
            began = time.monotonic()
            assert room(use, options, began) > 1
            assert not parser.has_pending
            assert envelope.esmtp is None
            assert not envelope.needs_smtputf8
            mail = checked(octets)
            group = group_of(envelope, len(mail))
            if waiting is None:
                await wire.exchange(group, replies - 1)
                waiting = envelope, mail
                continue
            use.messages += 1
            going = wire.exchange(stuffed(waiting[1]) + group, replies)
            assert not wire.holds
            timer.set(600.0)
            try:
                said = await going
            except BaseException:
                wire.close()
                raise
            heard = parser.consent(said, replies, 3)
            assert heard is not None
            past.append((len(waiting[1]), group, heard))
            report = report_on(*waiting, heard[0])
            report.relay, report.reused, report.mailer = job.host, True, None
            use.last_used = now = time.monotonic()
            report.seconds = now - began
            assert not logger.isEnabledFor(logging.INFO)
            for observer in observers:
                observer(report)
            yield report
            waiting = envelope, mail
        timer.stop()
        if waiting is not None:
            said = await wire.exchange(stuffed(waiting[1]), 1)
            yield report_on(*waiting, consent(parser, said, 1))

    return batches(job, reports)
