"""CPU time of the client a message, and messages a second with client and server on one core."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.aims import Finding
from benchmarks.bench import Bench, Cost, Race, run
from benchmarks.contenders import Job
from benchmarks.servers import Missing, address_of

# What no client in Python could be below: see contenders/limit.py, and aio_limit.py.
LIMITS = ("limit.function", "limit.octets")
LOOP_LIMITS = ("limit.aio.function", "limit.aio.promises", "limit.aio.octets", "limit.aio.single")


def core(bench: Bench) -> Iterator[Finding]:
    """1 KiB over a warm connection, to the server that takes least of the core."""
    job = Job(port=bench.servers.fastest.port)
    batch, source = "Transport.batch", "smtp-source.single"
    names = ("smtplib.single", source, batch, "SMTP.single", "Transport.single")
    peers = ("aiosmtplib.single", "nodemailer.single", "nodemailer.batch", *LIMITS)
    race = bench.race(dict.fromkeys((*names, *peers), job))
    yield race.finding("batch-1k", batch, "smtplib.single")
    yield race.finding("batch-1k-source", batch, source)
    yield race.finding("single-smtp", "SMTP.single", "smtplib.single")
    yield race.finding("single-transport", "Transport.single", "smtplib.single")
    yield race.finding("speed-smtplib", batch, "smtplib.single", speed=True)
    yield race.finding("speed-source", batch, source, speed=True)


def core10(bench: Bench) -> Iterator[Finding]:
    """10 KiB over a warm connection."""
    job = Job(port=bench.servers.fastest.port, size=10 * 1024)
    names = ("smtplib.single", "smtp-source.single", "Transport.batch", "nodemailer.batch", *LIMITS)
    race = bench.race(dict.fromkeys(names, job))
    yield race.finding("batch-10k", "Transport.batch", "smtplib.single")


def on_loops(bench: Bench) -> Iterator[Finding]:
    """aiosmtplib and ours on the same loop."""
    for loop in ("asyncio", "uvloop"):
        job = Job(port=bench.servers.fastest.port, loop=loop)
        ours = ("AsyncTransport.batch", "AsyncTransport.single", "AsyncSMTP.single")
        peers = ("aiosmtplib.single", "smtplib.single", *LOOP_LIMITS)
        race = bench.race(dict.fromkeys((*ours, *peers), job))
        yield race.finding(f"{loop}-batch", "AsyncTransport.batch", "aiosmtplib.single")
        yield race.finding(f"{loop}-single", "AsyncTransport.single", "aiosmtplib.single")


def render(bench: Bench) -> Iterator[Finding]:
    """Messages to octets, without a server."""
    for aim, kind in (("render-text", "text"), ("render-html", "html")):
        yield _pair(bench, aim, "mailbridge_django.render", "django.render", Job(kind=kind))


def django(bench: Bench) -> Iterator[Finding]:
    """Rendering and sending over a warm connection."""
    job = Job(port=bench.servers.fastest.port)
    names = ("mailbridge_django.batch", "django.batch", "limit.django")
    yield bench.race(dict.fromkeys(names, job)).finding("django", *names[:2])


def flask(bench: Bench) -> Iterator[Finding]:
    """Rendering and sending over a warm connection."""
    job = Job(port=bench.servers.fastest.port)
    yield _pair(bench, "flask", "mailbridge_flask.batch", "flask_mail.batch", job)


def attachment(bench: Bench) -> Iterator[Finding]:
    """Encoding and sending one large attachment."""
    job = Job(port=address_of(bench.servers.plain_sink).port, size=bench.large, kind="attachment")
    names = ("mailbridge_django.batch", "django.batch")
    race = bench.race(dict.fromkeys(names, job), rounds=min(5, bench.rounds))
    yield race.finding("attachment", *names)


def content(bench: Bench) -> Iterator[Finding]:
    """A text with LF line ends to what goes out after DATA."""
    for aim, size in (("content-10k", 10 * 1024), ("content-25m", bench.large)):
        yield _pair(bench, aim, "mailbridge.prepare", "smtplib.prepare", Job(size=size))
    job = Job(size=10 * 1024)
    yield _pair(bench, "content-rendered", "mailbridge.rendered", "smtplib.prepare", job)


def tls(bench: Bench) -> Iterator[Finding]:
    """send_mail() as a view calls it: with TLS, a login, and no connection of its own.

    The first is measured with one certificate authority, which smtplib's figure includes as well:
    a system's whole bundle would be nearly all that one sees of either. Each further one is
    measured with that bundle, as Django loads it each time.
    """
    certificates = bench.servers.certificates
    port = address_of(bench.servers.sink).port
    job = Job(port=port, tls="starttls", login=True, ca_file=certificates.ca_file)
    ours = "mailbridge_django.send_mail"
    names = ("smtplib.cold", "django.send_mail", "limit.send_mail")
    yield _first(bench, dict.fromkeys((ours, *names), job)).finding("tls-first", ours, names[0])
    job = Job(port=port, tls="starttls", login=True, ca_file=certificates.bundle)
    race = bench.race(dict.fromkeys((ours, *names), job))
    yield race.finding("tls-further", ours, names[1])


def _first(bench: Bench, entries: dict[str, Job]) -> Race:
    """The first message of a process, in a new process each time."""
    race = Race(costs={name: [] for name in entries})
    for _ in range(bench.rounds):
        for name, job in entries.items():
            if name in race.missing:
                continue
            try:
                with bench.worker(name, job) as worker:
                    answer = run(worker, 1)
            except Missing as missing:
                race.missing[name] = str(missing)
                race.costs.pop(name)
            else:
                race.costs[name].append(Cost(answer["cpu"], answer["wall"]))
    return race


def _pair(bench: Bench, aim: str, who: str, base: str, job: Job) -> Finding:
    return bench.race({who: job, base: job}).finding(aim, who, base)
