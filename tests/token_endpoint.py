"""TokenEndpoint: what Google and Microsoft answer to who asks for a token, on loopback."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Self
from urllib.parse import parse_qsl

from tests.serving import serving

Form = dict[str, str]
SECONDS = 3600


def nth(number: int) -> str:
    """The token that an endpoint gives as its first, second, ..."""
    return f"ya29.the-{number}-of-the-endpoint"


class TokenEndpoint:
    """An OAuth 2.0 authorization server (RFC 6749) over HTTPS, for the client credentials and the
    JWT grants. `accept` says of a request whether it is one that gets a token.

    ``asked`` counts the requests for one. ``failure`` is a status and a text for everybody who
    asks, in place of tokens.
    """

    def __init__(self, context: ssl.SSLContext, accept: Callable[[Form], bool]) -> None:
        self.accept = accept
        self.asked = 0
        self.failure: tuple[int, str] | None = None
        self._server = HTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._running = ExitStack()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._server.server_port}"

    def answer(self, form: Form) -> tuple[int, dict[str, object]]:
        """Status and body for a request for a token."""
        self.asked += 1
        if self.failure is not None:
            status, text = self.failure
            return status, {"error": "invalid_grant", "error_description": text}
        if not self.accept(form):
            return 400, {"error": "invalid_client"}
        given = {"access_token": nth(self.asked), "token_type": "Bearer", "expires_in": SECONDS}
        return 200, given

    def stop(self) -> None:
        """Listen no more."""
        self._running.close()

    def __enter__(self) -> Self:
        self._running.callback(self._server.server_close)
        self._running.enter_context(serving(self._server))
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.stop()


def _handler(endpoint: TokenEndpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            # OpenID Connect Discovery: Microsoft's tenants have such a page.
            tenant, found, _ = self.path.partition("/v2.0/.well-known/openid-configuration")
            base = endpoint.url + tenant
            names = {"authorization_endpoint": "authorize", "token_endpoint": "token"}
            addresses = {key: f"{base}/oauth2/v2.0/{name}" for key, name in names.items()}
            self.say(200 if found else 404, {"issuer": f"{base}/v2.0", **addresses})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.say(*endpoint.answer(dict(parse_qsl(body.decode()))))

        def say(self, status: int, body: dict[str, object]) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    return Handler
