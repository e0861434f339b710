"""Ports for servers that cannot be told to take any, or that come back on the same one."""

from __future__ import annotations

import contextlib
import secrets
import socket
from pathlib import Path


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nothing listens on. The kernel gives them to nobody in between."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = range(lowest // 2, lowest) if lowest > 4096 else range(4096, 65536)
    found: list[int] = []
    # Not by `random`, which begins anew with the same seed in each process that tests.
    for port in secrets.SystemRandom().sample(candidates, 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("of 100 ports, not enough are free")
