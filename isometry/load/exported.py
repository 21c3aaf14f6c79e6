"""torch.export archives (.pt2): opening one can run code, so they need the user's word.

The loader of torch 2.13 runs code of the file's choice at three places: it unpickles records
without restriction, it unpickles "opaque" constants with `pickle.loads`, and it hands the
text of symbolic sizes to `sympy.sympify`, which evaluates it as Python. The environment
variable set here closes the first place only; nothing closes the other two.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator

import torch
from torch import nn

from isometry.errors import LoadError
from isometry.load.archive import member_names
from isometry.load.source import Source

_FORCED = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": None}
_lock = threading.Lock()  # the environment belongs to the process


class _Heard(logging.Filter):
    """Keeps what torch logs off the screen, and the error that it logs in place of raising."""

    cause: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info:
            self.cause = record.exc_info[1]
        return False


def open_exported(source: Source) -> tuple[nn.Module, str]:
    """Load an exported program.

    Returns
    -------
    module : torch.nn.Module
        Runs the graph as it was exported.
    note : str
        What the export froze.

    Raises
    ------
    LoadError
        The archive holds machine code, which has no derivatives.
    """
    if any("/aotinductor/" in name for name in member_names(source) or ()):
        raise LoadError(
            f"{source.name} is compiled by AOTInductor and has no derivatives; "
            "save the program with torch.export.save instead"
        )
    source.handle.seek(0)
    log, heard = logging.getLogger("torch.export"), _Heard()
    log.addFilter(heard)
    try:
        with _environment():
            program = torch.export.load(source.handle)
    except RuntimeError as error:
        raise heard.cause or error from error
    finally:
        log.removeFilter(heard)
    return program.module(), f"export froze the mode (train or eval){_frozen_shapes(program)}"


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    with _lock:
        before = {name: os.environ.get(name) for name in _FORCED}
        _set(_FORCED)
        try:
            yield
        finally:
            _set(before)


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _frozen_shapes(program: torch.export.ExportedProgram) -> str:
    wanted = set(program.graph_signature.user_inputs)
    values = [node.meta.get("val") for node in program.graph.nodes if node.name in wanted]
    shapes = [str(tuple(value.shape)) for value in values if isinstance(value, torch.Tensor)]
    return f" and the input shape, batch included: {', '.join(shapes)}" if shapes else ""
