"""The one command: measures, and prints each aim beside what was measured.

python -m benchmarks [--quick] [--only NAME] [--json FILE] [--plots DIRECTORY] [--offline]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import plots
from benchmarks.aims import GROUPS, Finding
from benchmarks.bench import Bench, last_line, not_there
from benchmarks.groups import MEASURE
from benchmarks.process import HelperError, pin
from benchmarks.servers import Missing, Servers
from benchmarks.table import table, write_json


def chosen(only: list[str]) -> list[str]:
    """The groups to measure: those whose name, or an aim of theirs, contains one of `only`."""
    if not only:
        return list(GROUPS)
    exact = [group for group in GROUPS if group in only]
    return exact or [
        group
        for group, aims in GROUPS.items()
        if any(text in name for text in only for name in (group, *(aim.name for aim in aims)))
    ]


def measure(bench: Bench, groups: list[str]) -> Iterator[Finding]:
    """The findings of these groups. One that fails does not keep the others from being measured."""
    for group in groups:
        print(f"{group} ...", file=sys.stderr, flush=True)
        found: set[str] = set()
        try:
            for finding in MEASURE[group](bench):
                found.add(finding.aim)
                yield finding
        except (Missing, HelperError) as reason:
            rest = [aim.name for aim in GROUPS[group] if aim.name not in found]
            yield from not_there(rest, last_line(reason))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few short rounds: rough figures")
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        default=[],
        help=f"measure these only; may be repeated: {', '.join(GROUPS)}, or an aim's name",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures to FILE too")
    parser.add_argument("--plots", metavar="DIRECTORY", type=Path, help="draw plots into DIRECTORY")
    parser.add_argument("--offline", action="store_true", help="do not install nodemailer by npm")
    options = parser.parse_args()
    groups = chosen(options.only)
    if not groups:
        parser.error(f"nothing is called {', '.join(options.only)}; there are {', '.join(GROUPS)}")
    if pin() is None:
        print("this system cannot pin processes to a core: figures are rough", file=sys.stderr)
    with Servers() as servers:
        bench = Bench(servers, quick=options.quick, offline=options.offline)
        findings = list(measure(bench, groups))
        print(table(findings))
        if options.json is not None:
            write_json(options.json, findings, quick=options.quick)
        if options.plots is not None:
            try:
                for path in plots.draw(bench, findings, options.plots):
                    print(f"drawn: {path}")
            except Missing as missing:
                print(f"no plots: {missing}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
