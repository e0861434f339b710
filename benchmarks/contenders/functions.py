"""Line ends and dot-stuffing alone, without a server."""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from benchmarks.contenders import Job, Prepare, contender, needed
from mailbridge.protocol import content
from mailbridge.render import Rendered, Text, render_body


def text(job: Job) -> str:
    """What an application has: LF line ends, and now and then a line that begins with a dot."""
    lines = job.content().decode().replace("\r\n", "\n")
    return lines.replace("\nThe quick", "\n.The quick", max(1, len(lines) // 8192))


def each(function: Callable[[str], object], job: Job) -> Iterator[Prepare]:
    given = text(job)

    def run(n: int) -> None:
        for _ in range(n):
            function(given)

    yield lambda n: partial(run, n)


@contender("smtplib.prepare")
def smtplib_prepare(job: Job) -> Iterator[Prepare]:
    """What SMTP.sendmail() and SMTP.data() do with a text before it is sent."""
    # Private, and what sendmail() really calls; quotedata() is left over from Python 2.
    fix_eols, quote_periods = (needed("smtplib", n) for n in ("_fix_eols", "_quote_periods"))

    def prepared(given: str) -> bytes:
        quoted: bytes = quote_periods(fix_eols(given).encode("ascii"))
        if quoted[-2:] != smtplib.bCRLF:
            quoted += smtplib.bCRLF
        return quoted + b"." + smtplib.bCRLF

    return each(prepared, job)


def take(wire: bytes | Iterable[bytes]) -> None:
    """What a driver does with it, but for the writing."""
    if not isinstance(wire, bytes):
        for _ in wire:
            pass


@contender("mailbridge.prepare")
def mailbridge_prepare(job: Job) -> Iterator[Prepare]:
    """What mailbridge does with a text before it is sent with DATA."""
    return each(lambda given: take(content.wire_of(content.body(given), dots=True)), job)


@contender("mailbridge.rendered")
def mailbridge_rendered(job: Job) -> Iterator[Prepare]:
    """The same with what our own renderer wrote: it knows that there is nothing to change."""
    rendered = Rendered("Subject: A message\r\n", render_body(Text(job.content().decode())))

    def run(n: int) -> None:
        for _ in range(n):
            take(content.wire_of(rendered, dots=True))

    yield lambda n: partial(run, n)
