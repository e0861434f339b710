"""What is aimed at: one line for each figure, and what was found.

All figures are ratios or counts, never seconds: the machine cancels out.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Aim:
    """One figure. It is met at `limit` or below, with `at_least` at `limit` or above.

    `of` says what the figure is: a count, or a multiple of somebody else's. `peers` is what others
    had when the aim was set.
    """

    name: str
    text: str
    limit: float
    of: str
    peers: str = ""
    at_least: bool = False

    def met(self, measured: float) -> bool:
        """True if a measured figure is good enough."""
        # As precise as it is shown; counts are exact.
        shown = round(measured, 3)
        return shown >= self.limit if self.at_least else shown <= self.limit


@dataclass
class Finding:
    """What was measured for an aim, or why nothing was.

    `low` and `high` are the quartiles over the rounds. `peers` are the figures of others, measured
    in the same run by the same rule; `absent` are those that could not take part, with the reason.
    """

    aim: str
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    peers: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    missing: str = ""


TRIPS = "round trips"
SMTPLIB, SOURCE, AIOSMTPLIB = "× smtplib", "× smtp-source", "× aiosmtplib"
DJANGO, FLASK = "× Django's own", "× Flask-Mail"
WIRE = "× wire size"

GROUPS: dict[str, tuple[Aim, ...]] = {
    "trips": (
        Aim("trips-cold", "1 message, cold, plain", 5, TRIPS, "8"),
        Aim("trips-starttls", "1 message, cold, STARTTLS + AUTH PLAIN", 8, TRIPS, "12"),
        Aim("trips-implicit", "1 message, cold, implicit TLS + AUTH", 6, TRIPS, "10"),
        Aim("trips-django", "each further send_mail()", 2, TRIPS, "8"),
        Aim("trips-flask", "each further mail.send()", 2, TRIPS, "8"),
        Aim("trips-batch", "100 messages, warm connection", 101, TRIPS, "402, nodemailer 201"),
        Aim("trips-recipients", "1 message, 100 recipients, warm", 2, TRIPS, "103, nodemailer 2"),
    ),
    "postfix": (
        Aim("postfix-cold", "1 message, cold, to a real Postfix", 5, TRIPS, "8"),
        Aim("postfix-batch", "100 messages, warm, to a real Postfix", 101, TRIPS, "402"),
    ),
    "core": (
        Aim("batch-1k", "batch, 1 KiB: CPU a message", 0.28, SMTPLIB),
        Aim("batch-1k-source", "batch, 1 KiB: CPU a message", 0.75, SOURCE),
        Aim("single-smtp", "SMTP.sendmail(), 1 KiB: CPU a message", 0.42, SMTPLIB),
        Aim("single-transport", "Transport.send(), 1 KiB: CPU a message", 0.42, SMTPLIB),
        Aim("speed-smtplib", "batch, 1 KiB: messages a second, one core", 3, SMTPLIB, "", True),
        Aim("speed-source", "batch, 1 KiB: messages a second, one core", 2, SOURCE, "", True),
    ),
    "core10": (Aim("batch-10k", "batch, 10 KiB: CPU a message", 0.38, SMTPLIB),),
    "asyncio": (
        Aim("asyncio-batch", "send_many(), asyncio's loop, 1 KiB: CPU a message", 0.15, AIOSMTPLIB),
        Aim("asyncio-single", "send(), asyncio's loop, 1 KiB: CPU a message", 0.15, AIOSMTPLIB),
        Aim("uvloop-batch", "send_many(), uvloop, 1 KiB: CPU a message", 0.15, AIOSMTPLIB),
        Aim("uvloop-single", "send(), uvloop, 1 KiB: CPU a message", 0.15, AIOSMTPLIB),
    ),
    "render": (
        Aim("render-text", "rendering a text: CPU", 0.03, DJANGO),
        Aim("render-html", "rendering text + HTML, non-ASCII, 10 KiB: CPU", 0.05, DJANGO),
    ),
    "django": (Aim("django", "send_messages(), warm, all in: CPU a message", 0.05, DJANGO),),
    "flask": (Aim("flask", "send(), warm, all in: CPU a message", 0.1, FLASK),),
    "tls": (
        Aim("tls-first", "send_mail(), STARTTLS + AUTH, first: CPU", 0.9, SMTPLIB),
        Aim("tls-further", "send_mail(), STARTTLS + AUTH, each further: CPU", 0.01, DJANGO),
    ),
    "memory": (
        Aim("memory-bytes", "25 MiB of finished bytes: peak memory", 0.02, WIRE, "2.0 to 5.8"),
        Aim("memory-file", "25 MiB from a file: peak memory", 0.02, WIRE, "2.0 to 5.8"),
        Aim("memory-django", "25 MiB attachment, Django: peak memory", 0.05, WIRE, "2.0 to 5.8"),
        Aim("memory-flask", "25 MiB attachment, Flask: peak memory", 0.05, WIRE, "2.0 to 5.8"),
    ),
    "attachment": (Aim("attachment", "25 MiB attachment, Django: CPU", 0.1, DJANGO),),
    "content": (
        Aim("content-10k", "line ends and dot-stuffing, 10 KiB: CPU", 0.6, SMTPLIB),
        Aim("content-25m", "line ends and dot-stuffing, 25 MiB: CPU", 0.35, SMTPLIB),
        Aim("content-rendered", "the same for what we rendered, 10 KiB: CPU", 0.1, SMTPLIB),
    ),
    "threads": (
        Aim("threads-errors", "1,000 threads, a message each: errors", 0, "errors"),
        Aim("threads-most", "the same, max_connections=10: connections", 10, "connections"),
        Aim("threads-speed", "the same: messages a second", 1, "× 10 threads", "", True),
    ),
    "stream": (
        Aim("stream", "100,000 messages from a generator: memory", 1.05, "× after the first 1,000"),
    ),
    "import": (
        Aim("import-core", "import mailbridge: CPU", 1.25, SMTPLIB),
        Aim("import-smtp", "from mailbridge import SMTP: CPU", 1.25, SMTPLIB),
        Aim("import-transport", "from mailbridge import Transport: CPU", 1.25, SMTPLIB),
        Aim("import-django", "import mailbridge_django, with Django: CPU", 1, DJANGO),
        Aim("import-flask", "import mailbridge_flask, with Flask: CPU", 1, FLASK),
    ),
    "window": (
        Aim("window-trips", "100 messages, window of BDAT transactions", 3, TRIPS),
        Aim("window-cpu", "the same: CPU a message", 0.12, SMTPLIB),
    ),
}

AIMS: dict[str, Aim] = {aim.name: aim for aims in GROUPS.values() for aim in aims}
