"""What it costs to render a Django message, as a share of Django's own rendering.

    python benchmarks/rendering.py

Both render the same messages, in turns; each figure is the median of the rounds. CPU time only.
"""

from __future__ import annotations

import email.policy
import gc
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import django
from django.conf import settings

settings.configure(USE_TZ=True)
django.setup()

from django.core.mail import EmailMessage, EmailMultiAlternatives  # noqa: E402 - after settings

from mailbridge.render import Rendered  # noqa: E402
from mailbridge_django.fastpath import MODERN_DJANGO, Common, render  # noqa: E402

ROUNDS = 15
ROUND_SECONDS = 0.02

TEXT = "Hello,\n\nyour order 4711 has been shipped today.\n\n-- \nThe shop\n"
FOREIGN = "Grüße aus Köln, schöne Straßen und süße Äpfel für alle. 你好世界 "


def text() -> EmailMessage:
    return EmailMessage("Your order", TEXT, "shop@example.org", ["Ann <ann@example.com>"])


def text_and_html() -> EmailMessage:
    message = EmailMultiAlternatives("Your order", TEXT, "shop@example.org", ["ann@example.com"])
    message.attach_alternative(f"<html><body><p>{TEXT}</p></body></html>", "text/html")
    return message


def foreign_10k() -> EmailMessage:
    lines = "\n".join([FOREIGN * 3] * 20)
    message = EmailMultiAlternatives("Grüße", lines, "Köln <k@example.org>", ["ann@example.com"])
    message.attach_alternative("<p>" + FOREIGN * 140 + "</p>", "text/html")
    return message


def recipients_500() -> EmailMessage:
    to = [f"Person {number} <person{number}@example.com>" for number in range(500)]
    return EmailMessage("Your order", TEXT, "shop@example.org", to)


def attachment_5m() -> EmailMessage:
    message = text()
    message.attach("report.pdf", os.urandom(5 * 2**20), "application/pdf")
    return message


def by_django(message: EmailMessage) -> bytes:
    if MODERN_DJANGO:
        return bytes(message.message(policy=email.policy.SMTP).as_bytes())
    old: Any = message.message()  # SafeMIMEText and the like take a line separator
    return bytes(old.as_bytes(linesep="\r\n"))


def by_us(message: EmailMessage) -> bytes:
    return bytes(covered(message))


def covered(message: EmailMessage) -> Rendered:
    rendered = render(message)
    if rendered is None:
        sys.exit("this message is not covered: there is nothing to measure")
    return rendered


def seconds(call: Callable[[], object], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    our_times = max(1, int(ROUND_SECONDS / max(seconds(ours, 3), 1e-6)))
    their_times = max(1, int(ROUND_SECONDS / max(seconds(theirs, 3), 1e-6)))
    rounds = [(seconds(ours, our_times), seconds(theirs, their_times)) for _ in range(ROUNDS)]
    ratio = statistics.median(our / their for our, their in rounds)
    our, their = (statistics.median(column) * 1e6 for column in zip(*rounds, strict=True))
    print(f"{name:34}{our:12,.1f} us{their:14,.1f} us{ratio:9.1%}")


def peak(call: Callable[[], object]) -> float:
    gc.collect()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def iterate(message: EmailMessage) -> None:
    for _ in covered(message).pieces():
        pass


def main() -> None:
    print(f"Python {sys.version.split()[0]}, Django {django.__version__}")
    print(f"{'CPU per message':34}{'fast':>15}{'Django':>17}{'ratio':>9}")
    for make in (text, text_and_html, foreign_10k, recipients_500, attachment_5m):
        message = make()
        compare(make.__name__, partial(by_us, message), partial(by_django, message))
    message, common = foreign_10k(), Common()
    compare(
        "foreign_10k, body of the one before",
        lambda: bytes(render(message, common) or b""),
        lambda: by_django(message),
    )
    message = text()
    message.attach("film.mp4", os.urandom(25 * 2**20), "video/mp4")
    print("Peak memory for an attachment of 25 MiB, over the attachment itself")
    print(f"  in pieces   {peak(lambda: iterate(message)):8.1f} MiB")
    print(f"  as a whole  {peak(lambda: by_us(message)):8.1f} MiB")
    print(f"  by Django   {peak(lambda: by_django(message)):8.1f} MiB")


if __name__ == "__main__":
    main()
