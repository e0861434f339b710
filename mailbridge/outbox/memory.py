"""An outbox in memory, and what every outbox can do."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import BinaryIO, Protocol

from ..envelope import Envelope
from ..report import DeliveryReport
from .captured import Captured

#: The oldest go when there are more.
MAX_MESSAGES = 500


class Outbox(Protocol):
    """Where captured messages are kept. Safe to be used by several threads."""

    def add(self, envelope: Envelope, content: bytes) -> Captured:
        """Keep a message; the oldest are dropped where there are too many."""

    def settle(self, name: str, report: DeliveryReport) -> None:
        """Keep the report of a message that was also sent. Nothing if it is gone."""

    def entries(self) -> list[Captured]:
        """All messages, the newest first."""

    def get(self, name: str) -> Captured | None:
        """The message of that id, None if there is none (or it is no id at all)."""

    def open(self, name: str) -> BinaryIO | None:
        """Its content, to be read and closed by the caller; None if there is none."""

    def delete(self, names: Iterable[str]) -> None:
        """Delete these. Those that are gone already are no error."""

    def token(self) -> str:
        """A text that is another one after every change."""


class MemoryOutbox:
    """Keeps messages for as long as the process lives."""

    def __init__(self, max_messages: int = MAX_MESSAGES) -> None:
        self._max = max_messages
        self._kept: dict[str, tuple[Captured, bytes]] = {}
        self._changes = 0
        self._lock = threading.Lock()

    def add(self, envelope: Envelope, content: bytes) -> Captured:
        """Keep a message; the oldest are dropped where there are too many."""
        captured = Captured.of(envelope, content)
        with self._lock:
            self._kept[captured.id] = captured, content
            self._changes += 1
            for name in list(self._kept)[: -self._max]:
                del self._kept[name]
        return captured

    def settle(self, name: str, report: DeliveryReport) -> None:
        """Keep the report of a message that was also sent. Nothing if it is gone."""
        with self._lock:
            if name in self._kept:
                captured, content = self._kept[name]
                self._kept[name] = replace(captured, report=report.to_dict()), content
                self._changes += 1

    def entries(self) -> list[Captured]:
        """All messages, the newest first."""
        with self._lock:
            return [captured for captured, _ in reversed(self._kept.values())]

    def get(self, name: str) -> Captured | None:
        """The message of that id, None if there is none."""
        with self._lock:
            return self._kept[name][0] if name in self._kept else None

    def open(self, name: str) -> BinaryIO | None:
        """Its content; None if there is none."""
        with self._lock:
            return io.BytesIO(self._kept[name][1]) if name in self._kept else None

    def delete(self, names: Iterable[str]) -> None:
        """Delete these. Those that are gone already are no error."""
        with self._lock:
            for name in names:
                self._kept.pop(name, None)
            self._changes += 1

    def token(self) -> str:
        """A text that is another one after every change."""
        return str(self._changes)
