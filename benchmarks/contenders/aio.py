"""aiosmtplib, and mailbridge's asyncio client and transport, on asyncio's loop or on uvloop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.contenders import (
    PASSWORD,
    SENDER,
    USER,
    Job,
    Prepare,
    contender,
    needed,
)
from benchmarks.contenders.core import accepted, mails
from mailbridge import Envelope


@contextmanager
def loop_for(job: Job) -> Iterator[asyncio.AbstractEventLoop]:
    """The loop that the job asks for. Raises Missing."""
    loop: asyncio.AbstractEventLoop
    loop = needed("uvloop").new_event_loop() if job.loop == "uvloop" else asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


def each(
    loop: asyncio.AbstractEventLoop, send: Callable[[int], Coroutine[Any, Any, None]]
) -> Prepare:
    """A coroutine function as a Prepare."""
    return lambda n: lambda: loop.run_until_complete(send(n))


@contender("aiosmtplib.single")
def aiosmtplib_single(job: Job) -> Iterator[Prepare]:
    """sendmail() on a connection that has said EHLO."""
    aiosmtplib = needed("aiosmtplib")
    content, to = job.content(), job.to
    with loop_for(job) as loop:
        smtp = aiosmtplib.SMTP(
            hostname=job.host,
            port=job.port,
            start_tls=job.tls == "starttls",
            use_tls=job.tls == "implicit",
        )

        async def start() -> None:
            await smtp.connect()
            if job.login:
                await smtp.login(USER, PASSWORD)
            await smtp.ehlo()

        async def send(n: int) -> None:
            for _ in range(n):
                await smtp.sendmail(SENDER, to, content)

        loop.run_until_complete(start())
        yield each(loop, send)
        loop.run_until_complete(smtp.quit())


@contender("aiosmtplib.cold")
def aiosmtplib_cold(job: Job) -> Iterator[Prepare]:
    """aiosmtplib.send(): a connection for each message."""
    aiosmtplib = needed("aiosmtplib")
    options: dict[str, Any] = {"username": USER, "password": PASSWORD} if job.login else {}

    async def send(n: int) -> None:
        for _ in range(n):
            await aiosmtplib.send(
                job.content(),
                sender=SENDER,
                recipients=job.to,
                hostname=job.host,
                port=job.port,
                start_tls=job.tls == "starttls",
                use_tls=job.tls == "implicit",
                **options,
            )

    with loop_for(job) as loop:
        yield each(loop, send)


@contender("AsyncSMTP.single")
def async_smtp_single(job: Job) -> Iterator[Prepare]:
    """What aiosmtplib.single does, with mailbridge.AsyncSMTP."""
    client = needed("mailbridge", "AsyncSMTP")
    content, to = job.content(), job.to
    with loop_for(job) as loop:
        smtp = client()

        async def start() -> None:
            await smtp.connect(job.host, job.port)
            await smtp.ehlo()

        async def send(n: int) -> None:
            for _ in range(n):
                await smtp.sendmail(SENDER, to, content)

        loop.run_until_complete(start())
        yield each(loop, send)
        loop.run_until_complete(smtp.quit())


@contender("AsyncTransport.single")
def async_transport_single(job: Job) -> Iterator[Prepare]:
    """send() for each message, on a transport that is open."""
    transport = needed("mailbridge", "AsyncTransport")(job.url)
    content, to = job.content(), job.to

    async def send(n: int) -> None:
        for _ in range(n):
            accepted(await transport.send(Envelope(SENDER, to), content))

    with loop_for(job) as loop:
        loop.run_until_complete(_maybe(transport.open))
        yield each(loop, send)
        loop.run_until_complete(_maybe(transport.close))


@contender("AsyncTransport.batch")
def async_transport_batch(job: Job) -> Iterator[Prepare]:
    """send_many() on a transport that is open."""
    transport = needed("mailbridge", "AsyncTransport")(job.url)
    content = job.content()

    async def send(n: int) -> None:
        async for report in transport.send_many(mails(job, content, n)):
            accepted(report)

    with loop_for(job) as loop:
        loop.run_until_complete(_maybe(transport.open))
        yield each(loop, send)
        loop.run_until_complete(_maybe(transport.close))


async def _maybe(function: Callable[[], Awaitable[object] | object]) -> None:
    result = function()
    if inspect.isawaitable(result):
        await result
