"""The relay of the demo: a scripted SMTP server, and who got which answer from it."""

from collections import defaultdict, deque
from typing import NamedTuple

from mailbridge.testing import ScriptedServer

GONE, BUSY, LOST = "gone@example.net", "busy@example.com", "lost@example.net"
WHAT_IT_DOES = {
    GONE: "is refused for good",
    BUSY: "is deferred: not now, try later",
    LOST: "gets no answer: the connection ends after the content",
}


def scripted_relay(port: int = 0) -> ScriptedServer:
    """A server that treats three addresses badly and takes mail for all others."""
    relay = ScriptedServer(port=port)
    relay.refuse(GONE, 550, "5.1.1 No such user")
    relay.defer(BUSY, 451, "4.7.1 Greylisted, try again later")
    relay.drop("CONTENT", recipient=LOST)
    return relay


STATES = {"2": "accepted", "4": "deferred", "5": "refused"}
NOTHING = "no answer to the content"


class Answer(NamedTuple):
    """What the relay said to one RCPT; for an accepted one, to the content."""

    recipient: str
    reply: str

    @property
    def state(self) -> str:
        return STATES.get(self.reply[:1], "in doubt")


def answers(transcript: str) -> list[Answer]:
    """The relay's last word on each recipient, read from its side of the dialogue.

    Replies have no names: they belong to the commands in the order of these (RFC 2920).
    """
    found: list[Answer] = []
    unanswered: dict[str, deque[str]] = defaultdict(deque)
    accepted: dict[str, list[int]] = defaultdict(list)
    for line in transcript.splitlines():
        connection, side, text = line.split(" ", 2)
        commands = unanswered[connection]
        if side == "C:":
            if not text.startswith("BDAT "):  # its content is the line below, and has the reply
                commands.append(text)
        elif commands and (side == "--" or text[3:4] != "-"):
            command, reply = commands.popleft(), text if side == "S:" else NOTHING
            if command.startswith("MAIL "):
                accepted[connection] = []
            elif command.startswith("RCPT "):
                if reply.startswith("2"):
                    accepted[connection].append(len(found))
                found.append(Answer(command.partition("<")[2].partition(">")[0], reply))
            elif command.startswith("<"):  # the content
                for index in accepted[connection]:
                    found[index] = found[index]._replace(reply=reply)
    return found
