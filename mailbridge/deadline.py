"""Deadline: the moment by which one send is over, whatever it is waiting for then."""

from __future__ import annotations

import time
from typing import NamedTuple, Self

# Seconds. A timer may ring a little early, and nothing can be done in so little time.
GRAIN = 0.005


class Deadline(NamedTuple):
    """`at` on the monotonic clock, `seconds` after the send began."""

    seconds: float
    at: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        """A deadline that runs from now on."""
        return cls(seconds, time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds until then; 0 when it is over, or as good as over."""
        left = self.at - time.monotonic()
        return left if left >= GRAIN else 0.0

    def __str__(self) -> str:
        return f"the deadline of {self.seconds:g} s for this send"


def shortest(seconds: float | None, deadline: Deadline | None) -> float | None:
    """`seconds`, or what the deadline leaves of them."""
    if deadline is None:
        return seconds
    return deadline.left if seconds is None else min(seconds, deadline.left)


def is_over(deadline: Deadline | None) -> bool:
    """True if there is a deadline, and it has come."""
    return deadline is not None and not deadline.left
