"""The rows of a verdict that use unlabelled items too: the semi-supervised mixture, self-training, and M1 + M2 on request.

Never an item that is tested: those of the seed's own test items are left out, whatever they could tell without a label.
Shapes: U unlabelled items, D features.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from withheld.data.few import FewLabels
from withheld.errors import Diverged, InputError
from withheld.evaluate.compare import PRETRAINED, Row
from withheld.evaluate.features import features
from withheld.evaluate.m2 import StyleClassifier, told_by
from withheld.evaluate.measure import Array, Measurement, Table, everything
from withheld.evaluate.self_trained import MOST_SHARE, Seen, late, measure_cells, measure_self_training
from withheld.evaluate.semi_supervised import SemiSupervisedMixture
from withheld.evaluate.sentence import M2_ROW, MIXTURE, SELF_TRAINED
from withheld.wording import per_class, plural

MOST_UNLABELLED, MOST_OF_MIXTURE = 20_000, 10_000
"""Whose features are taken, and of these for the mixture; M1 + M2 takes all there are."""
FEATURES_SHARE, M2_SHARE = 0.08, 0.6
"""Shares of the time: for the features of unlabelled items, and for M1 + M2 where it is asked for."""
LEAST_SECONDS = 60.0
"""M1 + M2 is measured with fewer seeds before one of them gets less."""
ALSO = ("m2",)
"""Rows that are measured on request."""


def check_also(also: Any) -> None:
    """Says so where a row is asked for that there is not."""
    unknown = [name for name in also if name not in ALSO]
    if unknown:
        raise InputError(f"--also {unknown[0]}: there is {', '.join(ALSO)}")


def gather(m: Measurement, subject: Any, table: Table, most: int | None = None) -> Seen:
    """Decodes unlabelled items, a seeded sample of at most so many, and takes their features."""
    source = m.labelled.more
    none = np.zeros((0, table.values.shape[1]), np.float32)
    if source is None or most == 0:
        return Seen(none, table, None)
    if most is not None and len(source) > most:
        source = source.subset(np.sort(np.random.default_rng(0xA11).choice(len(source), most, replace=False)))
    items = m.judged.decode(source, m.listen)[0]
    return Seen(features(subject, items, listen=m.listen), table, items)


def measure_unlabelled(m: Measurement, subject: Any, item: float) -> None:
    """The rows that learn from unlabelled items' frozen features; `item` is the seconds that those of an item take."""
    if late(m, MIXTURE):
        m.left_out.append(f'"{SELF_TRAINED}" for time')
        return
    m.say("features of unlabelled items")
    most = int(min(MOST_UNLABELLED, FEATURES_SHARE * m.budget / max(item, 1e-9)))
    assert m.kept is not None  # noqa: S101 - the frozen rows come first
    seen = gather(m, subject, m.kept, most)
    try:
        _measure_mixture(m, seen)
    except InputError as error:  # features that are all the same
        m.left_out.append(f'"{MIXTURE}": {error}')
    measure_self_training(m, seen)


def _measure_mixture(m: Measurement, seen: Seen) -> None:
    row = Row(MIXTURE, PRETRAINED)
    died: list[float] = []

    def cell(draw: FewLabels) -> Array:
        labels = m.labelled.labels[draw.train]
        found = SemiSupervisedMixture(m.classes, draw.seed).fit(
            seen.table.at(draw.train), labels, seen.beside(draw, seen.own(), MOST_OF_MIXTURE)
        )
        if found.dead:
            died.append(found.smallest)
            row.note = f"a component died in {plural(len(died), 'fit')}, the smallest weight is {min(died):.1g}"
        return found.probabilities(seen.table.at(draw.test))

    measure_cells(m, row, m.labelled.seeds, cell, MOST_SHARE)


def measure_m2(m: Measurement, subject: Any) -> None:
    """M1 + M2, in its share of the time; all unlabelled items."""
    begun = m.elapsed
    m.say("M1 + M2: features of all items")
    subject, read = told_by(subject)
    seen = gather(m, subject, m.table(subject, everything(m.labelled)))
    left = max(0.0, M2_SHARE * m.budget - (m.elapsed - begun))
    counts, many = len(m.labelled.counts), len(m.labelled.seeds)
    seeds = m.labelled.seeds[: int(max(2, min(many, left / counts / LEAST_SECONDS)))]
    each, row = left / (counts * len(seeds)), Row(M2_ROW, PRETRAINED)
    if len(seeds) < many:
        m.left_out.append(f'"{M2_ROW}" beyond {len(seeds)} of {many} seeds, for time')

    def cell(draw: FewLabels) -> Array:
        found = StyleClassifier(m.classes, draw.seed, each)
        found.fit(
            read(seen.table.at(draw.train)), m.labelled.labels[draw.train], read(seen.beside(draw, seen.own())),
            lambda line: m.listen({**line, "kind": "step"}),
        )  # fmt: skip
        row.note = plural(found.steps, "step") + ("" if found.sampled else ", features without a deviation")
        return found.probabilities(read(seen.table.at(draw.test)))

    try:
        measure_cells(m, row, seeds, cell)
    except (Diverged, InputError) as error:  # at the most labels there may be no item without one
        missing = [count for count in m.labelled.counts if count not in row.budget]
        m.left_out.append(f'"{M2_ROW}" at {per_class(missing)}: {error}')
        row.right = {count: cells for count, cells in row.right.items() if count in row.budget}
        if row.right:
            m.rows.append(row)
