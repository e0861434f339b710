"""Mailbox: what was sent while a test ran, without a server, and assertions about it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage

from ..envelope import Envelope
from ..outbox.reading import Reading
from ..outgoing import Outgoing
from ..protocol.reply import Reply
from ..report import DeliveryReport, OnRefused, Phase, RecipientResult, State
from .script import Script

#: An address, a subject: a text that must be equal, or a pattern that must be found.
Wanted = str | re.Pattern[str]


@dataclass(frozen=True, repr=False)
class SentMail:
    """One mail that a test sent: envelope, content, and the report that the sender got."""

    envelope: Envelope
    content: bytes
    report: DeliveryReport

    @property
    def sender(self) -> str | None:
        """The reverse-path, None if it is the null one."""
        return self.envelope.sender

    @property
    def recipients(self) -> tuple[str, ...]:
        """The forward-paths: everybody it was addressed to, those refused among them."""
        return self.envelope.recipients

    @property
    def message(self) -> EmailMessage:
        """The content, parsed anew at each access with ``email.policy.default``."""
        return message_from_bytes(self.content, policy=policy.default)

    @property
    def reading(self) -> Reading:
        """The content taken apart: header fields, parts, attachments."""
        return Reading.of(self.content)

    @property
    def subject(self) -> str:
        """The subject, decoded; empty if there is none."""
        return self.reading.header("Subject")

    @property
    def text(self) -> str:
        """The plain text, with \\n for every line end; empty if there is none."""
        return _lines(self.reading.text)

    @property
    def html(self) -> str:
        """The HTML, with \\n for every line end; empty if there is none."""
        return _lines(self.reading.html)

    def __str__(self) -> str:
        results = "; ".join(map(str, self.report))
        return f"{self.subject!r} from <{self.sender or ''}>: {results}"

    def __repr__(self) -> str:
        return f"<SentMail {self}>"


class Mailbox:
    """The mails of one test, in order, and rules for whom to refuse. Safe between threads.

    ``len(mailbox)``, ``mailbox[0]`` and ``for mail in mailbox`` see every mail that was handed
    over, those that nobody was accepted for among them. `refuse` and `defer` say what the senders
    are told about an address; everybody else is accepted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mails: list[SentMail] = []
        self._script = Script()

    # -- what the senders are told

    def refuse(self, address: str, code: int = 550, text: str = "5.1.1 No such user") -> None:
        """Refuse ``address``, an address or an ``fnmatch`` pattern, for good."""
        self._script.refuse(address, code, text)

    def defer(
        self, address: str, code: int = 451, text: str = "4.7.1 Greylisted, try again later"
    ) -> None:
        """Refuse ``address``, an address or an ``fnmatch`` pattern, for now."""
        self._script.defer(address, code, text)

    def take(self, outgoing: Outgoing) -> DeliveryReport:
        """Keep a mail, and report on it as `Transport.attempt` does."""
        report = self._report(outgoing)
        content = b"".join(outgoing.content.pieces())
        with self._lock:
            self._mails.append(SentMail(outgoing.envelope, content, report))
        return report

    def _report(self, outgoing: Outgoing) -> DeliveryReport:
        replies = {a: self._reply_to(a) for a in outgoing.envelope.recipients}
        refused = not all(reply.positive for reply in replies.values())
        aborted = refused and outgoing.on_refused is OnRefused.ABORT
        final = Reply(250, (b"2.0.0 Ok: queued as mailbox",))
        results = {}
        for address, reply in replies.items():
            if not reply.positive:
                state = State.DEFERRED if reply.transient else State.REFUSED
                results[address] = RecipientResult(address, state, Phase.RCPT, reply)
            elif aborted:
                because = "other recipients were refused"
                results[address] = RecipientResult(
                    address, State.NOT_ATTEMPTED, Phase.RCPT, reason=because
                )
            else:
                results[address] = RecipientResult(address, State.ACCEPTED, Phase.CONTENT, final)
        return DeliveryReport(
            results,
            outgoing.envelope.sender,
            outgoing.message_id,
            "mailbox",
            final if any(r.state is State.ACCEPTED for r in results.values()) else None,
        )

    def _reply_to(self, address: str) -> Reply:
        plan = self._script.plan(("RCPT",), "250 2.1.5 Ok", [address])
        lines = plan.reply.splitlines()
        return Reply(int(lines[0][:3]), tuple(line[4:] for line in lines))

    # -- what is in it

    @property
    def mails(self) -> tuple[SentMail, ...]:
        """Every mail so far."""
        with self._lock:
            return tuple(self._mails)

    def clear(self) -> None:
        """Forget the mails so far. The rules stay."""
        with self._lock:
            self._mails.clear()

    def __len__(self) -> int:
        return len(self.mails)

    def __bool__(self) -> bool:
        return True  # a mailbox, empty or not: `assert mailbox` would say nothing

    def __iter__(self) -> Iterator[SentMail]:
        return iter(self.mails)

    def __getitem__(self, index: int) -> SentMail:
        return self.mails[index]

    def __repr__(self) -> str:
        return f"<Mailbox, {len(self)} mails>"

    # -- assertions

    def assert_sent(
        self,
        *,
        to: str | Iterable[str] = (),
        sender: str | None = None,
        subject: Wanted | None = None,
        text_contains: str | None = None,
        html_contains: str | None = None,
        attachment: str | None = None,
        count: int | None = None,
    ) -> SentMail | None:
        """Return the first mail that was accepted for `to` and is like that.

        `to` is an address or several; `sender` the reverse-path ("" is the null one); `subject` a
        text or a compiled pattern; `attachment` a file's name; `count` how many such mails there
        must be. Raises AssertionError that shows the mails, and what is different in each.
        """
        __tracebackhide__ = True
        wanted = _Wish(to, sender, subject, text_contains, html_contains, attachment)
        found = [mail for mail in self if not wanted.differences(mail)]
        if len(found) != count if count is not None else not found:
            number = "a mail" if count is None else f"{count} mails, got {len(found)},"
            raise AssertionError(f"expected {number} {wanted}\n{self._contents(wanted)}")
        return found[0] if found else None

    def assert_refused(self, to: str, *, code: int | None = None) -> SentMail:
        """Return the first mail that `to` was refused for, or deferred; `code` as the reply's.

        Raises AssertionError that shows the mails.
        """
        __tracebackhide__ = True
        for mail in self:
            result = mail.report.recipients.get(to)
            if result is None or result.state not in (State.REFUSED, State.DEFERRED):
                continue
            if code is None or (result.reply is not None and result.reply.code == code):
                return mail
        how = "" if code is None else f" with {code}"
        raise AssertionError(f"expected {to} to be refused{how}\n{self._contents()}")

    def assert_none(
        self,
        *,
        to: str | Iterable[str] = (),
        sender: str | None = None,
        subject: Wanted | None = None,
    ) -> None:
        """There is no mail; none like that, if it is said what is meant by `to` and the others.

        Raises AssertionError that shows the mails.
        """
        __tracebackhide__ = True
        wanted = _Wish(to, sender, subject)
        if wanted.empty and self.mails:
            raise AssertionError(f"expected no mail\n{self._contents()}")
        if not wanted.empty and any(not wanted.differences(mail) for mail in self):
            raise AssertionError(f"expected no mail {wanted}\n{self._contents()}")

    def _contents(self, wanted: _Wish | None = None) -> str:
        mails = self.mails
        if not mails:
            return "The mailbox is empty."
        lines = ["In the mailbox:"]
        for number, mail in enumerate(mails, 1):
            lines.append(f"  {number}. {mail}")
            lines += [f"       {each}" for each in (wanted.differences(mail) if wanted else ())]
        return "\n".join(lines)


