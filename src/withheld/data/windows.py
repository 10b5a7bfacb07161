"""Rows that lie together and are read together: what a source too large for memory and disk is cut into.

Shapes: N rows of the source, M windows.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from withheld.data.decode import Raw
from withheld.data.sample import spread

HELD_BYTES = 512 << 20
"""Undecoded items that a process keeps in memory, in whole windows."""
WINDOW_BYTES = HELD_BYTES // 16
"""What is larger is cut: eight shards of a batch then draw from a window each, and the next ones fit beside them."""
MOST_ROWS = 1024
"""Items of a window, where coming to the last takes reading the headers of all."""
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
        mixed: share of what may be held that items are mixed within.
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int64]
    bytes_each: float
    mixed: float = 0.5

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
        """How many windows each of the shards of a batch draws from at once, so that `mixed` of what is held suffices."""
        return max(1, int(HELD_BYTES * self.mixed / shards / max(1.0, self.bytes_each)))

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
        chosen = spread(len(self), max(SAMPLED, -(-count // max(1, int(most.mean())))))
        each = -(-count // len(chosen))
        return np.minimum(most[chosen], each), chosen


def _ranges(starts: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """start, start + 1, ... of every range, one after the other."""
    before = np.cumsum(rows) - rows
    return np.repeat(starts - before, rows) + np.arange(int(rows.sum()))


def cut(rows: NDArray[np.int64], sizes: NDArray[np.int64], most: int | None = None) -> Windows:
    """Windows over blocks that lie one after the other, such as row groups; one of more than `most` becomes several.

    Args:
        rows: of every block. sizes: of every block in bytes. most: bytes of a window; `WINDOW_BYTES` where None.
    """
    sizes = (sizes + ROW_BYTES * rows)[rows > 0]
    rows = rows[rows > 0]
    parts = np.clip(-(-sizes // (most or WINDOW_BYTES)), 1, rows)
    block, at = np.repeat(np.arange(len(parts)), parts), _ranges(np.zeros_like(parts), parts)
    begin = at * rows[block] // parts[block]
    each = (at + 1) * rows[block] // parts[block] - begin
    starts = (np.cumsum(rows) - rows)[block] + begin
    return Windows(starts, each, float(sizes.sum()) / max(1, len(each)))


def runs(sizes: NDArray[np.int64]) -> Windows:
    """Windows over items that lie one after the other, of `MOST_ROWS` and `WINDOW_BYTES` at most.

    Args:
        sizes: of every item in bytes.
    """
    starts, held = [0], 0
    for item, size in enumerate(sizes.tolist()):
        if item > starts[-1] and (item - starts[-1] >= MOST_ROWS or held + size > WINDOW_BYTES):
            starts.append(item)
            held = 0
        held += size
    rows = np.diff([*starts, len(sizes)])
    return Windows(np.array(starts, np.int64), rows, float(sizes.sum() + ROW_BYTES * len(sizes)) / len(rows))


class Held:
    """Whole windows of undecoded items, those asked for last; at most `HELD_BYTES` of them, and at least one.

    One thread reads ahead what is expected, while there is room beside what is needed sooner. One window is read at a time, by it
    or by whoever asks; what it cannot read it leaves, and whoever asks then meets the error.

    Args:
        raw: the items at some positions of the source, as `Source.raw`.
        windows: of the whole source.
    """

    def __init__(self, raw: Callable[[NDArray[np.int64]], Iterator[tuple[int, Raw]]], windows: Windows) -> None:
        self._read, self.windows = raw, windows
        self._held: OrderedDict[int, Any] = OrderedDict()
        self._sizes: dict[int, int] = {}
        self.bytes = self.most = 0  # held now, and at any time
        self.waited = 0  # windows that were not there when they were asked for
        self._expected: dict[int, int] = {}  # and its place in the order in which they are needed
        self._left: deque[int] = deque()  # those of them not yet read ahead
        self._sooner = 0.0  # bytes of the others
        self._changed = threading.Condition()  # guards all of the above
        self._reading = threading.Lock()
        self._asked = False
        self._thread: threading.Thread | None = None

    def raw(self, positions: NDArray[np.int64]) -> Iterator[tuple[int, Raw]]:
        """Yields (position, contents or the error met); positions are ascending."""
        for position, window in zip(positions.tolist(), self.windows.of(positions).tolist(), strict=True):
            yield position, self.window(window)[position - int(self.windows.starts[window])]

    def expect(self, positions: NDArray[np.int64]) -> None:
        """Reads ahead the windows of these positions, which are needed in this order; the last word counts, and none ends it."""
        expected = {n: place for place, n in enumerate(dict.fromkeys(self.windows.of(positions).tolist()))}
        with self._changed:
            if expected != self._expected:
                self._expected, self._left, self._sooner = expected, deque(expected), 0.0
                self._sizes = {n: size for n, size in self._sizes.items() if n in self._held or n in expected}
            if self._next() is not None and self._thread is None:
                self._thread = threading.Thread(target=self._read_ahead, name="withheld read-ahead", daemon=True)
                self._thread.start()

    def rest(self, seconds: float = 10.0) -> None:
        """Ends reading ahead, and waits for the read that is under way."""
        with self._changed:
            self._expected, self._left, thread = {}, deque(), self._thread
        if thread is not None:
            thread.join(seconds)

    def window(self, number: int) -> Any:
        """What `contents` made of a window, read now where it is not there."""
        with self._changed:
            found = self._used(number)
            if found is not None:
                return found
        try:
            with self._changed:
                self.waited += 1
                self._asked = True
            with self._reading:
                with self._changed:
                    self._asked = False
                    self._changed.notify_all()
                    found = self._used(number)
                if found is None:
                    found = self.contents(number)
                    self._keep(number, found, asked=True)
                return found
        finally:
            with self._changed:
                self._asked = False
                self._changed.notify_all()

    def _used(self, number: int) -> Any:
        if number in self._held:
            self._held.move_to_end(number)
        return self._held.get(number)

    def _next(self) -> int | None:
        """The window to read ahead, where there is one that fits beside those needed sooner."""
        while self._left:
            number = self._left[0]
            size = self._sizes.get(number, self.windows.bytes_each)
            if number not in self._held:
                return number if self._sooner + size <= HELD_BYTES else None
            self._sooner += size
            self._left.popleft()
        return None

    def _read_ahead(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._asked)
            with self._reading:
                with self._changed:
                    number = self._next()
                    if number is None:
                        self._thread = None
                        return
                try:
                    self._keep(number, self.contents(number), asked=False)
                except Exception:  # whoever asks for it meets the same
                    with self._changed:
                        self._expected, self._left, self._thread = {}, deque(), None
                    return

    def contents(self, number: int) -> Any:
        """Reads a window: the items in it."""
        start, rows = int(self.windows.starts[number]), int(self.windows.rows[number])
        items: list[Raw] = [EOFError("was not there when its window was read")] * rows
        for position, contents in self._read(np.arange(start, start + rows)):
            items[position - start] = contents
        return items

    def weight(self, items: Any) -> int:
        """Bytes of what `contents` gave."""
        return ROW_BYTES * len(items) + sum(
            len(one) if isinstance(one, bytes) else getattr(one, "nbytes", 0) for one in items
        )

    def _keep(self, number: int, items: Any, asked: bool) -> None:
        """Holds a window; one that nobody asks for yet only where there is room beside those needed sooner."""
        needed = self.weight(items)
        with self._changed:
            self._sizes[number] = needed
            for drop in self._droppable(number, asked):
                if self.bytes + needed <= HELD_BYTES:
                    break
                del self._held[drop]
                self.bytes -= self._sizes[drop]
            if asked or self.bytes + needed <= HELD_BYTES:
                self._held[number] = items
                self.bytes += needed
                self.most = max(self.most, self.bytes)

    def _droppable(self, number: int, asked: bool) -> Iterator[int]:
        """What can make room for a window: what was asked for longest ago and is not expected, then what is needed last."""
        yield from [n for n in self._held if n not in self._expected]
        place = -1 if asked else self._expected.get(number, len(self._expected))
        yield from [n for n, at in reversed(self._expected.items()) if at > place and n in self._held]
