"""The hostile tests of the blocking side, run against asyncio, as in `test_as_blocking.py`.

What is left out has a test of its own for event loops, which is named beside it.
"""

from __future__ import annotations

import importlib

import pytest

from tests.aio.facade import Loop, collected

MODULES = [
    importlib.import_module(f"tests.hostile.test_{name}")
    for name in ("delivery", "leaving", "model", "processes")
]

LEFT_OUT = {
    # Without a socket: a session and a batch are the same on both sides.
    "test_true_states_octet_by_octet",
    "test_true_states_in_a_lane",
    "test_true_states_in_a_window",
    "test_a_kind_server_gets_every_mail_in_a_window",
    "test_the_model_finds_a_lie",
    # Both ways already.
    "test_no_second_copy_through_django",
    "test_no_second_copy_through_flask",
    "test_exit_does_not_wait_for_anybody",
    # Of tasks already, or of no transport.
    "test_a_send_that_is_cancelled_between_two_tries_says_who_has_the_mail",
    "test_fork_while_a_task_sends",
    "test_fork_beside_an_asyncio_connection_that_was_closed",
    "test_in_a_child_every_lock_is_renewed_though_one_fails",
    # A child has no use for its parent's loop: test_fork_while_a_task_sends has one of its own.
    "test_fork_while_a_thread_sends",
    "test_fork_by_multiprocessing",
    # Gunicorn's workers are blocking; django/test_async.py runs uvicorn.
    "test_gunicorn_that_preloads",
    # Ctrl-C is a cancellation in a loop: test_tasks.py::test_cancelled_while_it_waits_for_a_place.
    "test_interrupt_while_waiting_for_a_place",
}

globals().update(collected(MODULES, LEFT_OUT))


@pytest.fixture(autouse=True)
def _by_asyncio(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    loop.take_over(MODULES, monkeypatch)
