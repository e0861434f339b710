"""The soak: servers that fail at random, senders that do not care, and an account of every mail.

    python -m tests.soak --minutes 10

Ends with 1 if a message was not received exactly once, or reported as not delivered, or as in
doubt; if one was received twice, or reported twice; if a sender failed, hung, or left something
open.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from mailbridge.testing import TestCA
from tests.soak import senders, servers
from tests.soak.accounts import Accounts, settle

APPLICATIONS = 2
# For the report on one mail: a minute for a place in the pool, three tries, each with its phases.
PATIENCE = 100.0


def soak(seconds: float, seed: int) -> tuple[Accounts, Counter[str]]:
    """Run for so long. Returns the accounts, and what the servers did."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as top, TestCA() as authority:
        journal = Path(top, "journal")
        pipe, other = context.Pipe()
        server = context.Process(
            target=servers.run, args=(other, seed, authority.certificate_file("127.0.0.1"))
        )
        server.start()
        ports = pipe.recv()
        applications = [
            context.Process(
                target=senders.run, args=(n, ports, authority.ca_file, journal, seed, seconds)
            )
            for n in range(1, APPLICATIONS + 1)
        ]
        for application in applications:
            application.start()
        for application in applications:
            application.join(seconds + 2 * PATIENCE)
        hung = [application for application in applications if application.is_alive()]
        for application in hung:
            application.kill()
            application.join()
        pipe.send("stop")
        taken, problems, counts = pipe.recv()
        server.join()
        with journal.open("rb") as lines:
            accounts = settle(map(json.loads, lines), taken)
    accounts.problems += problems
    accounts.problems += [f"{application.name} hung" for application in hung]
    _check_ends(accounts)
    return accounts, Counter(counts)


def _check_ends(accounts: Accounts) -> None:
    if len(accounts.ends) != APPLICATIONS:
        accounts.problems.append(f"{APPLICATIONS - len(accounts.ends)} senders did not end")
    for end in accounts.ends:
        if end["left open"] or end["threads left"] > 0:
            accounts.problems.append(f"a sender left something open: {end}")
    if accounts.longest > PATIENCE:
        accounts.problems.append(f"somebody waited {accounts.longest:.0f} s for a report")


def told(accounts: Accounts, counts: Counter[str]) -> str:
    """The figures, for a person."""
    lines = [f"{accounts.mails} mails to {accounts.states.total()} recipients"]
    lines += [f"  {count:7} {state}" for state, count in accounts.states.most_common()]
    lines.append(f"of those in doubt {accounts.in_doubt_and_taken} had arrived")
    lines.append(f"the longest wait for a report was {accounts.longest:.1f} s")
    lines += [f"a sender ended: {end}" for end in accounts.ends]
    lines.append("the servers: " + ", ".join(f"{n} {what}" for what, n in counts.most_common()))
    lines += [f"PROBLEM: {problem}" for problem in accounts.problems[:20]]
    lines.append(f"{len(accounts.problems)} problems")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="to make the same choices again")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"soak: {options.minutes:g} minutes, --seed {seed}", flush=True)
    accounts, counts = soak(options.minutes * 60, seed)
    print(told(accounts, counts))
    return 1 if accounts.problems else 0


if __name__ == "__main__":
    sys.exit(main())
