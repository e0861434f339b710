"""A batch with whole transactions on their way: order, limits, refusals, a server that is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import mailbridge
from mailbridge import Envelope, Relay, RetryPolicy, Transport, windowed
from mailbridge.testing import ScriptedServer
from tests.sync.servers import Peer, RawServer
from tests.sync.support import CC, CONTENT, SENDER, TO, heard

WINDOW = ("PIPELINING", "CHUNKING", "8BITMIME", "SIZE 10485760", "ENHANCEDSTATUSCODES")


@pytest.fixture
def bulk() -> Iterator[ScriptedServer]:
    with ScriptedServer(extensions=WINDOW) as server:
        yield server


def sender(server: ScriptedServer | RawServer, **options: object) -> Transport:
    arguments = {name: options.pop(name) for name in ("retry", "on_refused") if name in options}
    options = {"tls": "none", "timeout": 5, "local_hostname": "me", "bdat_window": 4, **options}
    relay = Relay.from_options(host=server.host, port=server.port, **options)
    return Transport(relay, **arguments)  # type: ignore[arg-type]


def mails(count: int, *recipients: str) -> Iterator[tuple[Envelope, bytes]]:
    for number in range(count):
        yield Envelope(SENDER, recipients or (f"r{number}@example.com",)), b"X: %d\r\n\r\n" % number


def test_reports_come_in_order_and_nobody_waits(bulk: ScriptedServer) -> None:
    reports = list(sender(bulk).send_many(mails(11)))
    assert [report.accepted for report in reports] == [(f"r{n}@example.com",) for n in range(11)]
    assert [mail.content for mail in bulk.messages] == [b"X: %d\r\n\r\n" % n for n in range(11)]
    assert bulk.connections == 1
    assert all(report.queue_id for report in reports)


def test_the_first_envelope_is_answered_before_any_content() -> None:
    """Then the window is filled without a word from the server."""
    written: list[str] = []

    def dialogue(peer: Peer) -> None:
        peer.until("RCPT", ehlo=("250-raw.example", "250-PIPELINING", "250 CHUNKING"))
        peer.say("250 Ok")
        for _ in range(3):
            written.append(peer.line())
            peer.read(int(peer.commands[-1].split()[1]))
            if len(peer.commands) < 12:
                written.extend(peer.line() for _ in range(3))
        peer.say(*["250 Ok"] * 9)
        peer.until("QUIT")
        peer.say("221 Bye")

    with RawServer(dialogue) as server:
        reports = list(sender(server, bdat_window=3).send_many(mails(3)))
        mailbridge.close_pools()
    assert [report.accepted for report in reports] == [(f"r{n}@example.com",) for n in range(3)]
    group = ["BDAT", "RSET", "MAIL", "RCPT"]
    assert [line.split(" ")[0] for line in written] == [*group, *group, "BDAT"]


def test_refusals_are_those_of_their_own_mails(bulk: ScriptedServer) -> None:
    bulk.refuse("r2@example.com")
    bulk.defer("r5@example.com")
    reports = list(sender(bulk).send_many(mails(8)))
    states = [str(next(iter(report)).state) for report in reports]
    assert states == [
        *["accepted"] * 2,
        "refused",
        *["accepted"] * 2,
        "deferred",
        *["accepted"] * 2,
    ]
    assert len(bulk.messages) == 6
    assert bulk.connections == 1


def test_what_is_not_admitted_goes_alone(bulk: ScriptedServer) -> None:
    """A large content between small ones; and a policy that waits for every recipient."""
    large = b"x" * 98 + b"\r\n"
    batch = list(mails(5))
    batch[2] = (batch[2][0], large * 12_000)
    reports = list(sender(bulk).send_many(batch))
    assert [len(report.accepted) for report in reports] == [1] * 5
    assert len(bulk.messages[2].content) == 1_200_000
    bulk.refuse(CC)
    reports = list(sender(bulk, on_refused="abort").send_many(mails(3, TO, CC)))
    assert [report.not_attempted for report in reports] == [(TO,)] * 3
    assert len(bulk.messages) == 5


def test_bad_mails_are_reported_in_their_place(bulk: ScriptedServer) -> None:
    def batch() -> Iterator[tuple[Envelope, bytes | str]]:
        yield from mails(3)
        yield Envelope(SENDER, TO), "café\n"  # a text outside ASCII
        yield Envelope("bücher@example.com", TO), CONTENT  # needs SMTPUTF8
        yield from mails(2)

    reports = list(sender(bulk).send_many(batch()))
    assert [len(report.accepted) for report in reports] == [1, 1, 1, 0, 0, 1, 1]
    assert isinstance(reports[3].error, mailbridge.InvalidInput)
    assert isinstance(reports[4].error, mailbridge.NotSupported)


def test_a_connection_carries_max_messages(bulk: ScriptedServer) -> None:
    reports = list(sender(bulk, max_messages=3).send_many(mails(7)))
    assert [len(report.accepted) for report in reports] == [1] * 7
    assert bulk.connections == 3


def test_too_many_recipients_go_into_another_transaction(bulk: ScriptedServer) -> None:
    bulk.defer(CC, code=452, text="4.5.3 Too many recipients", times=1)
    reports = list(sender(bulk).send_many(mails(4, TO, CC)))
    assert [report.accepted for report in reports] == [(TO, CC)] * 4
    assert sum(len(mail.recipients) for mail in bulk.messages) == 8
    assert reports[0].attempts == 1


def test_retry_does_not_wait_for_the_connection_it_holds(bulk: ScriptedServer) -> None:
    bulk.defer("r1@example.com", times=1)
    retry = RetryPolicy(tries=2, delay=0.001)
    transport = sender(bulk, retry=retry, max_connections=1, pool_timeout=2)
    reports = list(transport.send_many(mails(6)))
    assert [report.accepted for report in reports] == [(f"r{n}@example.com",) for n in range(6)]
    assert [report.attempts for report in reports] == [1, 2, 1, 1, 1, 1]


EHLO = ("250-raw.example", "250-PIPELINING", "250 CHUNKING")


def take_all(peer: Peer) -> None:
    """A server that takes every mail."""
    peer.until("BDAT", ehlo=EHLO)
    while True:
        peer.read(int(peer.commands[-1].split()[1]))
        peer.say("250 Ok")
        peer.until("BDAT")


def test_what_was_handed_over_to_a_server_that_is_lost_is_in_doubt() -> None:
    def lost_behind_one(peer: Peer) -> None:
        peer.until("BDAT", ehlo=EHLO)
        peer.read(int(peer.commands[-1].split()[1]))
        peer.say("250 Ok")
        peer.until("BDAT")

    with RawServer(lost_behind_one, take_all) as server:
        transport = sender(server)
        reports = list(transport.send_many(mails(4)))
        reports += transport.send_many(mails(2))
        mailbridge.close_pools()
    states = [str(next(iter(report)).state) for report in reports]
    assert states == ["accepted", *["in_doubt"] * 3, "accepted", "accepted"]
    assert len(server.peers) == 2


def test_a_connection_that_died_while_it_was_kept_costs_nothing() -> None:
    """Nothing was handed over, so all goes over a new one, in order."""

    def lost_at_mail(peer: Peer) -> None:
        peer.until("MAIL", ehlo=EHLO)

    with RawServer(lost_at_mail, take_all) as server:
        with sender(server) as transport:
            reports = list(transport.send_many(mails(6)))
        mailbridge.close_pools()
    assert [report.accepted for report in reports] == [(f"r{n}@example.com",) for n in range(6)]
    assert [report.attempts for report in reports] == [2, 1, 1, 1, 1, 1]


def test_a_second_connection_that_is_lost_is_the_last() -> None:
    def lost_at_mail(peer: Peer) -> None:
        peer.until("MAIL", ehlo=EHLO)

    with RawServer(lost_at_mail) as server:
        with sender(server) as transport:
            reports = list(transport.send_many(mails(1)))
        mailbridge.close_pools()
    assert [report.not_attempted for report in reports] == [("r0@example.com",)]
    assert reports[0].attempts == 2
    assert len(server.peers) == 2


def test_who_lets_it_wait_hears_at_once(
    bulk: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that is slow: each report before the next mail is asked for."""
    monkeypatch.setattr(windowed, "LINGER", -1)
    known: list[int] = []

    def slow() -> Iterator[tuple[Envelope, bytes]]:
        for mail in mails(3):
            known.append(len(bulk.messages))
            yield mail

    assert [len(report.accepted) for report in sender(bulk).send_many(slow())] == [1] * 3
    assert known == [0, 1, 2]


