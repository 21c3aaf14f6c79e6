"""Input files: one array, whatever the format."""

import io
import struct
import time
import zipfile
import zlib

import numpy as np
import pytest
import safetensors.numpy
import torch
from PIL import Image

from isometry.errors import LoadError, RefusedError
from isometry.load import load_array
from isometry.load.npy import MAX_BYTES

X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i8", "u1", "?", ">f4"])
def test_an_npy_file_comes_back(dtype, tmp_path):
    array = np.asfortranarray(X.astype(dtype))
    np.save(tmp_path / "x", array)
    loaded = load_array(tmp_path / "x.npy")
    assert np.array_equal(loaded, array)
    assert loaded.dtype == array.dtype.newbyteorder("=")
    loaded[0] = 0  # writable


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_an_npz_file_gives_its_only_array_or_the_usual_one(write, tmp_path):
    path = tmp_path / "d.npz"
    write(path, odd=X)
    assert np.array_equal(load_array(path), X)
    write(path, labels=np.ones(3), images=X)
    assert np.array_equal(load_array(path), X)
    assert np.array_equal(load_array(path, key="labels"), np.ones(3))
    write(path, a=X, b=np.ones(2))
    with pytest.raises(
        LoadError,
        match=r"holds 2 arrays; pass --input-key \(key=...\) as one of: a \(3, 4\), b \(2,\)",
    ):
        load_array(path)
    with pytest.raises(LoadError, match=r"has no 'c'; pass --input-key \(key=...\) as one of"):
        load_array(path, key="c")


def test_tensors_come_back(save, tmp_path):
    x = torch.from_numpy(X)
    assert np.array_equal(load_array(save(x, "x.pt")), X)
    assert np.array_equal(load_array(save(x.t(), "x.pt")), X.T)
    assert np.array_equal(load_array(save(x.bfloat16().requires_grad_(), "x.pt")), X)
    assert np.array_equal(load_array(save({"x": x, "y": x + 1, "n": 3}, "x.pt")), X)
    assert np.array_equal(load_array(save({"x": x, "y": x + 1}, "x.pt"), key="y"), X + 1)
    with pytest.raises(LoadError, match=r"holds 2 arrays; .*a \(3, 4\), b \(3, 4\)"):
        load_array(save({"a": x, "b": x}, "x.pt"))
    with pytest.raises(LoadError, match="holds no tensor"):
        load_array(save([x], "x.pt"))
    with pytest.raises(LoadError, match="complex"):
        load_array(save(x + 1j, "x.pt"))
    with pytest.raises(LoadError, match="one tensor, so there is no 'k'"):
        load_array(save(x, "x.pt"), key="k")
    safetensors.numpy.save_file({"x": X, "z": X + 1}, tmp_path / "x.st")
    assert np.array_equal(load_array(tmp_path / "x.st"), X)
    assert np.array_equal(load_array(tmp_path / "x.st", key="z"), X + 1)


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.csv", "1,2\n3,4\n", [[1, 2], [3, 4]]),
        (
            "a.csv",
            "\ufeffwidth,height\r\n1, 2.5e1\r\n\r\n# note\r\n-3,nan\r\n",
            [[1, 25], [-3, np.nan]],
        ),
        ("a.csv", '"1";"2"\n"3";"4"', [[1, 2], [3, 4]]),
        ("a.tsv", "a\tb c\n1\t2\n", [[1, 2]]),
        ("a.txt", "1 2   3\n4 5 6", [[1, 2, 3], [4, 5, 6]]),
        ("a.txt", "1\n2\n.5\n", [[1], [2], [0.5]]),
    ],
)
def test_numbers_as_text_are_rows_and_columns(name, text, rows, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    loaded = load_array(tmp_path / name)
    assert np.array_equal(loaded, np.array(rows, dtype=float), equal_nan=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2\n3\n", "line 2: 1 column, where 2 came before; give every line as many"),
        ("a,b\n1,2,3\n", "line 2: 3 columns, where 2 came before"),
        ("1,2,x\n1,2,3\n", "line 1: 'x' is not a number"),
        (",0,1\n0,5,6\n", "line 1: '' is not a number"),
        ("1,2\n3,x\x1b\n", "not a number|no known format"),
        ("1,2\n\n3,1_0\n", "line 3: '1_0' is not a number"),
        ("a,b\nc,d\n", "line 2: 'c' is not a number"),
        ("1;2\n1,5;2\n", "line 2: '1,5' is not a number; decimals are written with a point"),
        ("only,words\n", "holds no line of numbers; write one input a line"),
        ("1," + "9" * 5000, "holds no line|not a number"),
    ],
)
def test_text_that_is_no_table_is_named_by_line(text, words, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(LoadError, match=words):
        load_array(tmp_path / "a.csv")


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize(
    ("mode", "shape"), [("L", (5, 7)), ("RGB", (3, 5, 7)), ("RGBA", (3, 5, 7)), ("P", (3, 5, 7))]
)
def test_images_are_channels_first_between_0_and_1(form, mode, shape, tmp_path):
    if form == "JPEG" and mode in ("RGBA", "P"):
        mode = "CMYK"
    Image.new(mode, (7, 5), 255 if mode in ("L", "P") else (255,) * len(mode)).save(
        tmp_path / "i", form
    )
    loaded = load_array(tmp_path / "i")
    assert loaded.shape == shape
    assert loaded.dtype == np.float32
    assert loaded.min() >= 0
    assert loaded.max() <= 1


def test_the_pixels_of_an_image_stand_where_they_should(tmp_path):
    image = Image.new("RGBA", (2, 1))
    image.putpixel((1, 0), (255, 0, 51, 0))
    image.save(tmp_path / "i.png")
    assert np.allclose(load_array(tmp_path / "i.png")[:, 0, 1], [1, 0, 0.2])


def test_sixteen_bits_of_grey_are_scaled(tmp_path):
    Image.fromarray(np.array([[0, 65535]], dtype=np.uint16)).save(tmp_path / "i.png")
    assert np.array_equal(load_array(tmp_path / "i.png"), np.array([[0, 1]], dtype=np.float32))


def _png(width, height, data=b""):
    def chunk(kind, body):
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_an_image_that_claims_too_many_pixels_is_refused(tmp_path):
    (tmp_path / "i.png").write_bytes(_png(60_000, 60_000))
    with pytest.raises(RefusedError, match="claims 60000 x 60000 pixels; at most 24 million"):
        load_array(tmp_path / "i.png")
    image = io.BytesIO()
    Image.new("L", (8, 8)).save(image, "JPEG")
    data = image.getvalue()
    at = data.index(b"\xff\xc0") + 5
    for claim in (b"\x17\x70\x17\x70", b"\xff\xff\xff\xff"):
        (tmp_path / "i.jpg").write_bytes(data[:at] + claim + data[at + 4 :])
        with pytest.raises(LoadError, match="pixels"):
            load_array(tmp_path / "i.jpg")


def test_damaged_images_are_named(tmp_path):
    (tmp_path / "i.png").write_bytes(_png(8, 8, b"nonsense"))
    with pytest.raises(LoadError, match=r"i\.png is damaged"):
        load_array(tmp_path / "i.png")


def _npy_bytes(header: str, data=b""):
    text = header.encode("latin-1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


HEAD = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }\n"
NPY = _npy_bytes(HEAD % "(2,)", bytes(8))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (_npy_bytes(HEAD % "(10**6,)"), "is damaged"),
        (_npy_bytes(HEAD % "(1000000000000,)", b"\0" * 4), r"takes 4\.0 TB, and it has 4 bytes"),
        (_npy_bytes(HEAD % "(-1,)", b"\0" * 4), "makes no sense|damaged"),
        (_npy_bytes(HEAD % "(0, 999999999999999999, 99)"), "cannot be read"),
        (_npy_bytes(HEAD % "(True,)", b"\0" * 4), "makes no sense"),
        (_npy_bytes(HEAD % "(0, 9999999999999999999)"), "makes no sense"),
        (_npy_bytes(HEAD % ("(" * 3000)), "is damaged"),
        (_npy_bytes("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"), "Python objects"),
        (
            _npy_bytes("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }"),
            "elements of typ",
        ),
        (
            _npy_bytes("{'descr': '<U4', 'fortran_order': False, 'shape': (1,), }"),
            "elements of typ",
        ),
        (_npy_bytes("__import__('os').system('true')"), "is damaged"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "is damaged"),
        (b"\x93NUMPY\x09\x00", "is damaged"),
    ],
)
def test_an_npy_file_that_lies_is_named_before_memory_is_taken(data, words, tmp_path):
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(LoadError, match=words):
        load_array(tmp_path / "x.npy")


