"""What ``manage.py check --deploy`` says of a mailbox that others could see."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register

from ..checks import TAG
from ..outbox import BACKEND
from ..settings import mailers, preview_permission


@register(TAG, Tags.security, deploy=True)
def check_mailbox(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W010: mail is captured, not sent. W011: others than developers may see the mailbox."""
    found: list[CheckMessage] = []
    if BACKEND in [mailer.backend for mailer in mailers().values()]:
        found.append(
            Warning(
                "Mail is captured in an outbox.",
                hint=f"{BACKEND} is for development; send by mailbridge_django.EmailBackend.",
                id="mailbridge.W010",
            )
        )
    if preview_permission() is not None:
        found.append(
            Warning(
                "The mailbox page is served to whomever MAILBRIDGE_PREVIEW_ALLOWED lets in.",
                hint="Whoever sees it can read every captured mail, password resets among them."
                " Unset it, or silence mailbridge.W011 if this is a staging site.",
                id="mailbridge.W011",
            )
        )
    return found
