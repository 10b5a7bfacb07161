"""Small files of every kind that data comes in."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image


def photo(seed: int = 0, height: int = 40, width: int = 60) -> np.ndarray:
    """A smooth picture (H, W, 3) that compression leaves nearly as it is."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    generator = np.random.default_rng(seed)
    waves = [127 + 100 * np.sin(generator.uniform(1, 8) * x + generator.uniform(1, 8) * y + c) for c in range(3)]
    return np.stack(waves, axis=2).astype(np.uint8)


def encoded(array: np.ndarray, form: str = "JPEG", mode: str | None = None, **options: object) -> bytes:
    """The bytes of an image file."""
    image = Image.fromarray(array)
    stream = io.BytesIO()
    (image.convert(mode) if mode else image).save(stream, form, **options)
    return stream.getvalue()


def write_images(folder: Path, count: int = 4, form: str = "JPEG", first: int = 0) -> list[str]:
    """Writes numbered pictures; returns their names in order."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i:03d}.{form.lower()}" for i in range(first, first + count)]
    for i, name in enumerate(names, first):
        (folder / name).write_bytes(encoded(photo(i), form))
    return names


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file of uint8."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, train: int = 30, test: int = 10, size: int = 12, zipped: bool = True) -> None:
    """Four IDX files named as the MNIST family names them."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        images = generator.integers(0, 256, (count, size, size))
        labels = np.arange(count) % 3 + 4
        for kind, data in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            contents = idx_bytes(np.asarray(data))
            name = f"{part}-{kind}"
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(contents))
            else:
                (folder / name).write_bytes(contents)
