"""The pool: what is shared, what is bounded, and what a fork leaves alone."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import mailbridge
from mailbridge import Envelope, PoolOptions, Relay, RetryPolicy, Transport
from mailbridge.sync import pool as pool_module
from mailbridge.sync.pool import pool_for
from mailbridge.testing import ScriptedServer
from tests.sync.support import CONTENT, ENVELOPE, TO, transport


def relay(server: ScriptedServer, **options: object) -> Relay:
    return Relay.from_options(host=server.host, port=server.port, tls="none", timeout=5, **options)


def test_equal_relays_share_a_connection_and_others_do_not(smtpd: ScriptedServer) -> None:
    for _ in range(2):
        Transport(relay(smtpd)).send(ENVELOPE, CONTENT)
    assert smtpd.connections == 1
    Transport(relay(smtpd, local_hostname="other.example")).send(ENVELOPE, CONTENT)
    assert smtpd.connections == 2


def test_threads_share_no_more_connections_than_allowed(smtpd: ScriptedServer) -> None:
    shared = Transport(relay(smtpd, max_connections=3))
    reports: list[mailbridge.DeliveryReport] = []
    threads = [
        threading.Thread(target=lambda: reports.append(shared.send(ENVELOPE, CONTENT)))
        for _ in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [report.accepted for report in reports] == [(TO,)] * 40
    assert smtpd.connections <= 3
    assert len(smtpd.messages) == 40


def test_waiting_for_a_connection_ends(smtpd: ScriptedServer) -> None:
    shared = relay(smtpd, max_connections=1, pool_timeout=0.05)
    with Transport(shared), pytest.raises(mailbridge.PoolTimeout) as caught:
        Transport(shared).send(ENVELOPE, CONTENT)
    assert "max_connections" in str(caught.value)
    assert caught.value.report.not_attempted == (TO,)
    assert Transport(shared).send(ENVELOPE, CONTENT).accepted


@pytest.mark.parametrize("endless", [None, float("inf")])
def test_waiting_for_a_connection_without_end(smtpd: ScriptedServer, endless: float | None) -> None:
    options = PoolOptions(max_connections=1, wait_timeout=endless)  # type: ignore[arg-type]
    shared = relay(smtpd).using(pool=options)
    pool = pool_for(shared)
    with ThreadPoolExecutor(1) as threads:
        with Transport(shared):
            waiting = threads.submit(Transport(shared).send, ENVELOPE, CONTENT)
            while not (pool._queue or waiting.done()):
                pass
        assert waiting.result().accepted == (TO,)
    with Transport(shared), pytest.raises(mailbridge.PoolTimeout, match=r"deadline of 0\.05 s"):
        Transport(shared, deadline=0.05).send(ENVELOPE, CONTENT)


def test_a_connection_carries_so_many_mails(smtpd: ScriptedServer) -> None:
    limited = transport(smtpd, max_messages=2)
    reports = limited.send_many([(ENVELOPE, CONTENT)] * 5)
    assert [report.accepted for report in reports] == [(TO,)] * 5
    assert smtpd.connections == 3


@pytest.mark.parametrize("option", ["max_age", "idle_timeout"])
def test_an_aged_connection_is_replaced(
    smtpd: ScriptedServer, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    aging = transport(smtpd, **{option: 30})
    aging.send(ENVELOPE, CONTENT)
    now = pool_module.time.monotonic()
    monkeypatch.setattr(pool_module.time, "monotonic", lambda: now + 31)
    aging.send(ENVELOPE, CONTENT)
    assert smtpd.connections == 2


@pytest.mark.parametrize("window", [None, 4])
def test_a_connection_in_use_is_not_idle(
    monkeypatch: pytest.MonkeyPatch, window: int | None
) -> None:
    """It is idle since its last mail, not since it was lent to a batch that takes its time."""
    later, monotonic = 0.0, time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + later)

    def mails() -> Iterator[tuple[Envelope, bytes]]:
        nonlocal later
        for _ in range(6):
            later += 20
            yield ENVELOPE, CONTENT

    with ScriptedServer() as smtpd:
        sender = transport(smtpd, idle_timeout=30, bdat_window=window)
        assert all(report.accepted for report in sender.send_many(mails()))
        assert smtpd.connections == 1
        with sender as kept:
            for mail in mails():
                kept.send(*mail)
            assert smtpd.connections == 1


def test_a_connection_that_died_while_idle_is_replaced(smtpd: ScriptedServer) -> None:
    smtpd.drop_after(1)
    for _ in range(3):
        assert transport(smtpd).send(ENVELOPE, CONTENT).accepted == (TO,)
    assert len(smtpd.messages) == 3


def test_a_forked_child_has_connections_of_its_own(smtpd: ScriptedServer) -> None:
    """The parent's, kept or idle, is neither used nor ended by the child."""
    with transport(smtpd) as kept:
        kept.send(ENVELOPE, CONTENT)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if kept.send(ENVELOPE, CONTENT).accepted == (TO,) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert kept.send(ENVELOPE, CONTENT).accepted == (TO,)
    assert smtpd.connections == 2
    assert [message.connection for message in smtpd.messages] == [1, 2, 1]


