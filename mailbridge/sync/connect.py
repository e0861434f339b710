"""From a host name to a connected socket."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

from ..errors import ConnectError, ConnectRefused, ConnectTimeout, HostNotFound
from ..host import host_and_port


def open_socket(
    host: str,
    port: int,
    timeout: float | None,
    source_address: tuple[str, int] | None = None,
    owner: Callable[[socket.socket], None] = lambda sock: None,
) -> socket.socket:
    """A connected socket to `host`, which may be a name, an address, or the path of a Unix socket.

    `owner` is given each socket before it is connected, so that a signal at any moment leaves
    somebody who can close it.

    `timeout` in seconds bounds the whole of it, however many addresses the name has.
    Raises ConnectError: HostNotFound, ConnectRefused, ConnectTimeout or the plain one.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    if host.startswith("/"):
        return _connected(socket.AF_UNIX, 0, host, deadline, None, host, owner)
    where = host_and_port(host, port)
    error: ConnectError | None = None
    for family, _, protocol, _, address in _resolve(host, port, where):
        try:
            sock = _connected(family, protocol, address, deadline, source_address, where, owner)
        except ConnectError as exc:
            error = exc
        else:
            # A command waits for nothing: Nagle against delayed ACK costs 40 ms a round trip.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    raise error or HostNotFound(f"{host!r} has no address")


def _resolve(host: str, port: int, where: str) -> list[tuple[int, int, int, str, object]]:
    try:
        return list(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
    except (socket.gaierror, UnicodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        error = HostNotFound(f"the host name does not resolve: {reason}")
        error.errno = getattr(exc, "errno", None)
        error.advice = "Check the host option for a typing error, and the name service"
        error.located(host=where, phase="connect")
        raise error from exc


def _connected(
    family: int,
    protocol: int,
    address: object,
    deadline: float | None,
    source_address: tuple[str, int] | None,
    where: str,
    owner: Callable[[socket.socket], None],
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    owner(sock)
    try:
        remaining = None if deadline is None else deadline - time.monotonic()
        if remaining is not None and remaining <= 0:
            raise TimeoutError
        sock.settimeout(remaining)
        if source_address is not None:
            sock.bind(source_address)
        sock.connect(address)  # type: ignore[arg-type]
    except OSError as exc:
        sock.close()
        raise _connect_error(exc, where) from exc
    except BaseException:
        sock.close()
        raise
    return sock


def _connect_error(exc: OSError, where: str) -> ConnectError:
    error: ConnectError
    if isinstance(exc, TimeoutError):
        error = ConnectTimeout("no connection within the connect time-out")
        error.advice = "Check host and port, and whether a firewall drops connections to it"
    elif isinstance(exc, ConnectionRefusedError):
        error = ConnectRefused("connection refused: nothing listens on this port")
        error.advice = "Check host and port, and whether the mail server runs"
    else:
        error = ConnectError(f"cannot connect: {exc.strerror or exc}")
    error.errno = exc.errno
    error.located(host=where, phase="connect")
    return error


def literal_of(sock: socket.socket) -> str:
    """The address literal of our end, for EHLO where no name is known (RFC 5321 4.1.4)."""
    with contextlib.suppress(OSError, IndexError, TypeError):
        host = str(sock.getsockname()[0]).partition("%")[0]
        if ":" in host:
            return f"[IPv6:{host}]"
        if host:
            return f"[{host}]"
    return "[127.0.0.1]"
