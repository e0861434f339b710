"""Write the parts of the reference that are made from the code: ``python -m docs.generate``.

What is between ``<!-- generated: NAME -->`` and ``<!-- end -->`` is replaced, the rest of a page
is left alone.
"""

from __future__ import annotations

import ast
import inspect
import re
import smtplib
from argparse import Action, ArgumentParser
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from django.core.management.base import CommandParser

import mailbridge.errors
from mailbridge import cli
from mailbridge.catalogue import OF_RELAY, OF_TRANSPORT, Option, default_of
from mailbridge.testing import __main__ as serving
from mailbridge_django.conf import DJANGO_OPTIONS
from mailbridge_django.management.commands.mailbridge import Command
from mailbridge_flask.cli import mail_commands
from mailbridge_flask.config import setting_of

DOCS = Path(__file__).parent
GENERATED = re.compile(r"(<!-- generated: (\w+) -->\n\n).*?(\n<!-- end -->)", re.DOTALL)
#: What is made of Django's and Flask-Mail's own pairs of options.
TLS_DJANGO = "`EMAIL_USE_TLS` (`starttls`), `EMAIL_USE_SSL` (`implicit`), or `tls`"
TLS_FLASK = "`MAIL_USE_TLS`, `MAIL_USE_SSL`, or `MAIL_TLS`"


def options() -> Iterator[str]:
    """The lines of the table of options."""
    yield "| option | Django | Flask | type | default | meaning |"
    yield "|---|---|---|---|---|---|"
    for option in (*OF_RELAY, *OF_TRANSPORT):
        cells = (
            f"`{option.name}`",
            django_name(option),
            TLS_FLASK if option.name == "tls" else f"`{setting_of(option.name)}`",
            option.type,
            default_of(option),
            option.meaning,
        )
        yield f"| {' | '.join(cells)} |"


def django_name(option: Option) -> str:
    """How the option is called in Django: by a setting of Django's, or as in the core."""
    name = option.name
    if name in DJANGO_OPTIONS:
        return f"`{DJANGO_OPTIONS[name]}`"
    if name == "tls":
        return TLS_DJANGO
    theirs = f"ssl_{name}"
    if theirs in DJANGO_OPTIONS:
        return f"`{DJANGO_OPTIONS[theirs]}` (`{theirs}`), or `{name}`"
    return f"`{name}`"


def errors() -> Iterator[str]:
    """The tree of exceptions, each below the first of its bases that is in it or is built in."""
    yield "```text"
    for root in (ValueError, smtplib.SMTPException):
        yield root.__name__ if root is ValueError else f"smtplib.{root.__name__}"
        yield from _below(root, 1)
    yield "```"


def _below(base: type, depth: int) -> Iterator[str]:
    for name, each in vars(mailbridge.errors).items():
        # Not smtplib's names for some of them, which are in the module, too.
        if isinstance(each, type) and each.__name__ == name and each.__bases__[0] is base:
            yield f"{'    ' * depth}{name}"
            yield from _below(each, depth + 1)


def states() -> Iterator[str]:
    """The table of the states that a recipient can end in."""
    yield "| state | means |"
    yield "|---|---|"
    (source,) = ast.parse(inspect.getsource(mailbridge.State)).body
    # A docstring behind a member is not kept at run time.
    for pair in pairwise(getattr(source, "body", ())):
        match pair:
            case (
                ast.Assign(value=ast.Constant(state)),
                ast.Expr(value=ast.Constant(str(meaning))),
            ):
                yield f"| `{state}` | {meaning.rstrip('.')} |"


def commands() -> Iterator[str]:
    """The table of the arguments of each command."""
    yield "| command | argument | means |"
    yield "|---|---|---|"
    for name, parser in _subcommands(cli.parser()):
        yield from _rows(f"python -m mailbridge {name}", parser._actions)
    yield from _rows("python -m mailbridge.testing", serving.parser()._actions)
    django = Command()
    parser = CommandParser(prog="manage.py mailbridge")
    django.add_arguments(parser)
    rows = [action for action in parser._actions if action.dest != "action"]
    yield from _rows("manage.py mailbridge check", rows)
    for name, command in mail_commands.commands.items():
        for option in command.params:
            means = getattr(option, "help", None) or f"default: {option.default}"
            yield _row(f"flask mail {name}", max(option.opts, key=len), means)


def _subcommands(parser: ArgumentParser) -> Iterator[tuple[str, ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action.choices, dict):
            yield from action.choices.items()


def _rows(command: str, actions: Iterable[Action]) -> Iterator[str]:
    for action in actions:
        if action.dest != "help":
            named = (action.option_strings or [action.dest.upper()])[-1]
            default = f"default: {action.default}" if action.default else "must be given"
            yield _row(command, named, action.help or default)


def _row(command: str, argument: str, means: str) -> str:
    means = means[0].lower() + means[1:].rstrip(".")
    return f"| `{command}` | `{argument}` | {means} |"


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "options": options,
    "errors": errors,
    "states": states,
    "commands": commands,
}


def generated(page: str) -> str:
    """The text of a page with its generated parts as the code has them now."""

    def part(match: re.Match[str]) -> str:
        lines = "".join(f"{line}\n" for line in PARTS[match[2]]())
        return match[1] + lines + match[3]

    return GENERATED.sub(part, page)


def pages() -> Iterator[Path]:
    """The pages that have generated parts."""
    return (
        page for page in sorted(DOCS.rglob("*.md")) if GENERATED.search(page.read_text("utf-8"))
    )


def main() -> None:
    for page in pages():
        page.write_text(generated(page.read_text("utf-8")), "utf-8")
        print(page)


if __name__ == "__main__":
    main()
