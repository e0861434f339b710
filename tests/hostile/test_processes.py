"""Threads, forks, workers, signals and exits: no session is used in a state that nobody knows."""

from __future__ import annotations

import asyncio
import http.client
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import mailbridge
from mailbridge import AsyncTransport, Relay, Transport, forks
from mailbridge.aio import pool as aio_pool
from mailbridge.sync.pool import pool_for
from mailbridge.testing import ScriptedServer
from tests.hostile.servers import PIPELINING, Counted
from tests.sync.servers import PATIENCE, Peer, RawServer
from tests.sync.support import CONTENT, ENVELOPE, TO, side_by_side, transport

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")
TOP = Path(__file__).parents[2]


def _child(work: object) -> int:
    """Fork, call `work` in the child, and return the child's exit code: 0 if it returned true."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if work() else 2  # type: ignore[operator]
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _waiting_at_mail(arrived: threading.Event, go_on: threading.Event) -> Callable[[Peer], None]:
    """A server that tells when MAIL has come, and answers it when it may go on."""

    def busy(peer: Peer) -> None:
        peer.until("MAIL")
        arrived.set()
        go_on.wait(PATIENCE)
        peer.say("250 Ok")
        peer.until("QUIT")

    return busy


def test_fork_while_a_thread_sends() -> None:
    """A child forked while another thread holds every lock sends over a connection of its own."""
    arrived, go_on = threading.Event(), threading.Event()
    kind = Counted(PIPELINING)
    with RawServer(_waiting_at_mail(arrived, go_on), kind) as server:
        with transport(server) as kept:
            sender = threading.Thread(target=kept.send, args=(ENVELOPE, CONTENT))
            sender.start()
            assert arrived.wait(PATIENCE)

            def work() -> bool:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(5)  # a deadlock ends the child
                return kept.send(ENVELOPE, b"the child's\r\n").accepted == (TO,)

            assert _child(work) == 0
            go_on.set()
            sender.join()
        assert kind.taken == [b"the child's\r\n"]
        server.wait_until_closed(2)


def test_fork_while_a_task_sends() -> None:
    """A child of a loop, in the middle of a mail and after it, sends in a loop of its own."""
    arrived, go_on = threading.Event(), threading.Event()
    kind = Counted(PIPELINING)

    async def main(relay: Relay) -> None:
        sender = AsyncTransport(relay)

        def work() -> bool:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(5)  # a deadlock ends the child
            return asyncio.run(sender.send(ENVELOPE, b"the child's\r\n")).accepted == (TO,)

        async with sender:
            sending = asyncio.create_task(sender.send(ENVELOPE, CONTENT))
            assert await asyncio.to_thread(arrived.wait, PATIENCE)
            assert _child(work) == 0
            go_on.set()
            assert (await sending).accepted == (TO,)
            assert _child(work) == 0
            assert (await sender.send(ENVELOPE, b"the parent's\r\n")).accepted == (TO,)
        await aio_pool.close_pools()

    with RawServer(_waiting_at_mail(arrived, go_on), kind) as server:
        asyncio.run(main(transport(server).relay))
        assert kind.taken == [b"the child's\r\n"] * 2
        assert server.peers[0].content == b"the parent's\r\n"
        server.wait_until_closed(3)


def test_fork_beside_an_asyncio_connection_that_was_closed(smtpd: ScriptedServer) -> None:
    """The child of a process with an event loop sends, whatever became of its connections."""
    sender = transport(smtpd)

    async def main() -> int:
        pool = aio_pool.pool_for(sender.relay)
        closed, kept = await pool.acquire(), await pool.acquire()
        sock = closed.connection.sock
        closed.connection.close()
        for _ in range(10):
            await asyncio.sleep(0)
        assert sock is not None
        assert sock.fileno() == -1

        def work() -> bool:
            assert closed.connection.sock is None
            assert kept.connection.sock is None
            return sender.send(ENVELOPE, CONTENT).accepted == (TO,)

        status = _child(work)
        # The parent's connection is as it was.
        assert kept.connection.alive()
        closed.give_back()
        kept.give_back()
        await aio_pool.close_pools()
        return status

    with sender:
        assert asyncio.run(main()) == 0


def test_in_a_child_every_lock_is_renewed_though_one_fails() -> None:
    class Owner:
        def __init__(self, fails: bool) -> None:
            self.fails = fails
            self.renewed = False

        def after_fork(self) -> None:
            self.renewed = True
            if self.fails:
                raise OSError("no file")

    owners = [Owner(n % 3 == 0) for n in range(20)]
    for owner in owners:
        forks.watch(owner)
    assert _child(lambda: all(owner.renewed for owner in owners)) == 0
    del owners[:], owner


def test_fork_by_multiprocessing(smtpd: ScriptedServer) -> None:
    """Four workers and their parent, over pools of their own; each mail arrives once."""
    relay = transport(smtpd)
    relay.send(ENVELOPE, b"parent\r\n")
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=relay.send, args=(ENVELOPE, b"worker %d\r\n" % n)) for n in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE)
        assert worker.exitcode == 0
    relay.send(ENVELOPE, b"parent again\r\n")
    contents = sorted(message.content for message in smtpd.messages)
    workers_too = [b"worker %d\r\n" % n for n in range(4)]
    assert contents == [b"parent\r\n", b"parent again\r\n", *workers_too]
    parents = [m.connection for m in smtpd.messages if m.content.startswith(b"parent")]
    assert parents == [1, 1]
    assert smtpd.connections == 5


def test_interrupt_while_waiting_for_a_place(smtpd: ScriptedServer) -> None:
    """Ctrl-C, or a time-out of gevent's, in the queue for a connection: its place is not lost."""
    sender = transport(smtpd, max_connections=1)
    pool = pool_for(sender.relay)
    lease = pool.acquire()

    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt_when_it_waits() -> None:
        until = time.monotonic() + PATIENCE
        while not pool._queue and time.monotonic() < until:
            pass
        # A signal just before the lock is waited for does not end that wait; the next one does.
        while not interrupted.wait(0.1) and time.monotonic() < until:
            signal.pthread_kill(main, signal.SIGUSR1)

    interrupter = threading.Thread(target=interrupt_when_it_waits)
    try:
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            sender.send(ENVELOPE, CONTENT)
    finally:
        interrupter.join()
        signal.signal(signal.SIGUSR1, before)
    pool.release(lease)
    started = time.monotonic()
    assert sender.send(ENVELOPE, CONTENT).accepted == (TO,)
    assert time.monotonic() - started < 5


