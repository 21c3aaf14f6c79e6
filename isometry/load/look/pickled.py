"""Pickles: the names they ask for, and the tensors they describe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isometry.errors import LoadError
from isometry.load.archive import Archive, common_folder
from isometry.load.checkpoint import is_module
from isometry.load.inert import Made, Table
from isometry.load.look.findings import Findings, Name
from isometry.load.look.members import look_members, peek
from isometry.load.names import Sort, sort_of
from isometry.load.opcodes import Reading
from isometry.load.outline import Outlines
from isometry.load.pickles import MAX_PICKLE, read_any
from isometry.load.source import Source
from isometry.load.tensors import MAX_TENSORS, is_tensor
from isometry.load.weights import find_weights
from isometry.load.wording import listing, show

_SORTS = {
    Sort.DATA: "data",
    Sort.LAYER: "stock layer",
    Sort.FUNCTION: "stock function",
    Sort.LAZY: "layer without values",
    Sort.FOREIGN: "foreign",
    Sort.CODE: "code",
}
# TorchScript's own classes, whose code is in the archive.
COMPILED = "__torch__."
_HOLDERS = (Made, Table, list, tuple)
_GROUPS = ("_parameters", "_buffers", "_modules")


def look_torch(source: Source, found: Findings) -> None:
    """Look at a torch.save file in a zip archive."""
    look_members(source, found)
    look_data(source, found)


def look_data(source: Source, found: Findings) -> None:
    """Look at the data.pkl of an archive, and at the tensors that it describes."""
    data = peek(source, "data.pkl", MAX_PICKLE)
    reading = read_any(data or b".")[0]
    look_names(reading, found)
    look_values(reading.root, _outlines(source), found)


def _outlines(source: Source) -> Outlines:
    """Return outlines that know the sizes in the archive, where it can be trusted to say."""
    try:
        archive = Archive(source)
        return Outlines(archive, common_folder(archive, source))
    except LoadError:
        return Outlines(None, "")


def look_legacy(source: Source, found: Findings) -> None:
    """Look at a torch.save file from before torch 1.6: five pickles, then the numbers."""
    readings = read_any(source.read(MAX_PICKLE), 5)
    for reading in readings:
        look_names(reading, found)
    if len(readings) > 3:
        look_values(readings[3].root, Outlines(None, ""), found)


def look_plain(source: Source, found: Findings) -> None:
    """Look at a pickle that stands alone."""
    reading = read_any(source.read(MAX_PICKLE))[0]
    look_names(reading, found)
    look_values(reading.root, Outlines(None, ""), found)
    found.danger("pickle.load and joblib.load run whatever it asks for: do not open it with them")


def look_names(reading: Reading, found: Findings) -> None:
    """Note the names that a pickle asks for, and what they mean."""
    for name, called in reading.names.items():
        sort = "compiled" if name.startswith(COMPILED) else _SORTS[sort_of(name)]
        found.names.setdefault(name, Name(name, sort, called))
    code = [name for name in reading.names if sort_of(name) is Sort.CODE]
    if code:
        found.danger(
            f"asks for {listing(code, 4)}, which is code and no part of a model: do not open it "
            "with pickle.load or torch.load(weights_only=False)"
        )
    foreign = [
        name
        for name in reading.names
        if sort_of(name) is Sort.FOREIGN and not name.startswith(COMPILED)
    ]
    if foreign:
        found.danger(
            f"asks for {listing(foreign, 4)}: torch.load(weights_only=False) would import and run "
            "what goes by these names"
        )
    if reading.fault:
        found.danger(f"the pickle was read in part ({reading.fault}): more names may follow")


def look_values(root: object, tensors: Outlines, found: Findings) -> None:
    """Note what a description holds, and its tensors."""
    known = find_weights(root, is_tensor, is_module)
    found.kind = known[0] if known else _sort(root)
    for number, (where, made) in enumerate(_tensors_in(root)):
        if number >= MAX_TENSORS:
            found.danger(f"has more than {MAX_TENSORS} tensors; the others are not listed")
            return
        try:
            tensor = tensors.build(made, where)
        except LoadError as error:
            found.danger(str(error).removeprefix("refused: "))
        else:
            size = tensor.numel() * tensor.element_size()
            found.tensor(show(where), tuple(tensor.shape), tensor.dtype, size)


def _tensors_in(root: object) -> Iterator[tuple[str, Made]]:
    """Yield every tensor that a description holds, once, with the path that leads to it."""
    seen: set[int] = set()
    # A list of its own in place of recursion: the file decides how deep this goes.
    todo: list[tuple[str, Any]] = [("", root)] if isinstance(root, _HOLDERS) else []
    while todo:
        where, value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Made) and is_tensor(value):
            yield where or "the tensor", value
        else:
            parts = [(k, v) for k, v in _parts(value) if isinstance(v, _HOLDERS)]
            todo += [(_joined(where, key), inner) for key, inner in reversed(parts)]


def _parts(value: Any) -> list[tuple[object, Any]]:
    if isinstance(value, Made):
        return [("", value.state), ("", value.args)]
    if isinstance(value, Table):
        # The groups of a module are no part of the names of its weights.
        return [("" if key in _GROUPS else key, inner) for key, inner in value.items()]
    return list(enumerate(value))


def _joined(where: str, key: object) -> str:
    # Cut, or the names in deep nests would grow with the square of the depth.
    return f"{where}.{key}"[:400].strip(".") if key != "" else where


def _sort(value: object) -> str:
    if isinstance(value, Made):
        return "tensor" if is_tensor(value) else f"object of {show(value.name) or 'no class'}"
    return {Table: "dict", type(None): ""}.get(type(value), type(value).__name__)
