"""Output: what is to be written, and how far that has come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from .command import Command, Content
from .content import PIECE


class Sent:
    """A command on its way. `end` is the place of its last octet in the stream, once known."""

    __slots__ = ("ahead", "command", "end", "pieces")

    def __init__(self, command: Command) -> None:
        self.command = command
        self.end: int | None = None
        self.pieces: Iterator[bytes] = iter(())
        self.ahead: bytes | None = None
        if isinstance(command, Content):
            self.pieces = iter(command.pieces)
            self.ahead = next(self.pieces, b"")

    def next_piece(self) -> bytes:
        """The next piece of a content; `ahead` is None once it was the last."""
        piece, self.ahead = self.ahead, next(self.pieces, None)
        return piece or b""


class Output:
    """A queue of commands and octets. Content is drawn from it piece by piece."""

    def __init__(self) -> None:
        self._queue: deque[bytes | Sent] = deque()
        # Octets taken out to be written, handed to the kernel in the call under way, and written.
        self._taken = self._sending = self._sent = 0

    def __bool__(self) -> bool:
        return bool(self._queue)

    def put(self, item: Sent) -> None:
        """Queue a command; one without octets of its own has left already."""
        if item.command.silent:
            item.end = self._taken
        else:
            self._queue.append(item)

    def put_raw(self, data: bytes) -> None:
        """Queue octets that are no command."""
        self._queue.append(data)

    def take(self) -> list[bytes]:
        """The next octets to write, about PIECE at the most; empty if there are none."""
        chunks: list[bytes] = []
        size = 0
        while self._queue and size < PIECE:
            head = self._queue.popleft()
            chunk = self._octets(head)
            if chunk:
                chunks.append(chunk)
                size += len(chunk)
        return chunks

    def _octets(self, item: bytes | Sent) -> bytes:
        if isinstance(item, bytes):
            self._taken += len(item)
            return item
        content = isinstance(item.command, Content)
        piece = item.next_piece() if content else item.command.wire
        self._taken += len(piece)
        if content and item.ahead is not None:
            self._queue.appendleft(item)
        else:
            item.end = self._taken
        return piece

    @property
    def at_content(self) -> bool:
        """True if the next octets are content."""
        head = self._queue[0] if self._queue else None
        return isinstance(head, Sent) and isinstance(head.command, Content)

    def clear(self) -> None:
        """Drop what is not taken yet."""
        self._queue.clear()

    def sending(self, octets: int) -> None:
        """`octets` are about to be handed to the kernel. From here on they may have left."""
        self._sending = self._sent + octets

    def sent(self, octets: int) -> None:
        """The kernel took `octets`, and no more than those."""
        self._sent += octets
        self._sending = self._sent

    def has_left(self, item: Sent) -> bool:
        """True if the last octet of `item` may have left."""
        return item.end is not None and item.end <= max(self._sent, self._sending)
