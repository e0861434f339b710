"""Several messages over one connection."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, Self

from mailbridge import DeliveryReport
from mailbridge import MailError as CoreMailError

from .batch import Batch
from .exceptions import about
from .message import Message, Recipient

if TYPE_CHECKING:
    from .state import MailState


class Connection:
    """Sends several messages over one connection, in a ``with`` block.

    After MAIL_MAX_EMAILS messages the next one goes over a new connection, and so it does if the
    server has closed this one. Outside ``with`` no connection is held from one to the next.
    A subclass that defines ``configure_host`` raises TypeError: Flask-Mail connects by it.
    """

    #: Something with the `sendmail` of smtplib, to send by instead: a mock, in a test say.
    host: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if hasattr(cls, "configure_host"):
            # To pass over it would be to send without its certificates, or to another server.
            raise TypeError(
                f"{cls.__qualname__}.configure_host would not be called: set MAIL_SSL_CONTEXT,"
                " MAIL_CA_FILE, MAIL_TIMEOUT or another option of mailbridge's instead"
            )

    def __init__(self, mail: MailState) -> None:
        self.mail = mail
        self.num_emails = 0
        self._transport = mail._transport()
        self._inside = False

    def __enter__(self) -> Self:
        """Connect, unless sending is suppressed. Raises a MailError if that fails."""
        self._inside = True
        self.num_emails = 0
        if not self.mail.suppress:
            try:
                self.mail._open(self._transport)
            except CoreMailError as exc:
                raise about(exc, None) from exc.__cause__
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Give the connection back. Never raises, so that an error in the block is the one seen."""
        self._inside = False
        self._transport.close()

    def send(self, message: Message, envelope_from: Recipient | None = None) -> DeliveryReport:
        """Send `message`; returns and raises what `Mail.send` does."""
        try:
            if self.host is not None:
                from . import standin  # Imported here: it is for tests.

                return standin.send(self.host, self.mail, message, envelope_from)
            return self.mail._deliver(
                self._transport, message, envelope_from, keep_open=self._inside
            )
        finally:
            self.num_emails += 1

    def send_message(self, *args: Any, **kwargs: Any) -> DeliveryReport:
        """Send ``Message(*args, **kwargs)``. Returns and raises what `send` does."""
        return self.send(Message(*args, **kwargs))

    def send_many(self, messages: Iterable[Message]) -> Generator[DeliveryReport]:
        """Send messages as they come, and yield a report for each: see `MailState.send_many`."""
        for report in Batch(self.mail, self._transport, messages).reports():
            self.num_emails += 1
            yield report
