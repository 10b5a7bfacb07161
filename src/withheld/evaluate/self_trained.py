"""The rows of a verdict that are trained on their own guesses: on the learned features, on a floor's, and on both together.

Never an item that is tested: those of the seed's own test items are left out, whatever they could tell without a label.
Shapes: U unlabelled items, D features.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from withheld.data.few import FewLabels
from withheld.evaluate.compare import AIDED, PRETRAINED, Row
from withheld.evaluate.features import features
from withheld.evaluate.judged import JudgedClips
from withheld.evaluate.measure import Array, Measurement, Table
from withheld.evaluate.self_training import WORDS, SelfTraining, even
from withheld.evaluate.sentence import SELF_TRAINED
from withheld.evaluate.text_floors import TFIDF, tfidf_probabilities
from withheld.wording import per_class, plural

MOST, SHARE, SECONDS_AN_ITEM = 20_000, 0.05, 5e-4
"""Unlabelled items at most, each row's share of the time, and what an unlabelled item costs one fit on one core."""
MOST_SHARE = 0.2
"""Of the time that a row may take in the end: where there are hundreds of classes, every fit takes longer than it should."""
Cell = Callable[[FewLabels], Array]


@dataclass
class Seen:
    """Features of what may be learned from: `more` (U, D) of no draw's items, decoded as `items`, `table` of all draws' items."""

    more: Array
    table: Table
    items: Any

    def own(self) -> NDArray[np.int64]:
        """Positions of the items of all draws."""
        return np.array(sorted(self.table.row_of), np.int64)

    def beside(self, draw: FewLabels, own: NDArray[np.int64], most: int | None = None) -> Array:
        """Features of the unlabelled items of a cell, a seeded sample: neither those it is tested on nor those it has labels of.

        Args:
            own: positions of the items of draws that may be among them.
            most: how many.
        """
        free = own[~np.isin(own, np.concatenate([draw.train, draw.test]))]
        found = np.concatenate([self.more, self.table.at(free)]) if len(free) else self.more
        if most is None or len(found) <= most:
            return found
        return found[np.sort(np.random.default_rng([draw.seed, 0x5F]).permutation(len(found))[:most])]


@dataclass
class Kind:
    """One kind of features for every seed, and, where labels alone tell most from others, these: rows of items by position."""

    of: Callable[[int], Seen]
    plain: Callable[[int], Table] | None = None


def measure_self_training(m: Measurement, seen: Seen) -> None:
    """On the learned features; of images and texts also on the strongest kind of floor, and on both, side by side."""
    if late(m, SELF_TRAINED):
        return
    m.say("self-training")
    own = seen.own()
    learned = Kind(lambda seed: seen)
    _measure(m, Row(SELF_TRAINED, PRETRAINED), [learned], own)
    name = TFIDF if m.words is not None else next(reversed(m.floors), "")
    if not name or isinstance(m.judged, JudgedClips) or late(m, f"{SELF_TRAINED} on {name}"):
        return
    floor = _topics(m, seen) if m.words is not None else _floor(m, name, seen)
    _measure(m, Row(f"{SELF_TRAINED} on {name}", AIDED), [floor], own)
    if not late(m, f"{SELF_TRAINED} with {name}"):
        _measure(m, Row(f"{SELF_TRAINED} with {name}", PRETRAINED), [floor, learned], own)


def late(m: Measurement, name: str) -> bool:
    """Whether the time is over before this row is begun; it is then left out, and said."""
    if m.elapsed <= m.budget:
        return False
    m.left_out.append(f'"{name}" for time')
    return True


def _floor(m: Measurement, name: str, seen: Seen) -> Kind:
    """Classical features of images."""
    function, table = m.floors[name]
    more = np.zeros((0, table.values.shape[1]), np.float32)
    if seen.items is not None:
        m.say(f"self-training: {name} of unlabelled items")
        more = features(function, seen.items, listen=m.listen)
    found = Seen(more, table, seen.items)
    return Kind(lambda seed: found)


def _topics(m: Measurement, seen: Seen) -> Kind:
    """Topics of texts, among which neighbors are looked for, and their words, which tell most from labels alone."""
    m.say("self-training: topics of the texts")
    count = [] if seen.items is None else [str(text) for text in seen.items]
    more = m.words.counter.transform(count) if count else None
    learned: dict[int, Seen] = {}

    def of(seed: int) -> Seen:
        words = m.words.of(seed)[0]
        if id(words) not in learned:
            known = m.words.topics(seed)
            rest = words.topics(words.weighted(more)) if more is not None else known.values[:0]
            learned[id(words)] = Seen(rest, known, seen.items)
        return learned[id(words)]

    return Kind(of, lambda seed: m.words.of(seed)[1])


def _measure(m: Measurement, row: Row, kinds: Sequence[Kind], own: NDArray[np.int64]) -> None:
    """One row, on as many unlabelled items as its share of the time is enough for, the same ones for every row."""
    ways = Counter[str]()
    fits = len(m.labelled.counts) * len(m.labelled.seeds)
    most = int(min(MOST, SHARE * m.budget / fits / SECONDS_AN_ITEM))
    plain = next((kind.plain for kind in kinds if kind.plain is not None), None)

    def cell(draw: FewLabels) -> Array:
        seen = [kind.of(draw.seed) for kind in kinds]
        parts = [(one.table.at(draw.train), one.beside(draw, own, most), one.table.at(draw.test)) for one in seen]
        learn, rest, tested = (
            np.concatenate(part, axis=1) for part in zip(*(even(*part) for part in parts), strict=True)
        )
        words = None if plain is None else plain(draw.seed)
        found = SelfTraining(m.classes, draw.seed, plain=None if words is None else tfidf_probabilities)
        found.fit(learn, m.labelled.labels[draw.train], rest, None if words is None else words.at(draw.train))
        ways[found.way] += 1
        told = ", ".join(f"{WORDS[way]} ({count} of {ways.total()})" for way, count in ways.most_common())
        row.note = f"{plural(len(rest), 'unlabelled item')}; {told}"
        return found.probabilities(tested, None if words is None else words.at(draw.test))

    measure_cells(m, row, m.labelled.seeds, cell, MOST_SHARE)


def measure_cells(m: Measurement, row: Row, seeds: list[int], cell: Cell, share: float | None = None) -> None:
    """Measures a row at every label count with these seeds.

    Args:
        share: of the time; label counts whose first seed tells that the row would take more are left out, and it is said.
    """
    counts, started, each = m.labelled.counts, time.monotonic(), 0.0
    most = math.inf if share is None else share * m.budget

    def leave_out(at: int) -> None:
        row.right.pop(counts[at], None)
        m.left_out.append(f'"{row.method}" at {per_class(counts[at:])}, for time')
        if at:
            m.rows.append(row)

    for at, count in enumerate(counts):
        begun = time.monotonic()
        spent = begun - started
        if at and spent + len(seeds) * each > most:  # more labels take no less than fewer did
            leave_out(at)
            return
        for number, seed in enumerate(seeds, 1):
            draw: FewLabels = m.labelled.draws[count, seed]
            found = cell(draw)
            each = (time.monotonic() - begun) / number
            if spent + len(seeds) * each > most:
                leave_out(at)
                return
            m.score(row, count, seed, found, draw.test)
        row.budget[count] = {"seconds": round((time.monotonic() - begun) / len(seeds), 3)}
        m.done(row, count)
    m.rows.append(row)
