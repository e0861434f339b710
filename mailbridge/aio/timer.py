"""A deadline that moves with every reply, at the cost of one timer of the loop's now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Timer:
    """Calls `late` when a deadline has passed. There is one at a time, or none."""

    def __init__(self, loop: asyncio.AbstractEventLoop, late: Callable[[], None]) -> None:
        self._loop = loop
        self._late = late
        self._deadline: float | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._rings_at = 0.0

    def set(self, seconds: float | None) -> None:
        """The deadline is in so many seconds from now; None for no deadline."""
        if seconds is None:
            self._deadline = None
            return
        self._deadline = deadline = time.monotonic() + seconds
        if self._handle is None or self._rings_at > deadline:
            self._arm(deadline, seconds)

    def clear(self) -> None:
        """There is no deadline any more. What is set at the loop is used for the next."""
        self._deadline = None

    def stop(self) -> None:
        """There will be no deadline any more."""
        self._deadline = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, deadline: float, seconds: float) -> None:
        self.stop()
        self._deadline = self._rings_at = deadline
        self._handle = self._loop.call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._handle = None
        deadline = self._deadline
        if deadline is None:
            return
        # A loop's clock is coarse: it may ring a little early.
        if (left := deadline - time.monotonic()) > 0:
            self._arm(deadline, left)
            return
        self._deadline = None
        self._late()
