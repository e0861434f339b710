"""From a host name to addresses, for no longer than there is time.

`getaddrinfo` cannot be interrupted, and a name service that is silent holds it for half a minute.
So it runs in a thread that is not waited for beyond the deadline, and that ends with it.
"""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeAlias

from . import forks
from .errors import ConnectError, ConnectTimeout, HostNotFound

#: Family, type, protocol, canonical name and address, as `getaddrinfo` gives them.
AddressInfo: TypeAlias = tuple[int, int, int, str, Any]
Found: TypeAlias = list[AddressInfo]


def look_up(host: str, port: int, deadline: float | None, where: str) -> Found:
    """The addresses of `host`, a name or an address. `where` is for errors.

    Raises HostNotFound if it has none, ConnectTimeout if that is not known by `deadline`.
    """
    try:
        found = _by_deadline(host, port, deadline)
    except (TimeoutError, socket.gaierror, UnicodeError) as exc:
        raise not_found(exc, where) from exc
    return checked(found, host, where)


def not_found(exc: OSError | UnicodeError, where: str) -> ConnectError:
    """The error for a look-up that failed, or that took too long (TimeoutError)."""
    error: ConnectError
    if isinstance(exc, TimeoutError):
        error = ConnectTimeout("the host name did not resolve within the connect time-out")
        error.advice = "Check the name service"
    else:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        error = HostNotFound(f"the host name does not resolve: {reason}")
        error.errno = getattr(exc, "errno", None)
        error.advice = "Check the host option for a typing error, and the name service"
    error.located(host=where, phase="connect")
    return error


def checked(found: Found, host: str, where: str) -> Found:
    """The addresses that were found. Raises HostNotFound if there are none."""
    if not found:
        error = HostNotFound(f"{host!r} has no address")
        error.located(host=where, phase="connect")
        raise error
    return found


def _by_deadline(host: str, port: int, deadline: float | None) -> Found:
    known = known_here(host, port)
    if known is not None:
        return known
    if deadline is None:
        return ask(host, port)
    return under_way.future(host, port).result(max(0.0, deadline - time.monotonic()))


def known_here(host: str, port: int) -> Found | None:
    """The addresses of `host` if no name service is to be asked, else None."""
    if host == "localhost":
        return ask(host, port)  # RFC 6761 section 6.3
    literal, zone, _ = host.partition("%")
    kind = socket.AF_INET6 if ":" in literal else socket.AF_INET
    try:
        socket.inet_pton(kind, literal)
    except (OSError, ValueError):
        return None
    if zone:
        return ask(host, port)  # It has a number here.
    address = (host, port, 0, 0) if kind is socket.AF_INET6 else (host, port)
    return [(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]


def ask(host: str, port: int) -> Found:
    """The addresses of `host`, however long that takes."""
    return list(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))


class _UnderWay:
    """The look-ups that are not answered yet. What they find is not kept.

    However many wait for a name, one thread asks for it.
    """

    def __init__(self) -> None:
        self.after_fork()
        forks.watch(self)

    def after_fork(self) -> None:
        """In a forked child: the threads that were asking are not here."""
        self._lock = threading.Lock()
        self._futures: dict[tuple[str, int], Future[Found]] = {}

    def __len__(self) -> int:
        return len(self._futures)

    def future(self, host: str, port: int) -> Future[Found]:
        """The addresses of `host`, as soon as they are known."""
        key = host, port
        mine: Future[Found] = Future()
        # One who gives up waiting must not cancel it for the others.
        mine.set_running_or_notify_cancel()
        with self._lock:
            future = self._futures.setdefault(key, mine)
        if future is mine:
            run = partial(self._run, key, mine)
            try:
                threading.Thread(target=run, name="mailbridge-name", daemon=True).start()
            except RuntimeError:
                # No more threads, or the interpreter is about to end: rather late than not at all.
                run()
        return future

    def _run(self, key: tuple[str, int], future: Future[Found]) -> None:
        found: Found = []
        failure: BaseException | None = None
        try:
            found = ask(*key)
        except BaseException as exc:
            failure = exc
        with self._lock:
            if self._futures.get(key) is future:
                del self._futures[key]
        if failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(found)


#: The look-ups of this process.
under_way = _UnderWay()
