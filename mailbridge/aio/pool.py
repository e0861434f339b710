"""AsyncPool: connections that are kept for the next mail, in one event loop.

One pool a loop for each Relay. No task of its own: what has aged is closed when somebody next
comes by, and everything when the loop is shut down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from .. import logins, opening, stock
from ..deadline import Deadline
from ..errors import MailError
from ..options import Relay
from ..protocol.transcript import Listener
from ..reach import literal_of
from .driver import Connection

Lease = stock.Lease[Connection]


class Turn:
    """A place in the queue."""

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._given = False

    def set(self) -> None:
        """The place is yours."""
        self._given = True
        if not self.future.done():
            self.future.set_result(None)

    def is_set(self) -> bool:
        """True once it is."""
        return self._given


class AsyncPool(stock.Stock[Connection, Turn]):
    """Connections to one relay, at most `relay.pool.max_connections` at a time.

    For the tasks of one event loop, and fair: who waits longest is served first.
    """

    async def acquire(
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
        turn = self._enter(Turn)
        if turn is not None:
            await self._wait_for(turn, deadline)
        try:
            lease = None if fresh else self._take_idle()
            if lease is None:
                lease = await self._open(listener, deadline, mail_follows)
            return self._lend(lease, listener)
        except BaseException:
            self._vacate()
            raise

    async def pace(self, deadline: Deadline | None = None) -> None:
        """Wait until `max_per_second` allows another mail. Raises PoolTimeout, not to be late."""
        if self.bucket is not None and (pause := self._pause(deadline)) > 0:
            await asyncio.sleep(pause)

    async def _wait_for(self, turn: Turn, deadline: Deadline | None) -> None:
        try:
            await asyncio.wait([turn.future], timeout=self._patience(deadline))
        except BaseException:
            # Cancelled: a place that nobody waits for any more must go to the next.
            if not self._leave_queue(turn):
                self._vacate()
            raise
        if not turn.is_set() and self._leave_queue(turn):
            raise self._no_place(deadline)

    async def _open(
        self, listener: Listener | None, deadline: Deadline | None, mail_follows: bool
    ) -> Lease:
        self._knock()
        await _guard(asyncio.get_running_loop())
        try:
            connection = await open_connection(
                self.relay, listener, deadline, mail_follows=mail_follows
            )
            return self._opened(connection)
        except MailError as error:
            self._failed(error, deadline)
            raise


async def open_connection(
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
        sock = await connection.connect(relay.host, relay.port, relay.source_address, deadline)
        name = relay.local_hostname or literal_of(sock)
        dialogue = opening.open_session(connection.session, relay, name, mail_follows=mail_follows)
        await connection.run(dialogue, deadline)
        # The answer to EHLO was read, and with it the tickets of TLS 1.3.
        connection.keep_session()
    except BaseException:
        connection.close()
        raise
    return connection


_pools: dict[asyncio.AbstractEventLoop, stock.Stocks[AsyncPool]] = {}
_guards: dict[asyncio.AbstractEventLoop, AsyncGenerator[None]] = {}


def pool_for(relay: Relay) -> AsyncPool:
    """The running loop's pool for this relay. The same one for equal relays."""
    loop = asyncio.get_running_loop()
    pools = _pools.get(loop)
    if pools is None:
        for other in [known for known in _pools if known.is_closed()]:
            _pools.pop(other, None)
            _guards.pop(other, None)
        pools = _pools[loop] = stock.Stocks(AsyncPool)
    return pools[relay]


async def close_pools() -> None:
    """Close every idle connection of the running loop, and forget its pools."""
    pools = _pools.pop(asyncio.get_running_loop(), None)
    for pool in pools.clear() if pools is not None else ():
        pool.close()
    # Transports are closed by the loop, in its next turns.
    await asyncio.sleep(0)


async def _guard(loop: asyncio.AbstractEventLoop) -> None:
    """See to it that the loop's pools are closed when it is shut down, as `asyncio.run` does."""
    if loop not in _guards:
        _guards[loop] = guard = _closing(loop)
        await anext(guard)


async def _closing(loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        # `loop.shutdown_asyncgens()`: the loop is about to be closed.
        _guards.pop(loop, None)
        await close_pools()
