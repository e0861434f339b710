"""Output: what is to be written, and how far that has come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from .command import Command, Content
from .content import PIECE


class Output:
    """A queue of commands. Content is drawn from it piece by piece."""

    def __init__(self) -> None:
        self._queue: deque[Command] = deque()
        # Octets taken out to be written; written; and those that may have left: the kernel has
        # them, or is about to be given them.
        self._taken = self._sent = self._left = 0

    def __bool__(self) -> bool:
        return bool(self._queue)

    def put(self, commands: Iterable[Command]) -> None:
        """Queue commands; one without octets of its own has left already."""
        for command in commands:
            if command.silent:
                command.end = self._taken
            else:
                command.end = None
                self._queue.append(command)

    def take(self) -> bytes:
        """The next octets to write, about PIECE at the most; empty if there are none.

        Content comes piece by piece. What follows its end is taken with that, for one write.
        """
        queue, size = self._queue, 0
        chunks: list[bytes] = []
        while queue and size < PIECE:
            command = queue[0]
            chunk = command.take_piece()
            size += len(chunk)
            chunks.append(chunk)
            if command.ahead is None:
                queue.popleft()
                command.end = self._taken + size
        self._taken += size
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    @property
    def next_content(self) -> Content | None:
        """The content that the next octets are of, if they are content."""
        head = self._queue[0] if self._queue else None
        return head if isinstance(head, Content) else None

    def clear(self) -> None:
        """Drop what is not taken yet."""
        self._queue.clear()

    def sending(self, octets: int) -> None:
        """`octets` are about to be handed to the kernel. From here on they may have left."""
        self._left = self._sent + octets

    def sent(self, octets: int) -> None:
        """The kernel took `octets`, and no more than those."""
        self._sent = self._left = self._sent + octets

    def has_left(self, command: Command, behind: int = 0) -> bool:
        """True if the last octet of `command`, but for those `behind`, may have left."""
        return command.end is not None and command.end - behind <= self._left
