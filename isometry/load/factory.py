"""Models built by the user's own code, named as "package.module:factory"."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import os
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from torch import nn

from isometry.errors import InputError, LoadError
from isometry.generators import seeded
from isometry.load.shorthand import build_named, is_shorthand
from isometry.load.weights import check_has_values
from isometry.load.wording import listing, show

_FACTORY = "a function that returns the model"
_path_lock = threading.RLock()


def build_model(
    reference: str, kwargs: Mapping[str, Any] | None = None, *, seed: int = 0
) -> nn.Module:
    """Build a model by the user's own code, or by its name in timm or torchvision.

    This runs that code, on request. The working directory stands first on ``sys.path``
    meanwhile, as it does for ``python -m``: a file ``nets.py`` there is ``nets:factory``.

    Parameters
    ----------
    reference : str
        ``"package.module:attribute"``; the attribute may be dotted. It is a callable that
        returns a module, a module class, or a module. Keyword arguments may follow as JSON:
        ``'nets:mlp:{"depth": 5}'``. ``"timm:NAME"`` and ``"torchvision:NAME"`` build a model of
        those libraries, where they are installed, with weights drawn at random.
    kwargs : mapping, optional
        Keyword arguments of the call, in place of those in `reference`.
    seed : int
        For the random numbers that are drawn while it is built, by torch, NumPy and Python;
        their generators are left as they were.

    Raises
    ------
    InputError
        The reference or the arguments are not usable.
    LoadError
        The reference leads nowhere, its code failed, or what it gave is no module.
    """
    reference, options = _with_arguments(reference, kwargs)
    if is_shorthand(reference):
        return build_named(reference, options, seed=seed)
    module_name, names = _parse(reference)
    with working_directory_first(), seeded(seed):
        target = _attribute(_module(module_name, reference), names, reference)
        built = _call(target, options, reference)
    if not isinstance(built, nn.Module):
        kind = f"{type(built).__module__}.{type(built).__qualname__}"
        raise LoadError(
            f"{show(reference)} gave {show(kind)}, not a torch.nn.Module; name {_FACTORY}"
        )
    if not hasattr(built, "_parameters"):
        raise LoadError(
            f"{show(reference)} gave a module whose __init__ does not call super().__init__(); "
            "let it begin with that"
        )
    check_has_values(built, show(reference))
    return built


@contextlib.contextmanager
def working_directory_first() -> Iterator[None]:
    """Put the working directory first on ``sys.path`` while user code is imported."""
    # The path belongs to the process: one thread at a time may change it.
    with _path_lock:
        here = os.getcwd()
        sys.path.insert(0, here)
        importlib.invalidate_caches()
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):
                sys.path.remove(here)


def _with_arguments(reference: str, kwargs: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Return the reference without its JSON, and the keyword arguments."""
    options = dict(kwargs or {})
    plain, brace, rest = str(reference).partition(":{")
    if brace and options:
        raise InputError(f"{show(plain)} has arguments of its own; give them once")
    if brace:
        try:
            options = json.loads("{" + rest)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"the arguments of {show(plain)} are no JSON object ({show(error)}); write them "
                'as pkg.module:factory:{"depth": 5}'
            ) from error
    if not all(isinstance(key, str) for key in options):
        raise InputError(f"the arguments of {show(reference)} must be named by text")
    return plain if brace else reference, options


def _parse(reference: object) -> tuple[str, list[str]]:
    if isinstance(reference, str):
        module, colon, path = reference.partition(":")
        names = path.split(".")
        if colon and all(part.isidentifier() for part in [*module.split("."), *names]):
            return module, names
    raise InputError(
        f"'{show(reference)}' is no reference to a model; write it as pkg.module:factory"
    )


def _module(name: str, reference: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # importing runs the user's code
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise LoadError(
                f"{show(reference)}: no module named '{show(missing)}' "
                "in the working directory or among the installed packages"
            ) from error
        raise LoadError(f"{show(reference)}: importing {name} failed: {_said(error)}") from error


def _attribute(module: ModuleType, names: list[str], reference: str) -> Any:
    target: Any = module
    for name in names:
        try:
            target = getattr(target, name)
        except AttributeError as error:
            near = difflib.get_close_matches(name, dir(target), n=3)
            hint = f"near it: {listing(near)}" if near else f"name {_FACTORY}"
            raise LoadError(
                f"{show(reference)}: {show(getattr(target, '__name__', target))} has no "
                f"{name!r}; {hint}"
            ) from error
        except (Exception, SystemExit) as error:  # a property or __getattr__ of the user's
            raise LoadError(f"{show(reference)}: {name} failed: {_said(error)}") from error
    return target


def _call(target: Any, options: dict[str, Any], reference: str) -> Any:
    if isinstance(target, nn.Module):
        if options:
            raise InputError(f"{show(reference)} is a model already and takes no arguments")
        return target
    if not callable(target):
        raise LoadError(
            f"{show(reference)} is {show(type(target).__name__)}, neither a model nor callable; "
            f"name {_FACTORY}"
        )
    try:
        return target(**options)
    except (Exception, SystemExit) as error:  # the user's code, which may raise anything
        if isinstance(target, type) and isinstance(error, TypeError) and "__init__()" in str(error):
            raise LoadError(
                f"{show(reference)} is a class, and calling it failed: {_said(error)}; "
                f"pass its arguments as --kwargs (kwargs=...), or name {_FACTORY}"
            ) from error
        raise LoadError(
            f"{show(reference)} failed: {_said(error)}; mend it there, or give other arguments as "
            "--kwargs (kwargs=...)"
        ) from error


def _said(error: BaseException) -> str:
    text = show(error, 300) or "no text"
    place = _place(error)
    return f"{type(error).__name__}: {text}" + (f" (at {show(place)})" if place else "")


def _place(error: BaseException) -> str:
    """Return the last line of the user's own code that the error came through."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    installed = tuple(sysconfig.get_path(key) for key in ("stdlib", "purelib", "platlib"))
    ours = os.path.dirname(os.path.abspath(__file__))
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*installed, ours, "<"))
    ]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else ""
