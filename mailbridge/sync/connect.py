"""From a host name to a connected socket: Happy Eyeballs (RFC 8305), with one deadline for all."""

from __future__ import annotations

import errno
import math
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeAlias

from ..deadline import GRAIN
from ..errors import ConnectError
from ..host import host_and_port
from ..reach import ATTEMPT_DELAY, by_family_in_turn, connect_error, race_error
from ..resolve import AddressInfo, look_up
from .wait import writable

Owner: TypeAlias = Callable[[socket.socket], None]


def open_socket(
    host: str,
    port: int,
    timeout: float | None,
    source_address: tuple[str, int] | None = None,
    owner: Owner = lambda sock: None,
) -> socket.socket:
    """A connected socket to `host`, which may be a name, an address, or the path of a Unix socket.

    `owner` is given the socket before it is returned, so that a signal at any moment leaves
    somebody who can close it.

    `timeout` in seconds bounds the whole of it: the look-up, and however many addresses there are.
    Raises ConnectError: HostNotFound, ConnectRefused, ConnectTimeout or the plain one.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    if host.startswith("/"):
        try:
            return _connected((socket.AF_UNIX, socket.SOCK_STREAM, 0, "", host), timeout, owner)
        except OSError as exc:
            raise connect_error([exc], "", host) from exc
    where = host_and_port(host, port)
    found = look_up(host, port, deadline, where)
    if len(found) == 1:
        sock = _alone(found[0], host, where, deadline, owner, source_address)
    else:
        with _Race(by_family_in_turn(found), source_address, deadline) as race:
            winner = race.winner()
            if winner is None:
                raise race.error(host, where)
            owner(winner)
            sock = race.hand_over(winner)
    # A command waits for nothing: Nagle against delayed ACK costs 40 ms a round trip.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _alone(
    info: AddressInfo,
    host: str,
    where: str,
    deadline: float | None,
    owner: Owner,
    source_address: tuple[str, int] | None,
) -> socket.socket:
    """A socket to the only address: with nobody to race against it may block."""
    left = None if deadline is None else max(GRAIN, deadline - time.monotonic())
    try:
        return _connected(info, left, owner, source_address)
    except OSError as exc:
        name = str(info[4][0])
        # That there was no answer in time has no number: it is Python that waited.
        failed, late = ([], [name]) if exc.errno is None else ([(name, exc)], [])
        raise race_error(host, where, failed, late, 0) from exc


def _connected(
    info: AddressInfo,
    seconds: float | None,
    owner: Owner,
    source_address: tuple[str, int] | None = None,
) -> socket.socket:
    family, kind, protocol, _, address = info
    sock = socket.socket(family, kind, protocol)
    try:
        owner(sock)
        sock.settimeout(seconds)
        if source_address is not None:
            sock.bind(source_address)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


class _Race:
    """Attempts to connect to several addresses, each begun a while after the one before it."""

    def __init__(
        self,
        addresses: Iterable[AddressInfo],
        source_address: tuple[str, int] | None,
        deadline: float | None,
    ) -> None:
        self._left = deque(addresses)
        self._source_address = source_address
        self._deadline = math.inf if deadline is None else deadline
        self._trying: dict[socket.socket, str] = {}
        self._failed: list[tuple[str, OSError]] = []

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._trying:
            sock.close()

    def hand_over(self, sock: socket.socket) -> socket.socket:
        """This socket, which is left open at the end of the race."""
        del self._trying[sock]
        return sock

    def winner(self) -> socket.socket | None:
        """The first socket that is connected, None if there is none by the deadline."""
        due = -math.inf
        while (self._left or self._trying) and (now := time.monotonic()) < self._deadline:
            if self._left and now >= due:
                # One that cannot even begin costs no time.
                due = now + ATTEMPT_DELAY if self._begin(self._left.popleft()) else -math.inf
                continue
            until = min(due, self._deadline) if self._left else self._deadline
            for sock in writable(self._trying, None if until == math.inf else until - now):
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not code:
                    return sock
                self._lose(sock, OSError(code, os.strerror(code)))
                due = -math.inf
        return None

    def _begin(self, info: AddressInfo) -> bool:
        """Begin to connect to an address. False if it is known at once that this fails."""
        family, kind, protocol, _, address = info
        name = str(address[0])
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as exc:
            self._failed.append((name, exc))
            return False
        self._trying[sock] = name
        try:
            sock.setblocking(False)
            if self._source_address is not None:
                sock.bind(self._source_address)
            code = sock.connect_ex(address)
            if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
                raise OSError(code, os.strerror(code))
        except OSError as exc:
            self._lose(sock, exc)
            return False
        return True

    def _lose(self, sock: socket.socket, reason: OSError) -> None:
        self._failed.append((self._trying.pop(sock), reason))
        sock.close()

    def error(self, host: str, where: str) -> ConnectError:
        """What became of each address."""
        return race_error(host, where, self._failed, self._trying.values(), len(self._left))
