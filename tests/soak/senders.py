"""Applications that send, each a process with threads that share transports, and that forks.

Every mail is written into the journal before it is sent, and its report when there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import random
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import mailbridge
import mailbridge.aio
from mailbridge import (
    AsyncTransport,
    DeliveryReport,
    Envelope,
    MailError,
    Relay,
    RetryPolicy,
    Transport,
)
from mailbridge.options import PoolOptions, Timeouts
from tests.soak.accounts import Journal, content_of
from tests.soak.servers import KINDS

T = TypeVar("T", Transport, AsyncTransport)

THREADS = 8
TASKS = 8
DEADLINES = (None, None, None, 0.05, 0.4)
CONNECTIONS = 3
TIMEOUTS = Timeouts(connect=2.0, reply=0.5, final_reply=0.8)
POLICIES = ("report", "report", "raise", "raise_if_all", "abort")
# A child that takes longer hangs.
CHILDS_TIME = 90


def transports(kind: type[T], ports: list[int], ca_file: str) -> list[T]:
    """One to each server, and some to several that try again."""
    relays = [
        Relay(
            host="127.0.0.1",
            port=port,
            tls="implicit" if server.tls else "none",
            ca_file=ca_file if server.tls else None,
            lmtp=server.lmtp,
            local_hostname="soak.example",
            timeouts=TIMEOUTS,
            pool=PoolOptions(
                max_connections=CONNECTIONS, max_messages=20, idle_timeout=2.0, breaker_pause=0.1
            ),
        )
        for server, port in zip(KINDS, ports, strict=True)
    ]
    again = RetryPolicy(tries=3, delay=0.01)
    return [
        *map(kind, relays),
        kind(relays[0], retry=again),
        kind(relays[:3], retry=again),
        kind([relays[4], relays[1]], round_robin=True),
        # These servers swallow a BDAT that they refuse.
        kind(relays[0].using(bdat_window=6)),
        kind(relays[4].using(bdat_window=3), retry=again),
    ]


class Application:
    """One process. `index` makes its mails' numbers its own."""

    def __init__(
        self, index: int, ports: list[int], ca_file: str, journal: Path, seed: int
    ) -> None:
        self._seed = f"{seed} {index}"
        self._numbers = itertools.count(index * 10**12)
        self._forks = itertools.count(1)
        self._base = index * 10**12
        self._journal = Journal(journal)
        self._ports, self._ca_file = ports, ca_file
        self._transports = transports(Transport, ports, ca_file)

    def run(self, seconds: float, *, forks: bool) -> None:
        """Send from several threads, and from children, until the time is over."""
        logging.getLogger("mailbridge").setLevel(logging.ERROR)
        before, open_before = _figures(), _descriptors()
        until = time.monotonic() + seconds
        jobs = [lambda name=n: self._send_on(f"thread {name}", until) for n in range(THREADS)]
        if forks:
            jobs.append(lambda: self._fork_on(until))
        jobs.append(lambda: asyncio.run(self._tasks(until)))
        memory: list[int] = []
        jobs.append(lambda: self._watch_memory(memory, seconds))
        threads = [threading.Thread(target=self._guarded, args=(job,)) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        mailbridge.close_pools()
        gc.collect()
        after = _figures()
        self._journal.note(
            end={
                "left open": sorted(_descriptors() - open_before),
                "threads left": after["threads"] - before["threads"],
                "KiB at each fifth": [before["KiB"], *memory],
                "forks": next(self._forks) - 1,
            }
        )
        self._journal.close()

    def _guarded(self, job: object) -> None:
        try:
            job()  # type: ignore[operator]
        except BaseException:
            self._journal.note(bug=traceback.format_exc())

    @staticmethod
    def _watch_memory(memory: list[int], seconds: float) -> None:
        for _ in range(5):
            time.sleep(seconds / 5)
            memory.append(_figures()["KiB"])

    def _send_on(self, name: str, until: float) -> None:
        rng = random.Random(f"{self._seed} {name}")
        while time.monotonic() < until:
            self._send_something(rng)

    def _send_something(self, rng: random.Random) -> None:
        transport = rng.choice(self._transports)
        match rng.randrange(6):
            case 0 | 1 | 2:
                self._send_one(rng, transport)
            case 3:
                with contextlib.suppress(MailError):
                    transport.open()
                for _ in range(rng.randrange(1, 5)):
                    self._send_one(rng, transport)
                transport.close()
            case 4:
                self._send_many(rng, transport, rng.randrange(1, 30), 1)
            case 5:
                self._send_many(rng, transport, rng.randrange(10, 90), rng.randrange(2, 4))
        if rng.random() < 0.1:
            time.sleep(rng.uniform(0, 0.5))  # so that connections are idle

    def _mail(self, rng: random.Random) -> tuple[int, Envelope]:
        number = next(self._numbers)
        to = [f"r{place}@example.com" for place in range(rng.choice((1, 1, 1, 2, 5)))]
        self._journal.note(sending=number, to=to)
        return number, Envelope("soak@example.org", to)

    def _send_one(self, rng: random.Random, transport: Transport) -> None:
        number, envelope = self._mail(rng)
        started = time.monotonic()
        try:
            report = transport.send(
                envelope,
                content_of(number),
                on_refused=rng.choice(POLICIES),
                deadline=rng.choice(DEADLINES),
            )
        except MailError as error:
            if error.report is None:
                raise
            report = error.report
        self._told(number, report, started)

    def _send_many(
        self, rng: random.Random, transport: Transport, count: int, concurrency: int
    ) -> None:
        numbers: list[int] = []

        def mails() -> Iterator[tuple[Envelope, bytes]]:
            for _ in range(count):
                number, envelope = self._mail(rng)
                numbers.append(number)
                yield envelope, content_of(number)

        started = time.monotonic()
        policy = rng.choice(POLICIES)
        reports = transport.send_many(mails(), on_refused=policy, concurrency=concurrency)
        for place, report in enumerate(reports):
            self._told(numbers[place], report, started)
            started = time.monotonic()

    def _told(self, number: int, report: DeliveryReport, started: float) -> None:
        states = {result.address: str(result.state) for result in report}
        seconds = round(time.monotonic() - started, 3)
        self._journal.note(report=number, states=states, seconds=seconds)

    # Tasks of an event loop, which are cancelled now and then.

    async def _tasks(self, until: float) -> None:
        shared = transports(AsyncTransport, self._ports, self._ca_file)
        try:
            await asyncio.gather(*(self._send_in_task(n, shared, until) for n in range(TASKS)))
        finally:
            await mailbridge.aio.close_pools()

    async def _send_in_task(self, n: int, shared: list[AsyncTransport], until: float) -> None:
        rng = random.Random(f"{self._seed} task {n}")
        while time.monotonic() < until:
            transport = rng.choice(shared)
            match rng.randrange(5):
                case 0:
                    with contextlib.suppress(MailError):
                        await transport.open()
                    for _ in range(rng.randrange(1, 5)):
                        await self._send_cancelled(rng, transport, 5.0)
                    await transport.close()
                case 1:
                    await self._send_many_in_task(rng, transport)
                case _:
                    longest = rng.choice((0.001, 0.01, 0.1, 5.0, 5.0, 5.0))
                    await self._send_cancelled(rng, transport, longest)

    async def _send_cancelled(
        self, rng: random.Random, transport: AsyncTransport, longest: float
    ) -> None:
        task = asyncio.create_task(self._send_one_in_task(rng, transport))
        done, _ = await asyncio.wait([task], timeout=rng.uniform(0, longest))
        if not done:
            task.cancel()
        await task

    async def _send_one_in_task(self, rng: random.Random, transport: AsyncTransport) -> None:
        number, envelope = self._mail(rng)
        policy, deadline = rng.choice(POLICIES), rng.choice(DEADLINES)
        started = time.monotonic()
        try:
            report = await transport.send(
                envelope, content_of(number), on_refused=policy, deadline=deadline
            )
        except (MailError, asyncio.CancelledError) as error:
            if getattr(error, "report", None) is None:
                if isinstance(error, MailError):
                    raise
                # It was not on its way yet.
                states = dict.fromkeys(envelope.recipients, "not_attempted")
                self._journal.note(report=number, states=states, seconds=0.0)
                return
            report = error.report
        self._told(number, report, started)

    async def _send_many_in_task(self, rng: random.Random, transport: AsyncTransport) -> None:
        mails = [self._mail(rng) for _ in range(rng.randrange(1, 40))]
        started = time.monotonic()
        contents = ((envelope, content_of(number)) for number, envelope in mails)
        policy, concurrency = rng.choice(POLICIES), rng.randrange(1, 4)
        places = iter(mails)
        reports = transport.send_many(contents, on_refused=policy, concurrency=concurrency)
        async for report in reports:
            self._told(next(places)[0], report, started)
            started = time.monotonic()

    # Children.

    def _fork_on(self, until: float) -> None:
        rng = random.Random(f"{self._seed} forks")
        while time.monotonic() < until:
            time.sleep(rng.uniform(0.05, 0.6))
            self._fork(rng.random(), next(self._forks))

    def _fork(self, seed: float, number: int) -> None:
        with warnings.catch_warnings():
            # Forking with threads is what is tried here.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            signal.alarm(CHILDS_TIME)
            status = 1
            try:
                self._numbers = itertools.count(self._base + number * 10**6)
                rng = random.Random(seed)
                for _ in range(rng.randrange(1, 4)):
                    self._send_something(rng)
                status = 0
            except BaseException:
                self._journal.note(bug=traceback.format_exc())
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != 0:
            self._journal.note(bug=f"child {number} ended with {status}")


def _figures() -> dict[str, int]:
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return {"KiB": pages * 4, "threads": threading.active_count()}
    return {"KiB": 0, "threads": threading.active_count()}


def _descriptors() -> set[str]:
    found = set()
    for path in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(OSError):  # that of the directory itself
            found.add(f"{path.name} {path.readlink()}")
    return found


def run(
    index: int, ports: list[int], ca_file: str, journal: Path, seed: int, seconds: float
) -> None:
    """The whole life of one application."""
    Application(index, ports, ca_file, journal, seed).run(seconds, forks=hasattr(os, "fork"))
