"""What to say about a format that is known and not loaded as a model."""

from __future__ import annotations

from isometry.errors import LoadError, RefusedError
from isometry.load.sniff import Format

_FACTORY = "build the model in Python and pass --model pkg.module:factory"
_INPUT = "it holds numbers, no model; is it meant as --input?"

# Formats that run code when they are opened, and what to do in place of that.
_HARMFUL = {
    Format.TORCHSCRIPT: f"it can carry code that reads and writes files; {_FACTORY}",
    Format.EXPORT: f"it can carry code that runs when it is opened; {_FACTORY}",
    Format.PICKLE: (
        "opening it can run any code; save the model with torch.save(model.state_dict(), path) "
        "and pass --model pkg.module:factory"
    ),
    Format.TORCH_LEGACY: (
        "it is an old kind of pickle; save it again with a current torch: "
        "torch.save(torch.load(path, weights_only=True), new_path)"
    ),
    Format.TORCH_TAR: (
        "it is an old kind of pickle; save it again with a current torch: "
        "torch.save(torch.load(path, weights_only=True), new_path)"
    ),
}

_HINTS = {
    Format.GGUF: f"it is quantised and has no PyTorch code; {_FACTORY}",
    Format.HDF5: f"Keras models are not PyTorch modules; {_FACTORY}",
    Format.ONNX: f"an ONNX graph is no PyTorch module; {_FACTORY}",
    Format.NPZ: _INPUT,
    Format.NPY: _INPUT,
    Format.PNG: _INPUT,
    Format.JPEG: _INPUT,
    Format.COMPRESSED: "unpack it first (a joblib dump is a pickle, and is refused)",
    Format.ZIP: "it has no data.pkl, so torch.save did not write it",
    Format.ZIP_CUT: "the list of members at its end is missing; fetch or save the file again",
    Format.LFS_POINTER: "the model itself was not fetched; run git lfs pull",
    Format.HTML: "the download failed and a web page was saved in its place; fetch it again",
    Format.TEXT: "that is not a model file; torch.save and safetensors files are read",
    Format.UNKNOWN: "torch.save and safetensors files are read",
    Format.HF_FOLDER: (
        "pass --model pkg.module:factory that builds it, with its model.safetensors as weights"
    ),
    Format.DCP_FOLDER: (
        "join it with python -m torch.distributed.checkpoint.format_utils dcp_to_torch first"
    ),
    Format.ADAPTER_FOLDER: f"it holds changes to another model; merge them, or {_FACTORY}",
    Format.DIFFUSERS_FOLDER: f"it holds several models; {_FACTORY} for one of them",
    Format.FOLDER: "name a model file",
}


def refusal(name: str, found: Format, size: int = 0) -> LoadError:
    """Return the error for a file of the format `found`, in words that say what to do.

    Parameters
    ----------
    name : str
        The file, safe to print.
    found : Format
        What it is.
    size : int
        Its bytes, where that helps to understand.
    """
    if found is Format.EMPTY:
        return LoadError(f"{name} is empty (0 bytes)")
    if found in _HARMFUL:
        return RefusedError(f"refused: {name} is {_article(found)}: {_HARMFUL[found]}")
    if found is Format.ZIP_CUT:
        return LoadError(f"{name} is cut off: {size} bytes came, and {_HINTS[found]}")
    return LoadError(f"{name} is {_article(found)}: {_HINTS[found]}")


def _article(found: Format) -> str:
    words = found.value
    return f"{'an' if words[0] in 'aeioAEIOH' and words[:2] != 'Hu' else 'a'} {words}"
