"""What a file is, from its bytes; the name of the file is never asked."""

from __future__ import annotations

import enum
import json
import os
import re
from pathlib import Path

from isometry.errors import LoadError
from isometry.load.archive import member_names
from isometry.load.source import Source, opened
from isometry.load.wording import show

_LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
_HEAD = 4096
_JSON_LIMIT = 16 << 20


class Format(enum.Enum):
    """A kind of file or folder; the value is its name in messages."""

    TORCH = "torch.save file"
    TORCH_LEGACY = "torch.save file from before torch 1.6"
    TORCH_TAR = "torch.save file from before torch 0.1.10 (tar)"
    TORCHSCRIPT = "TorchScript archive"
    EXPORT = "torch.export archive (.pt2)"
    SAFETENSORS = "safetensors file"
    NPZ = "NumPy archive (.npz)"
    NPY = "NumPy array (.npy)"
    PNG = "PNG image"
    JPEG = "JPEG image"
    GGUF = "GGUF file"
    HDF5 = "HDF5 (Keras) file"
    KERAS = "Keras archive (.keras)"
    ONNX = "ONNX model"
    TFLITE = "TensorFlow Lite model"
    COREML = "Core ML model"
    MSGPACK = "MessagePack (Flax) file"
    PICKLE = "plain pickle"
    COMPRESSED = "compressed file"
    ZIP = "zip archive"
    ZIP_CUT = "zip archive that is cut off"
    LFS_POINTER = "git-LFS pointer"
    HTML = "HTML page"
    TEXT = "text file"
    EMPTY = "empty file"
    UNKNOWN = "file of no known format"
    HF_CONFIG = "Hugging Face config"
    SHARD_INDEX = "index of sharded safetensors"
    HF_FOLDER = "Hugging Face model folder"
    DCP_FOLDER = "sharded torch checkpoint folder"
    ADAPTER_FOLDER = "adapter (PEFT) folder"
    DIFFUSERS_FOLDER = "diffusers pipeline folder"
    SAVED_MODEL_FOLDER = "TensorFlow SavedModel folder"
    COREML_FOLDER = "Core ML package (.mlpackage)"
    FOLDER = "directory"


_MAGIC = (
    (_LEGACY_MAGIC, Format.TORCH_LEGACY),
    (b"GGUF", Format.GGUF),
    (b"\x93NUMPY", Format.NPY),
    (b"\x89HDF\r\n\x1a\n", Format.HDF5),
    (b"\x89PNG\r\n\x1a\n", Format.PNG),
    (b"\xff\xd8\xff", Format.JPEG),
    (b"version https://git-lfs", Format.LFS_POINTER),
    (b"\x1f\x8b", Format.COMPRESSED),
    (b"BZh", Format.COMPRESSED),
    (b"\xfd7zXZ\x00", Format.COMPRESSED),
    (b"\x28\xb5\x2f\xfd", Format.COMPRESSED),
    (b"\x04\x22\x4d\x18", Format.COMPRESSED),
    (b"7z\xbc\xaf\x27\x1c", Format.COMPRESSED),
)

# Weaker marks, for what is neither a zip archive nor safetensors.
_MARKS = tuple(
    (re.compile(pattern, re.DOTALL), found)
    for pattern, found in (
        (rb".{257}ustar", Format.TORCH_TAR),
        (rb"\x80[\0-\5]", Format.PICKLE),
        (rb".{4}TFL3", Format.TFLITE),
        # A version and a description; where the description stands, ONNX names a program.
        (rb"\x08[\x01-\x14]\x12[\x80-\xff]*[\0-\x7f][\n\x52\xa2]", Format.COREML),
        (rb"\x08[\0-\x14][\x12\x1a:]", Format.ONNX),
        # zlib, as joblib writes it
        (rb"x[\x01\x5e\x9c\xda]", Format.COMPRESSED),
        # A map whose first key is a short name.
        (rb"(?:[\x81-\x8f]|\xde..|\xdf....)(?:[\xa1-\xbf]|\xd9.)\w", Format.MSGPACK),
        # Protocols 0 and 1: an object of a named class, or a dict or list put into the memo.
        (rb"[ci][A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n|\([dl]p0\n|[]}]q\0", Format.PICKLE),
    )
)


