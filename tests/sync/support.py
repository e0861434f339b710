"""Shorthands of the tests in this directory: an envelope, a transport, what a server was told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from mailbridge import SMTP, Envelope, Relay, Transport
from mailbridge.testing import ScriptedServer

SENDER, TO, CC = "a@example.org", "b@example.com", "c@example.com"
ENVELOPE = Envelope(SENDER, [TO])
BOTH = Envelope(SENDER, [TO, CC])
CONTENT = b"Subject: test\r\n\r\ntext\r\n"


T = TypeVar("T")


class Server(Protocol):
    host: str

    @property
    def port(self) -> int: ...


def client(server: Server, **options: Any) -> SMTP:
    """An SMTP client that is connected to ``server``."""
    return SMTP(server.host, server.port, **{"timeout": 5, "local_hostname": "me", **options})


def transport(server: Server, on_refused: str = "raise", **options: Any) -> Transport:
    """A transport to ``server``, without TLS unless ``options`` say so."""
    options = {"tls": "none", "timeout": 5, "local_hostname": "me", **options}
    relay = Relay.from_options(host=options.pop("host", server.host), port=server.port, **options)
    return Transport(relay, on_refused=on_refused)


def heard(server: ScriptedServer) -> list[str]:
    """The command lines that the server was sent."""
    lines = (line.split(" ", 1)[1] for line in server.transcript.splitlines())
    return [line[3:] for line in lines if line.startswith("C: ")]


def verbs(server: ScriptedServer) -> list[str]:
    """The verbs of the commands that the server was sent; not QUIT, whose answer nobody awaits."""
    verbs = [line.split(" ")[0].upper() for line in heard(server) if not line.startswith("<")]
    return [verb for verb in verbs if verb != "QUIT"]


def side_by_side(works: Sequence[Callable[[], T]]) -> list[T]:
    """What each of these returns, all of them called at once, in a thread each."""
    with ThreadPoolExecutor(len(works)) as threads:
        return [each.result() for each in [threads.submit(work) for work in works]]
