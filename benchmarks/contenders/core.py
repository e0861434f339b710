"""smtplib, smtp-source, and mailbridge's blocking client and transport."""

from __future__ import annotations

import resource
import smtplib
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import mailbridge
from benchmarks.contenders import PASSWORD, SENDER, USER, Job, Prepare, Run, contender, needed
from benchmarks.servers import Missing, program
from mailbridge import Envelope, Transport

TIMES_OUT = 600
# How often smtp-source is started to see what that costs, and its messages for one of the others'.
STARTS, SHARE = 9, 5


# smtplib.


def connected(job: Job, module: Any = smtplib) -> Any:
    """A session of smtplib, or of the classes of the same names, ready to send."""
    if job.tls == "implicit":
        smtp = module.SMTP_SSL(job.host, job.port, context=job.context())
    else:
        smtp = module.SMTP(job.host, job.port)
    if job.tls == "starttls":
        smtp.starttls(context=job.context())
    if job.login:
        smtp.login(USER, PASSWORD)
    return smtp


def send_each(smtp: Any, job: Job, content: bytes, n: int) -> None:
    to = job.to
    for _ in range(n):
        smtp.sendmail(SENDER, to, content)


@contender("smtplib.single")
def smtplib_single(job: Job) -> Iterator[Prepare]:
    """sendmail() on a connection that has said EHLO."""
    content = job.content()
    with connected(job) as smtp:
        smtp.ehlo_or_helo_if_needed()
        yield lambda n: partial(send_each, smtp, job, content, n)


@contender("smtplib.session")
def smtplib_session(job: Job) -> Iterator[Prepare]:
    """Everything after connecting: EHLO, the messages, QUIT. Once."""
    content = job.content()
    smtp = connected(job)

    def run(n: int) -> None:
        send_each(smtp, job, content, n)
        smtp.quit()

    yield lambda n: partial(run, n)


@contender("smtplib.cold")
def smtplib_cold(job: Job) -> Iterator[Prepare]:
    """A connection for each message, from connecting to QUIT."""
    content = job.content()

    def run(n: int) -> None:
        for _ in range(n):
            with connected(job) as smtp:
                send_each(smtp, job, content, 1)

    yield lambda n: partial(run, n)


# mailbridge, level 1.


@contender("SMTP.single")
def smtp_single(job: Job) -> Iterator[Prepare]:
    """What smtplib.single does, with mailbridge.SMTP."""
    content = job.content()
    with connected(job, mailbridge) as smtp:
        smtp.ehlo_or_helo_if_needed()
        yield lambda n: partial(send_each, smtp, job, content, n)


@contender("SMTP.session")
def smtp_session(job: Job) -> Iterator[Prepare]:
    """What smtplib.session does, with mailbridge.SMTP."""
    content = job.content()
    smtp = connected(job, mailbridge)

    def run(n: int) -> None:
        send_each(smtp, job, content, n)
        smtp.quit()

    yield lambda n: partial(run, n)


# mailbridge, level 2.


def mails(job: Job, content: bytes, n: int) -> Iterator[tuple[Envelope, bytes]]:
    """As an application would have them: addresses are texts until now."""
    to = job.to
    for _ in range(n):
        yield Envelope(SENDER, to), content


def accepted(report: mailbridge.DeliveryReport) -> None:
    if not report.accepted:
        raise report.failure() or AssertionError(report)


def send_many(transport: Transport, job: Job, content: bytes, n: int) -> None:
    for report in transport.send_many(mails(job, content, n)):
        accepted(report)


@contender("Transport.single")
def transport_single(job: Job) -> Iterator[Prepare]:
    """send() for each message, on a transport that is open."""
    content, to = job.content(), job.to

    def run(n: int) -> None:
        for _ in range(n):
            transport.send(Envelope(SENDER, to), content)

    with Transport(job.url) as transport:
        yield lambda n: partial(run, n)


@contender("Transport.batch")
def transport_batch(job: Job) -> Iterator[Prepare]:
    """send_many() on a transport that is open."""
    content = job.content()
    with Transport(job.url) as transport:
        yield lambda n: partial(send_many, transport, job, content, n)


