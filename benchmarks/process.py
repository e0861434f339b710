"""Helper processes: a JSON line in, a JSON line out. They end with their standard input."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parent.parent


class HelperError(RuntimeError):
    """A helper process ended or took too long; the message ends with what it wrote to stderr."""


class Child:
    """A helper process. `hello` is the first line that it wrote.

    The process runs where this one is pinned to (`pin`). Raises HelperError if it does not start.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        timeout: float = 30,
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            text=True,
        )
        try:
            self.hello = self._read(timeout)
        except BaseException:
            self.stop()
            raise

    @classmethod
    def module(cls, name: str, options: Mapping[str, Any], **kwargs: Any) -> Self:
        """Run ``python -m benchmarks.NAME`` with options as JSON."""
        command = (sys.executable, "-m", f"benchmarks.{name}", json.dumps(options))
        return cls(command, **kwargs)

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._process.pid

    def ask(self, question: Mapping[str, Any], timeout: float = 300) -> dict[str, Any]:
        """Put a question and return the answer. Raises HelperError if there is none in time."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise HelperError(f"the helper is gone: {self._said()}") from error
        return self._read(timeout)

    def stop(self) -> None:
        """End the process, by force if it does not end by itself."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _read(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        timer = threading.Timer(timeout, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise HelperError(f"no answer within {timeout} s: {self._said()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-2000:].decode("utf-8", "replace").strip()


def say(answer: Mapping[str, Any]) -> None:
    """In a helper: write one line for the other side."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def answer_from_loop(loop: Any, answer: Callable[[dict[str, Any]], None]) -> None:
    """In a helper on an event loop: call `answer` for each question, stop the loop at the end."""
    held = bytearray()

    def readable() -> None:
        data = os.read(0, 65536)
        if not data:
            loop.stop()
            return
        held.extend(data)
        while b"\n" in held:
            line, _, rest = bytes(held).partition(b"\n")
            held[:] = rest
            answer(json.loads(line))

    loop.add_reader(0, readable)


def pin() -> int | None:
    """Keep this process, and those that it starts, on one core, which is returned.

    Waking up another core costs more than most of what is measured here, and differs each time.
    None where the system has no such thing.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core
