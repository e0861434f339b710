"""The tests of the blocking side and every conversation, run against asyncio.

Those that depend on the loop are run against uvloop as well: see `conftest.ON_ONE_LOOP`.

The same functions: their module's SMTP and Transport are replaced by the asyncio ones behind a
blocking interface (`tests/aio/facade.py`). What is about threads, or about how the blocking side
is made, is left out.
"""

from __future__ import annotations

import importlib

import pytest

from tests.aio.facade import Loop, collected

NAMES = [
    *(
        "addresses",
        "alone",
        "auth",
        "binary",
        "content",
        "dkim",
        "esmtp",
        "failures",
        "lane",
        "logins",
        "recipients",
        "replies",
        "secrets",
    ),
    *("login_with_mail", "window"),
    *("deadline", "hooks", "time", "tls", "transactions", "transport"),
]
MODULES = [importlib.import_module(f"tests.sync.test_{name}") for name in NAMES]
MODULES.append(importlib.import_module("tests.test_conversations"))

LEFT_OUT: set[str] = {
    "test_session",  # of the conversations, without a socket
    "test_logins_go_on_beside_each_other_once_one_was_accepted",  # in threads
    "test_a_coroutine_function_is_awaited",  # by a blocking client, in a loop
    "test_a_driver_with_an_event_loop_awaits_it_there",
    "test_values",  # of secrets: says nothing to anybody, and the façade cannot be copied
    # Its authobject is the client itself, which the façade would run in the running loop.
    "test_user_name_is_masked_in_exchanges_of_the_callers_own",
    "test_an_interrupt_hands_nothing_over",  # of a thread, which has no interrupts
    "test_an_interrupt_leaves_no_connection_in_the_middle_of_a_mail",
    "test_interrupted_while_a_batch_waits",  # in time.sleep(): a loop waits otherwise
    "test_a_lease_that_is_dropped_holds_nobody_up",  # an event loop still has its transport
}


globals().update(collected(MODULES, LEFT_OUT))


@pytest.fixture(autouse=True)
def _by_asyncio(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    loop.take_over(MODULES, monkeypatch)
