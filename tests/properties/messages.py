"""What generated messages are made of: usual texts and addresses, odd ones, hostile ones."""

from __future__ import annotations

import string

from hypothesis import strategies as st

WORDS = string.ascii_letters + string.digits + ".,!?'-_"
FOREIGN = "äöüßéÅ漢字かなЖпривет‎مرحبا😀👩‍👧 €"
nice_words = st.text(WORDS, min_size=1, max_size=20)
foreign_words = st.text(WORDS + FOREIGN.replace(" ", ""), min_size=1, max_size=12)
nice_lines = st.lists(nice_words | foreign_words, max_size=25).map(" ".join)
any_text = st.text(st.characters(codec=None), max_size=60)
hostile_bits = st.sampled_from(
    [
        *(
            "\r\n",
            "\n",
            "\r",
            "\0",
            "\x0b",
            "\x1c",
            "\x85",
            "\u2028",
            "\ud800",
            "\udc80",
            "\t",
            " ",
        ),
        *("=?utf-8?q?=41?=", "=?utf-8?b?QQ==?=", "=?", "?=", "\r\nBcc: x@example.org", "x" * 1100),
        *(
            "\ufeff",
            "\u200d",
            "é",
            "😀",
            '"',
            "\\",
            "<",
            ">",
            "(",
            ")",
            ",",
            ";",
            ":",
            "@",
            "[",
            "]",
        ),
    ]
)
hostile = st.lists(hostile_bits | nice_words, max_size=6).map("".join)

atoms = st.text(
    string.ascii_letters + string.digits + "!#$%&'*+/=^_`{|}~-", min_size=1, max_size=12
)
local_parts = st.lists(atoms, min_size=1, max_size=3).map(".".join) | st.just('"john doe"')
domains = st.sampled_from(
    ["example.org", "b.example", "localhost", "xn--bcher-kva.example", "bücher.example", "例え.jp"]
)
specs = st.builds("{}@{}".format, local_parts, domains)
names = st.lists(
    st.text(string.ascii_letters + "äé漢😀.", min_size=1, max_size=9), min_size=1, max_size=5
)
quoted_names = st.text(string.ascii_letters + "äé漢😀.,;:@()<> ", min_size=1, max_size=30).map(
    '"{}"'.format
)
named = st.builds("{} <{}>".format, names.map(" ".join) | quoted_names, specs)
nice_addresses = specs | named | st.sampled_from(["webmaster", "Root <root@localhost>"])
odd_addresses = st.sampled_from(
    [
        *("", "a@b@c", "x y@example.org", "me@example.org (Comment)", "Group: a@b.c, d@e.f;"),
        *('"a\\"b"@example.org', "ünder@example.org", "<a@b.c>", "a@[192.0.2.1]", "a@b.c, d@e.f"),
        *("A. <a@b.c>", '"" <a@b.c>', "  a@b.c", "a@b..c", "a..b@c", "@b.c", "a@", "a@-b-.c"),
        *("=?utf-8?q?=41?= <a@b.c>", "a@b.c\r\nBcc: d@e.f", "a@ b.c", "Ä  B <a@b.c>", "Ä <a@b.c"),
    ]
)
any_addresses = nice_addresses | odd_addresses | hostile

line_breaks = st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n", ""])
body_lines = nice_lines | st.sampled_from(
    [".", "..", ".x", "From me", "-- ", "trailing  ", "\ttab", "=", "=3D", "\x0c", "\x7f", "\0"]
)
long_lines = st.builds(
    "{}{}".format,
    nice_lines,
    st.integers(0, 1300).map("x".__mul__) | st.integers(0, 600).map("é".__mul__),
)
bodies = st.lists(st.tuples(body_lines | long_lines, line_breaks).map("".join), max_size=14).map(
    "".join
)

file_names = st.one_of(
    st.none(),
    st.sampled_from(
        ["a.txt", "b.png", "c c.pdf", "фото.png", 'q"q.txt', "b\\b.txt", "s/l.txt", "x" * 200, ""]
    ),
    nice_lines,
    foreign_words.map("{}.bin".format),
    hostile,
)
text_types = st.sampled_from(["text/plain", "text/html", "text/csv", "text/calendar"])
binary_types = st.sampled_from(
    ["image/png", "application/pdf", "application/octet-stream", "application/x-y.z+xml"]
)
attachments = st.one_of(
    st.tuples(file_names, bodies, text_types),
    st.tuples(file_names, st.binary(max_size=200), binary_types),
    st.tuples(file_names, st.binary(max_size=30), text_types),
    st.tuples(file_names, any_text, binary_types),
    st.tuples(st.just("m.eml"), st.just("Subject: x\n\ny"), st.just("message/rfc822")),
    st.tuples(st.none(), st.just(b"x"), st.sampled_from(["Text/Plain", "x", "a/b/c", "a/b; c=d"])),
)
alternatives = st.lists(
    st.tuples(bodies, text_types) | st.tuples(st.binary(max_size=99), binary_types), max_size=3
)
nice_headers = st.dictionaries(
    st.sampled_from(
        ["X-Tag", "List-Unsubscribe", "References", "Auto-Submitted", "X_y", "Precedence"]
    ),
    nice_lines,
    max_size=3,
)
odd_headers = st.dictionaries(
    st.sampled_from(
        [
            *("From", "from", "To", "to", "Cc", "Reply-To", "reply-to", "Sender", "Subject", "Bcc"),
            *(
                "Date",
                "date",
                "Message-ID",
                "message-id",
                "MIME-Version",
                "Content-Type",
                "Resent-To",
            ),
            *(
                "X-A",
                "x-a",
                "X A",
                "X:A",
                "",
                "X\nA",
                "Ä",
                "Content-Language",
                "Content-ID",
                "X" * 80,
            ),
            *("Return-Path", "Received", "DKIM-Signature", "In-Reply-To"),
        ]
    ),
    hostile
    | any_addresses
    | nice_lines
    | st.sampled_from(
        [
            *("Tue, 24 Nov 2026 04:02:19 +0100", "Mon, 24 Nov 2026 04:02:19 -0000", "<a@b>", "1.0"),
            *("Tue, 31 Feb 2026 04:02:19 +0100", "2026-11-24", "<a b@c>", "<a@b> <c@d>", "a@b"),
        ]
    )
    | st.integers()
    | st.none(),
    max_size=3,
)

headers_only = st.fixed_dictionaries(
    {"subject": nice_lines, "from_email": nice_addresses},
    optional={
        "to": st.lists(nice_addresses, max_size=9),
        "cc": st.lists(nice_addresses, max_size=3),
        "bcc": st.lists(nice_addresses, max_size=2),
        "reply_to": st.lists(nice_addresses, max_size=2),
        "headers": nice_headers,
    },
)
