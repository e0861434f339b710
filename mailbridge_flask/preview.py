"""The mailbox page as a blueprint: ``app.register_blueprint(blueprint, url_prefix="/mail")``."""

from __future__ import annotations

import hmac
import secrets
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from flask import Blueprint, Response, abort, current_app, request

from mailbridge import Envelope
from mailbridge.outbox import MemoryOutbox
from mailbridge.preview import Mailbox, Request, preview

from .message import Message
from .sending import prepared
from .state import MailState

__all__ = ["blueprint", "preview"]

blueprint = Blueprint("mailbridge_preview", __name__)
_COOKIE = "mailbridge_csrf"


@blueprint.route("/", defaults={"rest": ""}, methods=["GET", "POST"])
@blueprint.route("/<path:rest>", methods=["GET", "POST"])
def mailbox(rest: str) -> Response:
    """The mailbox; 404 unless the application is in debug mode or MAIL_PREVIEW_ALLOWED says so."""
    allowed = current_app.config.get("MAIL_PREVIEW_ALLOWED")
    state = current_app.extensions.get("mail")
    if not (current_app.debug if allowed is None else allowed()) or not isinstance(
        state, MailState
    ):
        abort(404)
    token = request.cookies.get(_COOKIE, "")
    # The token is in a cookie and in the form; a page elsewhere can read neither (OWASP, "double
    # submit"). So this needs no session, and works without SECRET_KEY.
    if request.method == "POST":
        sent = request.form.get("csrf", "")
        if len(token) < 32 or not hmac.compare_digest(token.encode(), sent.encode()):
            abort(403)
    fresh = token if len(token) == 43 and token.isascii() else secrets.token_urlsafe(32)
    base = request.script_root + request.path[: len(request.path) - len(rest)]
    site = _site(state)
    answer = site.respond(
        Request(request.method, rest, request.args.to_dict(), base, ("csrf", fresh))
    )
    response = Response(answer.body, answer.status, dict(answer.headers))
    if fresh != token:
        response.set_cookie(
            _COOKIE, fresh, path=base, httponly=True, samesite="Strict", secure=request.is_secure
        )
    return response


def _site(state: MailState) -> Mailbox:
    def to_mail(message: Message) -> tuple[Envelope, bytes]:
        envelope, content = prepared(state, message)
        return envelope, bytes(content)

    try:
        from flask_babel import force_locale, get_babel
    except ImportError:
        return Mailbox(state.outbox or MemoryOutbox(), to_mail)
    if "babel" not in current_app.extensions:
        return Mailbox(state.outbox or MemoryOutbox(), to_mail)
    locales = get_babel(current_app).instance.list_translations()
    languages = [(str(each), str(each.display_name)) for each in locales]

    def translated(language: str) -> AbstractContextManager[Any]:
        return force_locale(language) if language else nullcontext()

    return Mailbox(state.outbox or MemoryOutbox(), to_mail, languages, translated)