@contender("Transport.session")
def transport_session(job: Job) -> Iterator[Prepare]:
    """Everything after open(): the messages by send_many(), and close(). Once."""
    content = job.content()
    transport = Transport(job.url)
    transport.open()

    def run(n: int) -> None:
        send_many(transport, job, content, n)
        transport.close()

    yield lambda n: partial(run, n)


@contender("Transport.cold")
def transport_cold(job: Job) -> Iterator[Prepare]:
    """send() for each message, on a transport that nobody has opened."""
    content, to = job.content(), job.to
    transport = Transport(job.url)

    def run(n: int) -> None:
        for _ in range(n):
            transport.send(Envelope(SENDER, to), content)

    yield lambda n: partial(run, n)


@contender("Transport.window")
def transport_window(job: Job) -> Iterator[Prepare]:
    """send_many() with whole BDAT transactions on their way, where there is an option for it."""
    names = {"window", "bdat_window", "transaction_window", "pipeline_window"}
    options = needed("mailbridge.options", "OPTION_NAMES") & names
    if not options:
        raise Missing("there is no window of whole BDAT transactions yet")
    content = job.content()
    relay = mailbridge.Relay.from_url(job.url, **{min(options): 100})
    with Transport(relay) as transport:
        yield lambda n: partial(send_many, transport, job, content, n)


@contender("Transport.file")
def transport_file(job: Job) -> Iterator[Prepare]:
    """send() of content that is in a file."""
    import tempfile

    with tempfile.TemporaryFile() as file, Transport(job.url) as transport:
        file.write(job.content())

        def run() -> None:
            file.seek(0)
            content: Any = file
            try:
                transport.send(Envelope(SENDER, job.to), content)
            except TypeError as error:
                raise Missing("send() does not take a file yet") from error

        yield lambda n: run


@contender("Transport.threads")
def transport_threads(job: Job) -> Iterator[Prepare]:
    """One transport for `threads` threads, each of which sends its share at the same time."""
    pool_options = needed("mailbridge", "PoolOptions")
    options: dict[str, Any] = {"pool": pool_options(max_connections=10, max_messages=None)}
    relay = mailbridge.Relay.from_url(job.url, **options)
    transport, content, to = Transport(relay), job.content(), job.to

    def prepare(n: int) -> Run:
        share = max(1, n // job.threads)
        go = threading.Event()
        errors: list[str] = []

        def work() -> None:
            go.wait(TIMES_OUT)
            for _ in range(share):
                try:
                    transport.send(Envelope(SENDER, to), content)
                except Exception as error:
                    errors.append(repr(error))

        threads = [threading.Thread(target=work) for _ in range(job.threads)]
        for thread in threads:
            thread.start()

        def run() -> dict[str, Any]:
            go.set()
            for thread in threads:
                thread.join(TIMES_OUT)
            return {"errors": errors[:5]}

        return run

    yield prepare


# Postfix's smtp-source.


@contender("smtp-source.single")
def smtp_source(job: Job) -> Iterator[Prepare]:
    """All messages over one connection, in lock-step. Its start-up is taken off."""
    command = program("smtp-source", "postfix")

    def send(n: int) -> tuple[float, float]:
        arguments = ("-d", "-m", str(n), "-l", str(job.size), "-f", SENDER, "-t", job.to[0])
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        subprocess.run(
            (command, *arguments, f"{job.host}:{job.port}"),
            stdin=subprocess.DEVNULL,
            check=True,
            timeout=300,
        )
        wall = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return cpu, wall

    starts = [send(1) for _ in range(STARTS)]
    start_cpu, start_wall = (statistics.median(costs) for costs in zip(*starts, strict=True))

    def run(n: int) -> dict[str, Any]:
        # Very many, so that what starting costs this time does not matter.
        cpu, wall = send(n * SHARE + 1)
        return {"cpu": (cpu - start_cpu) / SHARE, "wall": (wall - start_wall) / SHARE}

    yield lambda n: partial(run, n)
