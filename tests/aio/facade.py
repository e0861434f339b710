"""The asyncio classes with the blocking ones' interface, so that the same tests run on both.

Each call runs the event loop until it is done; in between the loop stands still. Calls that are
made `side_by_side` are tasks of it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any, Self, TypeVar

import pytest

import mailbridge
from mailbridge import Relay, aio
from mailbridge.aio import AsyncLMTP, AsyncSMTP, AsyncTransport
from mailbridge.aio.pool import open_connection, pool_for
from tests.sync import support

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
        self._runner.get_loop()  # made now: what it opens is nobody's leak

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        loop = self._runner.get_loop()
        if loop.is_running():  # for somebody else, who is called side by side with this one
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result()
        return self._runner.run(coroutine)

    def side_by_side(self, works: Sequence[Callable[[], T]]) -> list[T]:
        async def main() -> list[T]:
            loop = asyncio.get_running_loop()
            with ThreadPoolExecutor(len(works)) as threads:
                return await asyncio.gather(*(loop.run_in_executor(threads, w) for w in works))

        return self.run(main())

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

    def pool_for(self, relay: Relay) -> Blocking:
        async def find() -> Any:
            return pool_for(relay)

        return Blocking(self, self.run(find()))

    def take_over(self, modules: Iterable[ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the asyncio side in place of the blocking one's names in these modules."""
        replacements = {
            "SMTP": self.smtp,
            "SMTP_SSL": self.smtp_ssl,
            "LMTP": self.lmtp,
            "Transport": self.transport,
            "close_pools": self.close_pools,
            "open_connection": self.open_connection,
            "pool_for": self.pool_for,
            "side_by_side": self.side_by_side,
        }
        for place in (mailbridge, support, *modules):
            for name, replacement in replacements.items():
                # mailbridge loads its names when they are asked for.
                if name in vars(place) or (place is mailbridge and hasattr(place, name)):
                    monkeypatch.setattr(place, name, replacement)

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


def collected(modules: Iterable[ModuleType], left_out: Collection[str]) -> dict[str, Any]:
    """The tests of these modules under new names, and their fixtures; none about threads."""
    found: dict[str, Any] = {}
    for module in modules:
        short = module.__name__.rpartition(".")[2]
        for name, value in vars(module).items():
            if type(value).__name__ == "FixtureFunctionDefinition":
                found[name] = value
            elif name.startswith("test_") and not (name in left_out or "thread" in name):
                found[f"{short}__{name.removeprefix('test_')}"] = value
    return found
