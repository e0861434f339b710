"""Waiting for one socket, or for the first of several that are being connected."""

from __future__ import annotations

import select
import socket
from collections.abc import Collection
from math import ceil
from typing import Any

# By their names in `poll`, where there is one.
READ, WRITE = getattr(select, "POLLIN", 1), getattr(select, "POLLOUT", 4)


class Waiter:
    """Waits until one socket is ready: by `poll`, or by `select` where there is nothing better."""

    def __init__(self, sock: socket.socket) -> None:
        self._fd = sock.fileno()
        self._poller: Any = select.poll() if hasattr(select, "poll") else None
        self._poll = None if self._poller is None else self._poller.poll
        self._asked = 0

    def wait(self, events: int, seconds: float | None) -> int:
        """READ, WRITE or both, whichever it is ready for; 0 when so many seconds have passed."""
        if self._poll is None:
            return self._select(events, seconds)
        if events != self._asked:
            self._poller.register(self._fd, events)
            self._asked = events
        # Rounded up: a time-out that is a little too short would be a loop without rest.
        found = self._poll(None if seconds is None else ceil(seconds * 1000))
        # An error or a hang-up by itself is found out by whatever is tried next.
        return (found[0][1] & events or events) if found else 0

    def _select(self, events: int, seconds: float | None) -> int:
        reading = [self._fd] if events & READ else []
        writing = [self._fd] if events & WRITE else []
        readable, writable, _ = select.select(reading, writing, [], seconds)
        return (READ if readable else 0) | (WRITE if writable else 0)


def writable(socks: Collection[socket.socket], seconds: float | None) -> list[socket.socket]:
    """Those that are connected or have failed to, as soon as there is one; none if it is late."""
    if not hasattr(select, "poll"):
        # Windows tells of a failure in the third list.
        _, connected, failed = select.select([], socks, socks, seconds)
        return [sock for sock in socks if sock in connected or sock in failed]
    poll, numbers = select.poll(), {sock.fileno(): sock for sock in socks}
    for number in numbers:
        poll.register(number, select.POLLOUT)
    found = poll.poll(None if seconds is None else ceil(max(0.0, seconds) * 1000))
    return [numbers[number] for number, _ in found]
