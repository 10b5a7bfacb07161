"""Which images each cell learns from, and for how many steps, so that all of it fits into the time there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from withheld.data.boxes import Annotation
from withheld.wording import plural

FEWEST_STEPS, MOST_STEPS, ROOT = 100, 4000, 40
LEAST_SHARE, LAST_SHARE = 0.4, 0.15


def steps_for(images: int) -> int:
    """Steps that training on so many images should have: 40 times their root, 100 to 4,000."""
    return int(min(MOST_STEPS, max(FEWEST_STEPS, ROOT * images**0.5)))


def counts_for(shares: Sequence[float], total: int) -> tuple[list[int], list[str]]:
    """Numbers of images of shares in percent, ascending, and what is said of shares that were dropped."""
    counts: list[int] = []
    notes = []
    for share in sorted(shares):
        count = round(share * total / 100)
        if count < 1 or count in counts:
            notes.append(
                f"{share:g} % of {plural(total, 'training image')} was dropped: {plural(count, 'image')}, "
                f"{'none' if count < 1 else 'as above'}"
            )
        else:
            counts.append(count)
    return counts, notes


def draw(
    annotations: Sequence[Annotation], train: NDArray[np.int64], classes: int, count: int, seed: int
) -> NDArray[np.int64]:
    """So many training images; fewer are always among more, and every class that a seed can show is in the first ones.

    Args:
        annotations: of all images. train: positions to draw from. classes: how many there are.
    """
    order = [int(i) for i in np.random.default_rng([seed, 0xDE7]).permutation(train)]
    first = []
    for label in range(classes):
        holder = next((i for i in order if (annotations[i].labels == label).any()), None)
        if holder is not None and holder not in first:
            first.append(holder)
    chosen = first + [i for i in order if i not in set(first)]
    return np.array(sorted(chosen[:count]), np.int64)


@dataclass(frozen=True)
class Plan:
    """Steps by number of images, the seeds, what was left out, and the expected seconds."""

    steps: dict[int, int]
    seeds: int
    left_out: list[str] = field(default_factory=list)
    seconds: float = 0.0


def make_plan(
    counts: Sequence[int], seeds: int, tuned: int, step: float, cell: Mapping[int, float], seconds: float
) -> Plan:
    """The first that fits: all, with at least 40 % of the steps; without the middle; the fewest images only; two seeds of these.

    Args:
        counts: numbers of images, ascending. tuned: rows that are trained. step: seconds a step. cell: seconds of all else, by
            number of images, of all rows of one seed. seconds: there are.
    """
    options = [
        (list(counts), seeds),
        ([counts[0], counts[-1]], seeds),
        ([counts[0]], seeds),
        ([counts[0]], min(2, seeds)),
    ]
    for kept, many in options:
        kept = sorted(set(kept))
        rest = many * sum(cell[count] for count in kept)
        wanted = many * tuned * step * sum(steps_for(count) for count in kept)
        share = min(1.0, (seconds - rest) / max(1e-9, wanted))
        last = (kept, many) == (sorted({counts[0]}), min(2, seeds))
        if share >= (LAST_SHARE if last else LEAST_SHARE):
            steps = {count: max(1, int(share * steps_for(count))) for count in kept}
            return Plan(steps, many, _said(counts, kept, seeds, many, share), rest + share * wanted)
    return Plan(
        {}, 0, ['"fine-tuned" and "from scratch": there is no time to train anything; give it more --minutes'], 0.0
    )


def _said(counts: Sequence[int], kept: Sequence[int], seeds: int, many: int, share: float) -> list[str]:
    left = []
    missing = [str(count) for count in counts if count not in kept]
    if missing:
        left.append(f"training on {' and '.join(missing)} image{'s' * (missing != ['1'])}, for time")
    if many < seeds:
        left.append(f"{seeds - many} of {seeds} seeds, for time")
    if share < 0.995:
        left.append(f"{100 * (1 - share):.0f} % of the steps that training should have had, for time")
    return left
