"""Rows that lie together and are read together: what a source too large for memory and disk is cut into.

Shapes: N rows of the source, M windows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from withheld.data.decode import Raw

HELD_BYTES = 512 << 20
"""Undecoded items that a process keeps in memory, in whole windows."""
WINDOW_BYTES = HELD_BYTES // 16
"""What is larger is cut: eight shards of a batch then draw from a window each, and the next ones fit beside them."""
ROW_BYTES = 64
"""What Python adds to the bytes of an item."""
SAMPLED = 16
"""Windows that a sample is taken from."""


@dataclass(frozen=True)
class Windows:
    """Contiguous rows of one shard each, ascending, none in two windows.

    Attributes:
        starts: (M,) position in the source of the first row.
        rows: (M,) how many, at least 1.
        bytes_each: of a window, undecoded, on average.
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int64]
    bytes_each: float

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def count(self) -> int:
        """Rows of all windows."""
        return int(self.rows.sum())

    def of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The window of every position."""
        return np.searchsorted(self.starts, positions, side="right") - 1

    def together(self, shards: int) -> int:
        """How many windows each of the shards of a batch draws from at once, so that half of what is held suffices."""
        return max(1, int(HELD_BYTES / 2 / shards / max(1.0, self.bytes_each)))

    def within(self, positions: NDArray[np.int64]) -> Windows:
        """The windows of a source that has only these of the rows, ascending, in their order."""
        starts = np.searchsorted(positions, self.starts)
        rows = np.searchsorted(positions, self.starts + self.rows) - starts
        share = len(positions) / max(1, self.count)
        some = rows > 0
        return Windows(starts[some], rows[some], self.bytes_each * share * len(self) / max(1, int(some.sum())))

    def spread(self, sample: int) -> NDArray[np.int64]:
        """Positions of a sample, ascending, the first rows of few windows: reading one row costs as much as reading its window."""
        taken, chosen = self._first(sample, self.rows)
        return _ranges(self.starts[chosen], taken)

    def apart(self, count: int) -> tuple[NDArray[np.int64], Windows]:
        """About so many rows that are set aside, at most half of any window, and the windows without them."""
        taken, chosen = self._first(count, self.rows // 2)
        starts, rows = self.starts.copy(), self.rows.copy()
        starts[chosen] += taken
        rows[chosen] -= taken
        return _ranges(self.starts[chosen], taken), Windows(starts, rows, self.bytes_each)

    def _first(self, count: int, most: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many rows to take of which windows, spread evenly: of `SAMPLED`, or of more where these have not enough."""
        windows = min(len(self), max(SAMPLED, -(-count // max(1, int(most.mean())))))
        chosen = np.unique(np.linspace(0, len(self) - 1, windows).round().astype(np.int64))
        each = -(-count // len(chosen))
        return np.minimum(most[chosen], each), chosen


def _ranges(starts: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """start, start + 1, ... of every range, one after the other."""
    before = np.cumsum(rows) - rows
    return np.repeat(starts - before, rows) + np.arange(int(rows.sum()))


def cut(rows: NDArray[np.int64], sizes: NDArray[np.int64]) -> Windows:
    """Windows over blocks that lie one after the other, such as row groups; one of more than `WINDOW_BYTES` becomes several.

    Args:
        rows: of every block. sizes: of every block in bytes.
    """
    sizes = (sizes + ROW_BYTES * rows)[rows > 0]
    rows = rows[rows > 0]
    parts = np.clip(-(-sizes // WINDOW_BYTES), 1, rows)
    block, at = np.repeat(np.arange(len(parts)), parts), _ranges(np.zeros_like(parts), parts)
    begin = at * rows[block] // parts[block]
    each = (at + 1) * rows[block] // parts[block] - begin
    starts = (np.cumsum(rows) - rows)[block] + begin
    return Windows(starts, each, float(sizes.sum()) / max(1, len(each)))


class Held:
    """Whole windows of undecoded items, those asked for last; at most `HELD_BYTES` of them, and at least one.

    Args:
        raw: the items at some positions of the source, as `Source.raw`.
        windows: of the whole source.
    """

    def __init__(self, raw: Callable[[NDArray[np.int64]], Iterator[tuple[int, Raw]]], windows: Windows) -> None:
        self._read, self.windows = raw, windows
        self._held: OrderedDict[int, list[Raw]] = OrderedDict()
        self._sizes: dict[int, int] = {}
        self.bytes = self.most = 0  # held now, and at any time

    def raw(self, positions: NDArray[np.int64]) -> Iterator[tuple[int, Raw]]:
        """Yields (position, contents or the error met); positions are ascending."""
        for position, window in zip(positions.tolist(), self.windows.of(positions).tolist(), strict=True):
            yield position, self._window(window)[position - int(self.windows.starts[window])]

    def _window(self, number: int) -> list[Raw]:
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        start, rows = int(self.windows.starts[number]), int(self.windows.rows[number])
        items: list[Raw] = [EOFError("was not there when its window was read")] * rows
        for position, contents in self._read(np.arange(start, start + rows)):
            items[position - start] = contents
        size = sum(len(one) if isinstance(one, bytes) else getattr(one, "nbytes", 0) for one in items)
        self._sizes[number] = size + ROW_BYTES * rows
        self._make_room(self._sizes[number])
        self._held[number] = items
        self.bytes += self._sizes[number]
        self.most = max(self.most, self.bytes)
        return items

    def _make_room(self, needed: int) -> None:
        while self._held and self.bytes + needed > HELD_BYTES:
            oldest, _ = self._held.popitem(last=False)
            self.bytes -= self._sizes.pop(oldest)
