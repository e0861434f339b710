"""The short way of a delivery: one write for each group and content, and a yes to everything.

Nearly every mail goes this way, so it is one function; what is out of the ordinary is for
`delivery`, which goes on from wherever this one stops.
"""

from __future__ import annotations

from .content import CHUNK
from .group import begin, begin_behind, is_granted
from .reply import Reply
from .session import Dialogue, Session
from .transaction import MailTransaction


def is_ordinary(session: Session, mail: MailTransaction) -> bool:
    """True if `express` may be tried: nobody is to be asked or told in the middle of it."""
    return (
        "pipelining" in session.extensions
        and not (mail.results or mail.all_or_nothing or mail.witness or session.lmtp)
        and mail.max_recipients is None
        and session.login is None
        and not (mail.by_bdat and mail.content.size > CHUNK)
    )


def express(
    session: Session, mail: MailTransaction, following: MailTransaction | None
) -> Dialogue[Reply | None]:
    """Send an ordinary mail, and the group of `following` behind its content.

    Returns the reply to the content; None if no content was sent, since not everybody was
    accepted or that is not known yet: then the transaction is begun, and its replies are to be
    heard. Raises as `Session.reply` does.
    """
    if not mail.begun:
        if not begin(session, mail):
            return None
        mail.begun = True
        # What is here already answers something else: it is not for this one to write on.
        if not session.has_input:
            yield from session.wait()
    if not is_granted(session, mail):
        return None
    mail.begun = False
    content = mail.whole_content()
    group = None if following is None else begin_behind(session, following)
    if following is None or group is None:
        session.send(content)
        return (yield from session.reply())
    session.send(content, group)
    if not session.has_input:
        yield from session.wait()
    replies = session.take_consent(group, content)
    if replies is None:
        return (yield from session.reply())
    following.grant(replies[1:])
    return replies[0]
