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
    failures = 0
    with mail.connect() as connection:
        for address in current_app.config["SUBSCRIBERS"]:
            message = Message(subject, recipients=[address], body="It was a quiet month.")
            try:
                report = connection.send(message)
            except MailError as error:
                failures += 1
                report = error.report
            for result in report:
                said = result.reply or result.reason or ""
                click.echo(f"{result.state:<14} {result.address:<20} {said}")
    if failures:
        raise click.ClickException(f"{failures} messages did not arrive")
