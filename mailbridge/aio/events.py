"""What a wire tells whoever runs dialogues over it."""

from __future__ import annotations

from ..errors import MailError


class Events:
    """Called by a `Wire` from the callbacks of its transport."""

    def _receive(self, data: bytes) -> None:
        """The server has said this, nothing at the end: the session is to know."""
        raise NotImplementedError

    def _heard(self) -> None:
        """The server has said something: is it what somebody waits for?"""
        raise NotImplementedError

    def _go_on(self) -> None:
        """Something else has happened: is it what somebody waits for?"""
        raise NotImplementedError

    def _fail(self, error: MailError) -> None:
        """Whoever waits, waits in vain."""
        raise NotImplementedError

    def _late(self) -> None:
        """A deadline has passed."""
        raise NotImplementedError

    def _leave_shortcut(self) -> None:
        """The session is to know what is on its way by a shortcut, before it ends."""
        raise NotImplementedError
