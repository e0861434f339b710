"""The connections to one relay, lent and idle: `policy` and bookkeeping, and no waiting.

What differs between threads and an event loop, waiting for a place and opening a connection, is
added by the pools in `sync` and `aio`.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from . import forks, policy
from .deadline import Deadline, is_over, shortest
from .errors import ConnectError, MailError, PoolTimeout
from .link import Link
from .options import Relay
from .protocol.transcript import Listener
from .report import DeliveryReport


class Turn(Protocol):
    """What somebody who waits for a place looks at."""

    def set(self) -> None:
        """The place is yours."""
        ...

    def is_set(self) -> bool:
        """True once it is."""
        ...


L = TypeVar("L", bound=Link)
T = TypeVar("T", bound=Turn)


class Lease(Generic[L]):
    """A connection lent to one user until it is given back. `reused` if it has served before."""

    __slots__ = ("__weakref__", "connection", "lent", "pid", "reused", "stock", "use")

    def __init__(self, stock: Stock[L, Any], connection: L, now: float) -> None:
        self.stock = stock
        self.connection = connection
        mail_max = connection.session.extensions.mail_max
        self.use = policy.Use(now, policy.most(stock.options, mail_max))
        self.pid = os.getpid()
        self.lent = self.reused = False

    def __del__(self) -> None:
        # Nobody can give it back any more. What is to be done takes a lock, and this may be called
        # in the middle of anything.
        if self.lent:
            self.stock.forgotten.append((self.pid, self.connection))

    def room(self) -> float:
        """How many mails more the connection may carry."""
        if not self.connection.session.alive:
            return 0
        return policy.room(self.use, self.stock.options, time.monotonic())

    def give_back(self) -> None:
        """Let the connection serve others, or close it if it is not fit for that."""
        self.stock.release(self)


class Stock(Generic[L, T]):
    """Connections to one relay, at most `relay.pool.max_connections` at a time.

    Thread-safe. A forked child starts with an empty stock and leaves its parent's sockets alone.
    """

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.options = relay.pool
        self._keeps = True
        self._breaker = policy.Breaker(self.options.breaker_failures, self.options.breaker_pause)
        self._failure = ""
        rate = self.options.max_per_second
        self.bucket = None if rate is None else policy.Bucket(rate)
        self._start()
        forks.watch(self)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Lease[L]] = []
        self._leases: weakref.WeakSet[Lease[L]] = weakref.WeakSet()
        self._lent = 0
        self._queue: deque[T] = deque()
        # Connections that were lent to somebody who is gone, and the process that lent them.
        self.forgotten: deque[tuple[int, L]] = deque()

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.relay!r}: {self._lent} in use, {len(self._idle)} idle>"
        )

    def release(self, lease: Lease[L]) -> None:
        """Give a connection back. It is closed unless it is fit for another mail."""
        lease.lent = False
        if lease.pid != os.getpid():
            return  # Lent before a fork: not this process's to use, and closed already.
        lease.use.last_used = time.monotonic()
        lease.reused = True
        if self._keeps and lease.connection.session.usable and lease.room():
            lease.connection.session.transcript.listener = None
            self._vacate(lease)
        else:
            lease.connection.leave()
            self._vacate()

    def discard(self, lease: Lease[L]) -> None:
        """Give a connection back that must not be used again. Nothing is said to the server."""
        lease.lent = False
        lease.connection.close()
        if lease.pid == os.getpid():
            self._vacate()

    def sweep(self) -> None:
        """Close idle connections that have aged, and those that were forgotten."""
        self._take_back()
        with self._lock:
            aged = self._aged()
        for lease in aged:
            lease.connection.leave()

    def _take_back(self) -> None:
        """Give up the places of those that were not given back, and never will be."""
        with contextlib.suppress(IndexError):  # another thread was faster
            while self.forgotten:
                pid, connection = self.forgotten.popleft()
                connection.leave()
                if pid == os.getpid():
                    self._vacate()

    def _aged(self) -> list[Lease[L]]:
        """Take out those that have aged."""
        aged = [lease for lease in self._idle if not lease.room()]
        for lease in aged:
            self._idle.remove(lease)
        return aged

    @property
    def unused(self) -> bool:
        """True if nothing is lent, and nothing is kept that is fit for use, or is to be known."""
        self.sweep()
        resting = self._breaker.wait(time.monotonic()) > 0
        return not (self._lent or self._idle or self._queue or resting)

    @property
    def wanted(self) -> bool:
        """True if somebody waits for a place."""
        return bool(self._queue)

    def close(self) -> None:
        """Say QUIT on every connection, now or when it is given back, and close it."""
        self._take_back()
        with self._lock:
            self._keeps = False
            idle, self._idle = self._idle, []
        for lease in idle:
            lease.connection.leave()

    def keep(self) -> None:
        """Keep connections again after `close`."""
        self._keeps = True

    def after_fork(self) -> None:
        """In a forked child: drop the parent's connections without a word on them."""
        for lease in list(self._leases):
            lease.connection.disown()
            lease.connection.close()
        self._start()

    def learn(self, report: DeliveryReport) -> None:
        """Slow down after a 421 or 4.7.x, and speed up again after what was accepted."""
        if self.bucket is None:
            return
        with self._lock:
            if policy.was_throttled(report):
                self.bucket.throttle()
            elif report.accepted:
                self.bucket.recover()

    def _pause(self, deadline: Deadline | None = None) -> float:
        """Seconds to wait until `max_per_second` allows another mail. Raises PoolTimeout."""
        if self.bucket is None:
            return 0.0
        with self._lock:
            pause = self.bucket.take(time.monotonic())
            if deadline is None or pause < deadline.left:
                return pause
            self.bucket.give_back()
        error = PoolTimeout(f"max_per_second allows this mail in {pause:.1f} s, after {deadline}")
        error.located(host=self.relay.address, phase="connect")
        raise error

    # Places.

    def _enter(self, make: Callable[[], T]) -> T | None:
        """Take one of the `max_connections` places, or make a turn that waits for it in line."""
        if self.forgotten:
            self._take_back()
        with self._lock:
            if self._lent < self.options.max_connections and not self._queue:
                self._lent += 1
                return None
            turn = make()
            self._queue.append(turn)
            return turn

    def _patience(self, deadline: Deadline | None) -> float | None:
        """For how many seconds to wait for a place. None is for ever."""
        seconds = shortest(self.options.wait_timeout, deadline)
        return None if seconds == math.inf else seconds

    def _leave_queue(self, turn: T) -> bool:
        """Wait no longer. False if the place was given in this very moment; then it is ours."""
        with self._lock:
            if turn.is_set():
                return False
            self._queue.remove(turn)
            return True

    def _vacate(self, lease: Lease[L] | None = None) -> None:
        """Hand the place, with `lease` for whoever wants one, to whoever has waited longest."""
        with self._lock:
            if lease is not None:
                self._idle.append(lease)
            if self._queue:
                self._queue.popleft().set()
            else:
                self._lent -= 1

    def _no_place(self, deadline: Deadline | None = None) -> PoolTimeout:
        late = is_over(deadline)
        within = str(deadline) if late else f"{self.options.wait_timeout:g} s"
        error = PoolTimeout(
            f"no free connection within {within}: all {self.options.max_connections} are in use"
        )
        error.advice = f"Raise max_connections or {'deadline' if late else 'pool_timeout'}"
        error.located(host=self.relay.address, phase="connect")
        return error

    # Connections.

    def _take_idle(self) -> Lease[L] | None:
        """A connection that is alive, if one is kept."""
        while True:
            with self._lock:
                aged = self._aged()
                # The one used last: a few stay warm, and the rest can age.
                lease = self._idle.pop() if self._idle else None
            for each in aged:
                each.connection.leave()
            if lease is None or lease.connection.alive():
                return lease
            lease.connection.close()

    def _lend(self, lease: Lease[L], listener: Listener | None) -> Lease[L]:
        lease.connection.session.transcript.listener = listener
        lease.lent = True
        return lease

    def _knock(self) -> None:
        """Raise ConnectError if the relay has been failing, and is not to be tried yet."""
        wait = self._breaker.wait(time.monotonic())
        if wait:
            error = ConnectError(
                f"not tried: the last {self._breaker.failed} connections failed,"
                f" the next try is in {wait:.0f} s; the last failure: {self._failure}"
            )
            error.located(host=self.relay.address, phase="connect")
            raise error

    def _failed(self, error: MailError, deadline: Deadline | None = None) -> None:
        """There is no connection, for this reason."""
        # That we had no time for it says nothing of the relay.
        if not is_over(deadline):
            self._breaker.note(not policy.is_down(error), time.monotonic())
            self._failure = str(error)

    def _opened(self, connection: L) -> Lease[L]:
        """There is a new connection."""
        now = time.monotonic()
        self._breaker.note(True, now)
        lease = Lease(self, connection, now)
        # With a login that is not answered yet it may turn out to be of no use, like an old one.
        lease.reused = connection.session.login is not None
        self._leases.add(lease)
        return lease


