"""Tasks: many at once, and cancelled ones. No connection is left in a state that nobody knows."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

import mailbridge
from mailbridge import (
    AsyncSMTP,
    AsyncTransport,
    Envelope,
    PoolOptions,
    Relay,
)
from mailbridge.aio.pool import AsyncPool, close_pools, pool_for
from mailbridge.protocol.lane import Lane
from mailbridge.report import State
from mailbridge.testing import ScriptedServer, TestCA
from tests.aio.facade import Loop
from tests.sync.servers import LOCK_STEP, Peer, RawServer
from tests.sync.support import CC, CONTENT, ENVELOPE, SENDER, TO, verbs

ME = "127.0.0.1"
BEFORE, AFTER = "before@example.com", "after@example.com"
USERS = {"user": "s3cret pass"}


def relay(server: ScriptedServer, **options: Any) -> Relay:
    options = {"tls": "none", "timeout": 5, "local_hostname": "me", **options}
    return Relay.from_options(host=server.host, port=server.port, **options)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - of the server's, in another thread
            await asyncio.sleep(0.001)


def state_of(pool: AsyncPool) -> tuple[int, int]:
    return pool._lent, len(pool._queue)


# -- many tasks


def test_a_thousand_tasks_share_ten_connections(loop: Loop) -> None:
    async def main() -> None:
        sender = AsyncTransport(relay(smtpd, max_connections=10, max_messages=10_000))
        reports = await asyncio.gather(
            *(sender.send(Envelope(SENDER, [f"{n}@example.com"]), CONTENT) for n in range(1000))
        )
        assert all(report.accepted for report in reports)
        assert state_of(pool_for(sender.relay)) == (0, 0)

    with ScriptedServer() as smtpd:
        loop.run(main())
        assert smtpd.connections <= 10
        received = sorted(message.recipients[0] for message in smtpd.messages)
        assert received == sorted(f"{n}@example.com" for n in range(1000))


def test_who_waits_longest_is_served_first(loop: Loop) -> None:
    async def main() -> list[int]:
        pool = AsyncPool(relay(smtpd, max_connections=1))
        first, served = await pool.acquire(), []

        async def wait(number: int) -> None:
            lease = await pool.acquire()
            served.append(number)
            lease.give_back()

        waiting = [asyncio.create_task(wait(number)) for number in range(5)]
        await until(lambda: len(pool._queue) == 5)
        waiting[1].cancel()
        first.give_back()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert state_of(pool) == (0, 0)
        pool.close()
        return served

    with ScriptedServer() as smtpd:
        assert loop.run(main()) == [0, 2, 3, 4]


def test_waiting_for_a_connection_ends(loop: Loop) -> None:
    async def main() -> None:
        options = PoolOptions(max_connections=1, wait_timeout=0.05)
        shared = relay(smtpd).using(pool=options)
        async with AsyncTransport(shared):
            with pytest.raises(mailbridge.PoolTimeout) as caught:
                await AsyncTransport(shared).send(ENVELOPE, CONTENT)
        assert caught.value.report.not_attempted == (TO,)
        assert state_of(pool_for(shared)) == (0, 0)

    with ScriptedServer() as smtpd:
        loop.run(main())


def test_who_forgets_to_close_takes_no_place_for_ever(loop: Loop) -> None:
    async def main() -> None:
        only = relay(smtpd, max_connections=1, pool_timeout=0.1)
        for _ in range(3):
            sender = AsyncTransport(only)
            await sender.open()
            await sender.send(ENVELOPE, CONTENT)
            connection = sender.connection
            assert connection is not None
            del sender
            gc.collect()
        assert len(smtpd.messages) == 3
        assert pool_for(only).unused
        assert not connection.open

    with ScriptedServer() as smtpd:
        loop.run(main())


@pytest.mark.parametrize("endless", [None, float("inf")])
def test_waiting_for_a_connection_without_end(loop: Loop, endless: float | None) -> None:
    async def main() -> None:
        options = PoolOptions(max_connections=1, wait_timeout=endless)  # type: ignore[arg-type]
        shared = relay(smtpd).using(pool=options)
        async with AsyncTransport(shared):
            waiting = asyncio.create_task(AsyncTransport(shared).send(ENVELOPE, CONTENT))
            await until(lambda: waiting.done() or state_of(pool_for(shared)) == (1, 1))
        assert (await waiting).accepted == (TO,)
        async with AsyncTransport(shared):
            with pytest.raises(mailbridge.PoolTimeout, match=r"deadline of 0\.05 s"):
                await AsyncTransport(shared, deadline=0.05).send(ENVELOPE, CONTENT)

    with ScriptedServer() as smtpd:
        loop.run(main())


def test_one_at_a_time_over_a_kept_connection(loop: Loop) -> None:
    """Tasks that share an open transport take turns, and a batch beside them is in no one's way."""

    async def main() -> None:
        async with AsyncTransport(relay(smtpd)) as sender:

            async def batch() -> list[Any]:
                return [r async for r in sender.send_many([(ENVELOPE, CONTENT)] * 10)]

            sends = [sender.send(ENVELOPE, CONTENT) for _ in range(10)]
            results = await asyncio.gather(*sends, batch())
        assert len(results[-1]) == 10

    with ScriptedServer() as smtpd:
        loop.run(main())
        assert len(smtpd.messages) == 20
        assert smtpd.connections <= 2


