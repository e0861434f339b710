"""Puts a Mailbox in place of the servers: no transport of this process connects any more."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any
from unittest import mock

from ..aio import AsyncTransport
from ..errors import InvalidInput
from ..line import Mail
from ..outgoing import Outgoing, not_attempted, warn_of_refused
from ..report import DeliveryReport, OnRefused
from ..sync.transport import Transport
from .mailbox import Mailbox


@contextlib.contextmanager
def captured(mailbox: Mailbox) -> Iterator[Mailbox]:
    """Have each transport of this process, in whichever thread or loop, hand its mails over.

    What a transport checks before it connects it checks still, and it reports and raises as ever.
    """

    def submit(transport: Transport, outgoing: Outgoing) -> DeliveryReport:
        return mailbox.take(outgoing)

    async def submit_async(transport: AsyncTransport, outgoing: Outgoing) -> DeliveryReport:
        return mailbox.take(outgoing)

    with (
        mock.patch.object(Transport, "open", return_value=True),
        mock.patch.object(Transport, "submit", submit),
        mock.patch.object(Transport, "send_many", _one_by_one),
        mock.patch.object(AsyncTransport, "open", mock.AsyncMock(return_value=True)),
        mock.patch.object(AsyncTransport, "submit", submit_async),
        mock.patch.object(AsyncTransport, "send_many", _one_by_one_async),
    ):
        yield mailbox


# `send_many` where there is no connection to send them over.


def _one_by_one(
    transport: Transport,
    mails: Iterable[Mail],
    *,
    on_refused: OnRefused | str | None = None,
    concurrency: int = 1,
    **options: Any,
) -> Iterator[DeliveryReport]:
    policy = transport.on_refused if on_refused is None else OnRefused.parse(on_refused)
    for envelope, content in mails:
        try:
            report = transport.attempt(envelope, content, on_refused=policy, **options)
        except InvalidInput as error:
            report = not_attempted(envelope, error)
        yield _told(report, policy)


async def _one_by_one_async(
    transport: AsyncTransport,
    mails: Iterable[Mail] | AsyncIterable[Mail],
    *,
    on_refused: OnRefused | str | None = None,
    concurrency: int = 1,
    **options: Any,
) -> AsyncIterator[DeliveryReport]:
    policy = transport.on_refused if on_refused is None else OnRefused.parse(on_refused)
    async for envelope, content in _each(mails):
        try:
            report = await transport.attempt(envelope, content, on_refused=policy, **options)
        except InvalidInput as error:
            report = not_attempted(envelope, error)
        yield _told(report, policy)


async def _each(mails: Iterable[Mail] | AsyncIterable[Mail]) -> AsyncIterator[Mail]:
    if isinstance(mails, AsyncIterable):
        async for mail in mails:
            yield mail
    else:
        for mail in mails:
            yield mail


def _told(report: DeliveryReport, policy: OnRefused) -> DeliveryReport:
    warn_of_refused(report, policy)
    return report
