"""Every file that is not a model gets one line that says what it is and what to do."""

import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from isometry.errors import IsometryError, LoadError, RefusedError
from isometry.load import Format, load_array, load_model, sniff


def _zip(**contents):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), data)
    return buffer.getvalue()


def _saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def _npz():
    buffer = io.BytesIO()
    np.savez(buffer, x=np.ones(2))
    return buffer.getvalue()


def _npy():
    buffer = io.BytesIO()
    np.save(buffer, np.ones(2))
    return buffer.getvalue()


def _tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    return buffer.getvalue()


MODEL = _saved(nn.Linear(8, 8))
ROWS = {
    Format.EMPTY: (b"", r"^model\.pt is empty \(0 bytes\); fetch or save the file again$"),
    Format.ZIP_CUT: (MODEL[:-50], rf"is cut off: {len(MODEL) - 50} bytes came"),
    Format.LFS_POINTER: (b"version https://git-lfs.github.com/spec/v1\noid", "run git lfs pull"),
    Format.HTML: (b"\n<!DOCTYPE html><html>", "an HTML page: the download failed"),
    Format.TEXT: (b"just some text\n", "a text file: that is not a model file"),
    Format.GGUF: (b"GGUF\3\0\0\0" + bytes(20), "a GGUF file: .*--model pkg.module:factory"),
    Format.HDF5: (b"\x89HDF\r\n\x1a\n" + bytes(20), "an HDF5 .Keras. file: .*--model"),
    Format.ONNX: (b"\x08\x08\x12\x07pytorch", "an ONNX model: .*--model"),
    Format.PICKLE: (pickle.dumps([1]), "refused: model.pt is a plain pickle: .*torch.save"),
    Format.COMPRESSED: (b"\x1f\x8b\x08" + bytes(9), "a compressed file: unpack it first"),
    Format.TORCHSCRIPT: (_zip(a__data_dot_pkl=b"", a__constants_dot_pkl=b""), "can carry code"),
    Format.EXPORT: (_zip(a__archive_format=b"pt2", a__models__m_dot_json=b"{}"), "can carry code"),
    Format.NPZ: (_npz(), "is it meant as --input"),
    Format.NPY: (_npy(), "is it meant as --input"),
    Format.PNG: (b"\x89PNG\r\n\x1a\n" + bytes(20), "a PNG image: .*--input"),
    Format.JPEG: (b"\xff\xd8\xff\xe0" + bytes(20), "a JPEG image: .*--input"),
    Format.ZIP: (_zip(readme=b"hello"), "zip archive: it has no data.pkl"),
    Format.TORCH_TAR: (_tar(), "refused: .*save it again with a current torch"),
    Format.TORCH_LEGACY: (
        _saved(nn.Linear(1, 1).state_dict(), _use_new_zipfile_serialization=False),
        "refused: .*save it again with a current torch",
    ),
    Format.KERAS: (_zip(model_dot_weights_dot_h5=b"", config_dot_json=b"{}"), "Keras archive"),
    Format.TFLITE: (b"\x1c\0\0\0TFL3" + bytes(9), "a TensorFlow Lite model: .*--model"),
    Format.COREML: (b"\x08\x06\x12\x90\x01\n\x09\n\x05image", "a Core ML model: .*--model"),
    Format.MSGPACK: (b"\x81\xa6params\x82", "a MessagePack .Flax. file: .*--model"),
    Format.UNKNOWN: (b"\x00\x01\x02\xff" * 9, "a file of no known format"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_file_that_is_no_model_is_named_with_what_to_do(kind, tmp_path):
    data, words = ROWS[kind]
    path = tmp_path / "model.pt"
    path.write_bytes(data)
    assert sniff(path) is kind
    with pytest.raises(LoadError, match=words) as error:
        load_model(path)
    assert "\n" not in str(error.value)
    assert "model.pt" in str(error.value)


def test_the_name_of_a_file_decides_nothing(tmp_path):
    path = tmp_path / "model.npy"
    path.write_bytes(MODEL)
    assert sniff(path) is Format.TORCH
    assert isinstance(load_model(path).module, nn.Linear)


def test_safetensors_are_recognised(tmp_path):
    import safetensors.torch

    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "m.bin")
    assert sniff(tmp_path / "m.bin") is Format.SAFETENSORS


FOLDERS = {
    Format.HF_FOLDER: (
        {"config.json": '{"model_type": "x", "auto_map": {"AutoModel": "own.Net"}}'},
        "custom code refused: .*--model",
    ),
    Format.DCP_FOLDER: ({".metadata": "", "__0_0.distcp": ""}, "metadata of .* is damaged"),
    Format.ADAPTER_FOLDER: ({"adapter_config.json": "{}"}, "merge them"),
    Format.DIFFUSERS_FOLDER: ({"model_index.json": "{}"}, "several models"),
    Format.SAVED_MODEL_FOLDER: ({"saved_model.pb": ""}, "a TensorFlow SavedModel folder.*--model"),
    Format.COREML_FOLDER: ({"Manifest.json": "{}", "Data/weights.bin": ""}, "Core ML package"),
    Format.FOLDER: ({"config.json": "[" * 99999}, "is a directory: name a model file"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_is_named_with_what_to_do(kind, tmp_path):
    files, words = FOLDERS[kind]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert sniff(tmp_path) is kind
    with pytest.raises(LoadError, match=words):
        load_model(tmp_path)
    with pytest.raises(LoadError, match="is a directory; name a file"):
        load_array(tmp_path)


@pytest.mark.parametrize("read", [load_model, load_array, sniff])
def test_paths_that_lead_nowhere_are_named(read, tmp_path, monkeypatch):
    with pytest.raises(LoadError, match=r"nope\.pt does not exist"):
        read(tmp_path / "nope.pt")
    with pytest.raises(LoadError, match="cannot be read"):
        read("nul\0byte")
    with pytest.raises(LoadError, match="cannot be read"):
        read(3.5)
    with pytest.raises(LoadError, match="cannot be read"):
        read("x" * 9999)
    (tmp_path / "model.pt").write_bytes(MODEL)

    def denied(*_args, **_options):
        raise PermissionError(13, "denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(LoadError, match=r"model\.pt cannot be read: permission denied"):
        read(tmp_path / "model.pt")


@pytest.mark.parametrize("cut", [1, 4, 30, 100, 500, 1000, 1500, len(MODEL) - 30, len(MODEL) - 1])
def test_a_file_cut_anywhere_gives_one_line(cut, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(MODEL[:cut])
    with pytest.raises(LoadError) as error:
        load_model(path)
    assert "\n" not in str(error.value)


def test_all_errors_are_of_the_project():
    assert issubclass(RefusedError, LoadError)
    assert issubclass(LoadError, IsometryError)
