"""Fixtures of the hostile tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailbridge.testing import ScriptedServer


@pytest.fixture
def smtpd() -> Iterator[ScriptedServer]:
    """A server that offers everything: groups and chunks."""
    with ScriptedServer() as smtpd:
        yield smtpd
