"""Weights as safetensors in a folder: one file, or shards with or without their index."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch

from isometry.errors import LoadError, RefusedError
from isometry.load.manifest import Manifest
from isometry.load.safetensors import SafeTensors
from isometry.load.source import opened
from isometry.load.tensors import MAX_TENSORS
from isometry.load.wording import listing, plural, show
from isometry.memory import default_budget, format_size

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_MAX_INDEX = 16 << 20
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.safetensors")


def safetensors_in(folder: Path) -> list[Path]:
    """Return the safetensors of a folder that hold one model's weights, or an empty list.

    Raises
    ------
    RefusedError
        One is a link out of the folder.
    LoadError
        There are several sets, and nothing says which one is meant.
    """
    for name in (INDEX, SINGLE):
        if (folder / name).is_file():
            return [confined(name, folder, "the folder")]
    found = sorted(folder.glob("*.safetensors"))
    if len(found) > 1:
        _check_whole_set(found, folder)
    return [confined(path.name, folder, "the folder") for path in found]


def read_shards(files: list[Path], manifest: Manifest) -> dict[str, torch.Tensor]:
    """Read the tensors of one or more safetensors files, or of the shards that an index names.

    Raises
    ------
    RefusedError
        The index leads out of its folder.
    LoadError
        A file is missing or damaged, the files contradict each other, or the tensors would
        not fit in memory.
    """
    if len(files) == 1 and files[0].suffix == ".json":
        return _read_indexed(files[0], manifest)
    check_memory(sum(file.stat().st_size for file in files))
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        part = _read(file, None, manifest)
        both = tensors.keys() & part.keys()
        if both:
            raise LoadError(
                f"{show(file.name)} has '{show(min(both))}', which another shard has as well"
            )
        tensors |= part
    return tensors


def count_tensors(files: list[Path]) -> int:
    """Return how many tensors `read_shards` would read."""
    if len(files) == 1 and files[0].suffix == ".json":
        return sum(map(len, _by_file(files[0], Manifest()).values()))
    count = 0
    for file in files:
        with opened(file) as source:
            count += len(SafeTensors(source).shapes())
    return count


def confined(name: object, folder: Path, asked_by: str) -> Path:
    """Return the file `name` of `folder`; refuse a name that leads anywhere else.

    A link may lead to the blobs beside the snapshots of a Hugging Face cache: the cache is
    made of such links.
    """
    if type(name) is not str or name in ("", ".", "..") or re.search(r"[/\\:\0]", name):
        raise RefusedError(f"refused: {asked_by} leads out of its folder, to '{show(name)}'")
    here = folder.resolve()
    target = (folder / name).resolve()
    blobs = here.parent.parent / "blobs" if here.parent.name == "snapshots" else here
    if target.parent not in (here, blobs):
        raise RefusedError(f"refused: {show(name)} is a link out of its folder, to {show(target)}")
    return folder / name


def check_memory(need: int) -> None:
    """Raise LoadError where weights of `need` bytes are too many for this machine."""
    have = default_budget(torch.device("cpu"))
    if need > have:
        raise LoadError(
            f"the weights take {format_size(need)}, more than half of this machine's memory "
            f"({format_size(have)}); use a machine with more"
        )


def _check_whole_set(found: list[Path], folder: Path) -> None:
    matches = [_SHARD.fullmatch(path.name) for path in found]
    sets = {(match[1], int(match[3])) for match in matches if match}
    numbers = [int(match[2]) for match in matches if match]
    if len(sets) != 1 or None in matches:
        raise LoadError(
            f"{show(folder.name or folder)} holds {len(found)} safetensors files and no {INDEX}; "
            f"name one: {listing((path.name for path in found), 4)}"
        )
    (_, count) = sets.pop()
    if numbers != list(range(1, count + 1)):
        raise LoadError(
            f"{show(folder.name or folder)} holds {len(numbers)} of {plural(count, 'shard')}; "
            "fetch the rest"
        )


def _read_indexed(index: Path, manifest: Manifest) -> dict[str, torch.Tensor]:
    by_file = _by_file(index, manifest)
    files = {name: confined(name, index.parent, show(index.name)) for name in by_file}
    for name, file in files.items():
        if not file.is_file():
            raise LoadError(f"{show(index.name)} names {show(name)}, which is not in its folder")
    check_memory(sum(file.stat().st_size for file in files.values()))
    tensors: dict[str, torch.Tensor] = {}
    for name, file in files.items():
        tensors |= _read(file, by_file[name], manifest)
    return tensors


def _by_file(index: Path, manifest: Manifest) -> dict[str, list[str]]:
    """Return the names of the tensors that an index expects in each file."""
    with opened(index) as source:
        if source.size > _MAX_INDEX:
            raise RefusedError(f"refused: {source.name} has {source.size} bytes")
        manifest.add(source)
        try:
            table = json.loads(source.read(source.size))["weight_map"]
            pairs = list(table.items())
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise LoadError(f"{source.name} is damaged: it has no weight_map") from error
    if len(pairs) > MAX_TENSORS or not pairs:
        raise LoadError(f"{show(index.name)} is damaged: it names {len(pairs)} tensors")
    by_file: dict[str, list[str]] = {}
    for tensor, file in pairs:
        if type(file) is not str:
            raise LoadError(f"{show(index.name)} is damaged: '{show(tensor)}' has no file")
        by_file.setdefault(file, []).append(tensor)
    return by_file


def _read(file: Path, names: list[str] | None, manifest: Manifest) -> dict[str, torch.Tensor]:
    with opened(file) as source:
        tensors = SafeTensors(source)
        absent = set(names or ()) - tensors.shapes().keys()
        if absent:
            raise LoadError(
                f"{source.name} lacks {plural(len(absent), 'tensor')} that the index expects "
                f"in it (first '{show(min(absent))}'); fetch it again"
            )
        manifest.add(source)
        found = {name: tensors.read(name) for name in names or tensors.shapes()}
        source.check_unchanged()
        return found
