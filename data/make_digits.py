"""Make ``digits.npz`` and ``digit.npy`` from the digits that scikit-learn ships.

Run ``python data/make_digits.py`` to write the files beside this script, or with ``--check`` to
compare the files that are there with what would be written, byte for byte.
"""

import argparse
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

HERE = Path(__file__).resolve().parent
SEED = 0
FIXED_DATE = (1980, 1, 1, 0, 0, 0)  # a zip entry's date: the clock must not change the bytes


def digit_arrays() -> dict[str, np.ndarray]:
    """Shuffled images ``x`` (1797, 64), labels ``y`` (1797,), and the ``mean``, ``std`` removed.

    One mean and one standard deviation for all pixels of all images, so that the second moment of
    the inputs is 1 and no pixel that is always blank is divided by zero.
    """
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))
    mean, std = pixels.mean(), pixels.std()
    return {
        "x": ((pixels[order] - mean) / std).astype(np.float32),
        "y": labels[order].astype(np.int64),
        "mean": np.float64(mean),
        "std": np.float64(std),
    }


def npy_bytes(array: np.ndarray) -> bytes:
    """The array as the bytes of a ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """The arrays as the bytes of a compressed ``.npz`` file, the same on every run."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=FIXED_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # not the machine's own, which would change the bytes
            archive.writestr(entry, npy_bytes(array), compresslevel=9)
    return buffer.getvalue()


def files() -> dict[Path, bytes]:
    """Every file this script makes, with its content."""
    arrays = digit_arrays()
    return {
        HERE / "digits.npz": npz_bytes(arrays),
        HERE / "digit.npy": npy_bytes(arrays["x"][0]),
    }


def main() -> int:
    """Write the files, or compare them with ``--check``; the exit status is 1 if any differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    same = True
    for path, content in files().items():
        if check:
            equal = path.is_file() and path.read_bytes() == content
            same = same and equal
            print(f"{path.name}: {'same' if equal else 'DIFFERENT'}")
        else:
            path.write_bytes(content)
            print(f"{path.name}: {len(content)} bytes")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
