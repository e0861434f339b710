"""Fixtures for the tests of the asyncio side: the blocking side's, and an event loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.aio.facade import LOOPS, Loop
from tests.sync.conftest import ca, elsewhere, lmtpd, smtpd

__all__ = ["ca", "elsewhere", "lmtpd", "smtpd"]

# Tests of the blocking side, by their modules, that are not run on every loop: what they are about
# happens in the dialogue. Sockets, TLS, time-outs and what is lost on the way are the loop's. The
# hostile ones would take as much time again for the same wire.
ON_ONE_LOOP = {
    *("delivery", "leaving", "model", "processes"),
    *("addresses", "auth", "binary", "content", "deadline", "dkim", "esmtp", "hooks", "logins"),
    *("recipients", "replies", "secrets"),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have each test run on the loops that it is for."""
    if "loop" in metafunc.fixturenames:
        subject = metafunc.function.__module__.rpartition(".test_")[2]
        loops = LOOPS[:1] if subject in ON_ONE_LOOP else LOOPS
        metafunc.parametrize("loop", loops, indirect=True)


@pytest.fixture
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    """An event loop of each kind. What is left open in it fails the test."""
    loop = Loop(request.param)
    yield loop
    loop.close()
