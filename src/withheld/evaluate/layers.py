"""Layer by layer: a linear probe of every block or stage of the subject, since the last is not always the best.

Which layer is best is found by cross-validation on the labelled items of each draw, never on tested ones; "best layer" is
the accuracy of that choice. Shapes: N items, D features, K classes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from withheld.encoder import Encoder
from withheld.errors import InputError
from withheld.evaluate.compare import PRETRAINED, Row
from withheld.evaluate.few_label import FIXED, MOST_CHECKED, MOST_WORK, Array, LinearProbe
from withheld.evaluate.measure import Measurement, Table, everything
from withheld.evaluate.measure import rows as rows_of
from withheld.evaluate.sentence import PROBE
from withheld.wording import per_class

SHARE = 0.3
"""Of the time of all else, which all layers together may take on top; then there are fewer draws."""
FOLDS = 3
AT_ONCE = 256


def layer_row(number: int, layers: int) -> str:
    """The name of a layer's row."""
    return f"linear probe, layer {number} of {layers}"


BEST = "linear probe, best layer"


def check_layers(layers: str | None, subject: object) -> None:
    """Says so where layers cannot be asked for.

    Raises:
        InputError: another word than "all", or a subject that is no encoder of this library.
    """
    if layers not in (None, "all"):
        raise InputError(f"--layers {layers}: there is all")
    if layers is not None and not isinstance(subject, Encoder):
        raise InputError(f"--layers all needs an encoder of this library, not {type(subject).__name__}")


def measure_layers(m: Measurement, subject: Encoder) -> None:
    """The rows of every layer, and that of the layer chosen on labelled items."""
    m.say("features of every layer")
    begun = m.elapsed
    tables = layer_tables(m, subject)
    if len(tables) == 1:
        m.left_out.append(f'layer by layer: this encoder has one layer, and "{PROBE}" is of it')
        return
    rows = [Row(layer_row(i, len(tables)), PRETRAINED) for i in range(1, len(tables) + 1)]
    best = Row(BEST, PRETRAINED)
    chosen: dict[int, Counter[int]] = {}
    kept = m.labelled.seeds
    for count in m.labelled.counts:
        seeds, start = list(kept), m.elapsed
        for number, seed in enumerate(seeds, 1):
            picked = _cell(m, tables, rows, best, count, seed)
            if picked is not None:
                chosen.setdefault(count, Counter())[picked + 1] += 1
            spent = m.elapsed - begun
            if number < len(seeds) and number >= 2 and spent + (m.elapsed - start) / number > SHARE * m.budget:
                m.left_out.append(
                    f"layer by layer at {per_class([count])} beyond {number} of {len(seeds)} seeds, for time"
                )
                break
    m.minutes += (m.elapsed - begun) / 60  # on top: the rows of the closing sentence lose nothing
    best.note = _note(chosen, len(tables))
    for row in [*rows, best]:
        for count in row.right:
            m.done(row, count)
        if row.right:
            m.rows.append(row)


def layer_tables(m: Measurement, subject: Encoder) -> list[Table]:
    """The features of every layer, of all items that any draw needs."""
    needed = everything(m.labelled)
    where, parts = rows_of(m.row_of, needed), []
    for first in range(0, len(where), AT_ONCE):
        parts.append(subject.transform_layers(np.asarray(m.images[where[first : first + AT_ONCE]])))
        m.listen({"kind": "features", "done": min(first + AT_ONCE, len(where)), "total": len(where)})
    row_of = {int(at): row for row, at in enumerate(needed)}
    return [Table(np.concatenate(layer), row_of) for layer in zip(*parts, strict=True)]


def _cell(m: Measurement, tables: Sequence[Table], rows: Sequence[Row], best: Row, count: int, seed: int) -> int | None:
    """Measures every layer with the labels of a draw; returns the layer chosen on them, counted from 0."""
    draw = m.labelled.draws[count, seed]
    labels, started = m.labelled.labels[draw.train], time.monotonic()
    found = []
    for table, row in zip(tables, rows, strict=True):
        found.append(m.probe(table.at(draw.train), labels, table.at(draw.test), seed))
        m.score(row, count, seed, found[-1], draw.test)
        row.budget[count] = {"seconds": round((time.monotonic() - started) / len(found), 3)}
    picked = choose_layer([table.at(draw.train) for table in tables], labels, m.classes, seed)
    if picked is not None:
        m.score(best, count, seed, found[picked], draw.test)
    return picked


def choose_layer(features: Sequence[Array], y_N: NDArray[np.int64], classes: int, seed: int) -> int | None:
    """The layer whose probe predicts labelled items best that it has not learned from; None with one label a class.

    Args:
        features: (N, D) of every layer.
        y_N: the labels.
    """
    if np.bincount(y_N)[np.unique(y_N)].min() < 2:
        return None
    some = np.sort(np.random.default_rng([seed, 0x1A]).permutation(len(y_N))[:MOST_CHECKED])
    some = some[np.bincount(y_N[some])[y_N[some]] > 1]  # of many classes a sample may hold one item: nothing checks it
    y = y_N[some]
    if len(np.unique(y)) < 2:
        return None
    many = 2 if max(x.shape[1] for x in features) * len(y) * classes > MOST_WORK else FOLDS
    folds = StratifiedKFold(min(many, int(np.bincount(y)[np.unique(y)].min())), shuffle=True, random_state=seed)
    loss = np.zeros(len(features))
    for learn, check in folds.split(y, y):
        for i, x in enumerate(features):
            p = LinearProbe(classes, seed, FIXED).fit(x[some][learn], y[learn]).probabilities(x[some][check])
            loss[i] -= np.log(np.maximum(p[np.arange(len(check)), y[check]], 1e-12)).sum()
    return int(loss.argmin())


def _note(chosen: dict[int, Counter[int]], layers: int) -> str:
    """Such as "layer 3 of 4 with 10 labels per class (5 of 5 draws)"."""
    parts = []
    for count, votes in chosen.items():
        layer, many = votes.most_common(1)[0]
        parts.append(f"layer {layer} of {layers} with {count} ({many} of {votes.total()} draws)")
    return "chosen by cross-validation on labelled items: " + ", ".join(parts) if parts else ""