def test_tasks_that_share_a_session_take_turns(loop: Loop) -> None:
    async def main() -> None:
        async with AsyncSMTP(smtpd.host, smtpd.port, "me", timeout=5) as smtp:
            await asyncio.gather(*(smtp.sendmail(SENDER, [TO], CONTENT) for _ in range(20)))

    with ScriptedServer() as smtpd:
        loop.run(main())
        assert len(smtpd.messages) == 20
        assert smtpd.connections == 1


def test_each_loop_has_a_pool_of_its_own() -> None:
    with ScriptedServer() as smtpd:
        for number in (1, 2):
            asyncio.run(AsyncTransport(relay(smtpd)).send(ENVELOPE, CONTENT))
            assert smtpd.connections == number


def test_connections_are_closed_with_the_loop(loop: Loop) -> None:
    """At its end each gets its QUIT, and no transport is left (that would be a warning)."""
    with ScriptedServer() as smtpd:
        loop.run(AsyncTransport(relay(smtpd)).send(ENVELOPE, CONTENT))
        loop.close()
        mailbridge.close_pools()
        for _ in range(1000):
            if "QUIT" in smtpd.transcript:
                break
            socket.create_connection((smtpd.host, smtpd.port)).close()
        assert "QUIT" in smtpd.transcript


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_forked_child_leaves_the_parents_connections_alone(loop: Loop) -> None:
    def idle_in_a_child(pool: AsyncPool) -> int:
        child = os.fork()
        if child == 0:
            os._exit(len(pool._idle))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    async def main() -> None:
        sender = AsyncTransport(relay(smtpd))
        await sender.send(ENVELOPE, CONTENT)
        pool = pool_for(sender.relay)
        assert (len(pool._idle), idle_in_a_child(pool)) == (1, 0)
        assert (await sender.send(ENVELOPE, CONTENT)).accepted == (TO,)

    with ScriptedServer() as smtpd:
        loop.run(main())
        assert smtpd.connections == 1


def test_mails_from_an_asynchronous_source(loop: Loop) -> None:
    async def source() -> AsyncIterator[tuple[Envelope, bytes]]:
        for to in (TO, CC, "no such address", AFTER):
            await asyncio.sleep(0)
            yield ENVELOPE if to == TO else Envelope(SENDER, [to]), CONTENT

    async def main() -> list[tuple[str, ...]]:
        sender = AsyncTransport(relay(smtpd))
        reports: list[tuple[str, ...]] = []
        try:
            async for report in sender.send_many(source()):
                reports.append(report.accepted)
        except mailbridge.AddressError:
            reports.append(("the source's error",))
        assert state_of(pool_for(sender.relay)) == (0, 0)
        return reports

    with ScriptedServer() as smtpd:
        assert loop.run(main()) == [(TO,), (CC,), ("the source's error",)]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_batch_that_is_left_early_gives_everything_back(loop: Loop, concurrency: int) -> None:
    async def main() -> None:
        sender = AsyncTransport(relay(smtpd))
        mails = [(Envelope(SENDER, [f"{n}@example.com"]), CONTENT) for n in range(200)]
        reports = sender.send_many(iter(mails), concurrency=concurrency)
        async for report in reports:
            assert report.accepted
            break
        await reports.aclose()  # type: ignore[attr-defined]
        assert state_of(pool_for(sender.relay)) == (0, 0)
        assert (await sender.send(Envelope(SENDER, [AFTER]), CONTENT)).accepted == (AFTER,)

    with ScriptedServer() as smtpd:
        loop.run(main())
        assert [m.recipients for m in smtpd.messages].count((AFTER,)) == 1


def test_a_batch_that_goes_on_elsewhere_leaves_no_connection_open(loop: Loop) -> None:
    async def main() -> None:
        sender = AsyncTransport([relay(first), relay(second)])
        mails = [(ENVELOPE, CONTENT) for _ in range(3)]
        reports = [report async for report in sender.send_many(mails)]
        assert all(report.all_accepted for report in reports)
        await close_pools()
        await until(lambda: "C: QUIT" in first.transcript)

    with ScriptedServer() as first, ScriptedServer() as second:
        first.drop("RCPT", times=1)
        loop.run(main())
        assert first.connections == 2


# -- cancelled


