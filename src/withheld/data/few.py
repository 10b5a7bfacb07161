"""Few labels: which items are trained on and which are tested, and how wide an interval over seeds must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from withheld.errors import InputError
from withheld.types import UNKNOWN_LABEL
from withheld.wording import per_class, plural

TEST_SHARE = 0.3
TESTED = ("test", "val")
"""Parts that are tested and not learned from, the first that has labels."""


@dataclass(frozen=True)
class FewLabels:
    """One draw of labelled items.

    Attributes:
        train: (n,) positions to learn from, as many of each class as asked where the class has them.
        test: (m,) positions to be tested on; never in `train`.
        seed: of the draw.
        test_share: tested items over items that labels are drawn from, where every seed tests others; None where
            the test set is fixed. What `interval` wants.
    """

    train: np.ndarray
    test: np.ndarray
    seed: int = 0
    test_share: float | None = None


@dataclass(frozen=True)
class _Pool:
    """Positions by class: what labels may be drawn from and, where fixed, what is tested."""

    train: dict[int, np.ndarray]
    test: np.ndarray | None


def few_label_splits(
    labels: np.ndarray,
    parts: np.ndarray | None,
    labels_per_class: int | None,
    seeds: int | Sequence[int],
    test_limit: int | None = None,
) -> list[FewLabels]:
    """Draws labelled items once a seed; the same seed tests the same items whatever `labels_per_class` is, and fewer
    labels are always among more.

    Where the data has a test part (or val and no test) that is tested, and labels are drawn from its train part (or all
    that is in no part). Otherwise every seed tests another stratified 30 %, at least one of each class, and draws from
    the rest. Classes with a single item, and test items of classes with nothing to train on, are left out.

    Args:
        labels: (N,) int64, -100 where unknown; these are never used.
        parts: (N,) "train", "test", "val" or "", or None.
        labels_per_class: how many labels each class gives (a smaller class gives all it has); None takes all.
        seeds: how many, 0 to seeds - 1, or which.
        test_limit: at most so many items are tested, a seeded subset.

    Raises:
        InputError: where fewer than two classes can be trained and tested.
    """
    pool = _pool(np.asarray(labels), parts)
    if labels_per_class is not None and labels_per_class < 1:
        raise InputError(f"{labels_per_class} labels per class: give at least 1, or None for all")
    return [_draw(pool, labels_per_class, seed, test_limit) for seed in _seeds(seeds)]


def affordable(
    labels: np.ndarray,
    parts: np.ndarray | None,
    labels_per_class: Sequence[int | None],
    classes: Sequence[str] = (),
) -> tuple[list[int | None], list[str]]:
    """Which label counts the data can give, and sentences on what was dropped or is uneven.

    A count is dropped where fewer than half of the classes can give it.

    Raises:
        InputError: as `few_label_splits`.
    """
    labels = np.asarray(labels)
    pool = _pool(labels, parts)
    counts = {c: len(p) if pool.test is not None else len(p) - _tested(len(p)) for c, p in pool.train.items()}
    sizes = np.array(sorted(counts.values()))
    kept: list[int | None] = []
    sentences = _left_out_classes(labels, pool, classes)
    named = [] if parts is None or pool.test is not None else _tested_parts(labels, parts)
    if named:
        sentences.append(
            f"the {named[0]} part is not tested as such: what else there is has labels of fewer than two of its classes. "
            "Every seed tests another 30 % of all labelled items"
        )
    for n in labels_per_class:
        giving = int((sizes >= n).sum()) if n is not None else len(sizes)
        if n is None or (n >= 1 and 2 * giving >= len(sizes)):
            kept.append(n)
        else:
            sentences.append(
                f"{per_class([n])} {'was' if n == 1 else 'were'} left out: only {giving} of {len(sizes)} classes "
                f"{'has' if giving == 1 else 'have'} so many to train on "
                f"(the median class has {int(np.median(sizes))})"
            )
    largest = max((n for n in kept if n is not None), default=0)
    small = sorted((count, c) for c, count in counts.items() if count < largest)
    if small:
        told = ", ".join(f"{_name(c, classes)} ({count})" for count, c in small[:5])
        more = f" and {len(small) - 5} more" if len(small) > 5 else ""
        sentences.append(
            f"classes with fewer than {plural(largest, 'label')} to train on give all they have: {told}{more}"
        )
    return kept, sentences


def interval(values: Sequence[float], test_share: float | None = None) -> float:
    """Half the width of a 95 % interval of the mean over seeds, by Student's t.

    Source: where every seed tests other items, the variance is corrected for their overlap (Nadeau and Bengio 2003).

    Args:
        values: one a seed.
        test_share: tested over training items where every seed tests others; None where the test set is fixed.

    Returns:
        Half the width, in units of the values; nan with fewer than two.
    """
    from scipy.special import stdtrit

    numbers = np.asarray(values, np.float64)
    count = len(numbers)
    if count < 2:
        return float("nan")
    variance = numbers.var(ddof=1) * (1 / count + (test_share or 0.0))
    return float(stdtrit(count - 1, 0.975) * np.sqrt(variance))


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    return list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]


def _by_class(labels: np.ndarray, chosen: np.ndarray) -> dict[int, np.ndarray]:
    known = np.flatnonzero(chosen & (labels != UNKNOWN_LABEL))
    if not len(known):
        return {}
    order = known[np.argsort(labels[known], kind="stable")]
    classes, starts = np.unique(labels[order], return_index=True)
    return {int(c): p for c, p in zip(classes, np.split(order, starts[1:]), strict=True)}


def _pool(labels: np.ndarray, parts: np.ndarray | None) -> _Pool:
    parts = np.full(len(labels), "") if parts is None else np.asarray(parts)
    for name in _tested_parts(labels, parts):
        test = np.flatnonzero((parts == name) & (labels != UNKNOWN_LABEL))
        train = _by_class(labels, parts == "train") or _by_class(labels, parts == "")
        if train:
            test = test[np.isin(labels[test], list(train))]
            if len(train) >= 2 and len(test):
                return _Pool(train, test)
    pool = {c: p for c, p in _by_class(labels, np.ones(len(labels), bool)).items() if len(p) >= 2}
    if len(pool) < 2:
        have = "class has" if len(pool) == 1 else "classes have"
        raise InputError(
            f"{len(pool)} {have} two or more labelled images; at least two such classes are needed, one image to train on "
            "and one to test"
        )
    return _Pool(pool, None)


def _tested_parts(labels: np.ndarray, parts: np.ndarray) -> list[str]:
    """Which parts to be tested have labels."""
    return [name for name in TESTED if ((np.asarray(parts) == name) & (labels != UNKNOWN_LABEL)).any()]


def _tested(count: int) -> int:
    return max(1, int(count * TEST_SHARE))


def _draw(pool: _Pool, labels_per_class: int | None, seed: int, test_limit: int | None) -> FewLabels:
    generator = np.random.default_rng([seed, 0x5EED])
    train, test, available = [], [], 0
    for positions in pool.train.values():
        mixed = generator.permutation(positions)
        if pool.test is None:
            cut = _tested(len(mixed))
            test.append(mixed[:cut])
            mixed = mixed[cut:]
        available += len(mixed)
        train.append(mixed[:labels_per_class])
    tested = np.concatenate(test) if pool.test is None else pool.test
    share = len(tested) / available if pool.test is None else None
    if test_limit is not None and len(tested) > test_limit:
        # a fixed test set stays the same for every seed
        chooser = np.random.default_rng([seed if pool.test is None else 0, 0x7E57])
        tested = chooser.choice(tested, test_limit, replace=False)
    return FewLabels(np.sort(np.concatenate(train)), np.sort(tested), seed, share)


def _left_out_classes(labels: np.ndarray, pool: _Pool, classes: Sequence[str]) -> list[str]:
    missing = sorted({int(c) for c in np.unique(labels)} - {UNKNOWN_LABEL} - set(pool.train))
    if not missing:
        return []
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    told = ", ".join(_name(c, classes) for c in missing[:5]) + more
    reason = "a single labelled image" if pool.test is None else "no labelled image in the train part"
    return [f"classes with {reason} were left out: {told}"]


def _name(number: int, classes: Sequence[str]) -> str:
    return classes[number] if 0 <= number < len(classes) else str(number)
