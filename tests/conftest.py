"""Fixtures for all tests.

The directories under tests/ are namespace packages (no ``__init__.py``): import helpers by their
full name, ``from tests.interop.postfix import start_postfix``.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest
from hypothesis import HealthCheck, settings

import mailbridge

# Few examples at each run, so that the whole stays quick; no deadline on a busy machine.
settings.register_profile(
    "mailbridge", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("mailbridge")

pytest_plugins = ["pytester"]
if not entry_points(group="pytest11", name="mailbridge"):
    # A checkout that nobody has installed has no entry points.
    pytest_plugins.append("mailbridge.testing.plugin")


@pytest.fixture(autouse=True)
def _empty_pools() -> Iterator[None]:
    """No test finds, or leaves, a connection of another's in a pool."""
    yield
    mailbridge.close_pools()
    mailbridge.forget_relays()
