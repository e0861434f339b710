"""Many mails over one connection, pipelined, or over several at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextvars import copy_context
from typing import TYPE_CHECKING

from ..line import SHARE, Mail
from ..outgoing import warn_of_refused
from ..report import DeliveryReport, OnRefused

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .transport import Transport


class Batch:
    """The mails of one `send_many`. Holds no more of them than are on their way."""

    def __init__(
        self,
        transport: Transport,
        mails: Iterable[Mail],
        on_refused: OnRefused,
        concurrency: int = 1,
        deadline: float | None = None,
    ) -> None:
        self._transport = transport
        self._mails = iter(mails)
        self._on_refused = on_refused
        self._concurrency = concurrency
        self._deadline = deadline

    def reports(self) -> Iterator[DeliveryReport]:
        """A report for each mail, in their order."""
        reports = self._in_threads() if self._concurrency > 1 else self._in_line(self._mails)
        return warned(reports) if self._on_refused is OnRefused.RAISE_IF_ALL else reports

    def _in_threads(self) -> Iterator[DeliveryReport]:
        # Imported here: a batch mostly goes over one connection.
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(self._concurrency, "mailbridge") as executor:
            running: deque[Future[list[DeliveryReport]]] = deque()
            while True:
                while len(running) <= self._concurrency and (share := self._share()):
                    running.append(executor.submit(copy_context().run, self._all_in_line, share))
                if not running:
                    return
                yield from running.popleft().result()

    def _all_in_line(self, share: list[Mail]) -> list[DeliveryReport]:
        return list(self._in_line(iter(share)))

    def _share(self) -> list[Mail]:
        return [mail for _, mail in zip(range(SHARE), self._mails, strict=False)]

    def _in_line(self, mails: Iterator[Mail]) -> Iterator[DeliveryReport]:
        take = self._transport.take
        line = self._transport.line(self._on_refused, self._deadline)
        error: Exception | None = None
        try:
            while True:
                try:
                    mail = next(mails, None)
                except Exception as exc:
                    mail, error = None, exc  # It waits for the mail before it.
                if mail is None:
                    break
                convoy = line.convoy
                if convoy is None or not convoy.follow(*mail):
                    yield from take(line.put(*mail))
                    continue
                report = convoy.connection.exchange(convoy.lane)
                yield take(line.leave(convoy, report)) if convoy.ended else convoy.complete(report)
            yield from take(line.end())
            if error is not None:
                raise error
        finally:
            line.close()


def warned(reports: Iterator[DeliveryReport]) -> Iterator[DeliveryReport]:
    """The reports, and a warning in the log for each recipient that the policy accepts to lose."""
    for report in reports:
        warn_of_refused(report, OnRefused.RAISE_IF_ALL)
        yield report
