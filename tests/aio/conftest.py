"""Fixtures for the tests of the asyncio side: the blocking side's, and an event loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.aio.facade import LOOPS, Loop
from tests.sync.conftest import ca, elsewhere, lmtpd, smtpd

__all__ = ["ca", "elsewhere", "lmtpd", "smtpd"]


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    """An event loop of each kind. What is left open in it fails the test."""
    loop = Loop(request.param)
    yield loop
    loop.close()
