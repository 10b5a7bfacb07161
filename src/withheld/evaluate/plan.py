"""Fitting the fine-tuned and from-scratch rows into the time there is, before any of them is measured.

A cell is one label count with one seed; it is fine-tuned once and trained from scratch once, with equal steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from withheld.evaluate.sentence import headline

FEWEST_SEEDS = 3
SMALL_TEST, LEAST_TEST = 1000, 500
LEAST_SHARE, LAST_SHARE = 0.4, 0.15
"""Runs are shortened to this share of the steps they should have, then something is left out instead; and to the second
share before the headline itself would be."""


@dataclass(frozen=True)
class Plan:
    """What will be run.

    Attributes:
        steps: of both rows, by labels per class.
        seeds: how many.
        test: on how many items both rows are tested.
        left_out: sentences on what does not fit.
        seconds: the expected time.
    """

    steps: dict[int, int]
    seeds: int
    test: int
    left_out: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Pace:
    """What this machine needs, in seconds.

    Attributes:
        step: for a training step, by labels per class. item: to test one item. cell: for all else, each run.
    """

    step: Mapping[int, float]
    item: float
    cell: float = 0.0


def make_plan(wanted: Mapping[int, int], seeds: int, test: int, pace: Pace, seconds: float) -> Plan:
    """The first that fits: all as wanted, or fewer steps; 1,000 test items; 3 seeds; 500 test items; fewer label counts.

    Args:
        wanted: steps by labels per class.
        seeds: asked for.
        test: items both rows would be tested on.
        pace: of this machine.
        seconds: there are.
    """
    counts = sorted(wanted)
    half, least = min(test, SMALL_TEST), min(test, LEAST_TEST)
    few = min(seeds, FEWEST_SEEDS)
    options = [(counts, seeds, test), (counts, seeds, half), (counts, few, half), (counts, few, least)]
    options += [(kept, few, least) for kept in _fewer(counts)]
    for kept, many, tested in options:
        share = _share(kept, wanted, many, tested, pace, seconds)
        last = (kept, many, tested) == options[-1]
        if share >= (LAST_SHARE if last else LEAST_SHARE):
            share = min(1.0, share)
            steps = {count: max(1, int(share * wanted[count])) for count in kept}
            used = _seconds(steps, many, tested, pace)
            return Plan(steps, many, tested, _said(counts, kept, seeds, many, test, tested, share), used)
    need = _seconds({count: int(LAST_SHARE * wanted[count]) for count in options[-1][0]}, few, least, pace)
    text = (
        f'"fine-tuned" and "from scratch" for time: {few} seeds at {options[-1][0][0]} labels per class alone need '
        f"{need / 60:.1f} minutes more of training, there were {max(0.0, seconds) / 60:.1f} (give more --minutes)"
    )
    return Plan({}, 0, least, [text])


def _fewer(counts: Sequence[int]) -> list[list[int]]:
    """Ever fewer label counts, the largest first to go, the headline's last."""
    kept, main, options = list(counts), headline(counts), []
    while len(kept) > 1:
        kept.remove(next(count for count in reversed(kept) if count != main))
        options.append(list(kept))
    return options


def _share(kept: Sequence[int], wanted: Mapping[int, int], seeds: int, test: int, pace: Pace, seconds: float) -> float:
    """The share of the wanted steps that the time allows."""
    fixed = _seconds(dict.fromkeys(kept, 0), seeds, test, pace)
    steps = _seconds({count: wanted[count] for count in kept}, seeds, test, pace) - fixed
    return (seconds - fixed) / max(1e-9, steps)


def _seconds(steps: Mapping[int, int], seeds: int, test: int, pace: Pace) -> float:
    return sum(2 * seeds * (n * pace.step[count] + test * pace.item + pace.cell) for count, n in steps.items())


def _said(
    counts: Sequence[int], kept: Sequence[int], seeds: int, many: int, test: int, tested: int, share: float
) -> list[str]:
    rows = '"fine-tuned" and "from scratch"'
    said = []
    if many < seeds:
        said.append(f"{rows} beyond {many} of {seeds} seeds, for time")
    dropped = [str(count) for count in counts if count not in kept]
    if dropped:
        said.append(f"{rows} at {', '.join(dropped)} labels per class, for time")
    if tested < test:
        said.append(f"{rows} on {test - tested} of {test} test items, for time")
    if share < 1:
        said.append(f"{100 * (1 - share):.0f} % of the steps that {rows} should have had, for time")
    return said
