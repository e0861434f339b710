"""``flask mail check`` and ``flask mail send``: the settings of the application, tried."""

from __future__ import annotations

import sys

import click
from flask import current_app
from flask.cli import AppGroup

from mailbridge import MailError

from .message import Message
from .state import MailState

mail_commands = AppGroup("mail", help="Try how this application sends mail.")


@mail_commands.command("check")
@click.option("--using", metavar="NAME", help="Another mailer, by its name in MAIL_MAILERS.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--sender", metavar="ADDRESS", help="For --rcpt; default: MAIL_DEFAULT_SENDER.")
@click.option(
    "--rcpt",
    multiple=True,
    metavar="ADDRESS",
    help="Offer this recipient to the server, and send nothing; may be repeated.",
)
def check(using: str | None, as_json: bool, sender: str | None, rcpt: tuple[str, ...]) -> None:
    """Try the way to the mail server, step by step. Sends nothing.

    The exit status is 0 if the server takes mail from here, 1 if a step failed, 2 for a wrong
    argument.
    """
    # Imported here: an application that sends does without them.
    from mailbridge.findings import render_all
    from mailbridge.probe import probe

    config = _state(using).config
    sender = sender or _bare(config.default_sender)
    relays = (config.relay, *config.relays)
    try:
        findings = [probe(relay, sender=sender, rcpt=rcpt) for relay in relays]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo(render_all(findings, as_json=as_json))
    if not all(found.ok for found in findings):
        sys.exit(1)


@mail_commands.command("send")
@click.option("--using", metavar="NAME", help="Another mailer, by its name in MAIL_MAILERS.")
@click.option("--to", multiple=True, required=True, metavar="ADDRESS", help="May be repeated.")
@click.option("--sender", metavar="ADDRESS", help="Default: MAIL_DEFAULT_SENDER.")
@click.option("--subject", default="Test by mailbridge", show_default=True)
@click.option("--body", help="The text; default: standard input.")
def send(
    using: str | None, to: tuple[str, ...], sender: str | None, subject: str, body: str | None
) -> None:
    """Send one mail as the application would, and say what became of each recipient.

    The exit status is 0 if all of them got it, 1 if one did not, 2 for a wrong argument.
    """
    state = _state(using)
    text = sys.stdin.read() if body is None else body
    try:
        message = Message(subject, list(to), text, sender=sender)
        report = state.send(message)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except MailError as error:
        if error.report is None:
            raise click.ClickException(str(error)) from error
        report = error.report
        click.echo(str(error), err=True)
    for result in report:
        click.echo(str(result))
    if len(report.accepted) < len(report.recipients):
        sys.exit(1)


def _state(using: str | None) -> MailState:
    state = current_app.extensions.get("mail")
    if not isinstance(state, MailState):
        raise click.ClickException(
            "this application has no mail: call mail.init_app(app) when you create it"
        )
    try:
        return state if using is None else state.using(using)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _bare(sender: str | tuple[str, str] | None) -> str | None:
    # A pair is (name, address).
    return sender[1] if isinstance(sender, tuple) else sender