def test_the_breaker_stops_knocking(smtpd: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    smtpd.stop()
    options = PoolOptions(breaker_failures=2, breaker_pause=30)
    dead = Transport(relay(smtpd).using(pool=options))
    for _ in range(2):
        with pytest.raises(mailbridge.ConnectRefused):
            dead.send(ENVELOPE, CONTENT)
    with pytest.raises(mailbridge.ConnectError, match="not tried"):
        dead.send(ENVELOPE, CONTENT)
    now = pool_module.time.monotonic()
    monkeypatch.setattr(pool_module.time, "monotonic", lambda: now + 31)
    smtpd.start()
    assert dead.send(ENVELOPE, CONTENT).accepted == (TO,)


def test_closed_pools_say_quit_and_keep_nothing(smtpd: ScriptedServer) -> None:
    transport(smtpd).send(ENVELOPE, CONTENT)
    with transport(smtpd) as kept:
        mailbridge.close_pools()
        assert kept.send(ENVELOPE, CONTENT).accepted
    assert pool_for(kept.relay).unused


# -- trying again


def test_another_relay_takes_what_the_first_cannot(smtpd: ScriptedServer) -> None:
    with ScriptedServer() as busy:
        busy.reply("GREETING", "421 4.3.2 Busy")
        report = Transport([relay(busy), relay(smtpd)]).send(ENVELOPE, CONTENT)
        assert (report.accepted, report.relay) == ((TO,), f"127.0.0.1:{smtpd.port}")
        assert report.attempts == 2


@pytest.mark.parametrize("refusal", ["550 5.1.1 No", "554 5.7.1 No"])
def test_no_other_relay_is_asked_after_a_refusal(smtpd: ScriptedServer, refusal: str) -> None:
    with ScriptedServer() as first:
        first.reply("RCPT", refusal)
        with pytest.raises(mailbridge.RecipientsRefused):
            Transport([relay(first), relay(smtpd)]).send(ENVELOPE, CONTENT)
    assert smtpd.connections == 0


def test_a_mail_in_doubt_goes_nowhere_else(smtpd: ScriptedServer) -> None:
    with ScriptedServer() as first:
        first.drop("CONTENT")
        eager = Transport([relay(first), relay(smtpd)], retry=RetryPolicy(tries=3, delay=0.001))
        with pytest.raises(mailbridge.DeliveryInDoubt):
            eager.send(ENVELOPE, CONTENT)
        assert (len(first.messages), smtpd.connections) == (1, 0)


def test_only_the_deferred_are_tried_again(smtpd: ScriptedServer) -> None:
    smtpd.defer("slow@example.com", times=1)
    smtpd.refuse("gone@example.com")
    names = [f"{name}@example.com" for name in ("one", "slow", "gone")]
    patient = Transport(relay(smtpd), on_refused="report", retry=RetryPolicy(tries=3, delay=0.001))
    report = patient.send(mailbridge.Envelope("a@example.org", names), CONTENT)
    assert (report.accepted, report.refused) == ((names[0], names[1]), (names[2],))
    assert [message.recipients for message in smtpd.messages] == [(names[0],), (names[1],)]


def test_relays_take_turns(smtpd: ScriptedServer) -> None:
    with ScriptedServer() as other:
        relays = [relay(smtpd), relay(other)]
        for _ in range(4):
            Transport(relays, round_robin=True).send(ENVELOPE, CONTENT)
        assert (len(smtpd.messages), len(other.messages)) == (2, 2)
        mailbridge.close_pools()


def test_a_pool_that_is_not_in_use_yet_is_not_lost_sight_of(smtpd: ScriptedServer) -> None:
    """Another relay's pool is made between the look at this one and its first connection."""
    mine, other = relay(smtpd), relay(smtpd, max_messages=5)
    pool = pool_for(mine)
    pool_for(other)
    lease = pool.acquire()
    assert pool_for(mine) is pool
    lease.give_back()
    assert not pool.unused
    pool_for(relay(smtpd, max_messages=6))
    assert pool_for(mine) is pool


def test_a_pool_that_was_lost_sight_of_keeps_nothing(smtpd: ScriptedServer) -> None:
    pool = pool_for(relay(smtpd))
    pool_for(relay(smtpd, max_messages=5))
    lease = pool.acquire()
    lease.give_back()
    assert not lease.connection.open


def test_who_forgets_to_close_takes_no_place_for_ever(smtpd: ScriptedServer) -> None:
    """Such code works with smtplib, and must not stop all mail of its process."""
    only = relay(smtpd, max_connections=1, pool_timeout=0.1)
    for _ in range(3):
        sender = Transport(only)
        sender.open()
        sender.send(ENVELOPE, CONTENT)
        del sender
        gc.collect()
    assert len(smtpd.messages) == 3
    pool = pool_for(only)
    lease = pool.acquire()
    connection = lease.connection
    del lease
    gc.collect()
    assert pool.unused
    assert not connection.open


def test_a_connection_is_not_kept_where_somebody_waits_for_it(smtpd: ScriptedServer) -> None:
    """Two batches of one transport that is open: the second waits for the place of the first."""
    only = relay(smtpd, max_connections=1, pool_timeout=30)
    mails = [(ENVELOPE, CONTENT)] * 3
    with Transport(only) as sender, ThreadPoolExecutor(1) as thread:
        first = sender.send_many(mails)
        reports = [next(first)]
        second = thread.submit(lambda: list(sender.send_many(mails)))
        while not pool_for(only).wanted:
            assert not second.done()
            time.sleep(0.001)
        reports += first
        reports += second.result(10)
    assert all(report.all_accepted for report in reports)
    assert len(smtpd.messages) == 6


def test_a_batch_that_goes_on_elsewhere_leaves_no_connection_open(smtpd: ScriptedServer) -> None:
    with ScriptedServer() as first:
        first.drop("RCPT", times=1)
        sender = Transport([relay(first), relay(smtpd)])
        pool = pool_for(sender.relay)
        mails = [(ENVELOPE, CONTENT) for _ in range(3)]
        assert all(report.all_accepted for report in sender.send_many(mails))
        assert first.connections == 2
        leases = list(pool._leases)
        mailbridge.close_pools()
        assert not any(lease.connection.open for lease in leases)


def test_a_relay_that_is_down_is_not_forgotten(smtpd: ScriptedServer) -> None:
    """The pools of other relays come and go, and it is left alone as long as it was to be."""
    smtpd.reply("GREETING", "421 4.3.2 Busy")
    down = transport(smtpd, pool=PoolOptions(breaker_failures=1))
    with pytest.raises(mailbridge.GreetingRefused):
        down.send(ENVELOPE, CONTENT)
    with ScriptedServer() as other:
        pool_for(relay(other))
    with pytest.raises(mailbridge.ConnectError, match="not tried"):
        down.send(ENVELOPE, CONTENT)