def test_arrays_of_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "o.npz", x=np.array([{}], dtype=object))
    with pytest.raises(RefusedError, match="Python objects, which are a pickle"):
        load_array(tmp_path / "o.npz")


def test_a_zip_bomb_is_refused_by_what_it_claims(tmp_path):
    path = tmp_path / "b.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", _npy_bytes(HEAD % "(1000000,)", bytes(4_000_000)))
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\1\2")
    data[entry + 24 : entry + 28] = (MAX_BYTES + 1).to_bytes(4, "little")
    path.write_bytes(data)
    start = time.perf_counter()
    with pytest.raises(RefusedError, match=r"x\.npy in b\.npz claims 536\.9 MB"):
        load_array(path)
    assert time.perf_counter() - start < 1


def test_a_member_that_grows_beyond_its_claim_is_cut(tmp_path):
    path = tmp_path / "b.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", _npy_bytes(HEAD % "(1000000,)", bytes(4_000_000)))
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\1\2")
    data[entry + 24 : entry + 28] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(LoadError, match="damaged"):
        load_array(path)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.md", b"1,2\n", r"a text file; as input are read: \.npy, \.npz"),
        ("a.bin", b"\0\1\2\3\4\5\6\7\x08\x09", r"no known format; as input are read"),
        ("a.npy", NPY[:60], "no header of a NumPy array, or half of one; fetch it again, or save"),
        ("a.npy", NPY[:-8], "it has 0 bytes; fetch it again, or save"),
        ("a.csv", b"", r"a\.csv is empty \(0 bytes\)"),
        ("a.csv", b"\x80\x03]q\x00.", "refused: .*plain pickle"),
        ("a.csv", b"1,2\n\xff\xfe,3\n", "no text in UTF-8|no known format"),
    ],
)
def test_what_is_no_input_is_named(name, data, words, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(LoadError, match=words):
        load_array(tmp_path / name)