def test_a_dead_connection_is_followed_by_a_fresh_one_in_a_batch() -> None:
    """Several kept connections died unseen: the second try takes none of the others."""
    idle = threading.Barrier(2)
    kind = Counted(PIPELINING)

    def dying(peer: Peer) -> None:
        peer.until("DATA")
        peer.say("354 go on")
        peer.read_content()
        idle.wait(PATIENCE)
        peer.say("250 Ok")
        peer.until("MAIL")
        peer.say("421 4.4.2 idle for too long")

    with RawServer(dying, dying, kind) as server:
        sender = transport(server)
        side_by_side([lambda: sender.send(ENVELOPE, b"x")] * 2)
        (report,) = sender.send_many([(ENVELOPE, CONTENT)])
        assert (report.accepted, report.attempts) == ((TO,), 2)


BLOCKING = """
import sys, mailbridge

transport = mailbridge.Transport(sys.argv[1])
transport.open()
other = mailbridge.SMTP(sys.argv[2], int(sys.argv[3]))
envelope = mailbridge.Envelope("a@example.org", ["b@example.com"])
transport.send(envelope, b"x")
list(zip([1], transport.send_many([(envelope, b"y")] * 3)))
"""
IN_A_LOOP = """
import asyncio, sys, mailbridge

async def main():
    transport = mailbridge.AsyncTransport(sys.argv[1])
    await transport.open()
    other = await mailbridge.AsyncSMTP(sys.argv[2], int(sys.argv[3]))
    envelope = mailbridge.Envelope("a@example.org", ["b@example.com"])
    await transport.send(envelope, b"x")
    async for report in transport.send_many([(envelope, b"y")] * 3):
        break

asyncio.run(main())
"""


