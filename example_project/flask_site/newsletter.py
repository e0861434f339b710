"""``flask newsletter``: one message to each subscriber, and what became of each."""

import click
from flask import current_app
from flask.cli import with_appcontext

from mailbridge_flask import Message
from mailbridge_flask.exceptions import MailError

from .mail import mail


@click.command()
@click.option("--subject", default="News of this month", show_default=True)
@with_appcontext
def newsletter(subject):
    """Send the newsletter to every subscriber and print a line for each."""
    subscribers = current_app.config["SUBSCRIBERS"]
    try:
        with mail.connect() as connection:  # one connection for all messages
            missed = [a for a in subscribers if not delivered(connection, subject, a)]
    except MailError as error:  # no connection to begin with
        raise click.ClickException(str(error)) from error
    if missed:
        raise click.ClickException(f"{len(missed)} of {len(subscribers)} messages did not arrive")


def delivered(connection, subject, address):
    """Send one message, print what became of it, and say whether the server took it."""
    message = Message(subject, recipients=[address], body="It was a quiet month.")
    try:
        report = connection.send(message)
    except MailError as error:
        report = error.report
    for result in report:
        said = result.reply or result.reason or ""
        click.echo(f"{result.state:<14} {result.address:<20} {said}")
    return bool(report.accepted)
