"""A torch.save file: a module, a state dict or a training checkpoint."""

from __future__ import annotations

from typing import Any

from torch import nn

from isometry.errors import LoadError, RefusedError
from isometry.load.archive import Archive, common_folder
from isometry.load.inert import Made, Ref, Table
from isometry.load.layers import Layers
from isometry.load.names import Sort, sort_of
from isometry.load.opcodes import Reading, read_pickle
from isometry.load.source import Source
from isometry.load.tensors import Tensors, is_tensor
from isometry.load.weights import (
    Weights,
    find_weights,
    holds_weights,
    read_module_weights,
    read_state_dict,
    weights_only,
)
from isometry.load.wording import amount, listing, show

_SAVE = "save the model itself or its state_dict(), as torch.save(model.state_dict(), path) does"
_MAX_PICKLE = 64 << 20
_WRAPPERS = (
    "torch.nn.parallel.data_parallel.DataParallel",
    "torch.nn.parallel.distributed.DistributedDataParallel",
)


class Checkpoint:
    """What a torch.save file describes; weights are read when they are asked for.

    Parameters
    ----------
    source : Source
        An open file.
    tensors : type
        What rebuilds the tensors: with their values, or without.

    Raises
    ------
    RefusedError
        The archive or its pickle has the marks of one made to do harm.
    LoadError
        It is damaged, or was not written by torch.save.
    """

    def __init__(self, source: Source, *, tensors: type[Tensors] = Tensors) -> None:
        """Screen the archive and read its pickle as data."""
        self.name = source.name
        archive = Archive(source)
        folder = common_folder(archive, source)
        record = folder + "data.pkl"
        if record not in archive:
            raise LoadError(f"{self.name} is no torch.save file: it has no data.pkl")
        if archive.size(record) > _MAX_PICKLE:
            raise RefusedError(
                f"refused: data.pkl in {self.name} has {amount(archive.size(record))}; "
                f"at most {amount(_MAX_PICKLE)} are read"
            )
        reading = read_pickle(archive.read(record))
        _check_names(reading, self.name)
        self.root: Any = reading.root
        self.tensors = tensors(archive, folder)

    def found(self) -> tuple[str, Any]:
        """Return the kind of checkpoint, and the description of its weights or module."""
        found = find_weights(self.root, is_tensor, is_module)
        if found is not None:
            return found[0], _unwrapped(found[1])
        if is_tensor(self.root):
            raise LoadError(f"{self.name} holds one tensor, no model; is it meant as --input?")
        if isinstance(self.root, Made | Ref):
            raise RefusedError(
                f"refused: {self.name} holds an object of {show(self.root.name)}, no torch module"
            )
        raise LoadError(f"{self.name} holds {_described(self.root)}; {_SAVE}")

    def module(self) -> tuple[str, nn.Module, tuple[str, ...]]:
        """Return the kind, the module rebuilt, and the names of its classes."""
        kind, made = self.found()
        if not is_module(made):
            raise weights_only(self.name, kind, sum(map(is_tensor, made.values())))
        names = _names_within(made)
        foreign = [name for name in names if sort_of(name) is Sort.FOREIGN]
        if foreign:
            raise RefusedError(
                f"refused: {self.name} wants code that is not torch.nn's: {listing(foreign)}; "
                "pass --model pkg.module:factory to take only the weights from this file, or "
                "--trust to run its code if you vouch for it"
            )
        layers = [name for name in names if sort_of(name) is Sort.LAYER]
        return kind, Layers(self.tensors).build(made), tuple(layers)

    def weights(self) -> tuple[str, Weights]:
        """Return the kind, and the weights by name."""
        kind, made = self.found()
        if is_module(made):
            return kind, read_module_weights(made, self.tensors)
        return kind, read_state_dict(made, self.tensors)

    def ignored(self) -> tuple[str, ...]:
        """Return the foreign names in the file, which were neither imported nor called."""
        return tuple(n for n in _names_within(self.root) if sort_of(n) is Sort.FOREIGN)

    def arrays(self) -> Any:
        """Return the description of a tensor, or of a dict with tensors, meant as input."""
        if is_tensor(self.root) or holds_weights(self.root, is_tensor):
            return self.root
        if type(self.root) is Table:
            return {k: v for k, v in self.root.items() if type(k) is str and is_tensor(v)}
        raise LoadError(
            f"{self.name} holds no tensor and no dict of tensors; save the input as "
            "torch.save(x, path) does"
        )


def is_module(value: object) -> bool:
    """Return whether a description is one of a torch module, of whatever class."""
    return (
        isinstance(value, Made)
        and not is_tensor(value)
        and type(value.state) is Table
        and type(value.state.get("_modules")) is Table
        and type(value.state.get("_parameters")) is Table
    )


def _described(root: object) -> str:
    """Say what a file holds in place of a model."""
    if root is None:
        return "None, no model"
    if type(root) is not Table:
        kind = type(root).__name__
        return f"{'an' if kind == 'int' else 'a'} {kind}, no model"
    keys = [k for k in root if type(k) in (str, int)]
    if "param_groups" in keys:
        return "the state of an optimizer, no weights"
    named = f"its keys: {listing(keys)}" if keys else "it is empty"
    return f"a dict without weights that are known by name ({named})"


def _unwrapped(made: Any) -> Any:
    """Return what a data-parallel wrapper wraps: the same function, on one device."""
    if isinstance(made, Made) and made.name in _WRAPPERS and is_module(made):
        inner = made.state["_modules"].get("module")  # type: ignore[index]
        return inner if is_module(inner) else made
    return made


def _check_names(reading: Reading, name: str) -> None:
    sorts = {asked: sort_of(asked) for asked in reading.names}
    if Sort.LAZY in sorts.values():
        raise LoadError(
            f"{name} has lazy layers, whose parameters have no values; "
            "run the model once before saving it"
        )
    code = [asked for asked, sort in sorts.items() if sort is Sort.CODE]
    if code:
        verb = "is" if len(code) == 1 else "are"
        raise RefusedError(
            f"refused: {listing(code, 4)} {verb} code, not a model ({name}); "
            "get the weights as safetensors or as a state dict from a source that you know"
        )
    if reading.fault:
        raise LoadError(f"{name} is damaged or was not written by torch.save: {reading.fault}")


def _names_within(value: object) -> list[str]:
    """Return the names that a description mentions, each once, in the order of the file."""
    names: dict[str, None] = {}
    seen: set[int] = set()
    # A list of its own in place of recursion: the file decides how deep this goes.
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, Ref):
            names.setdefault(item.name)
        elif isinstance(item, (Made, list, tuple, Table)) and id(item) not in seen:
            seen.add(id(item))
            if isinstance(item, Made):
                todo += [item.state, item.args, item.what]
            elif isinstance(item, Table):
                todo += [item.state, *reversed(item.values())]
            else:
                todo += reversed(item)
    return list(names)