class _Wish:
    """What a mail must be like."""

    def __init__(
        self,
        to: str | Iterable[str] = (),
        sender: str | None = None,
        subject: Wanted | None = None,
        text: str | None = None,
        html: str | None = None,
        attachment: str | None = None,
    ) -> None:
        self.to = (to,) if isinstance(to, str) else tuple(to)
        self.sender = sender
        self.subject = subject
        self.text = text
        self.html = html
        self.attachment = attachment

    @property
    def empty(self) -> bool:
        """True if every mail is like that."""
        return not self.to and all(each is None for each in list(vars(self).values())[1:])

    def differences(self, mail: SentMail) -> list[str]:
        """A line for each thing in which `mail` is not like that."""
        found = [self._not_sent(mail, address) for address in self.to]
        if self.sender is not None and (mail.sender or "") != self.sender:
            found.append(f"sender: expected <{self.sender}>, got <{mail.sender or ''}>")
        if self.subject is not None and not _fits(self.subject, mail.subject):
            found.append(f"subject: expected {_shown(self.subject)}, got {mail.subject!r}")
        for name, part in (("text", self.text), ("html", self.html)):
            if part is not None and part not in getattr(mail, name):
                found.append(f"{name}: no {part!r} in {_short(getattr(mail, name))}")
        names = [part.filename for part in mail.reading.attachments]
        if self.attachment is not None and self.attachment not in names:
            found.append(f"attachments: no {self.attachment!r} in {names}")
        return [each for each in found if each]

    def _not_sent(self, mail: SentMail, address: str) -> str:
        result = mail.report.recipients.get(address)
        if result is None:
            return f"to: {address} is not among its recipients"
        return "" if result.state is State.ACCEPTED else f"to: {result}"

    def __str__(self) -> str:
        said = [
            f"to {', '.join(self.to)}" if self.to else "",
            "" if self.sender is None else f"from <{self.sender}>",
            "" if self.subject is None else f"with the subject {_shown(self.subject)}",
            "" if self.text is None else f"with {self.text!r} in its text",
            "" if self.html is None else f"with {self.html!r} in its HTML",
            "" if self.attachment is None else f"with the attachment {self.attachment!r}",
        ]
        return ", ".join(each for each in said if each) or "of any kind"


def _lines(text: str | None) -> str:
    return (text or "").replace("\r\n", "\n")


def _fits(wanted: Wanted, text: str) -> bool:
    return text == wanted if isinstance(wanted, str) else bool(wanted.search(text))


def _shown(wanted: Wanted) -> str:
    return repr(wanted) if isinstance(wanted, str) else f"/{wanted.pattern}/"


def _short(text: str, limit: int = 300) -> str:
    return repr(text if len(text) <= limit else f"{text[:limit]}...")
