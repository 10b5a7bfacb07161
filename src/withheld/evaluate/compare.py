"""Comparing what was measured: rows of accuracies, their paired differences, and what these are worth in labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from withheld.data.few import interval

PRETRAINED, SCRATCH, RANDOM, FLOOR, PUBLIC = "pretrained", "scratch", "random", "floor", "public"
"""What a row is."""


@dataclass
class Row:
    """One way of using the labels, measured.

    Attributes:
        method: its name in the table.
        kind: PRETRAINED, SCRATCH, RANDOM, FLOOR or PUBLIC.
        values: labels per class -> seed -> accuracy on all test items.
        common: the same on the test items that every row has seen, which differences are taken on.
        budget: labels per class -> what it cost.
    """

    method: str
    kind: str
    values: dict[int, dict[int, float]] = field(default_factory=dict)
    common: dict[int, dict[int, float]] = field(default_factory=dict)
    budget: dict[int, dict[str, float]] = field(default_factory=dict)
    note: str = ""

    def add(self, labels: int, seed: int, value: float, common: float | None = None) -> None:
        """Records one accuracy."""
        self.values.setdefault(labels, {})[seed] = value
        self.common.setdefault(labels, {})[seed] = value if common is None else common

    def mean(self, labels: int, seeds: Sequence[int] | None = None) -> float:
        """Mean accuracy on the common test items, over the given seeds or all."""
        of = self.common[labels]
        return float(np.mean([of[seed] for seed in (of if seeds is None else seeds)]))


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
        test_share: see `withheld.data.few.interval`.
    """
    a, b = first.common.get(labels, {}), second.common.get(labels, {})
    seeds = sorted(set(a) & set(b))
    if not seeds:
        return None
    gaps = [a[seed] - b[seed] for seed in seeds]
    mean, half = float(np.mean(gaps)), interval(gaps, test_share)
    return Difference(mean, mean - half, mean + half, first.mean(labels, seeds), second.mean(labels, seeds), len(seeds))


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
    counts = sorted(count for count in baseline.common if count >= labels)
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
