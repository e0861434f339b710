"""Fixtures of the hostile tests, and how many examples the model tests try.

``HYPOTHESIS_PROFILE=nightly pytest tests/hostile/test_model.py`` tries many.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("quick", max_examples=150, deadline=None, suppress_health_check=QUIET)
settings.register_profile(
    "nightly", max_examples=20_000, deadline=None, suppress_health_check=QUIET
)
