"""An outbox in a Maildir: it survives reloads, and several processes may write to it.

A message is written to ``tmp`` and renamed into ``new``, so nobody ever sees half of one. What
is known of it besides its content (envelope, report) is in ``about``, a file of JSON each, which
is there before the message is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from ..envelope import Envelope
from ..report import DeliveryReport
from .captured import IDENTIFIER, Captured
from .memory import MAX_MESSAGES


class MaildirOutbox:
    """Keeps messages in the directory `path`, which is made when the first one comes.

    The directory is for its owner alone, and tells git to look away.
    """

    def __init__(self, path: str | os.PathLike[str], max_messages: int = MAX_MESSAGES) -> None:
        self.path = Path(path)
        self._max = max_messages
        # What was read from `about`, by id and the time of its last change.
        self._cache: dict[str, tuple[int, Captured]] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def add(self, envelope: Envelope, content: bytes) -> Captured:
        """Keep a message; the oldest are dropped where there are too many. Raises OSError."""
        self._make()
        captured = Captured.of(envelope, content)
        self._write_about(captured)
        self._write(content, captured.id, self.path / "new" / captured.id)
        files = self._files()
        self.delete(sorted(files)[: -self._max])
        return captured

    def settle(self, name: str, report: DeliveryReport) -> None:
        """Keep the report of a message that was also sent. Nothing if it is gone."""
        captured = self.get(name)
        if captured is not None:
            self._write_about(replace(captured, report=report.to_dict()))

    def entries(self) -> list[Captured]:
        """All messages, the newest first."""
        found = (self._about(name) for name in sorted(self._files(), reverse=True))
        return [captured for captured in found if captured is not None]

    def get(self, name: str) -> Captured | None:
        """The message of that id, None if there is none, or it is no id at all."""
        return self._about(name) if self._file(name) is not None else None

    def open(self, name: str) -> BinaryIO | None:
        """Its content, to be read and closed by the caller; None if there is none."""
        path = self._file(name)
        try:
            return None if path is None else path.open("rb")
        except FileNotFoundError:
            return None

    def delete(self, names: Iterable[str]) -> None:
        """Delete these. Those that are gone already are no error."""
        files = self._files()
        for name in names:
            if name in files:
                files[name].unlink(missing_ok=True)
                self._about_path(name).unlink(missing_ok=True)
                self._cache.pop(name, None)

    def token(self) -> str:
        """A text that is another one after every change, whichever process made it."""
        digest = hashlib.blake2s(digest_size=12)
        for name in sorted(self._files()):
            digest.update(f"{name} {self._changed(name)}\n".encode())
        return digest.hexdigest()

    # -- files

    def _make(self) -> None:
        for name in ("", "tmp", "new", "cur", "about"):
            (self.path / name).mkdir(mode=0o700, parents=not name, exist_ok=True)
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", "ascii")

    def _names(self) -> Iterator[tuple[str, Path]]:
        # A mail program moves what it has seen to "cur", and puts flags behind a colon.
        for directory in ("new", "cur"):
            with contextlib.suppress(FileNotFoundError):
                for entry in os.scandir(self.path / directory):
                    yield entry.name.partition(":")[0], Path(entry.path)

    def _files(self) -> dict[str, Path]:
        return {name: path for name, path in self._names() if IDENTIFIER.fullmatch(name)}

    def _file(self, name: str) -> Path | None:
        if not IDENTIFIER.fullmatch(name):
            return None
        path = self.path / "new" / name
        return path if path.is_file() else self._files().get(name)

    def _about_path(self, name: str) -> Path:
        return self.path / "about" / f"{name}.json"

    def _changed(self, name: str) -> int:
        try:
            return self._about_path(name).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _about(self, name: str) -> Captured | None:
        changed, kept = self._changed(name), self._cache.get(name)
        if kept is not None and kept[0] == changed:
            return kept[1]
        try:
            captured = Captured.from_dict(json.loads(self._about_path(name).read_bytes()))
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None  # Deleted by another process in this moment, or not written by us.
        self._cache[name] = changed, captured
        return captured

    def _write_about(self, captured: Captured) -> None:
        data = json.dumps(captured.to_dict()).encode()
        self._write(data, f"{captured.id}.json", self._about_path(captured.id))
        self._cache.pop(captured.id, None)

    def _write(self, data: bytes, name: str, target: Path) -> None:
        temporary = self.path / "tmp" / f"{name}.{os.getpid()}.{threading.get_ident()}"
        try:
            with temporary.open("xb") as file:
                file.write(data)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