@pytest.mark.parametrize("script", [BLOCKING, IN_A_LOOP], ids=["blocking", "asyncio"])
def test_exit_does_not_wait_for_anybody(script: str) -> None:
    """An interpreter that ends with connections kept, at a server that never answers QUIT."""
    with ScriptedServer() as smtpd:
        smtpd.silent("QUIT")
        addresses = [f"{smtpd.url}?tls=none", smtpd.host, str(smtpd.port)]
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-W", "ignore::ResourceWarning", "-c", script, *addresses],
            env={**os.environ, "PYTHONPATH": str(TOP)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert time.monotonic() - started < 15
        assert len(smtpd.messages) >= 2


APP = """
import os, sys
import mailbridge

envelope = mailbridge.Envelope("a@example.org", ["b@example.com"])
transport = mailbridge.Transport(os.environ["RELAY"])
transport.open()
transport.send(envelope, b"preloaded\\r\\n")

def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/").encode()
    report = transport.send(envelope, name + b"\\r\\n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {report.attempts}".encode()]
"""


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_gunicorn_that_preloads(smtpd: ScriptedServer, tmp_path: Path, worker: str) -> None:
    """Workers of gunicorn share the parent's transport and none of its connections."""
    pytest.importorskip("gunicorn", reason="gunicorn is missing: pip install gunicorn")
    (tmp_path / "application.py").write_text(APP)
    options = ["--preload", "--workers=2", f"--worker-class={worker}", "--threads=2"]
    master = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *options, "--bind=127.0.0.1:0", "application:app"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": f"{TOP}{os.pathsep}{tmp_path}",
            "RELAY": f"{smtpd.url}?tls=none&timeout=5",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert master.stderr is not None
    try:
        banner = next(line for line in master.stderr if "Listening at" in line)
        port = int(banner.split("http://127.0.0.1:")[1].split()[0])
        answers = [_get(port, f"/mail-{n}") for n in range(20)]
    finally:
        master.terminate()
        noise = master.communicate(timeout=20)[1]
    assert "Traceback" not in noise
    assert {int(answer.split()[0]) for answer in answers}.isdisjoint({master.pid})
    contents = sorted(message.content for message in smtpd.messages)
    assert contents == sorted([b"preloaded\r\n"] + [b"mail-%d\r\n" % n for n in range(20)])
    parents = {m.connection for m in smtpd.messages if m.content == b"preloaded\r\n"}
    assert parents.isdisjoint(m.connection for m in smtpd.messages if m.content != b"preloaded\r\n")


def _get(port: int, page: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", page)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        return response.read().decode()
    finally:
        connection.close()


def test_no_socket_is_left_open(smtpd: ScriptedServer) -> None:
    """Failed and successful mails, many at once: afterwards no descriptor is left."""
    smtpd.drop("CONTENT", times=3)
    smtpd.reply("MAIL", "421 4.3.2 bye", times=3)
    smtpd.refuse("refused@example.com")
    sender = Transport(
        Relay.from_options(host=smtpd.host, port=smtpd.port, tls="none", max_connections=4),
        on_refused="report",
    )
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    def work(name: str) -> None:
        for n in range(5):
            to = "refused@example.com" if n == 2 else f"{name}-{n}@example.com"
            sender.attempt(mailbridge.Envelope("a@example.org", [to]), CONTENT)

    side_by_side([partial(work, f"t{n}") for n in range(8)])
    assert len({m.recipients for m in smtpd.messages}) == len(smtpd.messages)
    assert pool_for(sender.relay).close() is None
    smtpd.stop()
    smtpd.start()
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before
