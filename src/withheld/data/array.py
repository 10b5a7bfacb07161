"""Images in Python's memory, in arrays, lists, tables and data sets of other libraries, and .npy files that hold a whole set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from withheld.data.decode import MAX_PIXELS, SUFFIXES, Raw, channels_first
from withheld.data.label_columns import ASKED_COLUMNS, FILE_COLUMNS, IMAGE_COLUMNS, LOOKED_AT, label_of_rows
from withheld.data.labels import find_labels, given_labels
from withheld.data.objects import Row, plain, rows_of, splits_of
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


class DatasetStore(Store):
    """Items that are asked for one by one: of a torch Dataset, say, each an image or (image, label)."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def raw(self, positions: np.ndarray) -> Iterator[tuple[int, Raw]]:
        for place, position in enumerate(positions.tolist()):
            try:
                yield place, _item(image_and_label(self.dataset[position])[0])
            except Exception as error:  # whatever a data set of somebody's own may raise
                yield place, error


def image_and_label(item: Any) -> tuple[Any, Any]:
    """What a data set gives for an item, parted: the image and its label, None where it has none."""
    if isinstance(item, Mapping):
        image = next((item[name] for name in IMAGE_COLUMNS if name in item), None)
        return image, next((item[name] for name in ASKED_COLUMNS if name in item), None)
    if isinstance(item, list | tuple):
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def open_array(data: Any, labels: Labels = None) -> Source:
    """Opens an array (N, H, W[, C]) or (N, C, H, W), a list of PIL images or arrays, (images, labels), or what `objects` tells of.

    Raises:
        InputError: for anything else.
    """
    data = plain(data)
    if (splits := splits_of(data)) is not None:
        from withheld.data.table import open_splits

        return open_splits(splits, f"{type(data).__name__} in memory", labels)
    if (rows := rows_of(data)) is not None:
        return _open_rows(rows, labels)
    own: Any = None
    if isinstance(data, tuple) and len(data) == 2 and len(data[0]) == len(data[1]) and np.ndim(data[1]) == 1:
        data, own = data
    if hasattr(data, "__getitem__") and not isinstance(data, list | tuple) and not hasattr(data, "__array__"):
        return _open_dataset(data, labels, own)
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
    files = {str(item) for item in items if isinstance(item, Path)}
    names = list(map(str, items)) if len(files) == len(items) else _numbered("list", len(items))
    source = Source("list in memory", "array", names, ListStore(items), digest(map(_bytes, items)))
    return labeled(source, labels, own)


def _open_rows(rows: list[Row], labels: Labels) -> Source:
    """A table with a column of images, or of their files."""
    from withheld.data.table import as_raw

    columns = list(rows[0]) if rows else []
    lower = {name.lower(): name for name in columns}
    some = [[row[name] for row in rows[:LOOKED_AT] if row[name] is not None] for name in columns]
    fits = [name for name, cells in zip(columns, some, strict=True) if cells and all(map(_is_image, cells))]
    fits = [lower[name] for name in (*IMAGE_COLUMNS, *FILE_COLUMNS) if lower.get(name) in fits] or fits
    if not fits:
        raise InputError(
            f"the table has no column of images or of their files among {', '.join(columns) or 'none'}; a column 'file' names the "
            "files, from where Python runs"
        )
    notes: list[str] = []
    label = label_of_rows(rows, (fits[0],), labels, "the table", notes)
    images = [as_raw(image) if isinstance(image, dict) else image for image in (row[fits[0]] for row in rows)]
    source = open_array(images)
    source.notes += notes
    return labeled(source, True if label else labels, [row[label] for row in rows] if label else None)


def _is_image(cell: Any) -> bool:
    """Whether a cell of a table may hold an image: itself, its bytes, or the name of its file."""
    if isinstance(cell, str | Path):
        return str(cell).lower().endswith(tuple(SUFFIXES))
    if isinstance(cell, dict):
        return "bytes" in cell
    return isinstance(cell, Image.Image | bytes) or np.ndim(cell) > 1


def _open_dataset(data: Any, labels: Labels, own: Any) -> Source:
    """Anything with a length and items."""
    if not len(data):
        raise InputError(f"found 0 images: the {type(data).__name__} is empty")
    store = DatasetStore(data)
    told = [_bytes(raw) for _, raw in store.raw(spaced(len(data), 64))]
    name = type(data).__name__
    source = Source(
        f"{name} in memory", "array", _numbered("item", len(data)), store, digest([name, len(data), *told])
    )  # fmt: skip
    if [_bytes(raw) for _, raw in store.raw(spaced(len(data), 64))] != told:
        source.notes.append(
            f"{name} gives other images when it is asked again, as with random transforms: it is learned from as it was the first "
            "time; the methods change images by themselves, so leave such transforms out"
        )
    if labels is True and own is None:
        own, names = getattr(data, "targets", None), getattr(data, "classes", None)  # as torchvision's have them
        own = [image_and_label(data[i])[1] for i in range(len(data))] if own is None else plain(own)
        own = own.tolist() if hasattr(own, "tolist") else list(own)
        if all(label is None for label in own):
            own = None
        elif isinstance(names, list | tuple):
            own = [names[label] if isinstance(label, int) and 0 <= label < len(names) else label for label in own]
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
    if isinstance(image, bytes | Exception):
        return image
    if image is None:
        return ValueError("there is no image")
    image = plain(image)
    try:
        return np.asarray(image)
    except Exception as error:  # reported with the item, as any other that cannot be read
        return error


def _bytes(item: Raw) -> bytes:
    if isinstance(item, np.ndarray):
        return f"{item.shape}{item.dtype}".encode() + item.tobytes()
    if isinstance(item, Image.Image):
        return f"{item.size}{item.mode}".encode() + item.tobytes()
    return item if isinstance(item, bytes) else str(item).encode("utf-8", "surrogatepass")


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
