"""Fixtures for all tests.

The directories under tests/ are namespace packages (no ``__init__.py``): import helpers by their
full name, ``from tests.interop.postfix import start_postfix``.
"""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest
from hypothesis import settings

import mailbridge
from tests.examples import settings_for

# Few examples at each run, so that the whole stays quick.
settings.register_profile("mailbridge", settings_for(60))
settings.load_profile("mailbridge")

pytest_plugins = ["pytester"]
if not entry_points(group="pytest11", name="mailbridge"):
    # A checkout that nobody has installed has no entry points.
    pytest_plugins.append("mailbridge.testing.plugin")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: some tests wait for time-outs to pass."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """Modules and tests stay to the end: no garbage collection need look at them again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port where nobody listens, and that nobody else gets."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def ipv6_loopback() -> str:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"the loopback has no IPv6 here: {error}")
    return "::1"


@pytest.fixture(autouse=True)
def _empty_pools() -> Iterator[None]:
    """No test finds, or leaves, a connection of another's in a pool."""
    yield
    mailbridge.close_pools()
    mailbridge.forget_relays()
