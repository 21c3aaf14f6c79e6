"""What to feed the network: given data, split into single inputs, or Gaussian noise."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isometry.errors import InputError, MeasurementError, MemoryBudgetError
from isometry.example import example_inputs
from isometry.jacobian.arguments import has_embedding, is_call, refuse_bad_kind
from isometry.jacobian.attention import fused_kernels
from isometry.jacobian.function import ANOTHER_INPUT, Network, call
from isometry.jacobian.modules import unwrap
from isometry.jacobian.placement import own_device
from isometry.jacobian.selection import Selection
from isometry.memory import default_budget, format_size

_TOKENS = 16  # length of a sequence where none is asked for
_PROBED = 32  # rows looked at to learn whether the first dimension is a batch


def gaussian_inputs(
    shape: Sequence[int], samples: int, *, scale: float = 1.0, seed: int = 0
) -> Tensor:
    """Draw independent inputs with entries N(0, scale²).

    Parameters
    ----------
    shape : sequence of int
        Shape of one input, without the batch dimension.
    samples : int
        Number of inputs.
    scale : float
        Standard deviation of each entry.
    seed : int
        The same seed gives the same numbers on every device.

    Returns
    -------
    Tensor, shape (samples, *shape), float64
    """
    _check_shape(shape, samples)
    if not isinstance(scale, (int, float, np.floating)) or not 0 < scale < float("inf"):
        raise InputError(f"the input scale must be positive and finite, got {scale}")
    g = torch.Generator(device="cpu").manual_seed(seed)
    return scale * torch.randn((samples, *shape), generator=g, dtype=torch.float64, device="cpu")


def _check_shape(shape: Sequence[int], samples: int) -> None:
    if samples < 1:
        raise InputError(f"samples must be at least 1, got {samples}")
    if not all(isinstance(d, (int, np.integer)) for d in shape):
        raise InputError(f"a shape is made of whole numbers, got {tuple(shape)}: write (3, 32, 32)")
    if not shape:
        raise InputError(
            "the input shape () is that of a single number, and a network takes arrays: give a "
            "size, as shape=8 or shape=(3, 32, 32)"
        )
    if any(d < 1 for d in shape):
        raise InputError(
            f"the input shape {tuple(shape)} has no elements: give sizes of at least 1"
        )
    needed = 8 * samples * math.prod(shape)
    if needed > (budget := default_budget(torch.device("cpu"))):
        raise MemoryBudgetError(
            f"an input of shape {(samples, *shape)} needs {format_size(needed)} of memory, "
            f"more than the {format_size(budget)} allowed: give a smaller shape or fewer samples"
        )


def infer_shape(model: object) -> tuple[int, ...]:
    """Return the shape of one input where the first layer leaves no doubt.

    Raises
    ------
    InputError
        If the first layer fixes only a part of the shape; says which shape to pass.
    """
    sizes = _first_shape(model)
    if not sizes:
        raise InputError(
            "the input shape cannot be told from the model: give --shape (shape=...) or an input"
        )
    known = tuple(s for s in sizes if isinstance(s, int))
    if len(known) < len(sizes):
        raise InputError(
            f"the input shape is not known: the first layer takes inputs of shape "
            f"{_written(sizes)}, so give --shape {','.join(map(str, sizes))} (shape=...) or an "
            "input"
        )
    if 0 in known:
        raise InputError(
            f"the first layer takes inputs of shape {_written(known)}, which hold nothing: build "
            "the network with inputs"
        )
    return known


def _first_shape(model: object) -> tuple[int | str, ...]:
    """Return what one input of the first layer looks like, with letters for free sizes."""
    for layer in model.modules() if isinstance(model, nn.Module) else ():
        if isinstance(layer, nn.modules.lazy.LazyModuleMixin) and layer.has_uninitialized_params():
            raise InputError(
                "the first layer is lazy and has no shape yet: call the model once first"
            )
        if isinstance(layer, nn.Linear):
            return (layer.in_features,)
        if isinstance(layer, nn.Unflatten) and layer.dim == 1:
            return (int(np.prod(tuple(layer.unflattened_size))),)
        if isinstance(layer, nn.LayerNorm):
            return tuple(layer.normalized_shape)
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            return (layer.in_channels, *("DHW"[-len(layer.kernel_size) :]))
        if next(layer.children(), None) is None and any(True for _ in layer.parameters()):
            break
    return ()


def _written(sizes: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, sizes))}{',' * (len(sizes) == 1)})"


def default_inputs(
    model: Callable[..., Any],
    shape: int | Sequence[int] | None,
    samples: int,
    *,
    scale: float = 1.0,
    seed: int = 0,
) -> tuple[list[Any], str]:
    """Draw inputs for a network: Gaussian noise, or token ids where it begins with an embedding.

    A Hugging Face model is asked what it takes.

    Returns
    -------
    inputs : list
        Each with a batch dimension of one.
    source : str
        What was drawn, in words for the report.
    """
    inner = unwrap(model)
    if shape is None and samples > 0 and example_inputs(inner) is not None:
        drawn = [example_inputs(inner, seed=seed + i) for i in range(samples)]
        sizes = ", ".join(f"{k} {tuple(v.shape)}" for k, v in (drawn[0] or {}).items())
        return drawn, f"random, as its configuration asks: {sizes}"
    given = shape if shape is None or isinstance(shape, Sequence) else (shape,)
    vocabulary = _vocabulary(inner)
    if vocabulary:
        lengths = (_TOKENS,) if given is None else tuple(given)
        ids = _token_ids(vocabulary, lengths, samples, seed)
        return _one_by_one(ids), "random token ids"
    known = tuple(given) if given is not None else infer_shape(inner)
    return _one_by_one(gaussian_inputs(known, samples, scale=scale, seed=seed)), "Gaussian noise"


def _one_by_one(x: Tensor) -> list[Tensor]:
    return [x[i : i + 1] for i in range(len(x))]


def _vocabulary(model: object) -> int:
    """Return the number of embeddings where the first layer with weights is an embedding."""
    for layer in model.modules() if isinstance(model, nn.Module) else ():
        if next(layer.parameters(recurse=False), None) is not None:
            return layer.num_embeddings if isinstance(layer, nn.Embedding) else 0
    return 0


def _token_ids(vocabulary: int, shape: tuple[int, ...], samples: int, seed: int) -> Tensor:
    _check_shape(shape, samples)
    g = torch.Generator(device="cpu").manual_seed(seed)
    return torch.randint(vocabulary, (samples, *shape), generator=g, device="cpu")


def single_inputs(
    model: Callable[..., Any], x: object, samples: int, selection: Selection | None = None
) -> tuple[list[Any], list[str]]:
    """Split data into inputs of batch size one, asking the network what a row is.

    The first dimension is a batch when the network gives each row the output it would have
    given that row alone. Otherwise all of `x` is one input, as several arguments always are.

    Returns
    -------
    inputs : list
        At most `samples` of them, each shaped as the network takes it.
    notes : list of str
        How the data were read.
    """
    if samples < 1:
        raise InputError(f"samples must be at least 1, got {samples}")
    _refuse_odd_storage(x)
    if is_call(x):
        return [x], _too_few(1, samples)
    x = _as_tensor(x)
    if x.ndim == 0:
        raise InputError("the input is a single number: give an array with the input's shape")
    if x.numel() == 0:
        raise InputError(
            f"the input has no elements: its shape is {tuple(x.shape)}, expected sizes of at least "
            "1; give a batch of one input or more"
        )
    if has_embedding(model) and not x.is_floating_point() and not x.is_complex():
        ids = x if x.ndim > 1 else x[None]
        return _some_rows(ids, samples)
    refuse_bad_kind(x)
    forward = _forward(model, x, selection or Selection())
    # A single row of numbers is one input, also for networks that would take each by itself.
    if x.ndim > 1 and _is_batch(forward, x[:_PROBED]):
        return _some_rows(x, samples)
    return [_as_one_input(model, forward, x)], _too_few(1, samples)


def _refuse_odd_storage(x: object) -> None:
    """Refuse tensors without values, or without an array of them."""
    if isinstance(x, (Mapping, tuple, list)):
        for part in x.values() if isinstance(x, Mapping) else x:
            _refuse_odd_storage(part)
    elif isinstance(x, Tensor) and x.is_meta:
        raise InputError("the input is a meta tensor, which has no values: give one with values")
    elif isinstance(x, Tensor) and (x.layout != torch.strided or x.is_nested):
        raise InputError("the input is sparse or nested: give a dense tensor, as x.to_dense() is")


def _some_rows(x: Tensor, samples: int) -> tuple[list[Any], list[str]]:
    rows = _one_by_one(x[:samples])
    used = f"measured input 1 of {len(x)}" if samples == 1 else f"measured {len(rows)} inputs"
    return rows, [f"{used}; more with samples"] * (samples < len(x)) + _too_few(len(x), samples)


def _as_one_input(
    model: Callable[..., Any], forward: Callable[[Tensor], Tensor], x: Tensor
) -> Tensor:
    """Add the dimensions that the network wants: batch, then channel, then its own shape."""
    shapes = [x.shape, (1, *x.shape), (1, 1, *x.shape)]
    expected = tuple(s for s in _expected_sizes(model) if isinstance(s, int))
    if expected and x.numel() == math.prod(expected):
        shapes.append((1, *expected))
    for shape in shapes:
        if _runs(forward, x.reshape(shape)):
            return x.reshape(shape)
    with explained_shape(model):
        forward(x)
    return x


@contextmanager
def explained_shape(model: Callable[..., Any]) -> Iterator[None]:
    """Add to a network's complaint about its input which shape its first layer takes."""
    try:
        yield
    except InputError as e:
        expected = _expected_sizes(model)
        cause = e.__cause__
        if not (
            expected and isinstance(cause, RuntimeError) and re.search("shape|size", str(cause))
        ):
            raise
        sizes = ",".join(map(str, expected))
        raise InputError(
            f"{str(e).removesuffix(ANOTHER_INPUT)}; the first layer takes inputs of shape "
            f"{_written(expected)}: give such an input, or --shape {sizes} (shape=...)"
        ) from e


