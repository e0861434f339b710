"""Fuzz the reply and EHLO parsers with atheris: any octets are replies, or one ProtocolViolation.

Not run by pytest. ``pip install atheris`` (Linux, CPython up to 3.13), then

    python -m tests.fuzz.replies -max_total_time=600 -max_len=4096
"""

from __future__ import annotations

import sys

import atheris

from tests.fuzz.words import spelled

with atheris.instrument_imports(include=["mailbridge"]):
    from mailbridge.errors import ProtocolViolation
    from mailbridge.protocol.extension import Extensions
    from mailbridge.protocol.reply import Reply, ReplyParser


WORDS = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"250 ",
        b"250-",
        b"250",
        b"354 ",
        b"421 ",
        b"550 ",
        b"550-5.1.1 ",
        b"2.0.0 ",
    ),
    *(
        b"AUTH PLAIN LOGIN",
        b"AUTH=PLAIN",
        b"SIZE ",
        b"SIZE -1",
        b"999999999999",
        b"STARTTLS",
        b"=",
        b"\xff",
    ),
    *(
        b"PIPELINING",
        b"CHUNKING",
        b"LIMITS MAILMAX=1 RCPTMAX=x",
        b"DELIVERBY 1",
        b"FUTURERELEASE 1 x",
    ),
    *(
        b"MT-PRIORITY X",
        b"8BITMIME",
        b"\xc3\xa9",
        b"\0",
        b"\t",
        b" ",
        b"x" * 500,
        b"250-x\r\n" * 200,
    ),
]


def parse(pieces: list[bytes]) -> tuple[list[Reply], bool]:
    """The replies in these pieces, and whether they end in a violation."""
    parser, replies = ReplyParser(), []
    try:
        for piece in pieces:
            parser.feed(piece)
            while (reply := parser.next_reply()) is not None:
                replies.append(reply)
    except ProtocolViolation:
        return replies, True
    return replies, False


def one_input(data: bytes) -> None:
    """The same replies however the octets arrive, and every one a reply by its grammar."""
    data = b"".join(spelled(data, WORDS))
    whole, violated = parse([data])
    octets, violated_too = parse([data[i : i + 1] for i in range(len(data))])
    assert whole == octets[: len(whole)]
    assert violated == violated_too
    for reply in whole:
        assert 200 <= reply.code <= 559
        str(reply), reply.text, reply.status
        Extensions.from_reply(reply, ignore=(), in_tls=False)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
