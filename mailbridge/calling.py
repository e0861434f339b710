"""Calling what an application gives us, a function or a coroutine function, from either side."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable, iscoroutinefunction
from typing import Any

# asyncio and its threads are imported where they are needed: an application without a loop does
# without them.


def call(function: Callable[..., Any], *args: Any) -> Any:
    """What it returns, however long it takes. A coroutine has a loop and a thread of its own.

    Raises what it raises.
    """
    given = function(*args)
    if not isawaitable(given):
        return given
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _finish(given)).result()


async def acall(function: Callable[..., Any], *args: Any) -> Any:
    """What it returns. It is awaited; a blocking one runs in a thread. Raises what it raises."""
    import asyncio

    if iscoroutinefunction(function):
        return await function(*args)
    given = await asyncio.to_thread(function, *args)
    return await given if isawaitable(given) else given


async def _finish(given: Any) -> Any:
    return await given