def test_who_stops_early_leaves_no_transaction_open(bulk: ScriptedServer) -> None:
    reports = sender(bulk).send_many(mails(20))
    next(reports)
    reports.close()  # type: ignore[attr-defined]
    assert mailbridge.Transport(sender(bulk).relay).send(Envelope(SENDER, TO), CONTENT).accepted
    assert bulk.connections == 2


def test_without_chunking_there_is_no_window() -> None:
    with ScriptedServer(extensions=("PIPELINING",)) as server:
        reports = list(sender(server).send_many(mails(3)))
        assert [len(report.accepted) for report in reports] == [1] * 3
        assert "DATA" in heard(server)


def test_a_kept_connection_has_a_window_too(bulk: ScriptedServer) -> None:
    with sender(bulk) as transport:
        assert [len(r.accepted) for r in transport.send_many(mails(6))] == [1] * 6
        assert transport.send(Envelope(SENDER, TO), CONTENT).accepted
    assert bulk.connections == 1


def test_lmtp_has_no_window() -> None:
    with pytest.raises(mailbridge.OptionError, match="LMTP"):
        Relay.from_url("lmtp://localhost?bdat_window=3")


def test_each_report_is_told_once_and_in_order(bulk: ScriptedServer) -> None:
    """Of those in the window, of one that goes alone, and of one that no server was asked for."""
    told: list[mailbridge.DeliveryReport] = []
    batch = list(mails(6))
    batch[2] = (batch[2][0], b"x" * 98 + b"\r\n" * 600_000)
    batch[4] = (Envelope("bücher@example.com", TO), CONTENT)  # needs SMTPUTF8
    transport = Transport(sender(bulk).relay, on_report=told.append)
    reports = list(transport.send_many(batch))
    assert [id(report) for report in told] == [id(report) for report in reports]
    assert [report.reused for report in reports if report.accepted] == [False, *[True] * 4]


def test_on_asyncio_too(bulk: ScriptedServer) -> None:
    bulk.refuse("r2@example.com")

    async def send() -> list[mailbridge.DeliveryReport]:
        async with mailbridge.AsyncTransport(sender(bulk).relay) as transport:
            return [report async for report in transport.send_many(mails(9))]

    reports = asyncio.run(send())
    assert [len(report.accepted) for report in reports] == [1, 1, 0, *[1] * 6]
    assert bulk.connections == 1
