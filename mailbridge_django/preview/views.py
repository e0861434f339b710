"""Django's request to the mailbox, and its response back."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.http.response import HttpResponse
from django.middleware.csrf import get_token
from django.utils import translation
from django.utils.module_loading import autodiscover_modules
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods

from mailbridge import Envelope
from mailbridge.preview import Mailbox, Request

from ..message import to_mail
from ..outbox import options, outbox_of
from ..settings import preview_permission


def allowed(request: HttpRequest) -> bool:
    """What MAILBRIDGE_PREVIEW_ALLOWED (a callable or its path) says; without it, DEBUG."""
    permission = preview_permission()
    return bool(settings.DEBUG if permission is None else permission(request))


def mailbox(request: HttpRequest, rest: str = "") -> HttpResponseBase:
    """The mailbox. Raises Http404 for whoever is not allowed to see it."""
    if not allowed(request):
        raise Http404
    return _mailbox(request, rest)


# The frame with a message in it is framed by the page; who may do so is in the page's own policy.
@xframe_options_exempt
@csrf_protect
@require_http_methods(["GET", "HEAD", "POST"])
def _mailbox(request: HttpRequest, rest: str) -> HttpResponseBase:
    _discover()
    site = Mailbox(
        outbox_of(options()), _mail, tuple(settings.LANGUAGES) if settings.USE_I18N else (),
        translation.override,
    )  # fmt: skip
    base = request.path[: len(request.path) - len(rest)]
    query = {name: request.GET[name] for name in request.GET}
    csrf = ("csrfmiddlewaretoken", get_token(request))
    response = site.respond(Request(str(request.method), rest, query, base, csrf))
    kind = HttpResponse if isinstance(response.body, tuple) else StreamingHttpResponse
    return kind(response.body, status=response.status, headers=dict(response.headers))


def _mail(message: Any) -> tuple[Envelope, bytes]:
    envelope, content = to_mail(message, smtputf8=True)
    return envelope, bytes(content)


@cache
def _discover() -> None:
    """Import `mail_previews` of each application, where there is one."""
    autodiscover_modules("mail_previews")
