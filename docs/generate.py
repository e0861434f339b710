"""Write the parts of the reference that are made from the code: ``python -m docs.generate``.

What is between ``<!-- generated: NAME -->`` and ``<!-- end -->`` is replaced, the rest of a page
is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mailbridge.catalogue import OF_RELAY, OF_TRANSPORT, Option, default_of
from mailbridge_django.conf import DJANGO_OPTIONS
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


PARTS: dict[str, Callable[[], Iterator[str]]] = {"options": options}


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
