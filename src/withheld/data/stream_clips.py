"""Frames of clips that are too large for the prepared cache, decoded whenever they are asked for.

Shapes: F frames of all clips back to back, S side in pixels.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from withheld.data.clip import decode_clip
from withheld.data.source import Source
from withheld.errors import InputError

HELD_BYTES = 512 << 20
"""Decoded clips that are kept in memory, those asked for last."""


class StreamedFrames:
    """Looks like the array (F, 3, S, S) uint8 of all frames, and decodes the clips that are asked for.

    Args:
        source: read at random; gzipped archives cannot be.
        kept: (N,) positions of the clips in it. starts: (N + 1,) where each begins among the frames.
        size: S. bars: see `decode_clip`.

    Raises:
        InputError: for a source that cannot be read at random.
    """

    def __init__(
        self, source: Source, kept: NDArray[np.int64], starts: NDArray[np.int64], size: int, bars: bool
    ) -> None:
        if source.store.sequential:
            raise InputError(
                f"{source.location} is too large for the prepared cache and cannot be read at random; unpack it into a "
                "folder, make it a plain tar or zip, choose a smaller --size, or set WITHHELD_CACHE to a larger disk"
            )
        self.source, self.kept, self.starts, self.size, self.bars = source, kept, starts, size, bars
        self.shape = (int(starts[-1]), 3, size, size)
        self.dtype, self.ndim = np.dtype(np.uint8), 4
        self._held: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        index = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows)
        flat = index.ravel()
        owner = np.searchsorted(self.starts, flat, side="right") - 1
        found = np.empty((len(flat), *self.shape[1:]), np.uint8)
        for clip in np.unique(owner):
            here = owner == clip
            found[here] = self._clip(int(clip))[flat[here] - self.starts[clip]]
        return found.reshape(*index.shape, *self.shape[1:])

    def _clip(self, number: int) -> NDArray[np.uint8]:
        """All frames of a clip.

        Raises:
            InputError: where the file is no longer what it was.
        """
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        position = int(self.kept[number])
        raw = next(self.source.raw(np.array([position])))[1]
        try:
            frames = decode_clip(raw, self.size, self.bars).frames
        except Exception as error:  # damaged files raise anything
            raise InputError(f"{self.source.names[position]}: could be read before and now cannot: {error}") from None
        if len(frames) != self.starts[number + 1] - self.starts[number]:
            raise InputError(f"{self.source.names[position]}: has other frames than before; start again")
        self._held[number] = frames
        while len(self._held) > 1 and sum(each.nbytes for each in self._held.values()) > HELD_BYTES:
            self._held.popitem(last=False)
        return frames
