"""From bytes nobody vouches for to an image: a list of allowed formats, caps on size, and never a pickle.

Pictures that move give their first frame. Pillow reads 16 bit color PNG at 8 bits; grey PNG and TIFF keep theirs.
"""

from __future__ import annotations

import io
import logging
import math
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from withheld.data.scale import MAX_CHANNELS

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM")
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".ppm", ".pgm",
     ".pnm", ".npy")
)  # fmt: skip
MAX_PIXELS = 64_000_000
MAX_BYTES = 1 << 29

Raw = bytes | str | Path | np.ndarray | Image.Image | Exception
Decoded = Image.Image | np.ndarray

PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NUMBERS = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION = 0x0112

# tifffile reports damaged files to its logger as well; the reason is kept with the skipped file instead
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class Look(NamedTuple):
    """What the head of an image tells without decoding it: upright height and width, channels, format."""

    height: int
    width: int
    channels: int
    format: str


def is_image(head: bytes) -> bool:
    """Whether the first bytes (12 or more) are those of an image format that is read."""
    return (
        head[:2] in (b"\xff\xd8", b"BM", b"P4", b"P5", b"P6")
        or head[:4] in (*_TIFF, b"\x89PNG", b"GIF8")
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
    )


def is_animated(path: str | Path) -> bool:
    """Whether a picture has a second frame, as GIFs that are clips have; False of what is no picture."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # damaged files raise anything
        return False


def decode(raw: Raw, near: int | None = None, grey: bool = False) -> Decoded:
    """Decodes one item.

    Args:
        raw: file contents, a path, an array (H, W[, C]), an image, or the error met while reading it.
        near: the size wanted; JPEG is then decoded at the nearest larger scale.
        grey: only lightness is wanted.

    Returns:
        A loaded, upright image, or an array (H, W, C) where the data is 16 bit, float or multi-channel.

    Raises:
        Exception: of any kind; damaged files raise SyntaxError, RuntimeError and others besides OSError.
    """
    if isinstance(raw, Exception):
        raise raw
    if isinstance(raw, np.ndarray):
        return as_hwc(raw)
    if isinstance(raw, Image.Image):
        return _loaded(raw)
    if isinstance(raw, str):
        raise ValueError("is text, not an image")
    with _opened(raw) as stream:
        head = stream.read(8)
        stream.seek(0)
        if head[:6] == b"\x93NUMPY":
            return as_hwc(_read_npy(raw, stream))
        if head[:4] in _TIFF:
            return _read_tiff(stream)
        if not head:
            raise ValueError("the file is empty")
        if head == PNG:
            _check_sums(stream)
        with Image.open(stream, formats=FORMATS) as image:
            _check_pixels(*image.size)
            if near is not None and image.format in ("JPEG", "MPO"):
                image.draft("L" if grey else None, (near, near))
            return _loaded(image)


def look(raw: Raw) -> Look:
    """Reads only the head of an item.

    Raises:
        Exception: of any kind, as `decode`.
    """
    if isinstance(raw, Path | bytes):
        with _opened(raw) as stream:
            head = stream.read(8)
            stream.seek(0)
            if head[:6] != b"\x93NUMPY" and head[:4] not in _TIFF:
                if not head:
                    raise ValueError("the file is empty")
                with Image.open(stream, formats=FORMATS) as image:
                    return _look_at(image)
    item = decode(raw)
    if isinstance(item, Image.Image):
        return _look_at(item)
    kind = "array" if not isinstance(raw, Path | bytes) else "npy" if head[:6] == b"\x93NUMPY" else "TIFF"
    return Look(item.shape[0], item.shape[1], item.shape[2], f"{kind} {item.dtype}")


def as_hwc(array: np.ndarray) -> np.ndarray:
    """Any single image array as (H, W, C): (H, W), (H, W, C), or (C, H, W) where the first axis is the short one.

    Raises:
        ValueError: for other shapes, types and sizes.
    """
    if array.dtype.kind not in "biuf":
        raise ValueError(f"holds {array.dtype} values, not numbers")
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.ndim != 3:
        raise ValueError(f"has shape {array.shape}, an image has (height, width) or (height, width, channels)")
    elif channels_first(array.shape):
        array = array.transpose(1, 2, 0)
    height, width, channels = array.shape
    if not array.size:
        raise ValueError(f"has shape {array.shape}: no pixels")
    if channels > MAX_CHANNELS:
        raise ValueError(f"has {channels} channels, at most {MAX_CHANNELS} are read")
    _check_pixels(width, height)
    return array


def channels_first(shape: tuple[int, ...]) -> bool:
    """Whether the last three axes are (C, H, W) and not (H, W, C): the channel axis is the shorter end."""
    return shape[-3] < shape[-1] and shape[-3] <= MAX_CHANNELS


def _check_sums(stream: IO[bytes]) -> None:
    """Pillow does not look at the sums of a PNG's pixels, and a flipped bit would pass as another picture."""
    stream.seek(len(PNG))
    while len(start := stream.read(8)) == 8:
        size, kind = int.from_bytes(start[:4]), start[4:]
        if size > MAX_BYTES:
            break  # Pillow says what is wrong with it
        data, told = stream.read(size), stream.read(4)
        needed = not kind[0] & 32  # lower case: may be ignored
        if needed and len(told) == 4 and zlib.crc32(kind + data) != int.from_bytes(told):
            raise ValueError(f"is damaged: the sum of its part {kind!r} is wrong")
        if kind == b"IEND":
            break
    stream.seek(0)


