"""Fixtures for the tests of the blocking client and transport, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator

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
