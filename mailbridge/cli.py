"""`python -m mailbridge check URL` and `send URL`: arguments in, plain text or JSON out.

The exit status is 0 if all went well, 1 if the server or the way to it did not, 2 for wrong
arguments. A password comes from the URL, the environment or a prompt, and is never shown.
"""

from __future__ import annotations

import argparse
import email.policy
import getpass
import json
import os
import sys
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from urllib.parse import urlsplit

from .envelope import Envelope
from .errors import InvalidInput, MailError
from .findings import render_all
from .options import Relay
from .probe import probe
from .report import DeliveryReport, OnRefused
from .sync.transport import Transport

PASSWORD = "MAILBRIDGE_PASSWORD"
OK, FAILED, WRONG_USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    arguments = parser().parse_args(argv)
    try:
        relay = relay_from(arguments.url)
        status: int = arguments.run(relay, arguments)
    except InvalidInput as error:
        print(f"mailbridge: {error}", file=sys.stderr)
        return WRONG_USAGE
    return status


def parser() -> argparse.ArgumentParser:
    """The arguments of both commands."""
    top = argparse.ArgumentParser("python -m mailbridge", description="Check a mail server.")
    commands = top.add_subparsers(required=True, metavar="check|send")
    check = commands.add_parser("check", help="try the way to a server, step by step")
    send = commands.add_parser("send", help="send one mail")
    for command in (check, send):
        command.add_argument(
            "url", help=f"smtp://user@host:port?tls=starttls; the password may be in ${PASSWORD}"
        )
        command.add_argument("--json", action="store_true", help="print JSON")
    check.add_argument(
        "--rcpt",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="offer this recipient to the server, and send nothing; may be repeated",
    )
    check.add_argument("--sender", metavar="ADDRESS", help="the sender for --rcpt; default: <>")
    check.set_defaults(run=_check)
    send.add_argument("--from", dest="sender", required=True, metavar="ADDRESS")
    send.add_argument("--to", action="append", required=True, metavar="ADDRESS")
    send.add_argument("--subject", default="Test by mailbridge")
    send.add_argument("--body", help="the text; default: standard input")
    send.set_defaults(run=_send)
    return top


def relay_from(url: str, environment: Mapping[str, str] = os.environ) -> Relay:
    """The relay of a URL. A password that it needs and lacks is looked for elsewhere.

    Raises OptionError, also if there is no password to be had.
    """
    password = None
    if _lacks_password(url):
        password = environment.get(PASSWORD)
        if password is None and sys.stdin.isatty():
            password = getpass.getpass("Password: ")
    return Relay.from_url(url, password=password)


def _lacks_password(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False  # Relay says what is wrong with it.
    return bool(parts.username) and parts.password is None and "password=" not in parts.query


def _check(relay: Relay, arguments: argparse.Namespace) -> int:
    findings = probe(relay, sender=arguments.sender, rcpt=arguments.rcpt)
    print(render_all([findings], as_json=arguments.json))
    return OK if findings.ok else FAILED


def _send(relay: Relay, arguments: argparse.Namespace) -> int:
    envelope = Envelope(arguments.sender, arguments.to)
    message = EmailMessage()
    message["Subject"], message["From"] = arguments.subject, arguments.sender
    message["To"] = ", ".join(arguments.to)
    message["Date"] = formatdate(localtime=True)
    sender = envelope.reverse_path
    message["Message-ID"] = make_msgid(domain=sender.ascii_domain if sender else None)
    message.set_content(sys.stdin.read() if arguments.body is None else arguments.body)
    policy = email.policy.SMTPUTF8 if envelope.needs_smtputf8 else email.policy.SMTP
    content = message.as_bytes(policy=policy)
    try:
        report = Transport(relay).send(envelope, content, on_refused=OnRefused.REPORT)
    except MailError as error:
        if error.report is None or not arguments.json:
            print(f"mailbridge: {error}", file=sys.stderr)
            return FAILED
        report = error.report
    print(json.dumps(report.to_dict(), indent=2) if arguments.json else _told(report))
    return OK if len(report.accepted) == len(report.recipients) else FAILED


def _told(report: DeliveryReport) -> str:
    return "\n".join(str(result) for result in report)
