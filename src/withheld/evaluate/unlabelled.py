"""The unlabelled items of a verdict: what rows that use them may see, and never an item that is tested.

Shapes: U unlabelled items, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from withheld.data.few import FewLabels, few_label_splits
from withheld.data.prepared import prepare
from withheld.data.scale import Scale
from withheld.data.source import Source, open_source
from withheld.evaluate.features import Listen, silent
from withheld.evaluate.labelled import MOST_TESTED, Labelled

HELD = ("test", "val")


@dataclass
class Unlabelled:
    """Items without their labels.

    Attributes:
        images: (U, C, H, W) uint8, as the encoder takes them.
        positions: (U,) of every item, in the whole data.
        hidden: by (labels per class, seed), positions that the cell may not take as unlabelled: tested or labelled.
    """

    images: Any
    positions: NDArray[np.int64]
    hidden: dict[tuple[int, int], NDArray[np.int64]]

    def allowed(self, count: int, seed: int) -> NDArray[np.int64]:
        """Rows of `images` that a cell may learn from."""
        return np.flatnonzero(~np.isin(self.positions, self.hidden[count, seed]))


def open_unlabelled(
    data: Any, labels: Any, labelled: Labelled, size: int, channels: int, most: int, scale: Scale | None = None,
    listen: Listen = silent,
) -> Unlabelled:  # fmt: skip
    """A seeded sample of what is not tested: the data without its test and val parts, or, where every seed tests other
    items, all of it, from which every seed leaves out its own.

    Args:
        labelled: the draws of the same data and labels.
        most: items.
    """
    source = open_source(data, labels=labels)
    draws = redrawn(source, labelled)
    free = np.arange(len(source))
    if next(iter(draws.values())).test_share is None and source.parts is not None:
        free = np.flatnonzero(~np.isin(source.parts, HELD))
    if len(free) > most:
        free = np.sort(np.random.default_rng([0, 0x0B]).choice(free, most, replace=False))
    tell = lambda done, total: listen({"kind": "prepare", "done": done, "total": total})  # noqa: E731
    prepared = prepare(source.subset(free), size, channels, scale=scale, progress=tell)
    hidden = {key: np.concatenate([draw.train, draw.test]) for key, draw in draws.items()}
    return Unlabelled(prepared.images, free[prepared.kept], hidden)


def redrawn(source: Source, labelled: Labelled) -> dict[tuple[int, int], FewLabels]:
    """The draws of a verdict, in positions of the whole data."""
    assert source.labels is not None  # noqa: S101 - the draws were made from them
    return {
        (count, draw.seed): draw
        for count in labelled.counts
        for draw in few_label_splits(source.labels, source.parts, count, labelled.seeds, MOST_TESTED)
    }