async def cancelled_at(line: int, sender: AsyncTransport, to: str) -> tuple[bool, Any]:
    """Cancel a send when the dialogue's line of that number was seen. Was it, and what was told?"""
    seen = 0
    task: asyncio.Task[Any]

    def listen(side: str, lines: list[str]) -> None:
        nonlocal seen
        seen += 1
        if seen == line:
            task.cancel()

    sender.listener = listen
    task = asyncio.create_task(sender.send(Envelope(SENDER, [to]), CONTENT))
    report = None
    try:
        report = await task
    except asyncio.CancelledError as cancelled:
        report = getattr(cancelled, "report", None)
    sender.listener = None
    return seen >= line, report


def steps(
    mode: str, ca: TestCA, extensions: tuple[str, ...]
) -> tuple[ScriptedServer, dict[str, Any]]:
    if mode == "none":
        return ScriptedServer(extensions=extensions), {}
    context = ca.server_context(ME)
    smtpd = ScriptedServer(
        extensions=extensions, tls_context=context, implicit_tls=mode == "implicit", users=USERS
    )
    login = {"username": "user", "password": USERS["user"]}
    return smtpd, {"tls": mode, "ca_file": ca.ca_file, **login}


@pytest.mark.parametrize("extensions", [LOCK_STEP, ("PIPELINING",), ("PIPELINING", "CHUNKING")])
@pytest.mark.parametrize("mode", ["none", "starttls", "implicit"])
def test_cancelled_at_each_line(
    loop: Loop, mode: str, ca: TestCA, extensions: tuple[str, ...]
) -> None:
    """Wherever it is cancelled: what is told is true, and the next mail goes out, once, alone."""

    told: dict[str, State | None] = {}

    async def main(server: ScriptedServer, options: dict[str, Any]) -> None:
        sender = AsyncTransport(relay(server, **options))
        more = True
        while more:
            to, after = f"{len(told)}@example.com", f"{AFTER}.{len(told)}"
            more, report = await cancelled_at(len(told) + 1, sender, to)
            told[to] = None if report is None else report.recipients[to].state
            assert state_of(pool_for(sender.relay)) == (0, 0)
            assert (await sender.send(Envelope(SENDER, [after]), CONTENT)).accepted == (after,)
            await close_pools()

    server, options = steps(mode, ca, extensions)
    with server:
        loop.run(main(server, options))
    # Only now has the server made up its mind about what was on its way to it.
    received = [to for message in server.messages for to in message.recipients]
    assert len(received) == len(set(received))
    assert len([to for to in received if to.startswith(AFTER)]) == len(told) > 4
    for to, state in told.items():
        assert (state is State.ACCEPTED) <= (to in received), to
        assert (to in received) <= (state in (State.ACCEPTED, State.IN_DOUBT)), to


