"""What a forked child does first: the threads of its parent, and their locks, are not its own."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Shared(Protocol):
    """What is shared between threads by a lock of its own."""

    def after_fork(self) -> None:
        """In the child: put a free lock in place of the one that is there."""


_shared: weakref.WeakSet[Shared] = weakref.WeakSet()
_lock = threading.Lock()


def watch(owner: Shared) -> None:
    """Have a forked child call `owner.after_fork()`, if `owner` is still there."""
    with _lock:
        _shared.add(owner)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    errors = []
    for owner in list(_shared):
        try:
            owner.after_fork()
        except Exception as error:
            # The others have locks that would be waited for in vain.
            errors.append(error)
    if errors:
        raise ExceptionGroup("after a fork", errors)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
