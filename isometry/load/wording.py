"""Words for messages: text from a file is shown escaped, lists are capped."""

from __future__ import annotations

from collections.abc import Iterable


def show(text: object, limit: int = 120) -> str:
    """Return `text` on one line, with everything a terminal could act on escaped.

    Names in a file belong to whoever wrote the file: a newline could forge a second
    message, an escape sequence could rewrite the screen, a bidi mark could swap the words.
    """
    shown = "".join(c if c.isprintable() else _escape(c) for c in str(text)[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def listing(names: Iterable[object], cap: int = 12) -> str:
    """Return the first `cap` names, comma separated, and how many more there are."""
    every = list(names)
    text = ", ".join(show(name) for name in every[:cap])
    return f"{text}, … and {len(every) - cap} more" if len(every) > cap else text


def amount(size: int) -> str:
    """Return a number of bytes in the unit that a reader would choose."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return "more than 1000 TB"


def plural(count: int, noun: str) -> str:
    """Return "1 tensor", "2 tensors"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
