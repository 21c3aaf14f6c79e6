"""A progress bar for people: on a terminal only, and only for work longer than a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PATIENCE = 1.0  # seconds


@contextmanager
def progress_bar(label: str, *, quiet: bool = False) -> Iterator[Callable[[float], None] | None]:
    """Yield a function that takes the fraction done; None where no bar is wanted."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    start = time.monotonic()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=1.0, visible=False)

        def tell(fraction: float) -> None:
            bar.update(task, completed=fraction, visible=time.monotonic() - start > _PATIENCE)

        yield tell
