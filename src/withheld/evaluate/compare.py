"""Comparing what was measured: rows of accuracies, their paired differences, and what these are worth in labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from withheld.data.few import interval

PRETRAINED, SCRATCH, RANDOM, FLOOR, PUBLIC = "pretrained", "scratch", "random", "floor", "public"
"""What a row is."""
AIDED = "aided"
"""A floor that learns from unlabelled items too: set against those of our rows that do, and against no others."""
NORMAL = 1.959964
"""Half of the 95 % interval of a normal distribution, in standard deviations."""

Positions = NDArray[np.int64]
Values = NDArray[np.float64]
Cell = tuple[Positions, Values]


@dataclass
class Row:
    """One way of using the labels, measured.

    Attributes:
        method: its name in the table.
        kind: PRETRAINED, SCRATCH, RANDOM, FLOOR, PUBLIC or AIDED.
        right: labels per class -> seed -> (positions of the tested items, 1 where the guess was right).
        budget: labels per class -> what it cost.
        note: what sets it apart.
    """

    method: str
    kind: str
    right: dict[int, dict[int, Cell]] = field(default_factory=dict)
    budget: dict[int, dict[str, float]] = field(default_factory=dict)
    note: str = ""

    def add(self, labels: int, seed: int, right: ArrayLike, positions: ArrayLike | None = None) -> None:
        """Records which tested items one cell got right; without positions they count from 0."""
        values = np.asarray(right, np.float64)
        at = np.arange(len(values)) if positions is None else np.asarray(positions, np.int64)
        self.right.setdefault(labels, {})[seed] = (at, values)

    def values(self, labels: int) -> dict[int, float]:
        """Accuracy by seed."""
        return {seed: float(right.mean()) for seed, (_, right) in self.right[labels].items()}

    def mean(self, labels: int) -> float:
        """Mean accuracy over the seeds."""
        return float(np.mean(list(self.values(labels).values())))

    def half(self, labels: int, test_share: float | None = None) -> float:
        """Half the 95 % interval of the mean accuracy; see `half_width`."""
        return half_width(list(self.right[labels].values()), test_share)

    def keep(self, seeds: Sequence[int]) -> None:
        """Forgets the other seeds."""
        self.right = {count: {s: cell for s, cell in of.items() if s in seeds} for count, of in self.right.items()}


@dataclass(frozen=True)
class Difference:
    """Accuracy of one row minus another's on the same items and seeds, as shares of 1.

    Attributes:
        mean: over seeds. low, high: its 95 % interval, nan for one seed. first, second: the two means. seeds: how many.
    """

    mean: float
    low: float
    high: float
    first: float
    second: float
    seeds: int

    @property
    def better(self) -> bool:
        """The first row is better: the whole interval lies above zero."""
        return self.low > 0

    @property
    def worse(self) -> bool:
        """The first row is worse: the whole interval lies below zero."""
        return self.high < 0


def difference(first: Row, second: Row, labels: int, test_share: float | None = None) -> Difference | None:
    """The paired difference over the seeds both rows have; None where they share none.

    Args:
        test_share: see `half_width`.
    """
    a, b = first.right.get(labels, {}), second.right.get(labels, {})
    seeds = sorted(set(a) & set(b))
    if not seeds:
        return None
    cells = [_on_common_items(a[seed], b[seed]) for seed in seeds]
    both = np.array([(x.mean(), y.mean()) for _, x, y in cells])
    mean = float(np.mean(both[:, 0] - both[:, 1]))
    half = half_width([(at, x - y) for at, x, y in cells], test_share)
    return Difference(mean, mean - half, mean + half, float(both[:, 0].mean()), float(both[:, 1].mean()), len(seeds))


def _on_common_items(a: Cell, b: Cell) -> tuple[Positions, Values, Values]:
    """The items that both cells were tested on, and what each got right."""
    at, in_a, in_b = np.intersect1d(a[0], b[0], assume_unique=True, return_indices=True)
    if not len(at):
        raise ValueError("two rows were tested on no common item, so they cannot be compared")
    return at, a[1][in_a], b[1][in_b]


def half_width(cells: Sequence[Cell], test_share: float | None = None) -> float:
    """Half the 95 % interval of a mean over seeds and tested items.

    Where every seed tests the same items, these are a sample as the labels are: the interval is as wide as both make it, in
    quadrature. Else `interval` corrects for the overlap of the tests, which covers both; but never less than the tested items by
    themselves make it: two seeds may happen to agree. Where all items agree they say how rare others are (`unanimous`).

    Args:
        cells: one a seed: the positions of the tested items, and a value of each, a share or the difference of two.
        test_share: see `withheld.data.few.interval`.

    Returns:
        In units of the values; nan with fewer than two seeds.
    """
    half = interval([float(values.mean()) for _, values in cells], test_share)
    at = np.concatenate([positions for positions, _ in cells])
    items, which = np.unique(at, return_inverse=True)
    if len(items) < 2:  # one item is a score of all at once, such as a mean average precision
        return half
    each = np.bincount(which, np.concatenate([values for _, values in cells])) / np.bincount(which)
    sampled = NORMAL * float(each.std(ddof=1)) / math.sqrt(len(items)) or unanimous(len(items))
    return math.hypot(half, sampled) if test_share is None else max(half, sampled)


def unanimous(items: int) -> float:
    """How far a share may lie from the 0 or 1 that it is among so many items, or a difference of two from the 0 of two rows
    that told none apart: z^2 / (n + z^2), 95 %.

    Source: for a share the score interval (Wilson 1927), for a paired difference that of Tango (1998); both end here.
    """
    return NORMAL**2 / (items + NORMAL**2)


@dataclass(frozen=True)
class Worth:
    """How many times the labels a baseline needs for the same accuracy; more where `beyond` its last count."""

    times: float
    beyond: bool


def worth_in_labels(accuracy: float, labels: int, baseline: Row) -> Worth | None:
    """Reads the baseline's curve (log-linear between its label counts, never falling) at an accuracy.

    Returns:
        None where the baseline needs no more than the same labels, or its curve ends there.
    """
    counts = sorted(count for count in baseline.right if count >= labels)
    if not counts or counts[0] != labels:
        return None
    curve = np.maximum.accumulate([baseline.mean(count) for count in counts])
    if accuracy <= curve[0]:
        return None
    if accuracy > curve[-1]:
        return Worth(counts[-1] / labels, True) if len(counts) > 1 else None
    at = int(np.searchsorted(curve, accuracy))
    rise = (accuracy - curve[at - 1]) / (curve[at] - curve[at - 1])
    count = math.exp(math.log(counts[at - 1]) + rise * (math.log(counts[at]) - math.log(counts[at - 1])))
    return Worth(count / labels, False)
