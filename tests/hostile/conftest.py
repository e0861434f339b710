"""Fixtures of the hostile tests, and how many examples the model tests try.

``HYPOTHESIS_PROFILE=nightly pytest tests/hostile/test_model.py`` tries many.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from mailbridge.testing import ScriptedServer

QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("quick", max_examples=150, deadline=None, suppress_health_check=QUIET)
settings.register_profile(
    "nightly", max_examples=20_000, deadline=None, suppress_health_check=QUIET
)


@pytest.fixture
def smtpd() -> Iterator[ScriptedServer]:
    """A server that offers everything: groups and chunks."""
    with ScriptedServer() as smtpd:
        yield smtpd