@pytest.mark.parametrize("point", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT"])
def test_cancelled_while_the_server_is_silent(loop: Loop, point: str) -> None:
    async def main(smtpd: ScriptedServer) -> None:
        sender = AsyncTransport(relay(smtpd))
        smtpd.silent(point, times=1)
        task = asyncio.create_task(sender.send(ENVELOPE, CONTENT))
        heard = {"GREETING": "client connected", "CONTENT": "DATA"}.get(point, point)
        if point == "GREETING":
            await until(lambda: smtpd.connections == 1)
        else:
            await until(lambda: f"C: {heard}" in smtpd.transcript)
        if point == "CONTENT":
            await until(lambda: "354" in smtpd.transcript)
            await until(lambda: f"<{len(CONTENT)} octets of content>" in smtpd.transcript)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        report = getattr(caught.value, "report", None)
        if point in ("MAIL", "RCPT", "DATA"):
            assert report.not_attempted == (TO,)
        if point == "CONTENT":
            assert report.in_doubt == (TO,)
            assert report.relay == sender.relay.address
        assert state_of(pool_for(sender.relay)) == (0, 0)
        assert (await sender.send(Envelope(SENDER, [AFTER]), CONTENT)).accepted == (AFTER,)

    with ScriptedServer(extensions=LOCK_STEP) as smtpd:
        loop.run(main(smtpd))
        assert [m.recipients for m in smtpd.messages if m.recipients == (AFTER,)] == [(AFTER,)]


def test_cancelled_in_the_middle_of_a_large_content(loop: Loop) -> None:
    """Before its last octet has left: nobody was sent anything, and it says so."""

    def dialogue(peer: Peer) -> None:
        peer.until("DATA")
        peer.say("354 go on")
        peer.wait_for_close()

    async def main() -> None:
        sender = AsyncTransport(f"smtp://{server.host}:{server.port}?tls=none&timeout=20")
        started = asyncio.Event()
        sender.listener = lambda side, lines: started.set() if "content" in str(lines) else None
        task = asyncio.create_task(sender.send(ENVELOPE, (b"x" * 70 + b"\r\n") * 300_000))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.report.not_attempted == (TO,)  # type: ignore[attr-defined]

    with RawServer(dialogue, receive_buffer=4096) as server:
        loop.run(main())


@pytest.mark.parametrize("answered", [False, True])
def test_cancelled_in_the_lane_of_a_batch(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    """What is on its way is told, also if its answer has come and the task does not know it yet."""
    tasks: list[asyncio.Task[None]] = []
    came = threading.Event()
    way = Lane.consent

    def consent(lane: Lane, said: bytes) -> bool:
        consents = way(lane, said)
        if said.startswith(b"251"):
            tasks[0].cancel()
        return consents

    monkeypatch.setattr(Lane, "consent", consent)

    def dialogue(peer: Peer) -> None:
        peer.until("MAIL", ehlo=("250-raw.example", "250 PIPELINING"))
        group = "250 Ok", "250 Ok", "354 go on"
        peer.line(), peer.line()
        peer.say(*group)
        for _ in range(4):
            peer.read_content()
            peer.line(), peer.line(), peer.line()
            if len(peer.commands) < 3 * 5 + 1:
                peer.say("250 Ok", *group)
        came.set()
        if answered:
            peer.say("251 Ok", *group)
        peer.wait_for_close()

    async def main() -> tuple[int, Any]:
        sender = AsyncTransport(f"smtp://{server.host}:{server.port}?tls=none&timeout=20")
        accepted = 0

        async def send() -> None:
            nonlocal accepted
            async for report in sender.send_many([(ENVELOPE, CONTENT)] * 6):
                accepted += len(report.accepted)

        tasks.append(asyncio.create_task(send()))
        if not answered:
            await until(came.is_set)
            tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await tasks[0]
        assert state_of(pool_for(sender.relay)) == (0, 0)
        return accepted, getattr(caught.value, "report", None)

    with RawServer(dialogue) as server:
        accepted, report = loop.run(main())
    assert accepted == 3
    assert (report.accepted if answered else report.in_doubt) == (TO,)


def test_cancelled_while_it_waits_for_a_place(loop: Loop) -> None:
    async def main() -> None:
        sender = AsyncTransport(relay(smtpd, max_connections=1))
        pool = pool_for(sender.relay)
        lease = await pool.acquire()
        task = asyncio.create_task(sender.send(ENVELOPE, CONTENT))
        await until(lambda: len(pool._queue) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert state_of(pool) == (1, 0)
        lease.give_back()
        assert state_of(pool) == (0, 0)

    with ScriptedServer() as smtpd:
        loop.run(main())
        assert "MAIL" not in verbs(smtpd)


def test_a_place_that_is_given_to_a_cancelled_task_goes_on(loop: Loop) -> None:
    """Given and cancelled in the same turn of the loop: the place is not lost."""

    async def main() -> None:
        pool = AsyncPool(relay(smtpd, max_connections=1))
        lease = await pool.acquire()
        first: Coroutine[Any, Any, Any] = pool.acquire()
        task = asyncio.create_task(first)
        await until(lambda: len(pool._queue) == 1)
        lease.give_back()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert state_of(pool) == (0, 0)
        (await pool.acquire()).give_back()
        pool.close()

    with ScriptedServer() as smtpd:
        loop.run(main())


def test_a_time_out_of_the_callers_own(loop: Loop) -> None:
    """`asyncio.timeout` is a cancellation: TimeoutError, with the report on its cause."""

    async def main() -> None:
        sender = AsyncTransport(relay(smtpd))
        smtpd.silent("CONTENT", times=1)
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(1):
                await sender.send(ENVELOPE, CONTENT)
        assert caught.value.__cause__ is not None
        assert caught.value.__cause__.report.in_doubt == (TO,)  # type: ignore[attr-defined]

    with ScriptedServer(extensions=LOCK_STEP) as smtpd:
        loop.run(main())


def test_a_session_that_was_cancelled_in_a_transaction_is_closed(loop: Loop) -> None:
    async def main() -> None:
        smtp = await AsyncSMTP(smtpd.host, smtpd.port, "me", timeout=5)
        smtpd.silent("RCPT", times=1)
        task = asyncio.create_task(smtp.sendmail(SENDER, [TO], CONTENT))
        await until(lambda: "C: RCPT" in smtpd.transcript)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not smtp.is_connected
        with pytest.raises(mailbridge.Disconnected):
            await smtp.noop()
        await smtp.connect(smtpd.host, smtpd.port)
        assert await smtp.sendmail(SENDER, [AFTER], CONTENT) == {}
        await smtp.quit()

    with ScriptedServer(extensions=LOCK_STEP) as smtpd:
        loop.run(main())
        assert [m.recipients for m in smtpd.messages] == [(AFTER,)]
