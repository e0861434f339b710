"""``make demo``: send mail from Django and Flask through a relay that refuses, and show it all.

A scripted SMTP server on this machine is the relay. A visitor fills in the contact form of each
site, and each site's newsletter command is run. Then the pages are served until Ctrl-C, unless
``--once`` is given. The exit status is 1 if something went otherwise than it should.

DJANGO_PORT, FLASK_PORT and SMTP_PORT choose the ports; without them the kernel does.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version

from mailbridge.testing import ScriptedServer

from . import screen
from .relay import BUSY, GONE, WHAT_IT_DOES, Answer, answers, scripted_relay
from .sites import Log, environment, fill_in, serving

DESK = "desk@example.org"
SUBSCRIBERS = ("ada@example.org", "grace@example.com")
DJANGO_COMMAND = ("-m", "example_project.django_site.manage", "newsletter")
FLASK_COMMAND = ("-m", "flask", "--app", "example_project.flask_site", "newsletter")


class Demo:
    """The four sendings, and a note of everything that is not as it should be."""

    def __init__(self, relay: ScriptedServer, log: Log) -> None:
        self.relay = relay
        self.log = log
        self.failures: list[str] = []

    def view(self, title: str, url: str, visitor: str) -> None:
        """Fill in a contact form, and show what became of it."""
        self._begin(title)
        page = fill_in(url, visitor, "When do you open?\n.\nThe line above is a single dot.")
        self._show_relay(accepted={DESK}, rejected={visitor})
        error = self.log.last_error()
        screen.subheading("the application's side")
        screen.row("raised", type(error).__name__)
        screen.row("", str(error))
        screen.row("page", f"{page.status} {page.path}")
        screen.row("", f"{page.heading}. {page.told}")
        self._expect(type(error).__name__ == "SomeRecipientsRefused", "the view caught the error")
        self._expect(page.path == "/sent/", "the visitor was sent on")
        self._expect("did not reach everybody" in page.heading, "the visitor was told")

    def command(self, title: str, arguments: tuple[str, ...]) -> None:
        """Run a newsletter command, and show what it printed."""
        self._begin(title)
        done = subprocess.run(
            [sys.executable, *arguments],
            env=os.environ | environment(self.relay.port) | {"NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self._show_relay(accepted=set(SUBSCRIBERS), rejected={GONE, BUSY})
        screen.subheading("the application's side")
        screen.block("printed", (done.stdout + done.stderr).splitlines())
        screen.row("exit status", str(done.returncode))
        self._expect(done.returncode == 1, "the command failed, as not everybody got the mail")
        printed = [line.split()[:2] for line in done.stdout.splitlines()]
        for state, address in (("refused", GONE), ("deferred", BUSY), ("accepted", SUBSCRIBERS[0])):
            self._expect([state, address] in printed, f"it printed that {address} was {state}")

    def _begin(self, title: str) -> None:
        screen.heading(title)
        self.title = title
        self.relay.clear()
        self.log.records.clear()

    def _show_relay(self, *, accepted: set[str], rejected: set[str]) -> None:
        screen.subheading("the relay's side")
        found = answers(self.relay.transcript)
        for answer in found:
            show(answer)
        for mail in self.relay.messages:
            to, subject = ", ".join(mail.recipients), mail.message["Subject"]
            screen.row("arrived", f'"{subject}" from {mail.mail_from} for {to}')
        self._expect(
            {a.recipient for a in found if a.state == "accepted"} == accepted, "who got it"
        )
        self._expect(
            {a.recipient for a in found if a.state != "accepted"} == rejected, "who did not"
        )
        got = sorted(to for mail in self.relay.messages for to in mail.recipients)
        self._expect(got == sorted(accepted), "each got it once")

    def _expect(self, true: bool, what: str) -> None:
        if not true:
            self.failures.append(f"{self.title}: not as expected: {what}")


def run(relay: ScriptedServer, urls: Iterable[str], log: Log) -> list[str]:
    """Send from four places. Returns a sentence for each thing that went wrong."""
    django_url, flask_url = urls
    demo = Demo(relay, log)
    demo.view(f"1  Django view: {GONE} fills in the contact form", django_url, GONE)
    demo.command("2  Django management command: manage.py newsletter", DJANGO_COMMAND)
    demo.view(f"3  Flask view: {BUSY} fills in the contact form", flask_url, BUSY)
    demo.command("4  Flask command: flask newsletter", FLASK_COMMAND)
    return demo.failures


def introduce(relay: ScriptedServer) -> None:
    """Say what is about to be seen."""
    frameworks = f"Django {version('django')}, Flask {version('flask')}"
    screen.paragraph(f"mailbridge, on Python {platform.python_version()}, {frameworks}")
    print()
    where = f"{relay.host}:{relay.port}"
    screen.paragraph(f"The relay is an SMTP server on {where}. It takes mail for everybody but:")
    for address, what in WHAT_IT_DOES.items():
        print(f"   {address:<18} {what}")


def judge(failures: list[str]) -> None:
    """Say whether all was as it should be."""
    print()
    for failure in failures:
        print(screen.paint(failure, "refused"))
    if not failures:
        print(screen.paint("All four sendings went as expected.", "ok"))
        screen.paragraph(
            "Whoever could get the mail got it once."
            " Each application was told who did not, and why."
        )


def serve(relay: ScriptedServer, urls: Iterable[str], log: Log) -> None:
    """Show what comes of the pages until Ctrl-C."""
    screen.heading("The pages, with the same relay behind them")
    for name, url in zip(("Django", "Flask"), urls, strict=True):
        screen.row(name, url)
        screen.row("mailbox", f"{url}mail/")
    print()
    screen.paragraph(f"Fill in the forms as {', '.join(WHAT_IT_DOES)}, or anybody. Ctrl-C ends.")
    relay.clear()
    shown, before = 0, ""
    while True:
        time.sleep(0.2)
        before, transcript = relay.transcript, before
        if transcript != before:
            continue  # They are still talking.
        found = answers(transcript)
        for answer in found[shown:]:
            show(answer)
        shown = len(found)


def show(answer: Answer) -> None:
    """One recipient, and what the relay said."""
    screen.row(answer.state, f"{answer.recipient:<20} {answer.reply}", answer.state)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m example_project.demo")
    parser.add_argument("--once", action="store_true", help="end after the four sendings")
    once = parser.parse_args().once
    # Also where a shell that starts it in the background has it ignore Ctrl-C.
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, signal.default_int_handler)
    try:
        with scripted_relay(int(os.environ.get("SMTP_PORT", "0"))) as relay:
            introduce(relay)
            with serving(relay.port) as (django_url, flask_url, log):
                urls = (django_url, flask_url)
                failures = run(relay, urls, log)
                judge(failures)
                if not once and not failures:
                    serve(relay, urls, log)
    except KeyboardInterrupt:
        print("\nstopped")
        return 0
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
