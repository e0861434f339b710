"""Flask-Mail and mailbridge_flask, called as an application calls them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.contenders import PASSWORD, SENDER, USER, Job, Prepare, contender, needed

TEXT = "Hello,\n\nyour order 4711 has been shipped today.\n\n-- \nThe shop\n"


def configured(job: Job, who: str) -> tuple[Any, Any, type]:
    """An application, its Mail and its Message class. Raises Missing."""
    flask = needed("flask")
    module = needed(who)
    app = flask.Flask("benchmarks")
    app.config.update(
        MAIL_SERVER=job.host,
        MAIL_PORT=job.port,
        MAIL_USE_TLS=job.tls == "starttls",
        MAIL_USE_SSL=job.tls == "implicit",
        MAIL_DEFAULT_SENDER=SENDER,
        MAIL_MAX_EMAILS=None,
    )
    if job.login:
        app.config.update(MAIL_USERNAME=USER, MAIL_PASSWORD=PASSWORD)
    return app, module.Mail(app), module.Message


def messages(job: Job, message_class: type, n: int) -> list[Any]:
    """`n` new messages of the job's kind."""
    made: list[Any] = [message_class("Your order", job.to, TEXT) for _ in range(n)]
    if job.kind == "attachment":
        data = bytes(range(256)) * (job.size // 256)
        for message in made:
            message.attach("report.pdf", "application/pdf", data)
    return made


def batch(job: Job, who: str) -> Iterator[Prepare]:
    app, mail, message_class = configured(job, who)

    def run(batch: list[Any]) -> None:
        for message in batch:
            connection.send(message)

    with app.app_context(), mail.connect() as connection:
        yield lambda n: partial(run, messages(job, message_class, n))


def send(job: Job, who: str) -> Iterator[Prepare]:
    app, mail, message_class = configured(job, who)

    def run(batch: list[Any]) -> None:
        for message in batch:
            mail.send(message)

    with app.app_context():
        yield lambda n: partial(run, messages(job, message_class, n))


@contender("flask_mail.batch")
def flask_mail_batch(job: Job) -> Iterator[Prepare]:
    """send() of a connection that mail.connect() has opened."""
    return batch(job, "flask_mail")


@contender("mailbridge_flask.batch")
def mailbridge_batch(job: Job) -> Iterator[Prepare]:
    """send() of a connection that mail.connect() has opened."""
    return batch(job, "mailbridge_flask")


@contender("flask_mail.send")
def flask_mail_send(job: Job) -> Iterator[Prepare]:
    """mail.send() for each message."""
    return send(job, "flask_mail")


@contender("mailbridge_flask.send")
def mailbridge_send(job: Job) -> Iterator[Prepare]:
    """mail.send() for each message."""
    return send(job, "mailbridge_flask")
