"""Secrets that show nowhere by accident."""

from __future__ import annotations


class Secret:
    """A text that shows in no repr, str, log or traceback. `reveal()` gives it back."""

    __slots__ = ("_text",)

    def __init__(self, text: str | Secret) -> None:
        self._text: str = text.reveal() if isinstance(text, Secret) else text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


class Hidden(bytes):
    """Octets that show in no repr, so that no traceback with locals gives them away."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"
