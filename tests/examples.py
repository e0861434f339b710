"""How many examples the property-based tests try: `HYPOTHESIS_PROFILE` is quick, normal or nightly.

The matrix is quick: each of its versions adds examples of its own to those of `make test`.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

SHARES = {"quick": 0.25, "normal": 1.0, "nightly": 100.0}
SHARE = SHARES[os.environ.get("HYPOTHESIS_PROFILE", "normal")]


def settings_for(count: int) -> settings:
    """Settings for what usually tries `count` examples; a busy machine takes its time."""
    slow = [HealthCheck.too_slow]
    return settings(max_examples=int(count * SHARE), deadline=None, suppress_health_check=slow)


def examples(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Try that many examples usually; when they are many more, for as long as they take."""

    def tried(test: Callable[..., None]) -> Callable[..., None]:
        test = settings_for(count)(test)
        return pytest.mark.timeout(0)(test) if SHARE > 1 else test

    return tried
