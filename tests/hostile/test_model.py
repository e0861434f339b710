"""Random dialogues with a model server: every recipient ends in the true state.

Never "accepted" for mail that the server did not take, never "not attempted", "deferred" or
"refused" for mail that it did, "in doubt" only once the content was handed over to its end. One
test drives the session octet by octet without a socket, the other everything over real sockets:
pool, pipelined batches, a second try on a fresh connection, retry and failover.

``HYPOTHESIS_PROFILE=nightly pytest tests/hostile/test_model.py`` tries many.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import mailbridge
from mailbridge import (
    DeliveryReport,
    Disconnected,
    Envelope,
    MailError,
    OnRefused,
    ReplyTimeout,
)
from mailbridge.attempt import Converse, Lend, Steps
from mailbridge.deadline import Deadline
from mailbridge.line import Line as BatchLine
from mailbridge.outgoing import Content, Outgoing
from mailbridge.protocol import delivery, dialogue
from mailbridge.protocol.command import Need
from mailbridge.protocol.content import stuffed
from mailbridge.protocol.lane import Lane
from mailbridge.protocol.session import Dialogue, Session
from mailbridge.protocol.transaction import MailTransaction
from mailbridge.stock import Lease, Stock
from mailbridge.windowed import WindowedLine
from tests.examples import examples
from tests.hostile.model import ACTIONS, TRAP, Log, ModelServer, decisions

T = TypeVar("T")

bounded = examples(150)
RELAY = mailbridge.Relay(host="mx.example.org")
EXTENSIONS = ("PIPELINING", "CHUNKING", "8BITMIME", "SIZE", "ENHANCEDSTATUSCODES")
WINDOWS = st.none() | st.integers(1, 5)


@dataclass(frozen=True)
class Written:
    """A mail of the scenario: its recipients, and how much of the trap its content repeats."""

    number: int
    recipients: tuple[str, ...]
    content: bytes
    policy: str

    @property
    def envelope(self) -> Envelope:
        return Envelope("a@x.org", self.recipients)


@dataclass(frozen=True)
class Scenario:
    mails: list[Written]
    actions: dict[int, str]
    extensions: list[str]
    lmtp: bool
    stop_after: list[int | None]
    steps: list[int]


LOGIN_OFFERED = "AUTH PLAIN"
LOGIN = {"username": "user", "password": "secret"}
ALL_EXTENSIONS = (*EXTENSIONS, LOGIN_OFFERED)
SOME_EXTENSIONS = st.lists(st.sampled_from(ALL_EXTENSIONS), unique=True) | st.just(
    list(ALL_EXTENSIONS)
)


@st.composite
def scenarios(draw: st.DrawFn, *, windowed: bool = False) -> Scenario:
    policy = draw(st.sampled_from(["report", "report", "raise", "abort"]))
    mails = []
    for number in range(draw(st.integers(1, 4))):
        names = [f"r{i}@x.org" for i in range(draw(st.integers(1, 3)))]
        trap = TRAP * draw(st.sampled_from([0, 1, 2]))
        content = b"Mail: %d\r\n\r\n%bend of %d\r\n" % (number, trap, number)
        mails.append(Written(number, tuple(names), content, policy))
    return Scenario(
        mails,
        draw(st.dictionaries(st.integers(0, 25), st.sampled_from(ACTIONS), max_size=4)),
        list(EXTENSIONS) if windowed else draw(SOME_EXTENSIONS),
        draw(st.booleans()) and not windowed,
        draw(st.lists(st.none() | st.none() | st.integers(1, 600), max_size=3)),
        draw(st.lists(st.integers(1, 400), min_size=1, max_size=6)),
    )


@st.composite
def batches(draw: st.DrawFn) -> Scenario:
    """Longer ones, to a server that pipelines, and that is kind to the first mails."""
    mails = []
    for number in range(draw(st.integers(3, 8))):
        names = [f"r{i}@x.org" for i in range(draw(st.sampled_from([1, 1, 2])))]
        content = b"Mail: %d\r\n\r\n%bend of %d\r\n" % (number, TRAP, number)
        mails.append(Written(number, tuple(names), content, "report"))
    places, stops = st.integers(8, 40), st.lists(st.none() | st.integers(400, 3000), max_size=2)
    actions = draw(
        st.dictionaries(places, st.sampled_from([a for a in ACTIONS if a != "extra"]), max_size=2)
        # A server that says too much and then dies cannot be told from one that takes the mail.
        | st.dictionaries(places, st.just("extra"), max_size=1)
    )
    return Scenario(
        mails,
        actions,
        ["PIPELINING", *draw(st.sampled_from([(), ("SIZE",), ("SIZE", "CHUNKING")]))],
        False,
        [] if "extra" in actions.values() else draw(stops),
        draw(st.lists(st.integers(1, 2000), min_size=1, max_size=6)),
    )


def check(
    scenario: Scenario, log: Log, reports: Sequence[DeliveryReport], offered: bytes | None = None
) -> None:
    """Every report against what the server took."""
    assert len(reports) == len(scenario.mails)
    for mail, report in zip(scenario.mails, reports, strict=True):
        assert tuple(report.recipients) == mail.recipients
        for result in report:
            taken = log.taken[mail.number, result.address]
            assert taken <= 1, f"delivered {taken} times: {result}"
            if result.state == "accepted":
                assert taken == 1, f"never taken: {result}"
            elif result.state != "in_doubt":
                assert taken == 0, f"taken: {result}"
            elif offered is not None:
                assert b"end of %d\r\n" % mail.number in offered, f"never handed over: {result}"
    known = {mail.number for mail in scenario.mails}
    assert {number for number, _ in log.taken} <= known, "content was taken for commands"
    for mail in scenario.mails:
        assert log.contents.get(mail.number, {mail.content}) == {mail.content}


# Octet by octet, without a socket.


class Wire:
    """A driver of its own: moves octets between a session and the model in the steps it is told."""

    def __init__(self, session: Session, server: ModelServer, steps: Iterator[int]) -> None:
        self.session = session
        self.server = server
        self.offered = b""
        self._steps = steps

    def run(self, dialogue: Dialogue[T]) -> T:
        try:
            need = next(dialogue)
            while True:
                try:
                    self._satisfy(need)
                except MailError as error:
                    need = dialogue.throw(error)
                else:
                    need = next(dialogue)
        except StopIteration as done:
            return cast(T, done.value)

    def _satisfy(self, need: Need) -> None:
        assert need is not Need.TLS
        self._write()
        if not (self.session.eof or self.session.answer_is_here):
            self._read()

    def exchange(self, lane: Lane) -> DeliveryReport:
        """What a driver does in a lane: one call of send(), one of recv()."""
        octets = lane.octets()
        size = self._transmit(octets)
        if size == len(octets) and not self.server.closed:
            said = (
                self._taken(size if size % 2 else next(self._steps)) if self.server.output else b""
            )
            if lane.consent(said):
                assert lane.report is not None
                return lane.report
            lane.resume()
            self.session.sending(size)
            self.session.sent(size)
            if said:
                self.session.receive_data(said)
            return self.run(lane.hear())
        lane.resume()
        self.session.sending(len(octets))
        try:
            self._write(octets[self._sent(octets, size) :])
        except Disconnected as lost:
            self.session.abandon("the connection was lost", lost)
        return self.run(lane.hear())

    def _write(self, data: bytes = b"") -> None:
        while data := data or self.session.data_to_send():
            while data:
                if self.session.eof or self.session.answered_early:
                    self.session.stop_writing()
                    return
                data = data[self._send(data) :]

    def _send(self, data: bytes) -> int:
        self.session.sending(len(data))
        return self._sent(data, self._transmit(data))

    def _transmit(self, data: bytes) -> int:
        """One call of send(), which may take less than it is given."""
        self.offered += data
        size = min(len(data), next(self._steps))
        self.server.receive(data[:size])
        return size

    def _sent(self, data: bytes, size: int) -> int:
        """How much of `data` is gone after that call, which may have failed."""
        if self.server.closed:
            # What it was given may have left all the same.
            self._hear(len(self.server.output))
            if not self.session.has_input:
                self.session.abandon("the connection was lost")
                raise Disconnected("the connection was lost")
            self.session.receive_data(b"")
            return len(data)
        self.session.sent(size)
        if size % 2:
            self._hear(size)
        return size

    def _taken(self, size: int) -> bytes:
        data = bytes(self.server.output[:size])
        del self.server.output[:size]
        return data

    def _hear(self, size: int) -> None:
        data = self._taken(size)
        if data:
            self.session.receive_data(data)

    def _read(self) -> None:
        if self.server.output:
            self._hear(next(self._steps))
        elif self.server.closed:
            self.session.receive_data(b"")
        else:
            self.session.abandon("timed out")
            raise ReplyTimeout("timed out")


class Line:
    """What a batch does: each mail with the next one's group behind it, a new session when due."""

    def __init__(self, scenario: Scenario, log: Log) -> None:
        self._scenario = scenario
        self._log = log
        self._decide = decisions(scenario.actions)
        self._stops = iter(scenario.stop_after)
        self._steps = itertools.cycle(scenario.steps)
        self._wire: Wire | None = None
        self._begun: MailTransaction | None = None
        self.offered = b""

    def open(self) -> Wire:
        opened = False

        def decide(verb: str) -> str:
            return self._decide(verb) if opened else "ok"

        scenario = self._scenario
        session = Session(lmtp=scenario.lmtp)
        stop = next(self._stops, None)
        server = ModelServer(
            self._log,
            decide,
            scenario.extensions,
            lmtp=scenario.lmtp,
            stop_after=stop and stop + len("EHLO me\r\n"),
        )
        wire = Wire(session, server, self._steps)
        wire.run(dialogue.greet(session))
        wire.run(dialogue.hello(session, "me"))
        opened = True
        return wire

    def deliver(self, mail: Written, following: Written | None) -> DeliveryReport:
        wire = self._wire = self._wire or self.open()
        session = wire.session
        begun, self._begun = self._begun, None
        transaction = begun or _transaction(mail, session)
        ahead = None
        if following is not None and session.pipelining:
            ahead = _transaction(following, session)
        report = wire.run(
            delivery.deliver(session, transaction, ahead, leave_reset=following is not None)
        )
        self.offered += wire.offered
        wire.offered = b""
        if ahead is not None and ahead.begun:
            self._begun = ahead
        if not session.alive:
            self._wire = self._begun = None
        return report


