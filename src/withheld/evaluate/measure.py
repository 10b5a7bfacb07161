"""Measuring the rows of a verdict, the cheap ones first, each cell on the same items as every other row's.

Shapes: N items, D features, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from withheld.encoder import Encoder
from withheld.evaluate.compare import PRETRAINED, RANDOM, Row
from withheld.evaluate.features import Listen, Rows, features
from withheld.evaluate.few_label import LinearProbe, nearest_neighbors
from withheld.evaluate.labelled import Labelled
from withheld.evaluate.sentence import NEIGHBORS, PROBE, RANDOM_ROW, headline
from withheld.wording import per_class

RANDOM_SHARE, FROZEN_SHARE = 0.12, 0.15
"""Shares of the time: for the features of untrained encoders, and for those of the pretrained one."""
Array = NDArray[np.floating]
Classify = Callable[[Array, NDArray[np.int64], Array, int], Array]


@dataclass
class Table:
    """Features (N, D) of some items, found by the items' positions."""

    values: Array
    row_of: dict[int, int]

    def at(self, positions: NDArray[np.int64]) -> Array:
        """The features of these positions."""
        return self.values[rows(self.row_of, positions)]


def rows(row_of: dict[int, int], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the items of these positions lie in an array."""
    return np.fromiter((row_of[int(at)] for at in positions), np.int64, len(positions))


@dataclass
class Measurement:
    """One evaluation in progress.

    Attributes:
        labelled: the data with its draws.
        judged: how items of this modality are handled (`Judged`).
        images: (N, C, H, W) uint8, as the encoder takes them, or (N,) texts. row_of: where each position lies in it.
        minutes: that everything may take. started: when it began.
        listen: is told what happens. done: is told every row whose cells at a label count are all measured.
        guesses: (probabilities (N, K), positions (N,)) of the first seed's test items at the most labels, by row.
        kept: the subject's features of all items that any draw needs. floors: what makes those of a floor, and them.
        words: of texts, their `WordsOfDraws`.
    """

    labelled: Labelled
    judged: Any
    images: Any
    row_of: dict[int, int]
    minutes: float
    started: float
    listen: Listen
    done: Callable[[Row, int], None]
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    guesses: dict[str, tuple[Array, NDArray[np.int64]]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    probes: dict[tuple[int, int], LinearProbe] = field(default_factory=dict)
    kept: Table | None = None
    floors: dict[str, tuple[Any, Table]] = field(default_factory=dict)
    words: Any = None

    @property
    def classes(self) -> int:
        """K."""
        return len(self.labelled.classes)

    @property
    def budget(self) -> float:
        """Seconds for everything."""
        return 60 * self.minutes

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.started

    def say(self, text: str) -> None:
        """Tells the user what is being done."""
        self.listen({"kind": "note", "text": text})

    def table(self, subject: Any, needed: NDArray[np.int64]) -> Table:
        """Features of the items at these positions."""
        where = rows(self.row_of, needed)
        values = features(subject, Rows(self.images, where), listen=self.listen)
        return Table(values, {int(at): row for row, at in enumerate(needed)})

    def frozen(
        self, row: Row, of: Callable[[int], Table], classify: Classify, labelled: Labelled | None = None,
        share: float | None = None,
    ) -> Row:  # fmt: skip
        """Measures a row that learns from features.

        Args:
            of: the features of the items of a seed.
            share: of the time; label counts above the headline's that would take more, as far as is measured, are left out.
        """
        labelled, started, each = labelled or self.labelled, time.monotonic(), 0.0
        spared = [] if share is None else [c for c in labelled.counts if c > headline(labelled.counts)]
        for count in labelled.counts:
            begun = time.monotonic()
            for number, seed in enumerate(labelled.seeds):
                # before the first seed by what one took at fewer labels, which is less
                each = (time.monotonic() - begun) / number if number else each
                if count in spared and begun - started + each * len(labelled.seeds) > (share or 0.0) * self.budget:
                    row.right.pop(count, None)
                    more = [c for c in labelled.counts if c >= count]
                    self.left_out.append(f'"{row.method}" at {per_class(more)}, for time')
                    self.rows.append(row)
                    return row
                draw, table = labelled.draws[count, seed], of(seed)
                found = classify(table.at(draw.train), labelled.labels[draw.train], table.at(draw.test), seed)
                self.score(row, count, seed, found, draw.test)
            each = (time.monotonic() - begun) / len(labelled.seeds)
            row.budget[count] = {"seconds": round(each, 3)}
            self.done(row, count)
        self.rows.append(row)
        return row

    def probe(self, x: Array, y: NDArray[np.int64], test: Array, seed: int) -> Array:
        """The linear probe, as `frozen` takes it."""
        return LinearProbe(self.classes, seed).fit(x, y).probabilities(test)

    def kept_probe(self, x: Array, y: NDArray[np.int64], test: Array, seed: int) -> Array:
        """The linear probe of the subject, kept because fine-tuning begins there."""
        probe = self.probes[len(y), seed] = LinearProbe(self.classes, seed).fit(x, y)
        return probe.probabilities(test)

    def neighbors(self, x: Array, y: NDArray[np.int64], test: Array, seed: int) -> Array:
        """Nearest neighbors, as `frozen` takes it."""
        return nearest_neighbors(x, y, test, self.classes)

    def score(self, row: Row, count: int, seed: int, probabilities: Array, test: NDArray[np.int64]) -> None:
        """Records a cell; the guesses at the most labels are kept for the report."""
        row.add(count, seed, probabilities.argmax(axis=1) == self.labelled.labels[test], test)
        if seed == self.labelled.seeds[0]:  # counts rise, so the last to be kept is at the most labels
            self.guesses[row.method] = (probabilities, test)

    def floor(self, row: Row, features_of: Any) -> None:
        """A classical floor: something with `transform`, then the linear probe."""
        table = self.table(features_of, everything(self.labelled))
        self.frozen(row, lambda seed: table, self.probe)
        self.floors[row.method] = features_of, table

    def pretrained(self, subject: Any) -> float:
        """The frozen rows of the subject; returns the seconds that the features of an item take."""
        self.say("features of the pretrained encoder")
        item = self._item(subject)
        if item * len(everything(self.labelled)) > FROZEN_SHARE * self.budget:
            self._shrink()
        needed = everything(self.labelled)
        begun = time.monotonic()
        table = self.table(subject, needed)
        item = (time.monotonic() - begun) / max(1, len(needed))
        self.frozen(Row(PROBE, PRETRAINED), lambda seed: table, self.kept_probe)
        self.frozen(Row(NEIGHBORS, PRETRAINED), lambda seed: table, self.neighbors)
        self.kept = table
        return item

    def _item(self, subject: Any) -> float:
        """Seconds that the features of an item take."""
        sample = np.array(self.images[: min(32, len(self.images))])
        features(subject, sample[:2])
        begun = time.monotonic()
        features(subject, sample)
        return (time.monotonic() - begun) / len(sample)

    def _shrink(self) -> None:
        """From now on, only the common items are tested."""
        before, self.labelled = self.labelled, self.labelled.limited()
        seed = before.seeds[0]
        many, few = len(before.tested(seed)), len(self.labelled.tested(seed))
        if few < many:
            self.left_out.append(f"{many - few} of {many} test items, of all rows but the floors, for time")

    def random(self, encoder: Encoder, item: float) -> None:
        """The same architecture, frozen untrained: another one for every seed, as far as time allows."""
        self.say("features of untrained encoders")
        labelled = self.labelled.limited()
        each = max(1e-6, item * len(_of_seed(labelled, labelled.seeds[0])))
        many = int(min(len(labelled.seeds), max(1, RANDOM_SHARE * self.budget / each)))
        tables: dict[int, Table] = {}

        def of(seed: int) -> Table:
            which = labelled.seeds.index(seed) % many
            if which not in tables:
                served = [_of_seed(labelled, other) for other in labelled.seeds[which::many]]
                tables[which] = self.table(encoder.fresh(which).eval(), np.unique(np.concatenate(served)))
            return tables[which]

        note = "" if many == len(labelled.seeds) else f"untrained networks: {many} for {len(labelled.seeds)} seeds"
        self.frozen(Row(RANDOM_ROW, RANDOM, note=note), of, self.probe, labelled)


def everything(labelled: Labelled) -> NDArray[np.int64]:
    """All positions that any cell needs."""
    return np.unique(np.concatenate([_of_seed(labelled, seed) for seed in labelled.seeds]))


def _of_seed(labelled: Labelled, seed: int) -> NDArray[np.int64]:
    return np.unique(np.concatenate([labelled.learned(seed), labelled.tested(seed)]))
