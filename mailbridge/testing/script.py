"""What a scripted server shall do, and at which point of the dialogue: rules and limits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final, Literal

POINTS: Final = (
    *("GREETING", "EHLO", "HELO", "LHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BDAT"),
    *("IN_CONTENT", "CONTENT", "RSET", "NOOP", "VRFY", "EXPN", "HELP", "QUIT"),
)
"""Where a rule can apply: the verbs, and the points that have no verb of their own."""

DEFAULT_EXTENSIONS: Final = (
    "PIPELINING",
    "SIZE 10485760",
    "8BITMIME",
    "SMTPUTF8",
    "ENHANCEDSTATUSCODES",
    "DSN",
    "CHUNKING",
    "HELP",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens at one point of one dialogue. An empty ``reply`` sends nothing."""

    reply: bytes
    delay: float = 0.0
    drip: float | None = None
    silent: bool = False
    drop: Literal["before", "after"] | None = None
    behind: bytes = b""

    @property
    def digit(self) -> int:
        """First digit of the reply code, the one to act on; 0 if the reply has no code."""
        return int(self.reply[:1]) if self.reply[:3].isdigit() else 0

    @property
    def first_line(self) -> str:
        """First line of the reply as text, without its line end."""
        return self.reply.partition(b"\r\n")[0].decode("utf-8", "backslashreplace")


@dataclass(slots=True, eq=False)
class Rule:
    """One change to the plan for a point. Of all rules of a kind, only the newest match applies."""

    kind: str
    point: str
    apply: Callable[[Plan], Plan]
    times: int | None
    recipient: str | None

    def matches(self, points: tuple[str, ...], recipients: Iterable[str]) -> bool:
        if self.times == 0 or self.point not in points:
            return False
        return self.recipient is None or any(_matches(self.recipient, r) for r in recipients)

    def use(self, plan: Plan) -> Plan:
        """The changed plan; ``plan`` itself, and not counted, if the rule does not apply to it."""
        changed = self.apply(plan)
        if changed is not plan and self.times is not None:
            self.times -= 1
        return changed


