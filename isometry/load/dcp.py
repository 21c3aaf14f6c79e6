"""Sharded checkpoints of torch.distributed: the index read as data, the pieces joined."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from isometry.errors import LoadError, RefusedError
from isometry.load.checkpoint import Checkpoint
from isometry.load.inert import Made, OddKey, Table
from isometry.load.manifest import Manifest
from isometry.load.pickles import MAX_PICKLE, code_in, read_plain
from isometry.load.sharded import check_memory, confined
from isometry.load.source import Source, opened
from isometry.load.tensors import is_tensor
from isometry.load.weights import Weights, find_weights
from isometry.load.wording import amount, listing, show

INDEX = ".metadata"
_PACKAGE = "torch.distributed.checkpoint."
_TENSOR = f"{_PACKAGE}metadata.TensorStorageMetadata"


@dataclass(frozen=True)
class _Piece:
    """A part of a tensor: where its bytes stand, and where it belongs in the whole."""

    tensor: str
    corner: tuple[int, ...]
    offset: int
    length: int


class _Window(Source):
    """A run of bytes inside an open file, read as a file of its own."""

    def __init__(self, source: Source, piece: _Piece) -> None:
        if piece.offset + piece.length > source.size:
            raise LoadError(
                f"{source.name} is cut off: '{show(piece.tensor)}' ends beyond its "
                f"{amount(source.size)}; fetch it again"
            )
        self.path, self.size = source.path, piece.length
        self.name = f"{source.name} ('{show(piece.tensor)}')"
        self.handle = io.BytesIO(source.read(piece.length, piece.offset))


class ShardedCheckpoint:
    """What the .metadata of a folder describes; weights are read when they are asked for.

    torch reads .metadata with the plain unpickler, which runs whatever it names; here it is
    read as data, and each tensor by the same reader as any torch.save file.

    Raises
    ------
    RefusedError
        The index names code, or leads out of its folder.
    LoadError
        It is damaged.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Read the index."""
        self.name = show(folder.name or folder)
        self._folder = folder
        self._manifest = manifest
        state = self._index()
        tensors = _table(state, "state_dict_metadata")
        self._shapes = {
            name: _size(made.state.get("size"))
            for name, made in tensors.items()
            if isinstance(made, Made) and made.name == _TENSOR and type(made.state) is Table
        }
        self._paths = state.get("planner_data")
        self._stored = _table(state, "storage_data")

    def found(self) -> tuple[str, dict[str, str]]:
        """Return the kind of checkpoint, and the stored name of each weight."""
        tree = self._tree()
        # A wrapper object, as the tutorials save it: {"app": {"model": ..., "optim": ...}}.
        while len(tree) == 1 and type(inner := next(iter(tree.values()))) is dict:
            if find_weights(tree, _is_name, _never) is not None:
                break
            tree = inner
        found = find_weights(tree, _is_name, _never)
        if found is None:
            raise LoadError(
                f"{self.name} holds no weights that are known by name; its keys: {listing(tree)}"
            )
        return f"sharded {found[0]}", found[1]

    def weights(self) -> tuple[str, Weights]:
        """Return the kind, and the weights by name, each joined from its pieces."""
        kind, names = self.found()
        wanted = set(names.values())
        files: dict[str, list[_Piece]] = {}
        for file, piece in self._pieces(wanted):
            files.setdefault(file, []).append(piece)
        check_memory(sum(piece.length for pieces in files.values() for piece in pieces))
        parts: dict[str, list[tuple[tuple[int, ...], torch.Tensor]]] = {}
        for file, pieces in files.items():
            with opened(confined(file, self._folder, INDEX)) as source:
                self._manifest.add(source)
                for piece in pieces:
                    tensor = _read(source, piece)
                    parts.setdefault(piece.tensor, []).append((piece.corner, tensor))
                source.check_unchanged()
        joined = {
            stored: _join(parts.get(stored, []), self._shapes[stored], stored) for stored in wanted
        }
        return kind, Weights({name: joined[stored] for name, stored in names.items()})

    def _index(self) -> Table:
        with opened(self._folder / INDEX) as source:
            if source.size > MAX_PICKLE:
                raise RefusedError(f"refused: {INDEX} has {amount(source.size)}")
            if source.size == 0:
                raise LoadError(f"{INDEX} of {self.name} is damaged: it is empty; fetch it again")
            self._manifest.add(source)
            reading = read_plain(source)
        code = code_in(reading)
        if code:
            raise RefusedError(
                f"refused: {INDEX} of {self.name} asks for {listing(code, 4)}, which is code, not "
                "a checkpoint; get the weights as safetensors from a source that you know"
            )
        root = reading.root
        if isinstance(root, Made) and type(root.state) is Table and not reading.fault:
            return root.state
        raise LoadError(
            f"{INDEX} of {self.name} is damaged or was not written by "
            f"torch.distributed.checkpoint ({reading.fault or 'no index'})"
        )

    def _tree(self) -> dict[Any, Any]:
        """Return the stored names of the tensors, nested as the state that was saved."""
        tree: dict[Any, Any] = {}
        for name in self._shapes:
            path = self._paths.get(name) if type(self._paths) is Table else None
            parents = path[:-1] if type(path) is tuple and path else ()
            here = tree
            for step in parents:
                here = here.setdefault(step, {}) if type(step) in (str, int) else here
                if type(here) is not dict:
                    raise LoadError(f"{INDEX} of {self.name} is damaged: '{show(name)}' twice")
            here[path[-1] if parents and type(path) is tuple else name] = name
        return tree

    def _pieces(self, wanted: set[str]) -> Iterator[tuple[str, _Piece]]:
        for key, made in self._stored.items():
            index = _state(key.key if isinstance(key, OddKey) else None)
            name = index.get("fqn")
            if type(name) is not str or name not in wanted:
                continue
            at = _state(made)
            match at.get("relative_path"), at.get("offset"), at.get("length"):
                case str(file), int(offset), int(length) if offset >= 0 and length > 0:
                    corner = _size(index.get("offset"))
                case _:
                    raise LoadError(f"{INDEX} is damaged: '{show(name)}' has no place")
            if at.get("transform_descriptors"):
                raise LoadError(
                    f"'{show(name)}' was compressed or encrypted when it was saved; join it with "
                    "python -m torch.distributed.checkpoint.format_utils dcp_to_torch first"
                )
            yield file, _Piece(name, corner, offset, length)


def _read(source: Source, piece: _Piece) -> torch.Tensor:
    checkpoint = Checkpoint(_Window(source, piece))
    if not is_tensor(checkpoint.root):
        raise LoadError(f"{source.name} is damaged: '{show(piece.tensor)}' is no tensor")
    return checkpoint.tensors.build(checkpoint.root, piece.tensor).detach()


def _join(
    parts: list[tuple[tuple[int, ...], torch.Tensor]], shape: tuple[int, ...], name: str
) -> torch.Tensor:
    """Put the pieces of a tensor together; they must fill it exactly."""
    held = sum(tensor.numel() for _, tensor in parts)
    if not parts or held != math.prod(shape) or len({t.dtype for _, t in parts}) > 1:
        raise LoadError(
            f"'{show(name)}' has {held} elements in {len(parts)} pieces, for a shape of {shape}; "
            "fetch the whole folder"
        )
    # Already read, so the whole takes no more than the pieces.
    whole = torch.zeros(shape, dtype=parts[0][1].dtype)
    for corner, tensor in parts:
        ends = [start + size for start, size in zip(corner, tensor.shape, strict=False)]
        fits = len(corner) == len(shape) == tensor.dim()
        if not fits or any(end > size for end, size in zip(ends, shape, strict=True)):
            raise LoadError(f"a piece of '{show(name)}' at {corner} lies outside of {shape}")
        spans = tuple(slice(start, end) for start, end in zip(corner, ends, strict=True))
        whole[spans] = tensor
    return whole


def _state(value: object) -> Table:
    state = value.state if isinstance(value, Made) else None
    return state if type(state) is Table else Table()


def _table(state: Table, key: str) -> Table:
    value = state.get(key)
    if type(value) is not Table:
        raise LoadError(f"{INDEX} is damaged: it has no {key}")
    return value


def _size(value: object) -> tuple[int, ...]:
    """Return a torch.Size, which arrives as a call of that name on one tuple."""
    if isinstance(value, Made) and value.name == "torch.Size" and type(value.args) is tuple:
        value = value.args[0] if value.args else ()
    if type(value) is not tuple or not all(type(n) is int and 0 <= n < 1 << 62 for n in value):
        raise LoadError(f"{INDEX} is damaged: a size or an offset makes no sense")
    return value


def _is_name(value: object) -> bool:
    return type(value) is str


def _never(_: object) -> bool:
    return False
