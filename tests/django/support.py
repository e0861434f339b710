"""What several of these tests need."""

from __future__ import annotations

from typing import Any


class Reporter:
    """Stands in for Django's exception page."""

    def __init__(self, request: Any, *exc_info: Any, is_email: bool = False) -> None:
        self.exc_info = exc_info

    def get_traceback_text(self) -> str:
        return repr(self.exc_info[1])

    def get_traceback_html(self) -> str:
        return self.get_traceback_text()