def _transaction(mail: Written, session: Session) -> MailTransaction:
    outgoing = Outgoing(mail.envelope, mail.content, on_refused=mail.policy)
    return outgoing.transaction(session, RELAY)


@bounded
@given(scenarios())
def test_true_states_octet_by_octet(scenario: Scenario) -> None:
    log = Log()
    line = Line(scenario, log)
    following = [*scenario.mails[1:], None]
    reports = [line.deliver(*pair) for pair in zip(scenario.mails, following, strict=True)]
    check(scenario, log, reports, line.offered)


class Link:
    """A connection of a stock: a session with the model, and the driver above."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.session = wire.session

    def alive(self) -> bool:
        return self.session.usable

    def look(self) -> None:
        """Whether anything is there would depend on the clock: whoever waits is told in time."""

    def close(self) -> None:
        self.session.abandon("closed")

    leave = close


class Shelf(Stock[Link, threading.Event]):
    """A stock of one connection at a time, each opened by `line`."""

    def __init__(self, line: Line, window: int | None = None) -> None:
        super().__init__(mailbridge.Relay(host="model", bdat_window=window))
        self.line = line

    def count(self, wire: Wire) -> None:
        """Take note of what was offered to the server."""
        self.line.offered += wire.offered
        wire.offered = b""

    def lend(self) -> Lease[Link]:
        assert self._enter(threading.Event) is None
        return self._lend(self._opened(Link(self.line.open())), None)


class Resigned:
    """A sender that tries nothing again."""

    relays = ()
    retry = mailbridge.RetryPolicy()

    def __init__(self, *, asks_nothing: bool = True) -> None:
        self.asks_nothing = asks_nothing

    def outgoing(self, envelope: Envelope, content: Content, *, on_refused: OnRefused) -> Outgoing:
        return Outgoing(envelope, content, on_refused=on_refused)

    def begin(self, within: float | None = None) -> Deadline | None:
        return None

    def may_go_on(self, report: DeliveryReport) -> bool:
        return False

    def tell(self, report: DeliveryReport, began: float) -> DeliveryReport:
        return report

    def put_back(self, lease: Lease[Link]) -> None:
        raise AssertionError("nothing was borrowed")


def taken(shelf: Shelf, steps: Steps[T]) -> T:
    """Take the steps of a line, as a transport does."""
    try:
        step = next(steps)
        while True:
            match step:
                case Lend():
                    step = steps.send(shelf.lend())
                case Converse(lease, dialogue):
                    result = lease.connection.wire.run(dialogue)
                    shelf.count(lease.connection.wire)
                    step = steps.send(result)
                case _:
                    raise AssertionError(step)
    except StopIteration as done:
        return cast(T, done.value)


def windowed(scenario: Scenario, log: Log, window: int) -> tuple[list[DeliveryReport], bytes]:
    """The reports on all mails of a batch, and the octets that were offered to the server."""
    shelf = Shelf(Line(scenario, log), window)
    line = WindowedLine(Resigned(), shelf, None, OnRefused(scenario.mails[0].policy))
    return all_of(scenario, shelf, line), shelf.line.offered


def all_of(scenario: Scenario, shelf: Shelf, line: BatchLine) -> list[DeliveryReport]:
    """Put all mails into a line, to its end."""
    reports = []
    for mail in scenario.mails:
        convoy = line.convoy
        if convoy is None or not convoy.follow(mail.envelope, mail.content):
            reports += taken(shelf, line.put(mail.envelope, mail.content))
            continue
        report = convoy.connection.wire.exchange(convoy.lane)
        shelf.count(convoy.connection.wire)
        if convoy.ended:
            report = taken(shelf, line.leave(convoy, report))
        reports.append(report if convoy.ended else convoy.complete(report))
    reports += taken(shelf, line.end())
    line.close()
    return reports


def batch(scenario: Scenario, *, lane: bool) -> tuple[list[DeliveryReport], bytes, Log]:
    """The same for a line without a window, which goes on in a lane where it may."""
    log = Log()
    shelf = Shelf(Line(scenario, log))
    policy = OnRefused(scenario.mails[0].policy)
    line = BatchLine(Resigned(asks_nothing=lane), shelf, None, policy)
    return all_of(scenario, shelf, line), shelf.line.offered, log


def leaving(step: int) -> Scenario:
    """A server that says yes to a mail and to the next one's group, and is gone behind it."""
    text = b"Mail: %d\r\n\r\n" + TRAP + b"end of %d\r\n"
    mails = [Written(n, ("r0@x.org",), text % (n, n), "report") for n in range(6)]
    group = len("MAIL FROM:<a@x.org>\r\nRCPT TO:<r0@x.org>\r\nDATA\r\n")
    after = group + 3 * (len(stuffed(text % (0, 0))) + group)
    return Scenario(mails, {}, ["PIPELINING"], False, [after], [step])


