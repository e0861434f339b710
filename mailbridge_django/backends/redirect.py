"""A backend for staging: nobody outside a list gets mail, whatever the application does."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from django.core.mail import EmailMessage

from mailbridge.convert import words
from mailbridge.envelope import to_ascii_domain

from ..batch import attach, finish
from ..exceptions import MailError
from ..message import addr_spec
from ..report import not_sent, report_of
from .wrapper import Wrapper, errors_of

FIELDS = {"to": "X-Original-To", "cc": "X-Original-Cc", "bcc": "X-Original-Bcc"}
_NOT_ALLOWED = "not sent: no recipient is in 'allow', and there is no 'to'"


class EmailBackend(Wrapper):
    """Sends by the mailer `using`, to nobody but those who are meant to get mail from here.

    `to`: addresses that everything goes to instead. `allow`: addresses (``ida@example.org``),
    domains (``example.org``) and subdomains (``*.example.org``) that get their own mail. With
    `allow` alone the other recipients are dropped. The recipients of before are in the fields
    X-Original-To, X-Original-Cc and X-Original-Bcc; the last only if nobody in `allow` gets it.
    """

    OPTIONS = ("to", "allow")

    def configure(self, given: dict[str, Any]) -> None:
        """Take in `to` and `allow`. Raises ValueError for what is no address and no domain."""
        super().configure(given)
        self.to = [addr_spec(address) for address in words("to", given.get("to") or ())]
        self.allow = frozenset(_pattern(text) for text in words("allow", given.get("allow") or ()))
        if not self.to and not self.allow:
            raise ValueError("'to' and 'allow' are both empty: who is to get the mail?")

    def send_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        """Send the messages to those that are allowed; return how many were sent.

        A message that goes to nobody is not counted, and its report says why. Raises what the
        mailer `using` raises; the report and the error are those of the message as it was sent.
        """
        messages = list(email_messages or ())
        errors: list[Exception] = []
        pairs: list[tuple[EmailMessage, EmailMessage]] = []
        for message in messages:
            try:
                changed = self.redirected(message)
            except ValueError as error:
                errors.append(error)
                continue
            if changed is None:
                recipients = [str(address) for address in message.recipients() if address]
                attach(message, not_sent(recipients, str(message.from_email), _NOT_ALLOWED))
            else:
                pairs.append((message, changed))
        sent = self._send(pairs, errors) if pairs else 0
        return finish(sent, errors, map(report_of, messages))

    def _send(self, pairs: list[tuple[EmailMessage, EmailMessage]], errors: list[Exception]) -> int:
        try:
            return int(self.inner[0].send_messages([changed for _, changed in pairs]) or 0)
        except Exception as error:
            errors += errors_of(error)
            return 0
        finally:
            for message, changed in pairs:
                for name in ("delivery_report", "anymail_status"):
                    if name in vars(changed):
                        setattr(message, name, vars(changed)[name])
                for each in errors:
                    if isinstance(each, MailError) and each.message is changed:
                        each.message = message

    def redirected(self, message: EmailMessage) -> EmailMessage | None:
        """A copy of the message for those that may get it, None if there is nobody.

        Raises ValueError for an invalid recipient, and for a message whose class gives it
        recipients of its own.
        """
        if not any(message.recipients()):
            return None
        fields = {name: [a for a in getattr(message, name) if a] for name in FIELDS}
        kept = {name: [a for a in fields[name] if self._allows(a)] for name in FIELDS}
        anybody = any(kept.values())
        if kept != fields:
            kept["to"] = [*kept["to"], *self.to]
        if not any(kept.values()):
            return None
        changed = copy.copy(message)
        vars(changed).update(kept)
        changed.extra_headers = self._headers(message, fields, kept, anybody)
        strangers = [a for a in changed.recipients() if a not in self.to and not self._allows(a)]
        if strangers:
            raise ValueError(
                f"{type(message).__qualname__}.recipients() names recipients besides to, cc and"
                " bcc, and these cannot be redirected: nothing was sent."
            )
        return changed

    def _headers(
        self,
        message: EmailMessage,
        fields: dict[str, list[Any]],
        kept: dict[str, list[Any]],
        anybody: bool,
    ) -> dict[str, Any]:
        headers = dict(message.extra_headers)
        if kept == fields:
            return headers
        # A header field of the message's own would show, and have answered, what was replaced.
        for name in [n for n in headers if str(n).lower() in ("to", "cc")]:
            headers.setdefault(FIELDS[str(name).lower()], headers.pop(name))
        for name, field in FIELDS.items():
            if fields[name] and not (name == "bcc" and anybody):
                headers.setdefault(field, ", ".join(map(str, fields[name])))
        return headers

    def _allows(self, address: Any) -> bool:
        spec = addr_spec(address).lower()
        domain = spec.rpartition("@")[2]
        parents = [domain[at:] for at, char in enumerate(domain) if char == "."]
        return bool({spec, f"@{domain}", *(f"*{parent}" for parent in parents)} & self.allow)


def _pattern(text: str) -> str:
    """An address, ``@domain`` or ``*.domain`` to compare with. Raises ValueError."""
    local_part, at, domain = text.rpartition("@")
    if at and local_part:
        return addr_spec(text).lower()
    star = "*." if domain.startswith("*.") else ""
    return (star or "@") + to_ascii_domain(domain.removeprefix("*.")).lower()
