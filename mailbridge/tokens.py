"""Tokens from the application's `token_provider`: one call in flight for the whole process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any, NamedTuple

from . import forks
from .calling import acall, call
from .errors import MailError
from .protocol.session import Dialogue
from .registry import Registry
from .report import Phase
from .secret import Secret

# A token must outlive the way to the server and the login.
MARGIN = 30.0
# An application has one or two providers; one that makes them anew each time must not pile up.
MAX_PROVIDERS = 64


class Wait(NamedTuple):
    """Wait for what another thread or task of this process is doing."""

    future: Future[Any]

    def run(self, seconds: float | None = None) -> None:
        """Until it is done; whoever does it has time-outs. Raises TimeoutError."""
        self.future.result(seconds)

    async def arun(self) -> None:
        """The same, in an event loop."""
        import asyncio  # An application without a loop does without this.

        await asyncio.wrap_future(self.future)


class Tokens:
    """What one provider has given. Thread-safe; `claim` decides, the caller acts."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._under_way: Future[Exception | None] | None = None
        self._token: Secret | None = None
        self._expires = 0.0
        forks.watch(self)

    def claim(self, rejected: Secret | None) -> Secret | Future[Exception | None] | None:
        """A token that is good, a call under way to wait for, or None: call the provider now.

        After None, `settle` must be called, whatever happens.
        """
        with self.lock:
            # One that is newer than the one that was rejected is good for a try.
            good = rejected is not None or time.time() < self._expires - MARGIN
            if good and self._token is not None and self._token != rejected:
                return self._token
            if self._under_way is not None:
                return self._under_way
            self._under_way = Future()
            self._under_way.set_running_or_notify_cancel()
            return None

    def settle(self, answer: tuple[Secret, float] | None, error: Exception | None) -> None:
        """The provider has answered, or failed, or was interrupted (neither)."""
        with self.lock:
            if answer is not None:
                self._token, self._expires = answer
            future, self._under_way = self._under_way, None
        if future is not None:
            future.set_result(error)

    @property
    def latest(self) -> Secret | None:
        """The token that came last."""
        return self._token

    def after_fork(self) -> None:
        """In a forked child: nobody is under way."""
        self.lock, self._under_way = threading.Lock(), None


class Call:
    """The provider's call, for a driver to run. Afterwards it has an `answer`, or an `error`."""

    def __init__(self, provider: Callable[[], Any]) -> None:
        self._provider = provider
        self.answer: tuple[Secret, float] | None = None
        self.error: Exception | None = None

    def run(self, seconds: float | None = None) -> None:
        """Call it, however long it takes. A coroutine has an event loop and a thread of its own."""
        try:
            self.answer = _checked(call(self._provider))
        except Exception as exc:
            self.error = exc

    async def arun(self) -> None:
        """Await it; a blocking one runs in a thread."""
        try:
            self.answer = _checked(await acall(self._provider))
        except Exception as exc:
            self.error = exc


def token(provider: Callable[[], Any], rejected: Secret | None = None) -> Dialogue[Secret]:
    """A token of this provider's; another than `rejected`, if it has one.

    Raises MailError if the provider fails.
    """
    tokens = _tokens[provider]
    while True:
        held = tokens.claim(rejected)
        if isinstance(held, Secret):
            return held
        if held is not None:
            yield Wait(held)
            if (error := held.result()) is not None:
                raise _failed(error) from error
            if (latest := tokens.latest) is not None:
                return latest
            continue  # Whoever called it was interrupted.
        asked = Call(provider)
        try:
            yield asked
        finally:
            tokens.settle(asked.answer, asked.error)
        if asked.error is not None:
            raise _failed(asked.error) from asked.error
        if asked.answer is not None:
            return asked.answer[0]


def _checked(given: Any) -> tuple[Secret, float]:
    """Token and time of expiry, in seconds since 1970; 0 if it is to be asked for each time."""
    text, expires = given if isinstance(given, (tuple, list)) and len(given) == 2 else (given, 0)
    if isinstance(text, Secret):
        text = text.reveal()
    if not isinstance(text, str) or not text:
        raise TypeError(f"it returned {type(text).__name__}, not a token or (token, expires)")
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("it returned a text that is no token")
    if isinstance(expires, datetime):
        # google-auth's are in UTC and do not say so.
        expires = (expires if expires.tzinfo else expires.replace(tzinfo=UTC)).timestamp()
    return Secret(text), float(expires or 0)


def _failed(error: Exception) -> MailError:
    # Of the text only the kind is shown: it may hold what the provider was given.
    failed = MailError(f"token_provider failed: {type(error).__name__}")
    failed.advice = "The exception that it raised is the cause of this one. No mail was sent"
    failed.phase = Phase.AUTH
    failed.retryable = failed.session_usable = True
    return failed


_tokens: Registry[Callable[[], Any], Tokens] = Registry(Tokens, MAX_PROVIDERS)


def forget_tokens() -> None:
    """Ask every provider anew."""
    _tokens.forget()
