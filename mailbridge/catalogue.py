"""Every option in words: its type, its default, and what it means.

The table of docs/reference/options.md is made of this by ``python -m docs.generate``; a default
that is not put in words is the code's own. The texts are Markdown, with links as that page has
them.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import NamedTuple

from .dkim import CANONICALIZATIONS
from .options import (
    POOL_OPTIONS,
    RETRY_OPTIONS,
    TIMEOUT_OPTIONS,
    PoolOptions,
    Relay,
    RetryPolicy,
    Timeouts,
)
from .report import OnRefused

FLAG, NUMBER, SECONDS, TEXT, PATH = "true or false", "number", "seconds", "text", "path"
LIST = "list, or text with commas"


class Option(NamedTuple):
    """An option under the core's name. `default` is in words, None where the code says it."""

    name: str
    type: str
    meaning: str
    default: str | None = None


#: Options of a relay: each may be part of a URL, unless its text says otherwise.
OF_RELAY = (
    Option(
        "url",
        TEXT,
        "All of it in one URL. Options that are given beside it count before it;"
        " in the settings of a site one that says something else is an error.",
    ),
    Option(
        "host",
        TEXT,
        "Name or address of the server, or the path of a Unix socket.",
        "required; Django `localhost`, Flask `127.0.0.1`",
    ),
    Option(
        "port",
        NUMBER,
        "In Django a user makes no difference, and without `MAILERS` it is `EMAIL_PORT`, so 25."
        " In Flask it is 25, or 465 with `MAIL_USE_SSL`, unless `MAIL_TLS`, `MAIL_LMTP` or"
        " `MAIL_URL` is set.",
        "465 with implicit TLS, 587 with required STARTTLS or a user, 24 for LMTP, else 25",
    ),
    Option("username", TEXT, "Log in as this user. Needs `password`, or `token_provider`."),
    Option("password", TEXT, "Shown in no repr, log or error."),
    Option(
        "tls",
        "`none`, `opportunistic`, `starttls`, `implicit`",
        "`opportunistic`: STARTTLS where the server offers it. `starttls`: STARTTLS, or an error."
        " `implicit`: TLS from the first byte.",
        "core and URLs `opportunistic`; Django and Flask `none`",
    ),
    Option(
        "tls_verify",
        FLAG,
        "Check certificate and host name. False is logged as a warning, once for each server.",
    ),
    Option(
        "fingerprint",
        "text, or several with commas or as a list",
        "The SHA-256 digest of the server's certificate, with colons or without. Alone it"
        " [takes the place of the CAs](../explanation/security.md#whom-to-trust).",
    ),
    Option("ca_file", PATH, "A file with the CA certificates to trust.", "the system's CAs"),
    Option("ca_path", PATH, "A directory of CA certificates, named by hash.", "the system's CAs"),
    Option("certfile", PATH, "A client certificate."),
    Option("keyfile", PATH, "Its key, not encrypted.", "in `certfile`"),
    Option("server_hostname", TEXT, "The name that the certificate must have.", "`host`"),
    Option(
        "ssl_context",
        "`ssl.SSLContext`, or a function that makes one",
        "TLS on your terms, in place of `ca_file`, `ca_path`, `certfile`, `keyfile` and"
        " `tls_verify`.",
    ),
    Option(
        "allow_insecure_auth",
        FLAG,
        "Send the password without verified TLS. On this machine (loopback) it is always allowed.",
    ),
    Option(
        "auth_mechanisms",
        LIST,
        "The SASL mechanisms to use, in your order: names, or mechanisms of your own. EXTERNAL is"
        " used only if it is named.",
        "all, [best first](../explanation/security.md#logins)",
    ),
    Option(
        "token_provider",
        "a function, or its dotted path",
        "[Gives the OAuth 2.0 token](../howto/oauth2.md) in place of a password. Not in a URL.",
    ),
    Option(
        "auth_pause",
        SECONDS,
        "So long a refused login [is remembered](../explanation/security.md#a-failed-login), and"
        " the server not asked again.",
    ),
    Option("timeout", SECONDS, "Sets all three below at once."),
    Option(
        "connect_timeout",
        SECONDS,
        "From the name look-up to the end of the TLS handshake, [however many"
        " addresses](../explanation/pool.md#how-a-connection-is-made) the name has.",
    ),
    Option("reply_timeout", SECONDS, "For each reply, and each block of content."),
    Option(
        "final_reply_timeout",
        SECONDS,
        "For the reply to the content. When it is over the mail is"
        " [in doubt](../explanation/refused.md#in-doubt).",
    ),
    Option("timeouts", "`mailbridge.Timeouts`", "The three as one value.", "see above"),
    Option(
        "local_hostname",
        TEXT,
        "The name to say in EHLO.",
        "Django: this host's name; else its address, as `[192.0.2.1]`",
    ),
    Option(
        "source_address",
        "address, or (address, port)",
        "Connect from this address of this machine.",
        "any",
    ),
    Option(
        "ignore_extensions",
        LIST,
        "Keywords of EHLO to pass over, for a server that offers what it cannot do.",
    ),
    Option(
        "lmtp",
        FLAG,
        "Speak LMTP (RFC 2033): the server answers for each recipient after the content.",
    ),
    Option(
        "strict",
        FLAG,
        "Refuse a mail that this server does not take as it is, instead of"
        " [re-encoding the part at fault](../explanation/content.md).",
    ),
    Option(
        "dkim_domain",
        TEXT,
        "[Sign mail with DKIM](../howto/dkim.md) for this domain. Needs `dkim_selector` and"
        " `dkim_key`.",
    ),
    Option("dkim_selector", TEXT, "The name under which DNS has the public key."),
    Option(
        "dkim_key",
        "path, or a key in PEM",
        "The private key, RSA or Ed25519. Shown in no repr, log or error.",
    ),
    Option(
        "dkim_headers",
        LIST,
        "The header fields to sign, From among them.",
        "those that RFC 6376 recommends",
    ),
    Option(
        "dkim_canonicalization",
        ", ".join(f"`{each}`" for each in CANONICALIZATIONS),
        "What may happen to header and body on the way without breaking the signature.",
        f"`{CANONICALIZATIONS[0]}`",
    ),
    Option("dkim", "`mailbridge.Signer`", "These as one value.", "none"),
    Option(
        "max_connections",
        NUMBER,
        "Connections to this server at a time, for the whole process.",
    ),
    Option("pool_timeout", SECONDS, "Wait so long for one of them to become free."),
    Option("max_messages", NUMBER, "Close a connection after so many mails."),
    Option("max_age", SECONDS, "Close it at this age."),
    Option("idle_timeout", SECONDS, "Close it when its last mail was so long ago."),
    Option(
        "max_per_second",
        NUMBER,
        "Send no more mails a second; fewer while the server complains (421, 4.7.x).",
    ),
    Option(
        "bdat_window",
        NUMBER,
        "Have so many mails of a batch on their way without waiting for replies. Only for a server"
        " [that is known to bear it](../explanation/pool.md#a-window-of-whole-mails).",
        "off",
    ),
    Option("pool", "`mailbridge.PoolOptions`", "These as one value.", "see above"),
)
#: Options of a Transport, or of what stands for one in a framework. None is part of a URL.
OF_TRANSPORT = (
    Option(
        "tries",
        NUMBER,
        "Try so often in all, where nothing was handed over and a later try may help.",
    ),
    Option(
        "retry_delay",
        SECONDS,
        "Before the next try wait at random up to this, twice this, four times this.",
    ),
    Option("retry_max_delay", SECONDS, "But never longer than this."),
    Option(
        "deadline",
        SECONDS,
        "For [one send as a whole](../explanation/pool.md#a-deadline): waiting for a connection,"
        " connecting, every reply, and every other try.",
        "none",
    ),
    Option(
        "relays",
        "list of URLs, or text with commas",
        "Servers to go on to, in this order, when the one above cannot be used. A URL says all"
        " about its server; only EHLO's name, `strict` and `dkim` are the same.",
        "none",
    ),
    Option("round_robin", FLAG, "Start with another of these servers each time.", "false"),
    Option(
        "on_refused",
        ", ".join(f"`{policy}`" for policy in OnRefused),
        "What to do [when recipients are refused]"
        "(../explanation/refused.md#what-your-code-is-told-on_refused).",
        f"`{OnRefused.RAISE}`",
    ),
    Option(
        "max_recipients",
        NUMBER,
        "[Refuse a mail to more recipients](../howto/bulk.md#recipients-that-users-name) before"
        " anything is sent: for an application whose users name them.",
        "no limit",
    ),
    Option(
        "esmtp",
        "`mailbridge.Esmtp`, or a mapping of its arguments",
        "What to [ask of the server](../howto/notifications.md) with every mail: notifications, a"
        " priority, a time limit. What a mail asks itself counts before this.",
        "none",
    ),
    Option(
        "on_report",
        "a function, its dotted path, or several",
        "Called with the report of each mail when it has ended, [for logs, metrics and"
        " traces](../howto/observability.md).",
        "none",
    ),
    Option(
        "before_final_dot",
        "a function, or its dotted path",
        "[Called before a mail is handed over](../howto/at-most-once.md); an exception stops it.",
        "none",
    ),
    Option(
        "after_reply",
        "a function, or its dotted path",
        "[Called with the server's reply](../howto/at-most-once.md) to the content.",
        "none",
    ),
)


def default_of(option: Option) -> str:
    """The default in words, as the code has it unless the option says so itself."""
    if option.default is not None:
        return option.default
    value = _defaults().get(option.name)
    if value is None or value == () or value == frozenset():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, (int, float)) else f"`{value}`"


def _defaults() -> dict[str, object]:
    """The default of each option that is a field of a value, by the option's name."""
    values = {item.name: item.default for item in fields(Relay) if item.default is not MISSING}
    parts = (
        (Timeouts, TIMEOUT_OPTIONS),
        (PoolOptions, POOL_OPTIONS),
        (RetryPolicy, RETRY_OPTIONS),
    )
    for kind, names in parts:
        made = kind()
        values |= {option: getattr(made, field) for option, field in names.items()}
    return values
