"""The messages of one `send_many`: one behind the other, with a report for each."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, cast

from mailbridge import DeliveryReport, InvalidInput, Transport
from mailbridge import MailError as CoreMailError

from .exceptions import about
from .message import Message
from .sending import Mail, Sending

if TYPE_CHECKING:
    from .state import MailState


class Batch:
    """Sends messages as they come. Holds no more of them than are on their way."""

    def __init__(self, state: MailState, transport: Transport, messages: Iterable[Message]) -> None:
        self._state = state
        self._transport = transport
        self._messages = iter(messages)
        # In the order of the messages; of those that were not to be sent, the report is there.
        self._waiting: deque[tuple[Message, Sending] | DeliveryReport] = deque()
        self._alone: tuple[Message, Sending, Mail] | None = None

    def reports(self) -> Generator[DeliveryReport]:
        """A report for each message, in their order."""
        more = True
        while more:
            sent = cast("Generator[DeliveryReport]", self._transport.send_many(self._mails()))
            with closing(sent):
                for report in sent:
                    yield from self._ready()
                    yield self._ended(report)
            yield from self._ready()
            more = self._alone is not None
            if self._alone is not None:
                yield self._by_itself(*self._alone)

    def _mails(self) -> Iterator[Mail]:
        """What is to be sent, up to a message with parameters of its own, which goes alone."""
        self._alone = None
        for message in self._messages:
            sending = Sending(self._state, message)
            try:
                mail = sending.begin()
            except InvalidInput as error:
                self._waiting.append(error.report or DeliveryReport({}, error=error))
                continue
            if isinstance(mail, DeliveryReport):
                self._waiting.append(mail)
            elif message.mail_options or message.rcpt_options:
                self._alone = message, sending, mail
                return
            else:
                self._waiting.append((message, sending))
                yield mail

    def _ready(self) -> Iterator[DeliveryReport]:
        """The reports on those that nobody has to wait for any more."""
        while self._waiting and isinstance(self._waiting[0], DeliveryReport):
            yield cast(DeliveryReport, self._waiting.popleft())

    def _ended(self, report: DeliveryReport) -> DeliveryReport:
        message, sending = cast(tuple[Message, Sending], self._waiting.popleft())
        return _end(message, sending, report)

    def _by_itself(self, message: Message, sending: Sending, mail: Mail) -> DeliveryReport:
        try:
            report = self._transport.attempt(
                *mail,
                mail_options=message.mail_options or (),
                rcpt_options=message.rcpt_options or (),
                on_refused=self._transport.on_refused,
            )
        except InvalidInput as error:
            sending.fail(error, mail.envelope)
            return cast(DeliveryReport, error.report)
        return _end(message, sending, report)


def _end(message: Message, sending: Sending, report: DeliveryReport) -> DeliveryReport:
    if isinstance(report.error, CoreMailError):
        report.error.report = report
        about(report.error, message)
    return sending.end(report, report.error)
