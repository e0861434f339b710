"""Misbehaviours on top of the raw server: what a peer does at one point of the dialogue."""

from __future__ import annotations

from collections.abc import Callable

from tests.sync.servers import Peer

PIPELINING = ("250-raw.example", "250-PIPELINING", "250 8BITMIME")
CHUNKING = ("250-raw.example", "250-PIPELINING", "250-CHUNKING", "250 8BITMIME")
IN_TURN = ("250 raw.example",)
WAYS = {"in turn": IN_TURN, "pipelined": PIPELINING, "chunked": CHUNKING}

Dialogue = Callable[[Peer], None]


class Counted:
    """Serves kindly and counts the mails it took whole, until `end` is called for one of them."""

    def __init__(self, ehlo: tuple[str, ...], *ends: Callable[[Peer], None] | None) -> None:
        self.taken: list[bytes] = []
        self._ehlo = ehlo
        self._ends = list(ends)

    def __call__(self, peer: Peer) -> None:
        peer.say("220 raw.example ESMTP")
        while True:
            line = peer.line()
            verb = line.split(" ")[0].upper()
            if verb == "EHLO":
                peer.say(*self._ehlo)
            elif verb in ("DATA", "BDAT"):
                if verb == "DATA":
                    peer.say("354 go on")
                    self.taken.append(peer.read_content())
                else:
                    self.taken.append(peer.read(int(line.split()[1])))
                end = self._ends.pop(0) if self._ends else None
                if end is not None:
                    end(peer)
                    return
                peer.say("250 2.0.0 Ok")
            elif verb == "QUIT":
                peer.say("221 2.0.0 Bye")
                return
            else:
                peer.say("250 2.0.0 Ok")


def close(peer: Peer) -> None:
    peer.sock.close()


def half_close(peer: Peer) -> None:
    """Say no more, but go on reading."""
    peer.stop_talking()
    peer.wait_for_close()


def saying(*lines: str) -> Dialogue:
    """Say these lines, then read on until the client leaves."""

    def end(peer: Peer) -> None:
        peer.say(*lines)
        peer.wait_for_close()

    return end


ENDS: dict[str, Dialogue] = {
    "close": close,
    "reset": Peer.reset,
    "half close": half_close,
    "garbage": saying("what?"),
    "codes that differ": saying("250-yes", "550 no"),
    "354": saying("354 go on"),
    "half a reply": lambda peer: (peer.send(b"25"), close(peer))[1],
    "NUL": saying("2\x0050 yes"),
}
"""How the reply to a content may never come, or not be one."""