class Script:
    """Rules and limits. They may be changed at any time, also while connections are open.

    Every rule takes ``times``, how often it applies (None: always), and ``recipient``, an address
    or ``fnmatch`` pattern that limits it: at RCPT to that forward-path, at CONTENT to messages
    for it (under LMTP to its own reply). Rules of one kind are consulted newest first.

    ``max_recipients``, ``max_connections`` and ``max_size`` may be set; None means no limit.
    """

    def __init__(self, extensions: Iterable[str] = DEFAULT_EXTENSIONS) -> None:
        self.max_recipients: int | None = None
        self.max_connections: int | None = None
        self.max_size: int | None = None
        self.max_messages: int | None = None
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._keywords: dict[str, str] = {}
        self._withheld: set[str] = set()
        self._greylist: set[tuple[str, str]] | None = None
        self.with_(*extensions)

    # -- replies

    def reply(
        self,
        verb: str,
        reply: str | bytes,
        *,
        times: int | None = None,
        recipient: str | None = None,
    ) -> None:
        """Answer ``verb`` with ``reply``: text of one or more lines, or bytes sent as they are.

        The first digit decides what the server itself believes: after a scripted 354 to DATA it
        reads content, whatever came before. A 421 also closes the connection.
        """
        data = encode_reply(reply)
        self._add("reply", verb, lambda plan: replace(plan, reply=data), times, recipient)

    def refuse(
        self,
        address: str,
        code: int = 550,
        text: str = "5.1.1 No such user",
        *,
        times: int | None = None,
    ) -> None:
        """Refuse RCPT for ``address``, an address or an ``fnmatch`` pattern, for good.

        Unlike a scripted reply it does not hide that a RCPT was wrong for another reason.
        """
        data = encode_reply(f"{code} {text}")
        self._add(
            "reply",
            "RCPT",
            lambda plan: replace(plan, reply=data) if plan.digit == 2 else plan,
            times,
            address,
        )

    def defer(
        self,
        address: str,
        code: int = 451,
        text: str = "4.7.1 Greylisted, try again later",
        *,
        times: int | None = None,
    ) -> None:
        """Refuse RCPT for ``address``, an address or an ``fnmatch`` pattern, for now."""
        self.refuse(address, code, text, times=times)

    def greylist(self) -> None:
        """Defer the first RCPT of each (reverse-path, forward-path) with 450 4.2.0."""
        self._greylist = set()

    def inject(self, after: str, data: bytes, *, times: int | None = None) -> None:
        """Send ``data`` right behind the reply to the verb ``after``, in the same write."""
        self._add("inject", after, lambda plan: replace(plan, behind=data), times)

    # -- closing and timing

    def drop(
        self,
        verb: str,
        before_reply: bool = True,
        *,
        times: int | None = None,
        recipient: str | None = None,
    ) -> None:
        """Close the connection at ``verb``, instead of replying or after the reply.

        "GREETING" is right after accept; "IN_CONTENT" after some octets of the content; "CONTENT"
        after the final dot or the last chunk, when the message has been recorded already.
        """
        moment: Literal["before", "after"] = "before" if before_reply else "after"
        self._add("drop", verb, lambda plan: replace(plan, drop=moment), times, recipient)

    def drop_after(self, n_messages: int) -> None:
        """Close each connection at the first command after ``n_messages`` accepted on it."""
        self.max_messages = n_messages

    def delay(
        self,
        verb: str,
        seconds: float,
        *,
        times: int | None = None,
        recipient: str | None = None,
    ) -> None:
        """Wait before the reply to ``verb``."""
        self._add("delay", verb, lambda plan: replace(plan, delay=seconds), times, recipient)

    def silent(self, verb: str, *, times: int | None = None, recipient: str | None = None) -> None:
        """Never answer ``verb``; the connection stays open until the client or stop() closes it.

        At "IN_CONTENT" the server also stops reading.
        """
        self._add("silent", verb, lambda plan: replace(plan, silent=True), times, recipient)

    def drip(self, verb: str, interval: float, *, times: int | None = None) -> None:
        """Send the reply to ``verb`` byte by byte, ``interval`` seconds apart."""
        self._add("drip", verb, lambda plan: replace(plan, drip=interval), times)

    # -- EHLO keywords

    def with_(self, *lines: str) -> None:
        """Offer extensions: keywords, each with its parameters, as they stand in the EHLO reply.

        "SIZE n" also sets ``max_size``; a bare "SIZE" shows the ``max_size`` of the moment.
        """
        for line in lines:
            keyword, _, parameters = line.partition(" ")
            keyword = keyword.upper()
            if keyword == "SIZE" and parameters.isdecimal():
                self.max_size, line = int(parameters), keyword
            with self._lock:
                self._keywords[keyword] = line
                self._withheld.discard(keyword)

    def without(self, *keywords: str) -> None:
        """Offer these extensions no longer, STARTTLS and AUTH among them, and refuse their use."""
        with self._lock:
            for keyword in map(str.upper, keywords):
                self._keywords.pop(keyword, None)
                self._withheld.add(keyword)

    # -- asked by the connections

    def offered(self, **situation: str | None) -> dict[str, str]:
        """The lines of the EHLO reply by keyword; ``situation`` adds what the connection allows."""
        with self._lock:
            offered = dict(self._keywords)
            for keyword, line in situation.items():
                if line is not None and keyword not in self._withheld:
                    offered.setdefault(keyword, line)
        if offered.get("SIZE") == "SIZE" and self.max_size is not None:
            offered["SIZE"] = f"SIZE {self.max_size}"
        return offered

    def plan(
        self, points: tuple[str, ...], reply: str | bytes, recipients: Iterable[str] = ()
    ) -> Plan:
        """What to do where ``reply`` would be sent without rules. Uses up rules with ``times``."""
        plan = Plan(encode_reply(reply))
        recipients, decided = tuple(recipients), set[str]()
        with self._lock:
            for rule in reversed(self._rules):
                if rule.kind in decided or not rule.matches(points, recipients):
                    continue
                if (changed := rule.use(plan)) is not plan:
                    decided.add(rule.kind)
                    plan = changed
        return plan

    def greylisted(self, sender: str, recipient: str) -> bool:
        """Whether this pair is seen for the first time while greylisting is on."""
        with self._lock:
            if self._greylist is None or (sender, recipient) in self._greylist:
                return False
            self._greylist.add((sender, recipient))
            return True

    def _add(
        self,
        kind: str,
        point: str,
        apply: Callable[[Plan], Plan],
        times: int | None,
        recipient: str | None = None,
    ) -> None:
        point = point.upper()
        if point not in POINTS:
            raise ValueError(f"no such point in a dialogue: {point!r}")
        with self._lock:
            self._rules.append(Rule(kind, point, apply, times, recipient))


def encode_reply(reply: str | bytes) -> bytes:
    """Text becomes UTF-8 lines that end in CRLF; bytes stay as they are."""
    if isinstance(reply, bytes):
        return reply
    return "".join(f"{line}\r\n" for line in reply.splitlines()).encode()


def _matches(pattern: str, address: str) -> bool:
    # The "[" of an address literal would begin a character class.
    return fnmatchcase(address.lower(), pattern.lower().replace("@[", "@[[]"))
