"""Puts a Mailbox in place of the servers: no transport of this process connects any more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from unittest import mock

from ..envelope import Envelope
from ..errors import InvalidInput
from ..outgoing import Content, Outgoing, not_attempted, warn_of_refused
from ..report import DeliveryReport, OnRefused
from ..sync.transport import Transport
from .mailbox import Mailbox


@contextlib.contextmanager
def captured(mailbox: Mailbox) -> Iterator[Mailbox]:
    """Have each transport of this process, in whichever thread, hand its mails to `mailbox`.

    What a transport checks before it connects it checks still, and it reports and raises as ever.
    """

    def submit(transport: Transport, outgoing: Outgoing) -> DeliveryReport:
        return mailbox.take(outgoing)

    with (
        mock.patch.object(Transport, "open", return_value=True),
        mock.patch.object(Transport, "submit", submit),
        mock.patch.object(Transport, "send_many", _one_by_one),
    ):
        yield mailbox


def _one_by_one(
    transport: Transport,
    mails: Iterable[tuple[Envelope, Content]],
    *,
    on_refused: OnRefused | str | None = None,
    concurrency: int = 1,
) -> Iterator[DeliveryReport]:
    """`Transport.send_many` where there is no connection to send them over."""
    policy = transport.on_refused if on_refused is None else OnRefused.parse(on_refused)
    for envelope, content in mails:
        try:
            report = transport.attempt(envelope, content, on_refused=policy)
        except InvalidInput as error:
            report = not_attempted(envelope, error)
        if report.failure(policy) is None:
            warn_of_refused(report, policy)
        yield report