def sniff(path: str | os.PathLike[str]) -> Format:
    """Return what the file or folder at `path` is.

    Raises
    ------
    LoadError
        The path is missing, unreadable, or is neither a regular file nor a folder.
    """
    folder = sniff_folder(path)
    if folder is not None:
        return folder
    with opened(path) as source:
        return recognise(source)


def recognise(source: Source) -> Format:
    """Return what an open file is."""
    if source.size == 0:
        return Format.EMPTY
    head = source.read(_HEAD)
    for magic, known in _MAGIC:
        if head.startswith(magic):
            return known
    if head[:2] == b"PK":
        return _zip(source)
    if _is_safetensors(head, source.size):
        return Format.SAFETENSORS
    for pattern, known in _MARKS:
        if pattern.match(head):
            return known
    found = _text(head)
    return _json(source) if found is Format.TEXT and head.lstrip()[:1] == b"{" else found


def sniff_folder(path: str | os.PathLike[str]) -> Format | None:
    """Return what the folder at `path` is, or None where it is no folder."""
    try:
        where = Path(os.fspath(path))
        if not where.is_dir():
            return None
        if (where / "adapter_config.json").is_file():
            return Format.ADAPTER_FOLDER
        if (where / "model_index.json").is_file():
            return Format.DIFFUSERS_FOLDER
        if (where / "saved_model.pb").is_file():
            return Format.SAVED_MODEL_FOLDER
        if (where / "Manifest.json").is_file() and (where / "Data").is_dir():
            return Format.COREML_FOLDER
        if (where / ".metadata").is_file() and any(where.glob("*.distcp")):
            return Format.DCP_FOLDER
        return Format.HF_FOLDER if _has_model_type(where / "config.json") else Format.FOLDER
    except PermissionError as error:
        raise LoadError(f"{show(path)} cannot be read: permission denied") from error
    except (OSError, ValueError, TypeError) as error:
        raise LoadError(f"{show(path)} cannot be read: {show(error)}") from error


def _has_model_type(config: Path) -> bool:
    if not config.is_file():
        return False
    with opened(config) as source:
        return _json(source) is Format.HF_CONFIG


def _json(source: Source) -> Format:
    try:
        content = json.loads(source.read(_JSON_LIMIT))
    except (ValueError, RecursionError):
        return Format.TEXT
    if isinstance(content, dict) and "model_type" in content:
        return Format.HF_CONFIG
    if isinstance(content, dict) and "weight_map" in content:
        return Format.SHARD_INDEX
    return Format.TEXT


def _zip(source: Source) -> Format:
    names = member_names(source)
    if names is None:
        return Format.ZIP_CUT
    inner = {name.split("/", 1)[-1] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return Format.TORCHSCRIPT
    if "archive_format" in inner or "serialized_exported_program.json" in inner:
        return Format.EXPORT
    if "data.pkl" in inner:
        return Format.TORCH
    if "model.weights.h5" in names:
        return Format.KERAS
    if any(name.endswith(".npy") for name in names):
        return Format.NPZ
    return Format.ZIP


def _is_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return len(head) > 9 and head[8:9] == b"{" and 2 <= length <= size - 8


def _text(head: bytes) -> Format:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:256].lower()
    # A store in the cloud says "no" in XML.
    if start.startswith((b"<!doctype", b"<html")) or b"<error>" in start:
        return Format.HTML
    if any(byte < 32 and byte not in b"\t\n\r\f" for byte in head):
        return Format.UNKNOWN
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The head may end in the middle of a character.
        return Format.TEXT if len(head) == _HEAD and error.start > _HEAD - 4 else Format.UNKNOWN
    return Format.TEXT
