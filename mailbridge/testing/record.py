"""What a scripted server has received: messages, and one transcript of all connections."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Literal, NamedTuple

Side = Literal["C:", "S:", "--"]


class ReceivedEnvelope(NamedTuple):
    """The reverse-path and the accepted forward-paths of one message."""

    mail_from: str
    recipients: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class ReceivedMessage:
    """One message that the server took responsibility for.

    ``mail_from`` is empty for the null reverse-path. ``recipients`` are the accepted ones, in
    order; ``refused`` maps each other one to the first line of the reply that it got. ``content``
    is what came over the wire, dot-stuffing undone, line ends untouched.
    """

    mail_from: str
    mail_parameters: tuple[str, ...]
    recipients: tuple[str, ...]
    rcpt_parameters: dict[str, tuple[str, ...]]
    refused: dict[str, str]
    content: bytes
    tls: bool
    user: str | None
    helo: str
    connection: int

    @property
    def envelope(self) -> ReceivedEnvelope:
        """Who sent it, and who gets it."""
        return ReceivedEnvelope(self.mail_from, self.recipients)

    @property
    def message(self) -> EmailMessage:
        """The content, parsed anew at each access with ``email.policy.default``."""
        return message_from_bytes(self.content, policy=policy.default)

    def __repr__(self) -> str:
        refused = f", {len(self.refused)} refused" if self.refused else ""
        return (
            f"<ReceivedMessage <{self.mail_from}> to {', '.join(self.recipients)}{refused}, "
            f"{len(self.content)} octets, connection {self.connection}>"
        )


class Record:
    """Messages and transcript, written by connection threads and read by the test's thread."""

    def __init__(self, on_line: Callable[[str], object] | None = None) -> None:
        self._on_line = on_line
        self._changed = threading.Condition()
        self._messages: list[ReceivedMessage] = []
        self._lines: list[str] = []
        self._connections = 0
        self._last_number = 0

    @property
    def messages(self) -> tuple[ReceivedMessage, ...]:
        with self._changed:
            return tuple(self._messages)

    @property
    def transcript(self) -> str:
        with self._changed:
            return "".join(f"{line}\n" for line in self._lines)

    @property
    def connections(self) -> int:
        with self._changed:
            return self._connections

    def connected(self) -> int:
        """Count one more connection; return its number, which no other connection will have."""
        with self._changed:
            self._connections += 1
            self._last_number += 1
            self._add([f"[{self._last_number}] -- connected"])
            return self._last_number

    def note(self, connection: int, side: Side, data: bytes | str) -> None:
        """Add to the transcript: one line of it for each line in ``data``."""
        text = data if isinstance(data, str) else data.decode("utf-8", "backslashreplace")
        lines = text.removesuffix("\r\n").split("\r\n")
        with self._changed:
            self._add([f"[{connection}] {side} {_printable(line)}" for line in lines])

    def _add(self, lines: list[str]) -> None:
        self._lines.extend(lines)
        if self._on_line is not None:
            for line in lines:
                self._on_line(line)

    def accept(self, message: ReceivedMessage) -> None:
        """Keep ``message`` and wake those who wait for it."""
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def wait_for(self, n_messages: int, timeout: float) -> tuple[ReceivedMessage, ...]:
        """Block until at least ``n_messages`` have been accepted, and return all of them.

        Raises AssertionError, with the transcript, when that takes longer than ``timeout`` seconds.
        """
        with self._changed:
            if self._changed.wait_for(lambda: len(self._messages) >= n_messages, timeout):
                return tuple(self._messages)
            count = len(self._messages)
        raise AssertionError(
            f"waited {timeout} s for {n_messages} messages, got {count}:\n{self.transcript}"
        )

    def clear(self) -> None:
        """Forget messages, transcript and count of connections; connection numbers go on."""
        with self._changed:
            self._messages.clear()
            self._lines.clear()
            self._connections = 0


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
