"""Pool: connections that are kept for the next mail. A condition around a `Stock`.

One pool a process for each Relay, so one for each combination of host, TLS and credentials. No
thread of its own: what has aged is closed when somebody next comes by.
"""

from __future__ import annotations

import atexit
import threading
import time

from .. import logins, opening, stock
from ..deadline import Deadline
from ..errors import MailError
from ..options import Relay
from ..protocol.transcript import Listener
from ..reach import literal_of
from ..tls import forget_sessions
from .driver import Connection

Lease = stock.Lease[Connection]


class Turn:
    """A place in the queue, for one thread. A lock wakes it in fewer steps than an Event."""

    __slots__ = ("_given", "_lock")

    def __init__(self) -> None:
        self._given = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """The place is yours."""
        self._given = True
        self._lock.release()

    def is_set(self) -> bool:
        """True once it is."""
        return self._given

    def wait(self, seconds: float | None) -> bool:
        """Wait for it. False if it was not given in so many seconds; None is for ever."""
        return self._lock.acquire(timeout=-1 if seconds is None else seconds)


class Pool(stock.Stock[Connection, Turn]):
    """Connections to one relay, at most `relay.pool.max_connections` at a time.

    Thread-safe and fair: who waits longest is served first. A forked child starts with an empty
    pool and leaves its parent's sockets alone.
    """

    def acquire(
        self,
        *,
        fresh: bool = False,
        listener: Listener | None = None,
        deadline: Deadline | None = None,
        mail_follows: bool = False,
    ) -> Lease:
        """A connection that is ready for MAIL by `deadline`, an idle one unless `fresh`.

        `listener` is told what is said on it until it is given back. With `mail_follows` the
        login of a new one may be left for the first delivery to hear.

        Raises PoolTimeout if none becomes free in time, ConnectError at once while the relay
        has been failing (the breaker), and all that `open_connection` raises.
        """
        self._wait_for_place(deadline)
        try:
            lease = None if fresh else self._take_idle()
            return self._lend(lease or self._open(listener, deadline, mail_follows), listener)
        except BaseException:
            self._vacate()
            raise

    def pace(self, deadline: Deadline | None = None) -> None:
        """Wait until `max_per_second` allows another mail. Raises PoolTimeout, not to be late."""
        if self.bucket is not None and (pause := self._pause(deadline)) > 0:
            time.sleep(pause)

    def _wait_for_place(self, deadline: Deadline | None) -> None:
        turn = self._enter(Turn)
        if turn is None:
            return
        try:
            if turn.wait(self._patience(deadline)) or not self._leave_queue(turn):
                return
        except BaseException:
            # Interrupted: a place that nobody waits for any more must go to the next.
            if not self._leave_queue(turn):
                self._vacate()
            raise
        raise self._no_place(deadline)

    def _open(
        self, listener: Listener | None, deadline: Deadline | None, mail_follows: bool
    ) -> Lease:
        self._knock()
        try:
            connection = open_connection(self.relay, listener, deadline, mail_follows=mail_follows)
            return self._opened(connection)
        except MailError as error:
            self._failed(error, deadline)
            raise


def open_connection(
    relay: Relay,
    listener: Listener | None = None,
    deadline: Deadline | None = None,
    *,
    mail_follows: bool = False,
) -> Connection:
    """Connect to a relay: greeted, in TLS as asked, logged in, by `deadline`.

    With `mail_follows` the login may be left for the first delivery to hear.

    Raises ConnectError, GreetingRefused, HeloRefused, TLSError, CertificateError,
    AuthenticationFailed, NotSupported or Disconnected; then nothing is left open.
    """
    logins.check(relay)
    connection = Connection(**opening.terms(relay))
    connection.session.transcript.listener = listener
    try:
        sock = connection.connect(relay.host, relay.port, relay.source_address, deadline)
        name = relay.local_hostname or literal_of(sock)
        dialogue = opening.open_session(connection.session, relay, name, mail_follows=mail_follows)
        connection.run(dialogue, deadline)
    except BaseException:
        connection.close()
        raise
    return connection


_pools: stock.Stocks[Pool] = stock.Stocks(Pool)


def pool_for(relay: Relay) -> Pool:
    """The process's pool for this relay. The same one for equal relays."""
    return _pools[relay]


def close_pools() -> None:
    """Close every idle connection of this process, and forget the pools."""
    for pool in _pools.clear():
        pool.close()


@atexit.register
def _at_exit() -> None:
    forget_sessions()  # Nobody is going to resume one.
    close_pools()
