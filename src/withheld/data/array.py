"""Arrays and lists of images in Python, and .npy files that hold a whole set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from withheld.data.decode import MAX_PIXELS, Raw, channels_first
from withheld.data.labels import find_labels, given_labels
from withheld.data.sample import spaced
from withheld.data.scale import MAX_CHANNELS
from withheld.data.source import Labels, Source, Store, digest, labels_wanted, stamp_of
from withheld.errors import InputError

NO_LABELS = "labels were asked for, but an array has none; give (images, labels) or labels=SEQUENCE"


class ArrayStore(Store):
    """Items that are one array (N, H, W, C), in memory or mapped."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def raw(self, positions: np.ndarray) -> Iterator[tuple[int, Raw]]:
        for place, position in enumerate(positions):
            yield place, self.images[position]

    def array(self) -> np.ndarray:
        return self.images


class ListStore(Store):
    """Items in memory, of any kind and size, or the error each one gave."""

    def __init__(self, images: Sequence[Raw]) -> None:
        self.images = images

    def raw(self, positions: np.ndarray) -> Iterator[tuple[int, Raw]]:
        for place, position in enumerate(positions):
            yield place, self.images[position]


def open_array(data: Any, labels: Labels = None) -> Source:
    """Opens an array (N, H, W[, C]) or (N, C, H, W), a list of PIL images or arrays, or (images, labels).

    Raises:
        InputError: for anything else.
    """
    own: Any = None
    if isinstance(data, tuple) and len(data) == 2 and len(data[0]) == len(data[1]) and np.ndim(data[1]) == 1:
        data, own = data
    if not isinstance(data, list | tuple):
        images = stacked(_numeric(data), "the array")
        total = hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
        source = Source(
            "array in memory", "array", _numbered("array", len(images)), ArrayStore(images),
            digest([total, *map(str, (images.shape, images.dtype))]),
        )  # fmt: skip
        return labeled(source, labels, own)
    items = [_item(image) for image in data]
    if not items:
        raise InputError("found 0 images: the list is empty; give PIL images or arrays (height, width[, channels])")
    shapes = {i.shape for i in items if isinstance(i, np.ndarray)}
    if len(shapes) == 1 and all(isinstance(i, np.ndarray) for i in items) and len(next(iter(shapes))) > 1:
        return open_array(np.stack(items) if own is None else (np.stack(items), own), labels)  # type: ignore[arg-type]
    source = Source(
        "list in memory", "array", _numbered("list", len(items)), ListStore(items), digest(map(_bytes, items))
    )
    return labeled(source, labels, own)


def open_npy(path: Path, text: str, labels: Labels = None) -> Source:
    """Opens a .npy file that holds a whole set, memory-mapped; never a pickle.

    Raises:
        InputError: where it holds something else.
    """
    try:
        whole = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header raises anything
        raise InputError(f"{text} cannot be read as a .npy array of numbers: {error}") from error
    images = stacked(whole, text)
    spots = spaced(len(images), 64)
    sample = hashlib.sha256(np.ascontiguousarray(images[spots]).data).hexdigest()
    names = _numbered(path.stem, len(images))
    fingerprint = digest([path.name, path.stat().st_size, sample])
    source = Source(text, "npy", names, ArrayStore(images), fingerprint, stamp=stamp_of(path))
    if labels_wanted(labels):
        source.labels, source.classes = find_labels(labels, names, None, path.parent, text, source.notes)
    return source


def stacked(array: np.ndarray, what: str) -> np.ndarray:
    """Checks a whole set and brings it to (N, H, W, C).

    Raises:
        InputError: naming the shape or type that does not fit.
    """
    if array.dtype.kind not in "biuf":
        raise InputError(f"{what} holds {array.dtype} values; images are numbers")
    if array.ndim not in (3, 4):
        raise InputError(
            f"{what} has shape {array.shape}; a set of images has (items, height, width) or "
            "(items, height, width, channels)"
        )
    if array.ndim == 3:
        array = array[..., None]
    elif channels_first(array.shape):
        array = array.transpose(0, 2, 3, 1)
    if not array.size:
        raise InputError(f"found 0 images: {what} has shape {array.shape}; give at least one image")
    if array.shape[1] * array.shape[2] > MAX_PIXELS or array.shape[3] > MAX_CHANNELS:
        raise InputError(f"{what} has shape {array.shape}: too large for single images; cut them into tiles")
    return array


def _numeric(data: Any) -> np.ndarray:
    try:
        return np.asarray(data)
    except Exception as error:  # any object may be given
        raise InputError(f"cannot read {type(data).__name__} as images: {error}") from error


def _item(image: Any) -> Raw:
    if isinstance(image, Image.Image | np.ndarray):
        return image
    if isinstance(image, str | Path):
        return Path(image)
    try:
        return np.asarray(image)
    except Exception as error:  # reported with the item, as any other that cannot be read
        return error


def _bytes(item: Raw) -> bytes:
    if isinstance(item, np.ndarray):
        return f"{item.shape}{item.dtype}".encode() + item.tobytes()
    if isinstance(item, Image.Image):
        return f"{item.size}{item.mode}".encode() + item.tobytes()
    return str(item).encode("utf-8", "surrogatepass")


def _numbered(stem: str, count: int) -> list[str]:
    return [f"{stem}:{i}" for i in range(count)]


def labeled(source: Source, labels: Labels, own: Sequence[Any] | None, none: str = NO_LABELS) -> Source:
    """Items in memory with the labels that are asked for.

    Args:
        own: labels that came with them. none: said where labels were to come with them and did not.
    """
    if not labels_wanted(labels):
        return source
    if isinstance(labels, str | Path):
        source.labels, source.classes = find_labels(labels, source.names, None, None, source.location, source.notes)
        return source
    if labels is True:
        if own is None:
            raise InputError(none)
        labels = own
    source.labels, source.classes = given_labels(labels, len(source))
    return source
