"""Fixtures for the tests of the blocking client and transport, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from mailbridge.testing import ScriptedServer, TestCA
from tests.sync.servers import LOCK_STEP


@pytest.fixture
def smtpd() -> Iterator[ScriptedServer]:
    """A server that offers neither PIPELINING nor CHUNKING: one command at a time."""
    with ScriptedServer(extensions=LOCK_STEP) as smtpd:
        yield smtpd


@pytest.fixture
def lmtpd() -> Iterator[ScriptedServer]:
    with ScriptedServer(extensions=LOCK_STEP, lmtp=True) as lmtpd:
        yield lmtpd


@pytest.fixture(scope="session")
def ca() -> Iterator[TestCA]:
    with TestCA() as ca:
        yield ca


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """A host name that is this machine's, which nobody can tell by its name."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        return resolve("127.0.0.1" if host == name else host, *args, **kwargs)

    name = "mail.example.test"
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return name
