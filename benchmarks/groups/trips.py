"""Round trips, counted by the proxy: see the rule in `benchmarks.proxy`.

Two situations are called warm, and each is counted in the way that its users see it:

* 100 messages over a connection: from what the interface calls connected until it is done.
  smtplib says EHLO with the first message and QUIT in the end, which makes 402; `Transport.open()`
  has said EHLO before.
* one message more over a connection that has served before, and goes on to: that call alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmarks.aims import Finding
from benchmarks.bench import Bench, last_line, run
from benchmarks.contenders import Job
from benchmarks.process import HelperError
from benchmarks.servers import Address, Missing, address_of

# Long enough that the pieces of a flight leave before an answer to the first of them is heard.
DELAY = 0.002
MANY = 100


def count(
    bench: Bench, server: Address, name: str, job: Job | None = None, *, n: int = 1, warm: int = 0
) -> int:
    """The round trips of `n` messages, after `warm` others. Raises Missing."""
    job = job or Job()
    with bench.servers.proxy(server, tls=job.tls == "implicit", delay=DELAY) as proxy:
        with bench.worker(name, replace(job, port=proxy.hello["port"])) as worker:
            if warm:
                run(worker, warm)
            if warm or not name.endswith(".cold"):
                proxy.ask({"do": "reset"})
            run(worker, n)
            counts: dict[str, Any] = proxy.ask({"do": "counts"})
    flights: int = counts["flights"]
    return flights


def least(bench: Bench, *args: Any, **kwargs: Any) -> int:
    """`count` twice: a busy machine can tear a flight in two, but never join two in one."""
    return min(count(bench, *args, **kwargs) for _ in range(1 if bench.quick else 2))


def finding(
    bench: Bench, aim: str, server: Address, who: str, peers: tuple[str, ...], **kwargs: Any
) -> Finding:
    """The round trips of ours and of its peers."""
    found = Finding(aim)
    for name in peers:
        peer = name.partition(".")[0]
        try:
            found.peers[peer] = least(bench, server, name, **kwargs)
        except (Missing, HelperError) as reason:
            found.absent[peer] = last_line(reason)
    try:
        found.measured = least(bench, server, who, **kwargs)
    except Missing as missing:
        found.missing = str(missing)
    return found


COLD = ("smtplib.cold", "aiosmtplib.cold", "nodemailer.cold")


def trips(bench: Bench) -> Iterator[Finding]:
    """Our own sink, which offers what relays offer."""
    plain = address_of(bench.servers.plain_sink)
    tls = address_of(bench.servers.sink)
    ca_file = bench.servers.certificates.ca_file
    yield finding(bench, "trips-cold", plain, "Transport.cold", COLD)
    for aim, mode in (("trips-starttls", "starttls"), ("trips-implicit", "implicit")):
        job = Job(tls=mode, login=True, ca_file=ca_file)
        yield finding(bench, aim, tls, "Transport.cold", COLD, job=job)
    for aim, ours, theirs in (
        ("trips-django", "mailbridge_django.send_mail", "django.send_mail"),
        ("trips-flask", "mailbridge_flask.send", "flask_mail.send"),
    ):
        yield finding(bench, aim, plain, ours, (theirs,), warm=1)
    peers: tuple[str, ...] = ("smtplib.session", "nodemailer.session")
    yield finding(bench, "trips-batch", plain, "Transport.session", peers, n=MANY)
    peers = ("smtplib.single", "aiosmtplib.single", "nodemailer.single")
    job = Job(recipients=MANY)
    yield finding(bench, "trips-recipients", plain, "Transport.single", peers, job=job, warm=1)


def postfix(bench: Bench) -> Iterator[Finding]:
    """The same against a real Postfix."""
    server = bench.servers.postfix
    yield finding(bench, "postfix-cold", server, "Transport.cold", ("smtplib.cold",))
    peers = ("smtplib.session",)
    yield finding(bench, "postfix-batch", server, "Transport.session", peers, n=MANY)


def window(bench: Bench) -> Iterator[Finding]:
    """Whole BDAT transactions without waiting, for relays that are known to bear it."""
    plain = address_of(bench.servers.plain_sink)
    yield finding(bench, "window-trips", plain, "Transport.window", (), n=MANY)
    job = Job(port=plain.port)
    names = ("smtplib.single", "Transport.batch", "Transport.window")
    race = bench.race(dict.fromkeys(names, job))
    yield race.finding("window-cpu", "Transport.window", "smtplib.single")
