"""Everybody who takes part: a name, and a function that gets ready and says how to send.

    @contender("smtplib.single")
    def single(job: Job) -> Iterator[Prepare]:
        with smtplib.SMTP(job.host, job.port) as smtp:
            yield lambda n: lambda: send(smtp, n)

What comes before ``yield`` is not measured; neither is `Prepare`, which is called with the number
of messages; the function that it returns is. Raises Missing where something is not installed, or
not written yet.
"""

from __future__ import annotations

import importlib
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from benchmarks.servers import Missing

#: The measured part. It may return figures of its own, which then replace or join the measured.
Run: TypeAlias = Callable[[], "dict[str, Any] | None"]
Prepare: TypeAlias = Callable[[int], Run]

SENDER = "bench@example.org"
USER, PASSWORD = "bench", "open sesame"
MODULES = ("core", "aio", "django_site", "flask_site", "functions", "limit", "aio_limit")
CONTENDERS: dict[str, Callable[[Job], AbstractContextManager[Prepare]]] = {}


@dataclass(frozen=True)
class Job:
    """What is to be sent, and where."""

    host: str = "127.0.0.1"
    port: int = 0
    size: int = 1024
    recipients: int = 1
    tls: str = "none"
    login: bool = False
    ca_file: str = ""
    loop: str = "asyncio"
    threads: int = 1
    kind: str = "text"

    @property
    def to(self) -> list[str]:
        """The recipients."""
        return [f"rcpt{number}@example.com" for number in range(self.recipients)]

    @property
    def url(self) -> str:
        """The relay as mailbridge takes it."""
        scheme = "smtps" if self.tls == "implicit" else "smtp"
        user = f"{USER}:{PASSWORD.replace(' ', '%20')}@" if self.login else ""
        query = "" if self.tls == "implicit" else f"?tls={self.tls}"
        return f"{scheme}://{user}{self.host}:{self.port}{query}"

    def content(self) -> bytes:
        """A text message of exactly `size` octets, as it goes out: CRLF, ASCII."""
        return content(self.size)

    def context(self) -> ssl.SSLContext:
        """A verifying TLS context, as a careful application makes it."""
        return ssl.create_default_context()


def content(size: int) -> bytes:
    """A text message of `size` octets, at least as many as its header needs."""
    head = (
        b"From: Bench <bench@example.org>\r\nTo: rcpt0@example.com\r\nSubject: A message\r\n"
        b"Date: Mon, 06 Jan 2025 10:00:00 +0000\r\nMessage-ID: <1.2@bench.example.org>\r\n"
        b'MIME-Version: 1.0\r\nContent-Type: text/plain; charset="utf-8"\r\n\r\n'
    )
    line = b"The quick brown fox jumps over the lazy dog, and then once more, all day.\r\n"
    rest = size - len(head)
    body = line * (rest // len(line) + 1)
    return head + body[: max(rest, 2) - 2] + b"\r\n"


def contender(
    name: str,
) -> Callable[[Callable[[Job], Iterator[Prepare]]], Callable[[Job], Iterator[Prepare]]]:
    """Enter a contender under `name`, ``who.what``."""

    def enter(function: Callable[[Job], Iterator[Prepare]]) -> Callable[[Job], Iterator[Prepare]]:
        CONTENDERS[name] = contextmanager(function)
        return function

    return enter


def find(name: str, job: Job) -> AbstractContextManager[Prepare]:
    """The contender of that name, ready for this job."""
    if job.ca_file:
        # Read by OpenSSL for every contender alike, whatever it lets its caller configure.
        os.environ["SSL_CERT_FILE"] = job.ca_file
    for module in MODULES:
        if name not in CONTENDERS:
            importlib.import_module(f"{__name__}.{module}")
    return CONTENDERS[name](job)


def needed(module: str, attribute: str | None = None) -> Any:
    """A module, or something in it. Raises Missing if it is not there."""
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise Missing(f"{error.name or module} is not there") from error
    if attribute is None:
        return found
    if not hasattr(found, attribute):
        raise Missing(f"{module}.{attribute} is not there yet")
    return getattr(found, attribute)
