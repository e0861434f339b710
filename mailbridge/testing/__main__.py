"""``python -m mailbridge.testing``: a mail server on this machine, to try things with.

It prints the dialogue with each client, keeps nothing and delivers nothing. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from collections.abc import Sequence

from mailbridge.testing.server import ScriptedServer

FORGET_EVERY = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C, and return the exit status: 1 if the port cannot be had."""
    arguments = parser().parse_args(argv)
    server = ScriptedServer(
        host=arguments.host, port=arguments.port, idle_timeout=600, on_line=_show
    )
    for address in arguments.refuse:
        server.refuse(address)
    for address in arguments.defer:
        server.defer(address)
    try:
        server.start()
    except OSError as error:
        where = f"{arguments.host}:{arguments.port}"
        print(f"{where} cannot be had: {error}. Choose another --port.", file=sys.stderr)
        return 1
    _show(f"A mail server that delivers nothing listens on {server.url}. Ctrl-C ends it.")
    with contextlib.suppress(KeyboardInterrupt):
        while not threading.Event().wait(FORGET_EVERY):
            server.clear()
    server.stop()
    return 0


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        "python -m mailbridge.testing", description="A mail server to try things with."
    )
    made.add_argument("--host", default="127.0.0.1", help="the address to listen on; this machine")
    made.add_argument(
        "--port", type=int, default=1025, help="default: 1025; 0 for any that is free"
    )
    for name, what in (("refuse", "refuse for good (550)"), ("defer", "put off (451)")):
        made.add_argument(
            f"--{name}", action="append", default=[], metavar="ADDRESS",
            help=f"a recipient to {what}, or a pattern such as '*@example.net'; may be repeated",
        )  # fmt: skip
    return made


def _show(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
