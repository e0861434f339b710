"""Many mails over one connection, pipelined, or over several at once, in an event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING

from ..line import SHARE, Mail
from ..outgoing import warn_of_refused
from ..report import DeliveryReport, OnRefused

if TYPE_CHECKING:
    from .transport import AsyncTransport


class Batch:
    """The mails of one `send_many`. Holds no more of them than are on their way."""

    def __init__(
        self,
        transport: AsyncTransport,
        mails: Iterable[Mail] | AsyncIterable[Mail],
        on_refused: OnRefused,
        concurrency: int = 1,
        deadline: float | None = None,
    ) -> None:
        self._transport = transport
        self._mails = aiter(mails) if isinstance(mails, AsyncIterable) else iter(mails)
        self._on_refused = on_refused
        self._concurrency = concurrency
        self._deadline = deadline

    def reports(self) -> AsyncGenerator[DeliveryReport]:
        """A report for each mail, in their order."""
        return self._in_tasks() if self._concurrency > 1 else self._in_line(self._mails)

    async def _in_tasks(self) -> AsyncGenerator[DeliveryReport]:
        running: deque[asyncio.Task[list[DeliveryReport]]] = deque()
        try:
            while True:
                while len(running) <= self._concurrency and (share := await self._share()):
                    running.append(asyncio.create_task(self._all_in_line(share)))
                if not running:
                    return
                # It stays in the queue until it is done, so that it is not left alone.
                reports = await running[0]
                running.popleft()
                for report in reports:
                    yield report
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _all_in_line(self, share: list[Mail]) -> list[DeliveryReport]:
        return [report async for report in self._in_line(iter(share))]

    async def _share(self) -> list[Mail]:
        share: list[Mail] = []
        while len(share) < SHARE and (mail := await _next(self._mails)) is not None:
            share.append(mail)
        return share

    async def _in_line(
        self, mails: Iterator[Mail] | AsyncIterator[Mail]
    ) -> AsyncGenerator[DeliveryReport]:
        take, on_refused = self._transport.take, self._on_refused
        at_once = mails if isinstance(mails, Iterator) else None
        line = await self._transport.line(on_refused, self._deadline)
        error: Exception | None = None
        try:
            while True:
                try:
                    mail = await _next(mails) if at_once is None else next(at_once, None)
                except Exception as exc:
                    mail, error = None, exc  # It waits for the mail before it.
                convoy = line.convoy
                if mail is not None and convoy is not None and convoy.follow(*mail):
                    report = await convoy.connection.exchange(convoy.lane)
                    if not convoy.ended:
                        yield convoy.complete(report)
                        continue
                    reports = [await take(line.leave(convoy, report))]
                else:
                    reports = await take(line.end() if mail is None else line.put(*mail))
                for report in reports:
                    warn_of_refused(report, on_refused)
                    yield report
                if mail is None:
                    break
            if error is not None:
                raise error
        finally:
            line.close()


async def _next(mails: Iterator[Mail] | AsyncIterator[Mail]) -> Mail | None:
    return next(mails, None) if isinstance(mails, Iterator) else await anext(mails, None)