S = TypeVar("S", bound=Stock[Any, Any])


class Stocks(Generic[S]):
    """The stocks of a process, or of an event loop: the same one for equal relays."""

    def __init__(self, make: Callable[[Relay], S]) -> None:
        self._make = make
        self._known: dict[Relay, S] = {}
        # Those that were not in use, as long as somebody holds one, and is about to use it.
        self._dropped: weakref.WeakValueDictionary[Relay, S] = weakref.WeakValueDictionary()
        self.after_fork()
        forks.watch(self)

    def after_fork(self) -> None:
        """In a forked child: whoever held the lock is not here."""
        self._lock = threading.Lock()

    def __getitem__(self, relay: Relay) -> S:
        stock = self._known.get(relay)
        if stock is None:
            with self._lock:
                stock = self._known.get(relay)
                if stock is None:
                    # An application that makes its relays anew each time must not pile up stocks.
                    self._drop_unused()
                    stock = self._dropped.pop(relay, None) or self._make(relay)
                    stock.keep()
                    self._known[relay] = stock
        return stock

    def _drop_unused(self) -> None:
        unused = {relay: stock for relay, stock in self._known.items() if stock.unused}
        for stock in unused.values():
            stock.close()
        self._dropped.update(unused)
        self._known = {r: s for r, s in self._known.items() if r not in unused}

    def clear(self) -> list[S]:
        """Forget them, and return them."""
        with self._lock:
            stocks, self._known = list(self._known.values()), {}
        return stocks
