"""Pool: connections that are kept for the next mail. A lock and a condition around `policy`.

One pool a process for each Relay, so one for each combination of host, TLS and credentials. No
thread of its own: what has aged is closed when somebody next comes by.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from .. import policy
from ..errors import ConnectError, MailError, PoolTimeout
from ..options import Relay
from ..protocol.command import Quit
from ..protocol.transcript import Listener
from ..report import DeliveryReport
from .driver import Connection
from .opening import open_connection


@dataclass(slots=True, eq=False, weakref_slot=True)
class Lease:
    """A connection lent to one user until it is given back. `reused` if it has served before."""

    pool: Pool
    connection: Connection
    use: policy.Use
    pid: int
    reused: bool = False

    def fit(self, mails: int = 1) -> bool:
        """True if the connection may carry that many mails more."""
        session = self.connection.session
        return session.alive and policy.is_fit(
            self.use, self.pool.options, time.monotonic(), session.extensions.mail_max, mails
        )

    def give_back(self) -> None:
        """Let the connection serve others, or close it if it is not fit for that."""
        self.pool.release(self)


class Pool:
    """Connections to one relay, at most `relay.pool.max_connections` at a time.

    Thread-safe and fair: who waits longest is served first. A forked child starts with an empty
    pool and leaves its parent's sockets alone.
    """

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.options = relay.pool
        self._keeps = True
        self._breaker = policy.Breaker(self.options.breaker_failures, self.options.breaker_pause)
        rate = self.options.max_per_second
        self.bucket = None if rate is None else policy.Bucket(rate)
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Lease] = []
        self._leases: weakref.WeakSet[Lease] = weakref.WeakSet()
        self._lent = 0
        self._queue: deque[threading.Event] = deque()

    def __repr__(self) -> str:
        return f"<Pool {self.relay!r}: {self._lent} in use, {len(self._idle)} idle>"

    def acquire(self, *, fresh: bool = False, listener: Listener | None = None) -> Lease:
        """A connection that is ready for MAIL, an idle one unless `fresh`.

        `listener` is told what is said on it until it is given back.

        Raises PoolTimeout if none becomes free in time, ConnectError at once while the relay
        has been failing (the breaker), and all that `open_connection` raises.
        """
        self._enter()
        try:
            lease = None if fresh else self._take_idle()
            lease = lease or self._open(listener)
            lease.connection.session.transcript.listener = listener
            return lease
        except BaseException:
            self._leave()
            raise

    def release(self, lease: Lease) -> None:
        """Give a connection back. It is closed unless it is fit for another mail."""
        if lease.pid != os.getpid():
            return  # Lent before a fork: not this process's to use, and closed already.
        lease.use.last_used = time.monotonic()
        lease.reused = True
        if self._keeps and lease.connection.session.usable and lease.fit():
            lease.connection.session.transcript.listener = None
            with self._lock:
                self._idle.append(lease)
        else:
            say_goodbye(lease.connection)
        self._leave()

    def discard(self, lease: Lease) -> None:
        """Give a connection back that must not be used again. Nothing is said to the server."""
        lease.connection.close()
        if lease.pid == os.getpid():
            self._leave()

    def sweep(self) -> None:
        """Close idle connections that have aged."""
        with self._lock:
            aged = [lease for lease in self._idle if not lease.fit()]
            self._idle = [lease for lease in self._idle if lease not in aged]
        for lease in aged:
            say_goodbye(lease.connection)

    @property
    def unused(self) -> bool:
        """True if nothing is lent, and nothing is kept that is fit for use."""
        self.sweep()
        return not (self._lent or self._idle or self._queue)

    def close(self) -> None:
        """Say QUIT on every connection, now or when it is given back, and close it."""
        with self._lock:
            self._keeps = False
            idle, self._idle = self._idle, []
        for lease in idle:
            say_goodbye(lease.connection)

    def abandon(self) -> None:
        """In a forked child: drop the parent's connections without a word on them."""
        for lease in list(self._leases):
            lease.connection.close()
        self._start()

    def pace(self) -> None:
        """Wait until `max_per_second` allows another mail."""
        if self.bucket is not None:
            with self._lock:
                wait = self.bucket.take(time.monotonic())
            if wait > 0:
                time.sleep(wait)

    def learn(self, report: DeliveryReport) -> None:
        """Slow down after a 421 or 4.7.x, and speed up again after what was accepted."""
        if self.bucket is None:
            return
        with self._lock:
            if policy.was_throttled(report):
                self.bucket.throttle()
            elif report.accepted:
                self.bucket.recover()

    # Places.

    def _enter(self) -> None:
        """Take one of the `max_connections` places, or wait for it in the queue."""
        turn = threading.Event()
        with self._lock:
            if self._lent < self.options.max_connections and not self._queue:
                self._lent += 1
                return
            self._queue.append(turn)
        try:
            if turn.wait(self.options.wait_timeout) or not self._leave_queue(turn):
                return
        except BaseException:
            # Interrupted: a place that nobody waits for any more must go to the next.
            if not self._leave_queue(turn):
                self._leave()
            raise
        error = PoolTimeout(
            f"no free connection within {self.options.wait_timeout:g} s:"
            f" all {self.options.max_connections} are in use"
        )
        error.advice = "Raise max_connections or pool_timeout"
        error.located(host=self.relay.address, phase="connect")
        raise error

    def _leave_queue(self, turn: threading.Event) -> bool:
        """Wait no longer. False if the place was given in this very moment; then it is ours."""
        with self._lock:
            if turn.is_set():
                return False
            self._queue.remove(turn)
            return True

    def _leave(self) -> None:
        """Hand the place to whoever has waited longest."""
        with self._lock:
            if self._queue:
                self._queue.popleft().set()
            else:
                self._lent -= 1

    def _take_idle(self) -> Lease | None:
        self.sweep()
        while True:
            with self._lock:
                # The one used last: a few stay warm, and the rest can age.
                lease = self._idle.pop() if self._idle else None
            if lease is None or lease.connection.alive():
                return lease
            lease.connection.close()

    def _open(self, listener: Listener | None) -> Lease:
        wait = self._breaker.wait(time.monotonic())
        if wait:
            error = ConnectError(
                f"not tried: the last {self._breaker.failed} connections failed,"
                f" the next try is in {wait:.0f} s"
            )
            error.located(host=self.relay.address, phase="connect")
            raise error
        try:
            connection = open_connection(self.relay, listener)
        except MailError as exc:
            self._breaker.note(not isinstance(exc, ConnectError), time.monotonic())
            raise
        now = time.monotonic()
        self._breaker.note(True, now)
        lease = Lease(self, connection, policy.Use(now, now), os.getpid())
        self._leases.add(lease)
        return lease


def say_goodbye(connection: Connection) -> None:
    """QUIT and close, without waiting for the answer: the mail is delivered, nobody needs it."""
    if connection.session.usable:
        with contextlib.suppress(MailError):
            connection.session.send(Quit())
            connection.flush()
    connection.close()


_pools: dict[Relay, Pool] = {}
_pools_lock = threading.Lock()


def pool_for(relay: Relay) -> Pool:
    """The process's pool for this relay. The same one for equal relays."""
    pool = _pools.get(relay)
    if pool is None:
        with _pools_lock:
            pool = _pools.get(relay)
            if pool is None:
                # An application that makes its relays anew each time must not pile up pools.
                for known, other in list(_pools.items()):
                    if other.unused:
                        del _pools[known]
                pool = _pools[relay] = Pool(relay)
    return pool


def pools() -> Iterator[Pool]:
    """Every pool of this process."""
    yield from list(_pools.values())


def close_pools() -> None:
    """Close every idle connection of this process, and forget the pools."""
    with _pools_lock:
        closing = list(_pools.values())
        _pools.clear()
    for pool in closing:
        pool.close()


def _after_fork() -> None:
    global _pools_lock
    _pools_lock = threading.Lock()
    for pool in _pools.values():
        pool.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(close_pools)
