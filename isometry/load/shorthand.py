"""Models that an installed library builds by name: "timm:NAME" and "torchvision:NAME"."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from isometry.errors import InputError, LoadError
from isometry.load.hub import one_line, said
from isometry.load.wording import listing, show

LIBRARIES = ("timm", "torchvision")
# Each makes a builder fetch or read weights.
_WEIGHTS = (
    "pretrained",
    "pretrained_backbone",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "checkpoint_path",
    "weights",
    "weights_backbone",
)


def is_shorthand(reference: object) -> bool:
    """Return whether a reference is a name in timm or torchvision."""
    return isinstance(reference, str) and reference.partition(":")[0] in LIBRARIES


def build_named(reference: str, kwargs: Mapping[str, Any], *, seed: int = 0) -> nn.Module:
    """Build a model of timm or torchvision by its name, with weights drawn at random.

    Parameters
    ----------
    reference : str
        ``"timm:vit_tiny_patch16_224"``, ``"torchvision:resnet18"``.
    kwargs : mapping
        Keyword arguments of the builder; none that names weights.
    seed : int
        For the weights; the global random state is left as it was.

    Raises
    ------
    InputError
        There is no such model, or the arguments name weights.
    LoadError
        The library is missing or broken, or building failed.
    """
    package, _, name = reference.partition(":")
    asked = [key for key in kwargs if key in _WEIGHTS and kwargs[key]]
    if asked:
        raise InputError(
            f"{show(reference)}: isometry does not download weights ({listing(asked)}); "
            "give a file of weights as the model, beside --model"
        )
    library = _imported(package)
    names = library.list_models()
    # After a dot timm adds the tag of trained weights, which also says how many classes.
    plain = name.partition(".")[0] if package == "timm" else name
    if plain not in names:
        near = difflib.get_close_matches(name, names, n=3)
        hint = f"; near it: {listing(near)}" if near else ""
        raise InputError(f"{package} has no model '{show(name)}'{hint}")
    with one_line(f"{show(reference)} failed"), torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        built: nn.Module = _build(library, package, name, dict(kwargs))
    return built


def _imported(package: str) -> Any:
    """Return the module with the models; not from the working directory."""
    try:
        return importlib.import_module("timm" if package == "timm" else "torchvision.models")
    except ModuleNotFoundError as error:
        if error.name == package:
            raise LoadError(
                f"{package}:NAME needs {package}, which is not installed: pip install {package}"
            ) from error
        raise LoadError(f"{package} cannot be imported: {said(error)}") from error
    except Exception as error:  # a torchvision made for another torch raises RuntimeError
        raise LoadError(
            f"{package} cannot be imported: {said(error)}; torchvision must be the build that "
            "belongs to the installed torch"
        ) from error


def _build(library: Any, package: str, name: str, kwargs: dict[str, Any]) -> nn.Module:
    kwargs = {key: value for key, value in kwargs.items() if key not in _WEIGHTS}
    if package == "timm":
        built: nn.Module = library.create_model(name, pretrained=False, **kwargs)
        return built
    # Detection and segmentation models fetch a trained backbone unless told not to.
    taken = inspect.signature(library.get_model_builder(name)).parameters
    if "weights_backbone" in taken:
        kwargs["weights_backbone"] = None
    built = library.get_model(name, weights=None, **kwargs)
    return built
