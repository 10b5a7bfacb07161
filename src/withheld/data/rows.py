"""What stands in for a large array: some rows of one, or images decoded when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from withheld.data import windows
from withheld.data.source import Source
from withheld.data.windows import Held
from withheld.data.work import Block, Form, decoded
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


def spread_over(images: Any, names: Sequence[str], sample: int = 2048) -> tuple[Any, Sequence[str]]:
    """Of a stream about so many images that lie in few windows, since any others would be one window each; else all."""
    if not isinstance(images, Streamed) or images.windows is None:
        return images, names
    some = images.windows.spread(sample)
    return Rows(images, some), [names[i] for i in some]


class Streamed:
    """Images (N, C, H, W) uint8 of a source too large for the cache, decoded whenever they are asked for.

    A broken item is replaced by the next good one, the same one each time, and noted in `skipped`. Where the source has windows
    these are read whole and held undecoded, as many as `windows.HELD_BYTES` allows.

    Args:
        source: read at random, or window by window; gzipped archives cannot be.
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
        self.windows = source.windows()
        self.held = None if self.windows is None else Held(source.raw, self.windows)
        self.shape = (len(source), *form.shape)
        self.dtype = np.dtype(np.uint8)
        self.ndim = 4
        self.skipped: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: Any) -> np.ndarray:
        index = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows)
        different, places = np.unique(index, return_inverse=True)
        images = np.empty((len(different), *self.form.shape), np.uint8)
        found: set[int] = set()
        for block, positions, bad in self._blocks(different):
            images[np.searchsorted(different, positions)] = block
            found.update(positions)
            self.skipped.update(bad)
        for place, position in enumerate(different.tolist()):
            if position not in found:
                images[place] = self._next_good(position)
        return images[places.reshape(index.shape)]

    def laid(self) -> list[bytes]:
        """What the order of items hangs on besides how many there are."""
        found = self.windows
        if found is None:
            return []
        return [found.starts.tobytes(), found.rows.tobytes(), f"{found.bytes_each!r} of {windows.HELD_BYTES}".encode()]

    def expect(self, rows: np.ndarray) -> None:
        """Reads ahead the windows of these rows, which are asked for next, in this order; none ends it."""
        if self.held is not None:
            self.held.expect(rows)

    def rest(self) -> None:
        """Ends reading ahead."""
        if self.held is not None:
            self.held.rest()

    def _blocks(self, index: np.ndarray) -> Iterator[Block]:
        return decoded((self.source if self.held is None else self.held).raw(index), self.form)

    def _next_good(self, position: int) -> np.ndarray:
        for step in range(1, min(1000, len(self))):
            at = (position + step) % len(self)
            if at in self.skipped:
                continue
            for block, _, bad in self._blocks(np.array([at])):
                if len(block):
                    return block[0]
                self.skipped.update(bad)
        first = self.source.names[position]
        raise InputError(f"{self.source.location}: 1,000 images in a row cannot be read, from {first!r}; check them")
