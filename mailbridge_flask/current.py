"""The application that is running: Flask's, or Quart's, which has a `current_app` of its own."""

from __future__ import annotations

import sys
from typing import Any

from flask import current_app, has_app_context


def current_or_none() -> Any:
    """The application itself, no proxy of it; None outside of one."""
    proxy: Any = current_app
    if has_app_context():
        return proxy._get_current_object()
    quart: Any = sys.modules.get("quart")  # Who has not imported it has no application of it.
    if quart is not None and quart.has_app_context():
        return quart.current_app._get_current_object()
    return None


def current() -> Any:
    """The application itself. Raises RuntimeError, as Flask does, outside of one."""
    app = current_or_none()
    if app is None:
        proxy: Any = current_app
        proxy._get_current_object()
    return app
