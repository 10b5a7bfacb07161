"""The labelled items of a verdict: which are needed, drawn once for all rows, decoded once for each size.

Every row learns from the same items and is tested on the same items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from withheld.data.classes import doubtful_classes
from withheld.data.duplicates import near_duplicates
from withheld.data.few import FewLabels, affordable, few_label_splits
from withheld.data.source import Source, open_source
from withheld.errors import InputError
from withheld.types import UNKNOWN_LABEL
from withheld.wording import per_class, plural

MOST_TESTED = 10_000
COMMON = 2000
FEW_TESTED = 300
VERY_FEW = 20
"""Items that every draw is tested on, below which it is said."""
UNEVEN = 0.4
"""Share of tested items of one class from which it is said."""


@dataclass
class Labelled:
    """Labelled data with its draws.

    Attributes:
        source: the items the draws need, in order; positions below count in it.
        labels: (N,) of every item of the source.
        classes: their names.
        counts: labels per class that the data can give.
        seeds: of the draws.
        draws: by (labels per class, seed).
        common: by seed, the tested items that every row is tested on, a subset of `draws[..., seed].test`.
        test_share: see `withheld.data.few.interval`.
        notes: what there is to know.
        more: items that no draw needs and nothing is tested on, without labels; None where there are none.
        shown: (N,) whether a run on the same data learned from an item, without its label.
    """

    source: Source
    labels: NDArray[np.int64]
    classes: list[str]
    counts: list[int]
    seeds: list[int]
    draws: dict[tuple[int, int], FewLabels]
    common: dict[int, NDArray[np.int64]]
    test_share: float | None
    notes: list[str]
    more: Source | None
    shown: NDArray[np.bool_]

    @property
    def largest(self) -> int:
        """The largest number of labels per class."""
        return max(self.counts)

    def learned(self, seed: int) -> NDArray[np.int64]:
        """All items a seed learns from: fewer labels are among more."""
        return self.draws[self.largest, seed].train

    def tested(self, seed: int) -> NDArray[np.int64]:
        """All items a seed is tested on."""
        return self.draws[self.largest, seed].test

    @property
    def known_classes(self) -> int:
        """How many classes any draw has items of: some have too few labels."""
        return len(np.unique(self.labels))

    def limited(self) -> Labelled:
        """The same, tested on the common items only."""
        draws = {key: replace(draw, test=self.common[key[1]]) for key, draw in self.draws.items()}
        return replace(self, draws=draws)

    def without(self, bad: NDArray[np.int64]) -> Labelled:
        """The same without some items, which could not be read."""
        keep = lambda at: at[~np.isin(at, bad)]  # noqa: E731
        draws = {key: replace(d, train=keep(d.train), test=keep(d.test)) for key, d in self.draws.items()}
        return replace(self, draws=draws, common={seed: keep(at) for seed, at in self.common.items()})


def labels_of(source: Source) -> NDArray[np.int64]:
    """The labels of its items, (N,).

    Raises:
        InputError: where there are none.
    """
    if source.labels is None or not (source.labels != UNKNOWN_LABEL).any():
        raise InputError(
            f"{source.location} has no labels: put the files into a folder per class, or name a csv (file,label) "
            "with --labels"
        )
    return source.labels


def open_labelled(
    data: Any, labels: Any, labels_per_class: Sequence[int], seeds: int, opened: Callable[..., Source] = open_source
) -> Labelled:
    """Opens labelled data and draws what every seed learns from and is tested on.

    Raises:
        InputError: where there are no labels, or too few for any count.
    """
    source = opened(data, labels=labels)
    known, parts = labels_of(source), source.parts
    kept, notes = affordable(known, parts, sorted(set(labels_per_class)), source.classes)
    counts = [int(count) for count in kept if count is not None]
    if not counts:
        raise InputError(f"{source.location}: no label count is left. {'. '.join(notes)}. Choose smaller ones")
    numbers = list(range(seeds))
    draws = {
        (count, draw.seed): draw
        for count in counts
        for draw in few_label_splits(known, parts, count, numbers, MOST_TESTED)
    }
    needed = np.unique(np.concatenate([at for draw in draws.values() for at in (draw.train, draw.test)]))
    draws = {key: _moved(draw, needed) for key, draw in draws.items()}
    first = draws[counts[0], 0]
    common = {seed: _common(draws[counts[0], seed].test, 0 if first.test_share is None else seed) for seed in numbers}
    notes += source.notes + doubtful_classes(source.classes) + _few_tested(first)
    if seeds == 2:
        notes.append("two seeds tell little: their 95 % intervals are five times as wide as those of five (--seeds 5)")
    notes += _mostly_one(known[needed][first.test], source.classes) + _same_draws(draws, counts)
    few = source.subset(needed) if len(needed) < len(source) else source
    return Labelled(
        few, known[needed], source.classes, counts, numbers, draws, common, first.test_share, notes,
        _more(source, needed), _train_part(source)[needed],
    )  # fmt: skip


def _train_part(source: Source) -> NDArray[np.bool_]:
    """(N,) what pretraining learns from: the train part, or everything where there is none."""
    if source.parts is None or not (source.parts == "train").any():
        return np.ones(len(source), bool)
    return np.asarray(source.parts == "train")


def _more(source: Source, needed: NDArray[np.int64]) -> Source | None:
    """The other items that are not there to be tested on."""
    free = np.ones(len(source), bool) if source.parts is None else source.parts == "train"
    free[needed] = False
    at = np.flatnonzero(free)
    if not len(at):
        return None
    return source.subset(at)


def equal_texts(learn: NDArray[Any], test: NDArray[Any]) -> NDArray[np.int64]:
    """(P, 2) places of texts that are equal but for case and white space."""
    plain = lambda text: " ".join(str(text).lower().split())  # noqa: E731
    known = {plain(text): i for i, text in enumerate(learn)}
    found = [(known[plain(text)], j) for j, text in enumerate(test) if plain(text) in known]
    return np.array(found, np.int64).reshape(-1, 2)


def duplicates_note(labelled: Labelled, images: Any, row_of: dict[int, int]) -> list[str]:
    """Says how many tested items nearly equal an item that was learned from."""
    seed = labelled.seeds[0]
    learn, test = labelled.learned(seed), labelled.tested(seed)
    rows = [np.array([row_of[int(at)] for at in some if int(at) in row_of], dtype=np.int64) for some in (learn, test)]
    if not len(rows[0]) or not len(rows[1]):
        return []
    if images.dtype == object and not isinstance(images[0], str):
        return []  # clips
    first_items, second_items = np.asarray(images[rows[0]]), np.asarray(images[rows[1]])
    pairs = (
        equal_texts(first_items, second_items) if images.dtype == object else near_duplicates(first_items, second_items)
    )
    twice = len(np.unique(pairs[:, 1])) if len(pairs) else 0
    if not twice:
        return []
    first = pairs[0]
    names = [labelled.source.names[int(some[at])] for some, at in ((learn, first[0]), (test, first[1]))]
    return [
        f"{twice} of {plural(len(test), 'tested item')} nearly equal{'s' * (twice == 1)} a labelled one (such as {names[0]!r} "
        f"and {names[1]!r}): "
        "accuracies are too high by up to that share, for every row alike"
    ]


def seen_note(labelled: Labelled, location: str | None) -> list[str]:
    """Says how many tested items were among those that a run has learned from.

    Args:
        location: of the data that it was pretrained on; None where that is not known.
    """
    if location is None or not _same_place(location, labelled.source.location):
        return []
    test = labelled.tested(labelled.seeds[0])
    seen = int(labelled.shown[test].sum())
    if not seen:
        return []
    return [
        f"pretraining saw {seen} of {plural(len(test), 'tested item')}, without their labels; training from scratch and classical "
        "features did not. For items that it never saw, set a test part aside before pretraining (folders train and test)"
    ]


def _same_place(one: str, other: str) -> bool:
    if one == other:
        return " in memory" not in one  # an array like any other
    paths = [Path(place).expanduser() for place in (one, other)]
    return all(path.exists() for path in paths) and paths[0].resolve() == paths[1].resolve()


def _common(test: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    if len(test) <= COMMON:
        return test
    return np.sort(np.random.default_rng([seed, 0xC0]).choice(test, COMMON, replace=False))


def _moved(draw: FewLabels, needed: NDArray[np.int64]) -> FewLabels:
    return replace(draw, train=np.searchsorted(needed, draw.train), test=np.searchsorted(needed, draw.test))


def _mostly_one(tested_M: NDArray[np.int64], classes: Sequence[str]) -> list[str]:
    """Says so where always naming one class would have a high accuracy; labels are drawn alike from all classes."""
    count = np.bincount(tested_M, minlength=len(classes))
    share = count.max() / max(1, len(tested_M))
    if share < UNEVEN or share < 1.5 / len(np.unique(tested_M)):
        return []
    name = classes[int(count.argmax())]
    return [f"{100 * share:.0f} % of the tested items are {name!r}: whoever always says so has that accuracy"]


def _same_draws(draws: dict[tuple[int, int], FewLabels], counts: Sequence[int]) -> list[str]:
    """Says so where seeds differ neither in what they learn from nor in what they are tested on."""
    same = []
    for count in counts:
        first, *others = [draw for (of, _), draw in draws.items() if of == count]
        if others and first.test_share is None and all(np.array_equal(first.train, draw.train) for draw in others):
            same.append(count)
    if not same:
        return []
    return [
        f"at {per_class(same)} every seed learns from the same items, all there are: intervals there hold the "
        "choice of tested items and the starts of networks, and no choice of labels"
    ]


def _few_tested(draw: FewLabels) -> list[str]:
    if draw.test_share is not None and 0 < len(draw.test) < VERY_FEW:
        return [
            f"every draw is tested on {plural(len(draw.test), 'item')} only: one more or less told right moves its accuracy by "
            f"{100 / len(draw.test):.0f} points. More labels narrow the intervals; those to measure on are best chosen by chance "
            "(withheld suggest RUN --data DATA --how random)"
        ]
    if draw.test_share is not None or len(draw.test) >= FEW_TESTED:
        return []
    half = 100 / np.sqrt(len(draw.test))
    return [
        f"the test part has {plural(len(draw.test), 'item')} only: which items these are moves any accuracy by up to "
        f"{half:.0f} points, which the intervals hold"
    ]
