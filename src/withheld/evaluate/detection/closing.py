"""The closing sentence of a verdict on detection, in the manner of `withheld.evaluate.sentence`.

What is compared was decided before anything was measured: "fine-tuned" against "from scratch" at equal steps, paired over seeds,
at the smallest share of the training images that was measured, since few labels are what pretraining is for.
"""

from __future__ import annotations

from collections.abc import Sequence

from withheld.evaluate.compare import Row
from withheld.evaluate.sentence import find, outcome, told
from withheld.wording import plural

METRIC = "mAP@0.5"


def counts_of(rows: Sequence[Row]) -> list[int]:
    """The numbers of images that every row of the comparison has, ascending."""
    named = {row.method: row for row in rows}
    pairs = (("fine-tuned", "from scratch"), ("linear probe", "random frozen"))
    for first, second in pairs:
        if first in named and second in named and set(named[first].right) & set(named[second].right):
            return sorted(set(named[first].right) & set(named[second].right))
    return sorted({count for row in rows for count in row.right})


def sentence(rows: Sequence[Row], total: int) -> str:
    """The closing sentence.

    Args:
        rows: their counts are training images. total: training images there are.
    """
    at = _at(rows)
    found = find(rows, None, at) if at is not None else None
    if found is None or at is None:
        return "No verdict: no pretrained row was measured; give it more --minutes."
    share = f"{100 * at / total:.0f} % of them" if at < total else "all there are"
    text = told(found).replace("times the labels", "times the labelled images")
    return f"With {plural(at, 'labelled image')} ({share}), by {METRIC}, {text}."


def outcome_of(rows: Sequence[Row]) -> str:
    """ "better", "worse" or "unclear"."""
    return outcome(rows, None, _at(rows))


def _at(rows: Sequence[Row]) -> int | None:
    counts = counts_of(rows)
    return counts[0] if counts else None
