"""From a host name to a connected socket, in an event loop: Happy Eyeballs (RFC 8305)."""

from __future__ import annotations

import asyncio
import socket
from collections import deque

from ..host import host_and_port
from ..reach import ATTEMPT_DELAY, by_family_in_turn, connect_error, race_error
from ..resolve import AddressInfo, Found, checked, known_here, not_found, under_way

SourceAddress = tuple[str, int] | None


async def open_socket(
    host: str, port: int, timeout: float | None, source_address: SourceAddress = None
) -> socket.socket:
    """A connected socket to `host`, which may be a name, an address, or the path of a Unix socket.

    `timeout` in seconds bounds the whole of it: the look-up, and however many addresses there are.
    Raises ConnectError: HostNotFound, ConnectRefused, ConnectTimeout or the plain one.
    """
    if host.startswith("/"):
        return await _unix_socket(host, timeout)
    where = host_and_port(host, port)
    race: _Race | None = None
    try:
        async with asyncio.timeout(timeout):
            race = _Race(await look_up(host, port, where), source_address)
            sock = await race.winner()
    except TimeoutError as late:
        if race is None:
            raise not_found(late, where) from None
        sock = None
    if sock is None:
        raise race.error(host, where)
    # A command waits for nothing: Nagle against delayed ACK costs 40 ms a round trip.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


async def look_up(host: str, port: int, where: str) -> Found:
    """The addresses of `host`, a name or an address. `where` is for errors.

    Raises HostNotFound if it has none.
    """
    try:
        found = known_here(host, port)
        if found is None:
            # Not in the loop's executor: one that is stuck would hold up the end of the program.
            found = await asyncio.wrap_future(under_way.future(host, port))
    except (socket.gaierror, UnicodeError) as exc:
        raise not_found(exc, where) from exc
    return checked(found, host, where)


class _Race:
    """Attempts to connect to several addresses, each begun a while after the one before it."""

    def __init__(self, found: Found, source_address: SourceAddress) -> None:
        self._left = deque(by_family_in_turn(found))
        self._source_address = source_address
        self._trying: dict[asyncio.Task[socket.socket], str] = {}
        self._failed: list[tuple[str, OSError]] = []
        self._late: list[str] = []

    async def winner(self) -> socket.socket | None:
        """The first socket that is connected, None if none can be."""
        if len(self._left) == 1:
            return await self._alone(self._left.popleft())
        try:
            while self._left or self._trying:
                if self._left:
                    info = self._left.popleft()
                    attempt = asyncio.create_task(_connected(info, self._source_address))
                    self._trying[attempt] = str(info[4][0])
                if (sock := await self._first(ATTEMPT_DELAY if self._left else None)) is not None:
                    return sock
            return None
        finally:
            self._late = list(self._trying.values())
            for attempt in self._trying:
                attempt.add_done_callback(_close)
                attempt.cancel()

    async def _alone(self, info: AddressInfo) -> socket.socket | None:
        """With nobody to race against there is no need of a task."""
        name = str(info[4][0])
        try:
            return await _connected(info, self._source_address)
        except OSError as exc:
            self._failed.append((name, exc))
            return None
        except asyncio.CancelledError:
            self._late.append(name)
            raise

    async def _first(self, delay: float | None) -> socket.socket | None:
        done, _ = await asyncio.wait(
            self._trying, timeout=delay, return_when=asyncio.FIRST_COMPLETED
        )
        for attempt in done:
            reason = attempt.exception()
            if reason is None:
                del self._trying[attempt]
                return attempt.result()
            name = self._trying.pop(attempt)
            if not isinstance(reason, OSError):
                raise reason
            self._failed.append((name, reason))
        return None

    def error(self, host: str, where: str) -> Exception:
        """What became of each address."""
        return race_error(host, where, self._failed, self._late, len(self._left))


def _close(attempt: asyncio.Task[socket.socket]) -> None:
    """Close the socket of one who came second."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _connected(info: AddressInfo, source_address: SourceAddress) -> socket.socket:
    family, kind, protocol, _, address = info
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        if source_address is not None:
            sock.bind(source_address)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _unix_socket(path: str, timeout: float | None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_connect(sock, path)
    except OSError as exc:
        sock.close()
        raise connect_error([exc], "", path) from exc
    except BaseException:
        sock.close()
        raise
    return sock
