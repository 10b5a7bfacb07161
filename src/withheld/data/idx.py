"""IDX, the format of the MNIST family, gzipped or not."""

from __future__ import annotations

import gzip
import hashlib
import math
import re
import struct
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, cast

import numpy as np

from withheld.data.decode import MAX_PIXELS, Raw
from withheld.data.labels import find_labels
from withheld.data.source import Labels, Source, Store, digest, labels_wanted, stamp_of
from withheld.errors import InputError
from withheld.types import UNKNOWN_LABEL

TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
MAX_TOTAL = 64 << 30
MAX_ITEMS = 50_000_000


class IdxStore(Store):
    """Items of one or more IDX files; read into memory at the first use."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    @cached_property
    def images(self) -> np.ndarray:
        """(N, H, W, C) of all files."""
        blocks = [read_idx(file) for file in self.files]
        blocks = [b[..., None] if b.ndim == 3 else b for b in blocks]
        if len({b.shape[1:] for b in blocks}) > 1:
            told = ", ".join(f"{f.name} {b.shape[1:]}" for f, b in zip(self.files, blocks, strict=True))
            raise InputError(f"the IDX files hold images of different sizes ({told}); give one of the files")
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def raw(self, positions: np.ndarray) -> Iterator[tuple[int, Raw]]:
        for place, position in enumerate(positions):
            yield place, self.images[position]

    def array(self) -> np.ndarray:
        return self.images


def _stream(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb") if zipped else path.open("rb"))


def read_header(path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    """Type and shape of an IDX file, from its first bytes.

    Raises:
        ValueError: where it is none.
    """
    with _stream(path) as stream:
        head = stream.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES or not 1 <= head[3] <= 4:
            raise ValueError("is not an IDX file")
        shape = struct.unpack(f">{head[3]}I", stream.read(4 * head[3]))
    return np.dtype(TYPES[head[2]]), shape


def is_idx(path: Path) -> bool:
    """Whether a file begins as IDX does."""
    try:
        read_header(path)
    except Exception:  # damaged gzip data raises several kinds
        return False
    return True


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file, in the machine's byte order.

    Raises:
        InputError: where it is damaged or cut short.
    """
    dtype, shape = _checked_header(path)
    size = math.prod(shape) * dtype.itemsize
    try:
        with _stream(path) as stream:
            stream.seek(4 + 4 * len(shape))
            data = stream.read(size)
    except Exception as error:  # damaged gzip data raises several kinds
        raise InputError(f"{path.name} is damaged: {error}; get the file again") from error
    if len(data) < size:
        raise InputError(f"{path.name} is cut short: {len(data):,} of {size:,} bytes; get the file again")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _checked_header(path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    """As `read_header`, refusing shapes that cannot fit into the file, however well it is packed."""
    dtype, shape = read_header(path)
    size = math.prod(shape) * dtype.itemsize
    if size > min(MAX_TOTAL, 1100 * path.stat().st_size + 4096) or shape[0] > MAX_ITEMS:
        raise InputError(f"{path.name} says it holds {shape}, which cannot fit into the file; get the file again")
    return dtype, shape


def open_idx(files: list[Path], root: Path, text: str, labels: Labels = None) -> Source:
    """Opens the IDX image files among some; label files beside them are opened only when asked for.

    Raises:
        InputError: where there are none, or labels that do not fit.
    """
    shapes = {file: _checked_header(file)[1] for file in files}
    images = [file for file in files if len(shapes[file]) >= 3]
    if not images:
        raise InputError(f"found 0 images under {text}: its IDX files hold labels only; add the images file")
    if any(math.prod(shapes[file]) == 0 for file in images):
        raise InputError(f"found 0 images under {text}: an IDX file is empty; get the file again")
    if any(math.prod(shapes[file][1:]) > MAX_PIXELS for file in images):
        raise InputError(f"an IDX file under {text} says its images are {shapes[images[0]][1:]}; get the file again")
    images.sort(key=lambda file: (_part(file) != "train", file.name))
    counts = [shapes[file][0] for file in images]
    parts = np.concatenate([np.full(n, _part(file)) for file, n in zip(images, counts, strict=True)])
    names = [f"{_stem(file)}:{i}" for file, n in zip(images, counts, strict=True) for i in range(n)]
    source = Source(
        location=text,
        kind="idx",
        names=names,
        store=IdxStore(images),
        fingerprint=digest([p for file in images for p in (file.name, file.stat().st_size, _sample(file))]),
        parts=parts if (parts != "").any() else None,
        stamp=digest([stamp_of(file) for file in images]),
    )
    if labels is True:
        source.labels, source.classes = _read_labels(images, counts)
    elif labels_wanted(labels):
        source.labels, source.classes = find_labels(labels, names, None, root, text, source.notes)
    return source


def _sample(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.sha256(stream.read(1 << 20)).digest()


def _stem(file: Path) -> str:
    return re.sub(r"[-.]idx\d.*$", "", file.name)


def _part(file: Path) -> str:
    name = file.name.lower()
    if "train" in name:
        return "train"
    return "test" if "t10k" in name or "test" in name else ""


def _read_labels(images: list[Path], counts: list[int]) -> tuple[np.ndarray, list[str]]:
    found = []
    for file, count in zip(images, counts, strict=True):
        beside = _label_file(file)
        if beside is None:
            found.append(np.full(count, UNKNOWN_LABEL, np.int64))
            continue
        values = read_idx(beside)
        if values.shape != (count,):
            raise InputError(f"{beside.name} holds {values.shape} labels for {count} images in {file.name}")
        found.append(values.astype(np.int64))
    labels = np.concatenate(found)
    known = np.unique(labels[labels != UNKNOWN_LABEL])
    if len(known) < 2:
        raise InputError(
            f"labels were asked for, but none lie beside {images[0].name}; add the -labels-idx1-ubyte file"
        )
    numbered = np.where(labels == UNKNOWN_LABEL, UNKNOWN_LABEL, np.searchsorted(known, labels))
    return numbered, [str(value) for value in known]


def _label_file(file: Path) -> Path | None:
    stem = file.name.replace("images", "labels")
    for dims in ("3", "4"):
        stem = stem.replace(f"idx{dims}", "idx1")
    options = (stem, stem.removesuffix(".gz"), f"{stem}.gz")
    return next((file.with_name(o) for o in options if o != file.name and file.with_name(o).is_file()), None)
