"""What a process knows by key, shared by its threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from . import forks

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Registry(Generic[K, V]):
    """A value for each key, made when it is first asked for, and then the same for everybody.

    Beyond `limit` the one that was asked for longest ago is forgotten.
    """

    def __init__(self, make: Callable[[], V], limit: int) -> None:
        self._make = make
        self._limit = limit
        self._values: dict[K, V] = {}
        self.after_fork()
        forks.watch(self)

    def __getitem__(self, key: K) -> V:
        with self._lock:
            value = self._values.pop(key, None)
            self._values[key] = value = self._make() if value is None else value
            while len(self._values) > self._limit:
                del self._values[next(iter(self._values))]
            return value

    def forget(self, key: K | None = None) -> None:
        """Forget the value of this key, or all."""
        with self._lock:
            if key is None:
                self._values.clear()
            else:
                self._values.pop(key, None)

    def after_fork(self) -> None:
        """In a forked child: whoever held the lock is not here."""
        self._lock = threading.Lock()