def _expected_sizes(model: Callable[..., Any]) -> tuple[int | str, ...]:
    try:
        return _first_shape(unwrap(model))
    except InputError:
        return ()


def _as_tensor(x: object) -> Tensor:
    if isinstance(x, Tensor):
        return x
    try:
        array = np.asarray(x)
        return torch.as_tensor(array if array.dtype != np.float16 else array.astype(np.float32))
    except (TypeError, ValueError, RuntimeError) as e:
        raise InputError(
            f"the input must be a tensor or an array of numbers, got {type(x).__name__}"
        ) from e


def _forward(
    model: Callable[..., Any], x: Tensor, selection: Selection
) -> Callable[[Tensor], Tensor]:
    """Return the network without derivatives, in float64 where it runs in it.

    In float32 a chaotic network tells a row from the same row in a batch.
    """
    whole = Selection(output=selection.output, train_mode=selection.train_mode)
    any_input = torch.zeros(1, device="cpu")  # replaced at each call
    network = Network(model, any_input, whole)
    inner = network.model
    parameter = next(inner.parameters(), x) if isinstance(inner, nn.Module) else x
    own = parameter.dtype if parameter.is_floating_point() else torch.float32
    device = own_device(inner, x)
    precisions = [own] if device.type == "mps" else dict.fromkeys([torch.float64, own])
    functions = {dtype: network.function(dtype, device)[0] for dtype in precisions}

    def forward(rows: Tensor) -> Tensor:
        with network.held_still(device), torch.no_grad(), fused_kernels():
            for dtype, f in functions.items():
                try:
                    y = call(f, rows.detach().to(device, dtype))
                    network.refuse_writes(f)
                    return y
                except (InputError, MeasurementError):
                    if dtype == own:
                        raise
        raise InputError("the network runs in no precision")

    return forward


def _runs(forward: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    try:
        forward(x)
    except (InputError, MeasurementError):
        return False
    return True


def _is_batch(forward: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Whether first and last row come out the same alone as among the others.

    The last row too: in a causal network the first token's output ignores the others.
    """
    try:
        y = forward(x)
        alone = [forward(x[:1]), forward(x[-1:])]
    except (InputError, MeasurementError):
        return False
    if y.numel() == 0 or y.ndim == 0 or y.shape[0] != x.shape[0]:
        return False
    tolerance = 1e-3 * float(y.abs().max()) + 1e-12
    return all(
        a.shape == y[:1].shape and bool(((a - b).abs() <= tolerance).all())
        for a, b in zip(alone, (y[:1], y[-1:]), strict=True)
    )


def _too_few(available: int, samples: int) -> list[str]:
    return [f"{samples} samples asked for, {available} given"] if samples > available else []
