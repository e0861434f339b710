"""Whatever a server sends, and however it arrives: replies, or ProtocolViolation, within bounds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailbridge import ProtocolViolation, Reply
from mailbridge.protocol.extension import Extensions
from mailbridge.protocol.reply import (
    MAX_REPLY_LINE,
    MAX_REPLY_LINES,
    MAX_REPLY_SIZE,
    ReplyParser,
    printable,
)

codes = st.builds(
    "{}{}{}".format,
    st.sampled_from("2345"),
    st.sampled_from("012345"),
    st.sampled_from("0123456789"),
)
texts = st.binary(max_size=40).map(lambda text: text.replace(b"\n", b"").rstrip(b"\r"))
replies = st.tuples(codes, st.lists(texts, min_size=1, max_size=4))
line_ends = st.sampled_from([b"\r\n", b"\n"])
# Noise that comes near a reply more often than chance would have it.
noise = st.lists(
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from([b"250", b"250-", b"250 ok\r\n", b"\r\n", b"\n", b"\r", b"550-no", b" "]),
    ),
    max_size=30,
).map(b"".join)


def wire(reply: tuple[str, list[bytes]], end: bytes) -> bytes:
    code, lines = reply
    last = len(lines) - 1
    return b"".join(
        code.encode() + (b" " if i == last else b"-") + line + end for i, line in enumerate(lines)
    )


def parsed(*pieces: bytes) -> tuple[list[Reply], str | None]:
    """All replies, and the text of the violation that ended it, if one did."""
    parser, replies = ReplyParser(), []
    try:
        for piece in pieces:
            parser.feed(piece)
            while (reply := parser.next_reply()) is not None:
                replies.append(reply)
    except ProtocolViolation as violation:
        return replies, str(violation)
    return replies, None


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(bounds)]


@given(st.lists(st.tuples(replies, line_ends), max_size=5), st.lists(st.integers(0, 10**4)))
def test_a_split_changes_nothing(sent: list[tuple], places: list[int]) -> None:
    data = b"".join(wire(reply, end) for reply, end in sent)
    expected = [Reply(int(code), tuple(lines)) for (code, lines), _ in sent]
    assert parsed(data) == (expected, None)
    assert parsed(*cut(data, places)) == (expected, None)
    assert parsed(*(data[i : i + 1] for i in range(len(data)))) == (expected, None)


@given(noise, st.lists(st.integers(0, 10**4)))
@example(b"250-a\r\n550 b\r\n250 c\r\n", [])
@example(b"\xff\xfe\n", [])
def test_noise_gives_replies_or_a_violation(data: bytes, places: list[int]) -> None:
    replies, violation = parsed(data)
    assert parsed(*cut(data, places)) == (replies, violation)
    for reply in replies:
        assert 200 <= reply.code <= 559
        assert (reply.positive, reply.intermediate, reply.transient, reply.permanent).count(
            True
        ) == 1
        assert isinstance(reply.text, str)
        assert all(line.isprintable() for line in [str(reply), *reply.shown_lines()])
        assert reply.status is None or reply.status.status_class == reply.code // 100


def feed_without_end(parser: ReplyParser, piece: bytes, limit: int) -> None:
    for _ in range(0, limit, len(piece)):
        parser.feed(piece)
        assert parser.next_reply() is None


@pytest.mark.parametrize(
    "piece",
    [
        *(b"2", b"\r", b"250-", b"250 " + b"x" * 500, b"\0"),  # one line without end
        *(b"250-\r\n", b"250-" + b"x" * 60 + b"\r\n"),  # too many lines
        b"250-" + b"x" * 500 + b"\r\n",  # too many octets
    ],
)
def test_memory_is_bounded(piece: bytes) -> None:
    limit = MAX_REPLY_SIZE + MAX_REPLY_LINE + MAX_REPLY_LINES * 8
    with pytest.raises(ProtocolViolation):
        feed_without_end(ReplyParser(), piece, limit)


@pytest.mark.parametrize("count", [1, 2])
def test_a_line_may_be_as_long_as_the_limit(count: int) -> None:
    line = b"250-" + b"x" * (MAX_REPLY_LINE - 5) + b"\r\n"
    assert len(line) == MAX_REPLY_LINE + 1
    replies, violation = parsed(line * count + b"250 \r\n")
    assert violation is None
    assert len(replies[0].lines) == count + 1
    assert parsed(line[:-2] + b"x\r\n")[1] is not None
    assert parsed(line[:-2] + b"xx\r\n")[1] is not None


@given(st.binary(max_size=60))
def test_what_is_printable_moves_no_cursor(text: bytes) -> None:
    assert all(char.isprintable() for char in printable(text))


lines = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [b"SIZE", b"SIZE 10", b"SIZE x", b"AUTH=PLAIN", b"auth login", b"AUTH", b"SIZE \xff", b"-"]
    ),
)


@given(st.lists(lines, max_size=8), st.booleans())
def test_ehlo_is_read_whatever_it_says(lines: list[bytes], in_tls: bool) -> None:
    extensions = Extensions.from_reply(
        Reply(250, (b"mx", *lines)), ignore=["SIZE", "starttls"], in_tls=in_tls
    )
    assert not extensions.offers("SIZE")
    assert all(keyword == keyword.lower() for keyword in extensions)
    assert extensions.size_limit is None
    assert all(name == name.upper() and " " not in name for name in extensions.mechanisms)


@given(st.lists(lines, max_size=8))
def test_size_is_a_number_or_no_limit(lines: list[bytes]) -> None:
    limit = Extensions.from_reply(Reply(250, (b"mx", *lines))).size_limit
    assert limit is None or limit > 0
