"""Folders: what their files are, and what is said in the small ones."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isometry.errors import LoadError
from isometry.load.look.findings import FileInfo, Findings
from isometry.load.source import opened
from isometry.load.wording import listing, show

MAX_FILES = 1000
_MAX_DEPTH = 3
_MAX_JSON = 4 << 20


def files_in(folder: Path) -> list[Path]:
    """Return the files of a folder and its folders, sorted; links to folders are not followed."""
    return sorted(itertools.islice(_walk(folder), MAX_FILES))


def look_folder(folder: Path, files: list[FileInfo], found: Findings) -> None:
    """Note what the settings in a folder say, and files that could do harm."""
    found.fact("files", len(files))
    if len(files) >= MAX_FILES:
        found.danger(f"has {MAX_FILES} files or more; the others are not looked at")
    config = _settings(folder / "config.json")
    for key in ("model_type", "architectures"):
        if key in config:
            found.fact(key, _plain(config[key]))
    if "auto_map" in config:
        found.danger(
            "config.json names code of its own (auto_map), which trust_remote_code=True runs"
        )
    base = _settings(folder / "adapter_config.json").get("base_model_name_or_path")
    if base is not None:
        found.fact("changes", _plain(base))
    parts = _settings(folder / "model_index.json")
    if parts:
        found.fact("parts", listing(key for key in parts if not key.startswith("_")))
    code = [file.name for file in files if file.name.endswith((".py", ".so", ".pyd", ".dll"))]
    if code:
        found.danger(f"has files of code: {listing(code, 4)}")


def _walk(folder: Path, depth: int = 0) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if depth < _MAX_DEPTH:
                        yield from _walk(Path(entry.path), depth + 1)
                elif entry.is_file():
                    yield Path(entry.path)
    except OSError as error:
        if depth == 0:
            raise LoadError(f"{show(folder)} cannot be read: {show(error)}") from error


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        with opened(path) as source:
            content = json.loads(source.read(_MAX_JSON))
    except (LoadError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _plain(value: object) -> str:
    return listing(value, 4) if isinstance(value, list) else show(value)
