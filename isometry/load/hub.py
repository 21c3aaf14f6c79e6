"""The library transformers: imported when used, recent enough, quiet and off the network."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import re
from collections.abc import Iterator
from typing import Any

from isometry.errors import IsometryError, LoadError, RefusedError
from isometry.load.wording import show

_OLDEST = (5, 3)  # older ones run code that a config.json names: CVE-2026-4372
_INSTALL = "pip install 'isometry[transformers]'"


@contextlib.contextmanager
def transformers_offline() -> Iterator[None]:
    """Import transformers; inside, it is silent and does not reach for the network.

    Raises
    ------
    RefusedError
        It is too old to be safe.
    LoadError
        It is missing, or its import fails.
    """
    _check_version()
    try:
        with _without_kernels():
            constants: Any = importlib.import_module("huggingface_hub.constants")
            logging: Any = importlib.import_module("transformers.utils.logging")
            importlib.import_module("transformers.modeling_utils")
    except Exception as error:  # a broken torchvision, among others, breaks it
        hint = "; torchvision must be the build for the torch installed, or be uninstalled"
        broken = hint if "torchvision" in str(error) else ""
        raise LoadError(f"transformers cannot be imported: {said(error)}{broken}") from error
    online, loud = constants.HF_HUB_OFFLINE, logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    constants.HF_HUB_OFFLINE = True
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = online
        logging.set_verbosity(loud)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turn whatever a library raises on values that make no sense into one LoadError."""
    try:
        yield
    except IsometryError:
        raise
    except Exception as error:  # the values go everywhere in it, so it may raise anything
        raise LoadError(f"{what}: {said(error)}") from error


def said(error: BaseException) -> str:
    """Return the kind and the text of an exception on one line."""
    return f"{type(error).__name__}: {show(' '.join(str(error).split()), 300) or 'no text'}"


def part(name: str) -> Any:
    """Return a module of transformers."""
    return importlib.import_module(f"transformers.{name}")


def version() -> str:
    """Return the version of transformers that is installed.

    Raises
    ------
    LoadError
        It is not installed.
    """
    try:
        return importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError as error:
        raise LoadError(f"Hugging Face models need transformers: {_INSTALL}") from error


def _check_version() -> None:
    if tuple(int(number) for number in re.findall(r"\d+", version())[:2]) < _OLDEST:
        raise RefusedError(
            f"refused: transformers {show(version())} can run code that a config.json names "
            f"(CVE-2026-4372); 5.3 or newer is needed: {_INSTALL}"
        )


@contextlib.contextmanager
def _without_kernels() -> Iterator[None]:
    """Keep layers from fetching compiled code; transformers looks at this once, at import."""
    before = os.environ.get("USE_HUB_KERNELS")
    os.environ["USE_HUB_KERNELS"] = "NO"
    try:
        yield
    finally:
        del os.environ["USE_HUB_KERNELS"]
        if before is not None:
            os.environ["USE_HUB_KERNELS"] = before
