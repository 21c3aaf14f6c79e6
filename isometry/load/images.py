"""PNG and JPEG images as arrays."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

from isometry.errors import LoadError, RefusedError
from isometry.load.source import Source
from isometry.load.wording import amount

MAX_PIXELS = 24_000_000
MAX_BYTES = 100 << 20

# What Pillow raises on images that make no sense.
_IMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RuntimeError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    Warning,
)


def read_image(source: Source) -> np.ndarray:
    """Return an image as float32 in [0, 1]: (H, W) for grey, (3, H, W) for colour.

    Transparency is dropped. Rotation marks of cameras are not applied.

    Raises
    ------
    RefusedError
        The image claims more than 24 million pixels.
    LoadError
        It is damaged, or Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise LoadError("reading images needs Pillow: pip install pillow") from error
    if source.size > MAX_BYTES:
        raise LoadError(f"{source.name} has {amount(source.size)}; at most {amount(MAX_BYTES)}")
    data = source.read(source.size)
    _check_pixels(_claimed(data), source.name)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            _check_pixels(image.size, source.name)
            return _pixels(image)
    except Image.DecompressionBombError as error:
        raise LoadError(f"{source.name} claims too many pixels; make it smaller") from error
    except _IMAGE_ERRORS as error:
        raise LoadError(
            f"{source.name} is damaged: it cannot be read as an image; save it again"
        ) from error


def _check_pixels(size: tuple[int, int] | None, name: str) -> None:
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise RefusedError(
            f"refused: {name} claims {size[0]} x {size[1]} pixels; "
            f"at most {MAX_PIXELS // 1_000_000} million are read"
        )


def _claimed(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a PNG, before Pillow would warn about them."""
    if data[:4] == b"\x89PNG" and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    return None


def _pixels(image: object) -> np.ndarray:
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise TypeError("no image")
    if image.mode.startswith(("I", "F")):
        # PNG holds at most 16 bits per channel; Pillow keeps those unscaled.
        deep: np.ndarray = np.asarray(image, dtype=np.float32) / np.float32(65535)
        return deep
    grey = image.mode in ("1", "L", "LA", "La")
    plain = image.convert("L" if grey else "RGB")
    values: np.ndarray = np.asarray(plain, dtype=np.float32) / np.float32(255)
    return values if grey else np.ascontiguousarray(values.transpose(2, 0, 1))