def _opened(raw: Path | bytes) -> IO[bytes]:
    return io.BytesIO(raw) if isinstance(raw, bytes) else open(raw, "rb")


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"has {width} x {height} pixels, at most {MAX_PIXELS:,} are read")


def _loaded(image: Image.Image) -> Decoded:
    _check_pixels(*image.size)
    image.load()
    image = _upright(image)
    if image.mode in _NUMBERS:
        return np.asarray(image)[:, :, None]
    return image


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image) if _orientation(image) not in (0, 1) else image


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block on a good picture: the picture is used as it lies
        return 1


def _look_at(image: Image.Image) -> Look:
    width, height = image.size
    _check_pixels(width, height)
    if _orientation(image) in (5, 6, 7, 8):
        width, height = height, width
    grey = image.mode in ("1", "L", "LA", *_NUMBERS)
    return Look(height, width, 1 if grey else 3, f"{image.format or 'image'} {image.mode}")


def _read_npy(raw: Raw, stream: IO[bytes]) -> np.ndarray:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    size = math.prod(shape) * dtype.itemsize
    if size > MAX_BYTES:
        raise ValueError(f"has shape {shape}: {size:,} bytes, at most {MAX_BYTES:,} are read for one item")
    if isinstance(raw, Path):
        return np.load(raw, mmap_mode="r", allow_pickle=False)
    if size > len(raw):  # type: ignore[arg-type]
        raise ValueError(f"is cut short: shape {shape} needs {size:,} bytes")
    stream.seek(0)
    return np.load(stream, allow_pickle=False)


def _read_tiff(stream: IO[bytes]) -> Decoded:
    try:
        with Image.open(stream, formats=("TIFF",)) as image:
            if not _is_scientific(image):
                _check_pixels(*image.size)
                return _loaded(image)
    except Image.UnidentifiedImageError:
        pass  # Pillow knows no layout with more than four samples; tifffile does, and names what is wrong
    stream.seek(0)
    return _read_channels(stream)


def _is_scientific(image: Image.Image) -> bool:
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    samples = int(tags.get(277, 1))
    bits = tags.get(258, (1,))
    deep = max(bits) > 8 if isinstance(bits, tuple) else int(bits) > 8
    if samples > 4 or (samples > 1 and deep):
        return True
    told = str(tags.get(270, ""))[:4096]
    stacked = told.startswith(("ImageJ=", '{"shape"')) or "<OME" in told
    return stacked and getattr(image, "n_frames", 1) > 1


def _read_channels(stream: IO[bytes]) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(stream) as file:
        series = file.series[0]
        axes, shape = series.axes, series.shape
        if "Y" not in axes or "X" not in axes:
            raise ValueError(f"has axes {axes}, an image has Y and X")
        _check_pixels(shape[axes.index("X")], shape[axes.index("Y")])
        if math.prod(shape) * series.dtype.itemsize > MAX_BYTES:
            raise ValueError(f"has shape {shape} ({axes}), at most {MAX_BYTES:,} bytes are read for one item")
        array = series.asarray(maxworkers=1)
    # C and S are channels by name, Q is what tifffile calls an unnamed stack; of time and depth the first is taken
    kept = "".join(a for a in axes if a in "YXCSQ")
    array = array[tuple(slice(None) if a in kept else 0 for a in axes)]
    order = [kept.index("Y"), kept.index("X"), *(i for i, a in enumerate(kept) if a in "CSQ")]
    array = array.transpose(order)
    flat = array.reshape(*array.shape[:2], -1)
    if flat.shape[2] > MAX_CHANNELS:
        raise ValueError(f"has {flat.shape[2]} channels, at most {MAX_CHANNELS} are read")
    return as_hwc_exact(flat)


def as_hwc_exact(array: np.ndarray) -> np.ndarray:
    """Checks an array that is known to be (H, W, C)."""
    if array.dtype.kind not in "biuf" or not array.size:
        raise ValueError(f"holds {array.dtype} values of shape {array.shape}, not an image")
    return array
