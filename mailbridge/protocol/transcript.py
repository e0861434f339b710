"""The last lines of a dialogue, for the errors that need them. Holds no secret and no content."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .command import Command
    from .reply import Reply

# Enough for greeting, EHLO, STARTTLS, AUTH and one transaction with some recipients.
TRANSCRIPT_LENGTH = 40
# Of a group with a thousand recipients, and of as many replies, the end.
MAX_LINES = 100


#: Told of each line of a dialogue: "C" or "S", and the lines as they may be shown.
Listener = Callable[[str, list[str]], None]


class Transcript:
    """A ring of commands and replies, turned into text only when somebody asks.

    A `listener` is told of each at once: "C" or "S", and its lines.
    """

    def __init__(self) -> None:
        self._entries: deque[Command | Reply] = deque(maxlen=TRANSCRIPT_LENGTH)
        self.listener: Listener | None = None

    def note(self, *entries: Command | Reply) -> None:
        """Remember commands that were sent, or a reply that came."""
        self._entries.extend(entries)
        if self.listener is not None:
            for entry in entries:
                self.listener(entry.side, entry.shown_lines())

    def lines(self) -> tuple[str, ...]:
        """``C: ...`` and ``S: ...`` lines, oldest first; control characters are escaped."""
        lines: list[str] = []
        for entry in self._entries:
            lines += (f"{entry.side}: {line}" for line in entry.shown_lines())
        return tuple(lines[-MAX_LINES:])
