"""The asyncio classes with the blocking ones' interface, so that the same tests run on both.

Each call runs the event loop until it is done; in between the loop stands still.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Coroutine, Iterator
from typing import Any, Self, TypeVar

from mailbridge import Relay, aio
from mailbridge.aio import AsyncLMTP, AsyncSMTP, AsyncTransport
from mailbridge.aio.pool import open_connection

T = TypeVar("T")
LOOPS = ["asyncio"]
if sys.platform != "win32":
    LOOPS.append("uvloop")


class Loop:
    """One event loop, and what runs in it. Close it at the end."""

    def __init__(self, kind: str) -> None:
        factory = None
        if kind == "uvloop":
            import uvloop

            factory = uvloop.new_event_loop
        self._runner = asyncio.Runner(loop_factory=factory)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def close_pools(self) -> None:
        self.run(self._close_pools())

    async def _close_pools(self) -> None:
        await aio.close_pools()
        await asyncio.sleep(0)

    def close(self) -> None:
        self._runner.close()

    # What takes the place of mailbridge's names.

    def transport(self, *args: Any, **kwargs: Any) -> Blocking:
        return Blocking(self, AsyncTransport(*args, **kwargs))

    def smtp(self, *args: Any, **kwargs: Any) -> Blocking:
        return self._client(AsyncSMTP, *args, **kwargs)

    def smtp_ssl(self, *args: Any, **kwargs: Any) -> Blocking:
        return self._client(AsyncSMTP, *args, implicit_tls=True, **kwargs)

    def lmtp(self, host: str = "", port: int = 2003, *args: Any, **kwargs: Any) -> Blocking:
        return self._client(AsyncLMTP, host, port, *args, **kwargs)

    def open_connection(self, relay: Relay) -> Blocking:
        return Blocking(self, self.run(open_connection(relay)))

    def _client(self, cls: type[AsyncSMTP], host: str = "", *args: Any, **kwargs: Any) -> Blocking:
        client = Blocking(self, cls(host, *args, **kwargs))
        if host:
            client.connect(host, args[0] if args else kwargs.get("port", 0))
        return client


class Blocking:
    """An object whose coroutines are run, and whose asynchronous iterators are iterated."""

    def __init__(self, loop: Loop, inner: Any) -> None:
        self.__dict__.update(_loop=loop, _inner=inner)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if inspect.ismethod(value):
            return functools.partial(self._call, value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._inner, name, value)

    def __enter__(self) -> Self:
        self._call(self._inner.__aenter__)
        return self

    def __exit__(self, *exc: object) -> None:
        self._call(self._inner.__aexit__, *exc)

    def __repr__(self) -> str:
        return repr(self._inner)

    def _call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        if inspect.isasyncgen(result):
            return self._each(result)
        if inspect.iscoroutine(result):
            return self._loop.run(result)
        # What a call has left to the loop's next turn is done, as it is between two tasks.
        self._loop.run(asyncio.sleep(0))
        return result

    def _each(self, results: Any) -> Iterator[Any]:
        try:
            while (result := self._loop.run(_next(results))) is not None:
                yield result
        finally:
            self._loop.run(results.aclose())


async def _next(results: Any) -> Any:
    return await anext(results, None)
