"""What a forked child does first: the threads of its parent, and their locks, are not its own."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket


class Shared(Protocol):
    """What is shared between threads by a lock of its own."""

    def after_fork(self) -> None:
        """In the child: put a free lock in place of the one that is there."""


# Each removes itself when its owner is gone. To add to a set, or to take from it, needs no lock.
_shared: set[weakref.ref[Shared]] = set()


def watch(owner: Shared) -> None:
    """Have a forked child call `owner.after_fork()`, if `owner` is still there."""
    _shared.add(weakref.ref(owner, _shared.discard))


def let_go(sock: socket.socket) -> None:
    """In a forked child: let go of a socket of the parent's that others may still name.

    Its number stays taken, so nobody else's file is closed when the object goes.
    """
    if sock.fileno() >= 0:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, sock.fileno(), inheritable=False)
        os.close(null)


def _after_fork() -> None:
    errors = []
    for reference in _shared.copy():
        owner = reference()
        if owner is None:
            continue
        try:
            owner.after_fork()
        except Exception as error:
            # The others have locks that would be waited for in vain.
            errors.append(error)
    if errors:
        raise ExceptionGroup("after a fork", errors)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
