"""What stands in for a large array: some rows of one, or images decoded when asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from withheld.data.source import Source
from withheld.data.work import Form, reason_of
from withheld.errors import InputError

COPY_BYTES = 256 << 20


class Rows:
    """Some rows of an array (N, C, H, W), copied only when indexed."""

    def __init__(self, base: Any, index: np.ndarray) -> None:
        self.base = base
        self.index = index
        self.shape = (len(index), *base.shape[1:])
        self.dtype = np.dtype(np.uint8)
        self.ndim = 4

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.base[self.index[rows]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def take(images: Any, index: np.ndarray) -> Any:
    """Some rows: an array of its own where it is small, else a view."""
    if len(index) * int(np.prod(images.shape[1:])) <= COPY_BYTES and not isinstance(images, Streamed):
        return images[index]
    return Rows(images, index)


class Streamed:
    """Images (N, C, H, W) uint8 of a source too large for the cache, decoded whenever they are asked for.

    A broken item is replaced by the next good one, the same one each time, and noted in `skipped`.

    Args:
        source: read at random; gzipped archives cannot be.
        form: what every image becomes.
    """

    def __init__(self, source: Source, form: Form) -> None:
        if source.store.sequential:
            raise InputError(
                f"{source.location} is too large for the prepared cache and cannot be read at random; unpack it into a "
                "folder, make it a plain tar or zip, choose a smaller --size, or set WITHHELD_CACHE to a larger disk"
            )
        self.source = source
        self.form = form
        self.shape = (len(source), *form.shape)
        self.dtype = np.dtype(np.uint8)
        self.ndim = 4
        self.skipped: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: Any) -> np.ndarray:
        from concurrent.futures import ThreadPoolExecutor

        index = np.arange(len(self))[rows]
        if index.ndim == 0:
            return self._image(int(index))
        images = np.empty((len(index), *self.form.shape), np.uint8)
        with ThreadPoolExecutor() as pool:
            for place, image in enumerate(pool.map(self._image, index.tolist())):
                images[place] = image
        return images

    def _image(self, position: int) -> np.ndarray:
        for step in range(min(1000, len(self))):
            at = (position + step) % len(self)
            if at in self.skipped:
                continue
            try:
                return self.form.of(next(iter(self.source.raw(np.array([at]))))[1])
            except Exception as error:  # damaged files raise anything
                self.skipped[at] = reason_of(error)
        first = self.source.names[position]
        raise InputError(f"{self.source.location}: 1,000 images in a row cannot be read, from {first!a}; check them")
