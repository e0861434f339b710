"""The benchmarks run, and their proxy counts round trips by its rule. Nothing here has a clock."""

from __future__ import annotations

import shutil
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import node
from benchmarks.aims import AIMS, GROUPS, Aim, Finding
from benchmarks.bench import Bench, Cost, Race
from benchmarks.contenders import Job, content, needed
from benchmarks.groups import MEASURE
from benchmarks.groups.trips import count
from benchmarks.process import Child
from benchmarks.servers import Missing, Servers, address_of
from benchmarks.table import rows, table

# They are for those who develop mailbridge, by one version of Python.
pytestmark = pytest.mark.once

TRIES = 8


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers() as servers:
        yield servers


def trips(
    servers: Servers, contender: str, expected: int, mode: str = "none", n: int = 1, **job: int
) -> int:
    """The round trips that it takes, at the first of some tries that finds no more than expected.

    A busy machine can tear a flight in two, but never join two in one.
    """
    tls = mode != "none"
    sink = address_of(servers.sink if tls else servers.plain_sink)
    ca_file = servers.certificates.ca_file if tls else ""
    what = Job(tls=mode, login=tls, ca_file=ca_file, **job)
    warm = int(contender.endswith(".single"))
    bench = Bench(servers, offline=True)
    tries = (count(bench, sink, contender, what, n=n, warm=warm) for _ in range(TRIES))
    least = next(tries)
    while least > expected and (found := next(tries, None)) is not None:
        least = min(least, found)
    return least


@pytest.mark.parametrize(("mode", "expected"), [("none", 8), ("starttls", 12), ("implicit", 10)])
def test_the_trips_of_smtplib_for_one_message(servers: Servers, mode: str, expected: int) -> None:
    assert trips(servers, "smtplib.cold", expected, mode) == expected


def test_the_trips_of_smtplib_over_a_warm_connection(servers: Servers) -> None:
    # MAIL, RCPT, DATA, content for each; EHLO and QUIT.
    assert trips(servers, "smtplib.session", 22, n=5) == 4 * 5 + 2


def test_the_trips_of_smtplib_for_many_recipients(servers: Servers) -> None:
    assert trips(servers, "smtplib.single", 23, recipients=20) == 20 + 3


@pytest.mark.parametrize(("mode", "expected"), [("none", 5), ("starttls", 8), ("implicit", 6)])
def test_the_trips_for_one_message(servers: Servers, mode: str, expected: int) -> None:
    # SYN, ACK, EHLO, MAIL and RCPT, content; with TLS its two, and EHLO again after STARTTLS.
    # AUTH goes with MAIL, and nobody waits for an answer to QUIT.
    assert trips(servers, "Transport.cold", expected, mode) == expected


def test_the_trips_over_a_warm_connection(servers: Servers) -> None:
    # MAIL and RCPT; each content with the next one's envelope, the last with QUIT.
    assert trips(servers, "Transport.session", 101, n=100) == 101


def test_a_window_takes_three_trips_for_a_hundred(servers: Servers) -> None:
    # MAIL and RCPT of the first; all the rest; QUIT.
    assert trips(servers, "Transport.window", 3, n=100) == 3


def test_the_sink_takes_groups_chunks_and_data() -> None:
    with Child.module("sink", {}) as sink:
        with smtplib.SMTP("127.0.0.1", sink.hello["port"], timeout=10) as smtp:
            smtp.ehlo()
            assert smtp.has_extn("pipelining")
            assert smtp.has_extn("chunking")
            smtp.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n")
            smtp.send(b"BDAT 2\r\nhiBDAT 2 LAST\r\n\r\n")
            assert [smtp.getreply()[0] for _ in range(4)] == [250] * 4
            smtp.sendmail("a@example.org", ["b@example.com", "c@example.com"], b".\r\nhi\r\n")
        stats = sink.ask({"do": "stats"})
    assert stats["messages"] == 2
    assert stats["recipients"] == 3
    assert stats["octets"] == 4 + len(b"..\r\nhi\r\n")


def test_a_feature_that_is_not_there_is_reported() -> None:
    race = Race({"smtplib.single": [Cost(1, 1)]}, {"AsyncSMTP.single": "it is not there yet"})
    found = race.finding("asyncio-single", "AsyncSMTP.single", "smtplib.single")
    assert found.measured is None
    assert "not there yet" in table([found])
    with pytest.raises(Missing):
        race.ratios("AsyncSMTP.single", "smtplib.single")


def test_peers_that_could_not_take_part_are_named_with_the_reason() -> None:
    costs = {"smtplib.single": [Cost(1, 1)], "Transport.batch": [Cost(1, 1)]}
    race = Race(costs, {"nodemailer.batch": "Node.js is not installed"})
    found = race.finding("batch-1k", "Transport.batch", "smtplib.single")
    lines = table([found, found]).splitlines()
    assert lines[2].endswith("nodemailer.batch not there")
    assert lines[4] == "not there: nodemailer.batch: Node.js is not installed"
    assert lines[5].startswith("measured with: python ")


def test_nodemailer_is_not_installed_unasked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(node, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "npm" else f"/bin/{name}")
    with pytest.raises(Missing, match="node-nodemailer"):
        node.installed(install=True)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    with pytest.raises(Missing, match="--offline"):
        node.installed(install=False)
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian" / "package.json").write_text("{}")
    assert node.installed(install=False) == tmp_path / "debian"


def test_the_median_of_the_rounds_is_taken() -> None:
    costs = {"ours": [Cost(1, 2), Cost(2, 2), Cost(9, 2)], "theirs": [Cost(2, 4)] * 3}
    race = Race(costs)
    assert race.finding("django", "ours", "theirs").measured == 1
    assert race.finding("django", "ours", "theirs", speed=True).measured == 2


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(Missing, match="no_such_package"):
        needed("no_such_package")


def test_each_aim_is_measured() -> None:
    assert MEASURE.keys() == GROUPS.keys()
    assert len(AIMS) == sum(map(len, GROUPS.values()))


def test_an_aim_is_met_at_its_limit() -> None:
    assert Aim("a", "", 5, "").met(5)
    assert not Aim("a", "", 5, "").met(6)
    assert Aim("a", "", 3, "", at_least=True).met(3.2)
    assert not Aim("a", "", 3, "", at_least=True).met(2.9)
    verdicts = [row[5] for row in rows([Finding("trips-cold", 5), Finding("trips-cold", 8)])]
    assert verdicts == ["met", "not met"]


@pytest.mark.parametrize("size", [1024, 10 * 1024])
def test_a_message_has_the_size_that_was_asked_for(size: int) -> None:
    made = content(size)
    assert len(made) == size
    assert made.endswith(b"\r\n")
    assert made.count(b"\n") == made.count(b"\r\n")