@bounded
@given(batches())
@example(leaving(36))
@example(leaving(4000))
def test_true_states_in_a_lane(scenario: Scenario) -> None:
    """The short way of a batch says and hears what the long one does, whatever the server makes."""
    reports, offered, log = batch(scenario, lane=True)
    check(scenario, log, reports, offered)
    others, offered_otherwise, _ = batch(scenario, lane=False)
    assert offered == offered_otherwise
    for report, other in zip(reports, others, strict=True):
        assert report == other
        assert (type(report.error), str(report.error)) == (type(other.error), str(other.error))
        assert report.reused == other.reused


@bounded
@given(scenarios(windowed=True), st.integers(1, 5))
def test_true_states_in_a_window(scenario: Scenario, window: int) -> None:
    """Whole transactions without waiting: a refusal in front does not deliver to nobody."""
    log = Log()
    reports, offered = windowed(scenario, log, window)
    check(scenario, log, reports, offered)
    assert log.taken.keys() <= {(m.number, r) for m in scenario.mails for r in m.recipients}


@pytest.mark.parametrize("window", [1, 3, 9])
@pytest.mark.parametrize("step", [1, 7, 18, 400])
def test_a_kind_server_gets_every_mail_in_a_window(window: int, step: int) -> None:
    names = [(f"r{number}@x.org", "s@x.org") for number in range(7)]
    mails = [
        Written(number, to, b"Mail: %d\r\n\r\n%bend of %d\r\n" % (number, TRAP, number), "report")
        for number, to in enumerate(names)
    ]
    log = Log()
    scenario = Scenario(mails, {}, list(EXTENSIONS), False, [], [step])
    reports, offered = windowed(scenario, log, window)
    check(scenario, log, reports, offered)
    assert [report.accepted for report in reports] == names


