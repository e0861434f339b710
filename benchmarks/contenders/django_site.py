"""Django's own SMTP backend and mailbridge_django's, called as an application calls them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

from benchmarks.contenders import PASSWORD, SENDER, USER, Job, Prepare, contender, needed

BACKENDS = {
    "django": "django.core.mail.backends.smtp.EmailBackend",
    "mailbridge_django": "mailbridge_django.EmailBackend",
    "limit": "benchmarks.contenders.limit.Backend",
}
TEXT = "Hello,\n\nyour order 4711 has been shipped today.\n\n-- \nThe shop\n"
FOREIGN = "Grüße aus Köln, schöne Straßen und süße Äpfel für alle. 你好世界\n"


def configured(job: Job, who: str) -> Any:
    """django.core.mail of a Django whose mail goes through this backend to this server."""
    django = needed("django")
    if who == "mailbridge_django":
        needed(who, "EmailBackend")
    options: dict[str, Any] = {"host": job.host, "port": job.port}
    if job.login:
        options |= {"username": USER, "password": PASSWORD}
    if job.tls != "none":
        options["use_tls" if job.tls == "starttls" else "use_ssl"] = True
    if django.VERSION >= (6, 1):
        mailer = {"BACKEND": BACKENDS[who], "OPTIONS": options}
        _use(MAILERS={"default": mailer})
    else:
        names = {"username": "HOST_USER", "password": "HOST_PASSWORD"}
        named = {f"EMAIL_{names.get(name, name.upper())}": v for name, v in options.items()}
        _use(EMAIL_BACKEND=BACKENDS[who], **named)
    django.setup()
    # Importing has an aim of its own.
    importlib.import_module(BACKENDS[who].rpartition(".")[0])
    from django.core.mail.utils import DNS_NAME

    str(DNS_NAME)  # Asked for once in a process, and kept.
    return importlib.import_module("django.core.mail")


def _use(**settings: Any) -> None:
    """Have Django find these settings in a module, as a site has them."""
    module = ModuleType("benchmarks_settings")
    vars(module).update(settings, USE_TZ=True)
    sys.modules[module.__name__] = module
    os.environ["DJANGO_SETTINGS_MODULE"] = module.__name__


def messages(job: Job, mail: Any, n: int) -> list[Any]:
    """`n` new messages of the job's kind."""
    makers: dict[str, Callable[[], Any]] = {
        "text": partial(mail.EmailMessage, "Your order", TEXT, SENDER, job.to),
        "html": partial(_text_and_html, mail, job),
        "attachment": partial(_with_attachment, mail, job, bytes(range(256)) * (job.size // 256)),
    }
    return [makers[job.kind]() for _ in range(n)]


def _text_and_html(mail: Any, job: Job) -> Any:
    lines = FOREIGN * (5 * 1024 // len(FOREIGN.encode()))
    message = mail.EmailMultiAlternatives("Grüße", lines, SENDER, job.to)
    message.attach_alternative(f"<p>{lines}</p>", "text/html")
    return message


def _with_attachment(mail: Any, job: Job, data: bytes) -> Any:
    message = mail.EmailMessage("Your report", TEXT, SENDER, job.to)
    message.attach("report.pdf", data, "application/pdf")
    return message


def batch(job: Job, who: str) -> Iterator[Prepare]:
    mail = configured(job, who)
    backend = mail.mailers["default"] if hasattr(mail, "mailers") else mail.get_connection()

    def run(batch: list[Any]) -> None:
        if backend.send_messages(batch) != len(batch):
            raise AssertionError("not all messages were sent")

    with backend:
        yield lambda n: partial(run, messages(job, mail, n))


def send_mail(job: Job, who: str) -> Iterator[Prepare]:
    mail = configured(job, who)

    def run(n: int) -> None:
        for _ in range(n):
            mail.send_mail("Your order", TEXT, SENDER, job.to)

    yield lambda n: partial(run, n)


@contender("django.batch")
def django_batch(job: Job) -> Iterator[Prepare]:
    """send_messages() of a backend that is open."""
    return batch(job, "django")


@contender("mailbridge_django.batch")
def mailbridge_batch(job: Job) -> Iterator[Prepare]:
    """send_messages() of a backend that is open."""
    return batch(job, "mailbridge_django")


@contender("django.send_mail")
def django_send_mail(job: Job) -> Iterator[Prepare]:
    """send_mail() for each message."""
    return send_mail(job, "django")


@contender("mailbridge_django.send_mail")
def mailbridge_send_mail(job: Job) -> Iterator[Prepare]:
    """send_mail() for each message."""
    return send_mail(job, "mailbridge_django")


@contender("django.render")
def django_render(job: Job) -> Iterator[Prepare]:
    """From Django's message to octets, as Django's SMTP backend does it."""
    import email.policy
    import inspect

    mail = configured(job, "django")
    # Django 5.2 has its own MIME classes and no policy.
    modern = "policy" in inspect.signature(mail.EmailMessage.message).parameters

    def run(batch: list[Any]) -> None:
        for message in batch:
            if modern:
                message.message(policy=email.policy.SMTP).as_bytes()
            else:
                message.message().as_bytes(linesep="\r\n")

    yield lambda n: partial(run, messages(job, mail, n))


@contender("mailbridge_django.render")
def mailbridge_render(job: Job) -> Iterator[Prepare]:
    """From Django's message to envelope and octets, as our backend does it."""
    mail = configured(job, "mailbridge_django")
    to_mail = needed("mailbridge_django.message", "to_mail")

    def run(batch: list[Any]) -> None:
        for message in batch:
            content = to_mail(message).content
            if not isinstance(content, bytes):
                b"".join(content.pieces() if hasattr(content, "pieces") else content)

    yield lambda n: partial(run, messages(job, mail, n))
