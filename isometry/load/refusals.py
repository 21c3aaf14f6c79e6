"""What to say about a format that is known and not loaded as a model."""

from __future__ import annotations

import os
import re

from isometry.errors import LoadError, RefusedError
from isometry.load.pickles import code_in, library_of, read_plain
from isometry.load.sniff import Format
from isometry.load.source import Source
from isometry.load.wording import listing, show

_FACTORY = "build the model in Python and pass --model pkg.module:factory"
_INPUT = "it holds numbers, no model; is it meant as --input?"
_TRUST = f"{_FACTORY}, or --trust to run it if you vouch for it"
_RESAVE = (
    "it is an old kind of pickle; save it again with a current torch: "
    "torch.save(torch.load(path, weights_only=True), new_path)"
)
_READ = "give a file that torch.save or safetensors wrote"
_HUB_NAME = r"[\w-][\w.-]*(/[\w-][\w.-]*)?"
_MAX_HUB_NAME = 96
_FILES = r".*\.(pt|pt2|pth|ckpt|bin|pkl|safetensors|json|onnx|h5)"

# Formats that run code when they are opened, and what to do in place of that.
_HARMFUL = {
    Format.TORCHSCRIPT: f"it can carry code that reads and writes files; {_TRUST}",
    Format.EXPORT: f"it can carry code that runs when it is opened; {_TRUST}",
    Format.PICKLE: (
        "opening it can run any code; save the model with torch.save(model.state_dict(), path) "
        "and pass --model pkg.module:factory"
    ),
    Format.TORCH_LEGACY: _RESAVE,
    Format.TORCH_TAR: _RESAVE,
}

_HINTS = {
    Format.GGUF: f"it is quantised and has no PyTorch code; {_FACTORY}",
    Format.HDF5: f"Keras models are not PyTorch modules; {_FACTORY}",
    Format.KERAS: f"Keras models are not PyTorch modules; {_FACTORY}",
    Format.ONNX: (
        "an ONNX graph is no PyTorch module; measure the model that it was exported from, or "
        "convert it (onnx2torch reads opset 17) and pass --model pkg.module:factory"
    ),
    Format.TFLITE: f"it is no PyTorch module; measure the model that it was made from: {_FACTORY}",
    Format.COREML: f"it is no PyTorch module; measure the model that it was made from: {_FACTORY}",
    Format.MSGPACK: (
        "Flax weights have no PyTorch code; load them with from_pretrained(folder, from_flax=True)"
        f" of transformers, or {_FACTORY}"
    ),
    Format.NPZ: _INPUT,
    Format.NPY: _INPUT,
    Format.PNG: _INPUT,
    Format.JPEG: _INPUT,
    Format.COMPRESSED: "unpack it first (a joblib dump is a pickle, and is refused)",
    Format.ZIP: "it has no data.pkl, so torch.save did not write it; unpack it and name a file",
    Format.ZIP_CUT: "the list of members at its end is missing; fetch or save the file again",
    Format.LFS_POINTER: "the model itself was not fetched; run git lfs pull",
    Format.HTML: "the download failed and a web page was saved in its place; fetch it again",
    Format.TEXT: f"that is not a model file; {_READ}",
    Format.UNKNOWN: _READ,
    Format.HF_CONFIG: "it holds no numbers and no weights; give it as the model",
    Format.SHARD_INDEX: f"it names files of weights; {_FACTORY}",
    Format.HF_FOLDER: "it has no safetensors; save it again with model.save_pretrained(folder)",
    Format.DCP_FOLDER: f"its weights need the model that they belong to; {_FACTORY}",
    Format.ADAPTER_FOLDER: (
        "it holds changes to another model; merge them with merge_and_unload() of peft and "
        f"save the result, or {_FACTORY}"
    ),
    Format.DIFFUSERS_FOLDER: f"it holds several models; {_FACTORY} for one of them",
    Format.SAVED_MODEL_FOLDER: f"TensorFlow models are not PyTorch modules; {_FACTORY}",
    Format.COREML_FOLDER: f"measure the model that it was made from: {_FACTORY}",
    Format.FOLDER: "name a model file",
}


def refusal_of(source: Source, found: Format) -> LoadError:
    """Return the error for an open file of the format `found`; a pickle is read for its names."""
    if found is not Format.PICKLE:
        return refusal(source.name, found, source.size)
    reading = read_plain(source)
    code, library = code_in(reading), library_of(reading)
    if code:
        return RefusedError(
            f"refused: {source.name} is a plain pickle that asks for {listing(code, 4)}, which is "
            "code, not a model; get the weights as safetensors from a source that you know and "
            "pass --model pkg.module:factory"
        )
    if library in ("", "__main__"):
        return refusal(source.name, found, source.size)
    return RefusedError(
        f"refused: {source.name} is a plain pickle of {show(library)}, and opening it can run any "
        "code; if it holds a PyTorch model, save that with torch.save(model.state_dict(), path) "
        "and pass --model pkg.module:factory"
    )


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
        return LoadError(f"{name} is empty (0 bytes); fetch or save the file again")
    if found in _HARMFUL:
        return RefusedError(f"refused: {name} is {_article(found)}: {_HARMFUL[found]}")
    if found is Format.ZIP_CUT:
        return LoadError(f"{name} is cut off: {size} bytes came, and {_HINTS[found]}")
    return LoadError(f"{name} is {_article(found)}: {_HINTS[found]}")


def check_exists(path: object) -> None:
    """Raise LoadError for a path that leads nowhere and reads like a name on a model hub."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
    named = isinstance(text, str) and re.fullmatch(_HUB_NAME, text) and len(text) <= _MAX_HUB_NAME
    if named and not re.fullmatch(_FILES, text.lower()) and not os.path.lexists(text):
        raise LoadError(
            f"{show(text)} does not exist; if it is meant as a Hugging Face name, give a local "
            "folder: isometry does not download"
        )


def _article(found: Format) -> str:
    words = found.value
    return f"{'an' if words[0] in 'aeioAEIOH' and words[:2] != 'Hu' else 'a'} {words}"