# Everything, over real sockets.


@contextmanager
def listening(scenario: Scenario, log: Log) -> Iterator[int]:
    """Model servers behind a real port; all connections share the decisions. Yields the port."""
    decide = decisions(scenario.actions)
    stops = iter(scenario.stop_after)
    threads = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                server = ModelServer(
                    log,
                    decide,
                    scenario.extensions,
                    lmtp=scenario.lmtp,
                    stop_after=next(stops, None),
                )
                threads.append(threading.Thread(target=_serve, args=(sock, server)))
                threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            mailbridge.close_pools()
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in threads:
                thread.join()


def _serve(sock: socket.socket, server: ModelServer) -> None:
    with sock:
        sock.settimeout(10)
        try:
            while True:
                sock.sendall(server.output)
                server.output.clear()
                if server.closed or not (data := sock.recv(4096)):
                    return
                server.receive(data)
        except OSError:
            return


@bounded
@given(scenarios(), st.booleans(), st.booleans(), WINDOWS)
def test_true_states_over_sockets(
    scenario: Scenario, keep: bool, again: bool, window: int | None
) -> None:
    """A batch, a transport that is kept open or not, with retry and a second relay or without."""
    over_sockets(scenario, keep=keep, again=again, window=window)


@bounded
@given(scenarios(), st.sampled_from(("535", "334", "454", *ACTIONS)))
def test_true_states_behind_a_login_that_fails(scenario: Scenario, answer: str) -> None:
    """AUTH and an envelope in one write, to a server that takes mail from everybody."""
    # The greeting and EHLO are the first two that are decided on.
    actions = {**scenario.actions, 0: "ok", 1: "ok", 2: answer}
    scenario = replace(scenario, extensions=list(ALL_EXTENSIONS), actions=actions)
    over_sockets(scenario, keep=False, again=False, window=None)


