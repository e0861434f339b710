"""Reaching a host of several addresses (RFC 8305): their order, and what is said of a failure."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest

from .errors import ConnectError, ConnectRefused, ConnectTimeout
from .resolve import AddressInfo

# RFC 8305 section 5: so long an address is given before the next is tried beside it.
ATTEMPT_DELAY = 0.25


def by_family_in_turn(found: Iterable[AddressInfo]) -> list[AddressInfo]:
    """Addresses of both families in turn, each family in its order (RFC 8305 section 4)."""
    families: dict[int, list[AddressInfo]] = {}
    for info in dict.fromkeys(found):
        families.setdefault(info[0], []).append(info)
    return [info for info in chain(*zip_longest(*families.values())) if info is not None]


def race_error(
    host: str,
    where: str,
    failed: Sequence[tuple[str, OSError]],
    trying: Iterable[str],
    not_tried: int,
) -> ConnectError:
    """The error for a host none of whose addresses was reached, with what became of each."""
    late = TimeoutError(errno.ETIMEDOUT, "no answer")
    failed = [*failed, *((name, late) for name in trying)]
    tried = ", ".join(f"{name} ({exc.strerror or exc})" for name, exc in failed)
    if not_tried:
        tried += f"{', ' if tried else ''}{not_tried} not tried"
    reasons = [exc for _, exc in failed] or [late]
    known = len(reasons) == 1 and failed and failed[0][0] == host
    return connect_error(reasons, "" if known else tried, where)


def connect_error(reasons: list[OSError], tried: str, where: str) -> ConnectError:
    """The error for addresses that failed: of several reasons the one that tells most."""
    kinds = (TimeoutError, ConnectionRefusedError, OSError)
    reason = min(reasons, key=lambda exc: [isinstance(exc, kind) for kind in kinds].index(True))
    tried = f"; tried {tried}" if tried else ""
    error: ConnectError
    if isinstance(reason, TimeoutError):
        error = ConnectTimeout(f"no connection within the connect time-out{tried}")
        error.advice = "Check host and port, and whether a firewall drops connections to it"
    elif isinstance(reason, ConnectionRefusedError):
        error = ConnectRefused(f"connection refused: nothing listens on this port{tried}")
        error.advice = "Check host and port, and whether the mail server runs"
    else:
        error = ConnectError(f"cannot connect{tried or f': {reason.strerror or reason}'}")
    error.errno = reason.errno
    error.__cause__ = reason
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
