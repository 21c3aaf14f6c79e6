"""What recurrent layers keep beside their parameters, made again and compared."""

from __future__ import annotations

from typing import Any

from torch import nn

from isometry.errors import RefusedError
from isometry.load.wording import show

_SIZES = ("input_size", "hidden_size", "num_layers", "proj_size")
_FLAGS = ("bias", "batch_first", "bidirectional")


def finish_recurrent(module: nn.Module, state: dict[str, Any], where: str) -> None:
    """Add to `state` the list of weights that RNN, LSTM and GRU hand to their kernels.

    The kernels trust that list: it is taken from a layer of the sizes that the file states,
    built without memory, and the weights of the file must have its names and shapes.

    Raises
    ------
    RefusedError
        The sizes stated and the weights given do not belong together.
    """
    if not isinstance(module, nn.RNNBase):
        return
    state.setdefault("proj_size", 0)
    parameters = state["_parameters"]
    sizes = {key: state.get(key) for key in _SIZES}
    flags = {key: state.get(key) for key in _FLAGS}
    dropout = state.get("dropout")
    plain = all(type(value) is int for value in sizes.values())
    plain &= all(type(value) is bool for value in flags.values())
    layers: Any = state.get("num_layers")
    # Each layer needs two weights of its own, so the number of layers is bounded here.
    if not plain or type(dropout) not in (int, float) or not 0 < layers <= len(parameters):
        raise RefusedError(f"refused: {show(where)} states sizes that make no sense")
    options: dict[str, Any] = {**sizes, **flags}
    if type(module) is not nn.LSTM and options.pop("proj_size") != 0:
        raise RefusedError(f"refused: {show(where)} states sizes that make no sense")
    if type(module) is nn.RNN:
        options["nonlinearity"] = "relu" if state.get("mode") == "RNN_RELU" else "tanh"
    model = type(module)(**options, device="meta")
    expected = {
        key: weight.shape for key, weight in model._parameters.items() if weight is not None
    }
    if {k: None if w is None else w.shape for k, w in parameters.items()} != expected:
        raise RefusedError(f"refused: the weights of {show(where)} do not fit its stated sizes")
    if state.get("mode") != model.mode:
        raise RefusedError(f"refused: {show(where)} states another mode than its class has")
    state["_flat_weights_names"] = list(model._flat_weights_names)
    state["_all_weights"] = [list(names) for names in model._all_weights]
    state["_flat_weights"] = [parameters[name] for name in model._flat_weights_names]
