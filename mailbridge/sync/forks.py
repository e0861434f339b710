"""Locks in a forked child: the thread that may have held one in the parent does not exist there."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Locked(Protocol):
    """What is shared between threads by a lock of its own."""

    def renew_lock(self) -> None:
        """Put a free lock in place of the one that is there."""


_shared: weakref.WeakSet[Locked] = weakref.WeakSet()
_lock = threading.Lock()


def renew_after_fork(owner: Locked) -> None:
    """Have a forked child call `owner.renew_lock()`, if `owner` is still there."""
    with _lock:
        _shared.add(owner)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for owner in list(_shared):
        owner.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