def over_sockets(scenario: Scenario, *, keep: bool, again: bool, window: int | None) -> None:
    log = Log()
    mailbridge.forget_relays()
    with listening(scenario, log) as port:
        # A server that answers less than it was asked is waited for in vain: briefly.
        relay = mailbridge.Relay.from_options(
            host="127.0.0.1",
            port=port,
            tls="none",
            timeout=0.2,
            lmtp=scenario.lmtp,
            bdat_window=None if scenario.lmtp else window,
            local_hostname="me",
            **(LOGIN if LOGIN_OFFERED in scenario.extensions else {}),
        )
        retry = mailbridge.RetryPolicy(tries=3, delay=0.001) if again else None
        transport = mailbridge.Transport(
            [relay, relay] if again else relay, on_refused=scenario.mails[0].policy, retry=retry
        )
        if keep:
            with contextlib.suppress(MailError):
                transport.open()
        reports = list(transport.send_many([(m.envelope, m.content) for m in scenario.mails]))
        transport.close()
    check(scenario, log, reports)


def test_the_model_finds_a_lie() -> None:
    """The check is one that can fail."""
    mail = Written(0, ("r0@x.org",), b"Mail: 0\r\n\r\nend of 0\r\n", "report")
    scenario = Scenario([mail], {}, [], False, [], [1])
    log = Log()
    report = Line(scenario, log).deliver(mail, None)
    assert report.accepted
    log.taken.clear()
    with pytest.raises(AssertionError, match="never taken"):
        check(scenario, log, [report])
