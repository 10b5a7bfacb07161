"""Fitting the fine-tuned and from-scratch rows into the time there is, before any of them is measured.

A cell is one label count with one seed; it is fine-tuned once and trained from scratch once, with equal steps. Where the
encoder says how its pretraining augmented, a third run is from scratch with these augmentations: at every label count where all
fits, else at the headline's only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from withheld.evaluate.sentence import headline
from withheld.wording import duration, per_class

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
        augmented: the label counts of the third row.
    """

    steps: dict[int, int]
    seeds: int
    test: int
    left_out: list[str] = field(default_factory=list)
    seconds: float = 0.0
    augmented: tuple[int, ...] = ()

    @property
    def runs(self) -> int:
        """Steps of all runs of one seed."""
        return sum(steps * (3 if count in self.augmented else 2) for count, steps in self.steps.items())


@dataclass(frozen=True)
class Pace:
    """What this machine needs, in seconds.

    Attributes:
        step: for a training step, by labels per class. item: to test one item. cell: for all else, each run.
        augmented: for a step with the pretraining's augmentations, by labels per class; None where there are none.
    """

    step: Mapping[int, float]
    item: float
    cell: float = 0.0
    augmented: Mapping[int, float] | None = None


class Option(NamedTuple):
    """What may be run: label counts, seeds, items to test on, and the label counts of the third row."""

    counts: list[int]
    seeds: int
    test: int
    third: tuple[int, ...]


def make_plan(wanted: Mapping[int, int], seeds: int, test: int, pace: Pace, seconds: float) -> Plan:
    """The first that fits: all as wanted; the third row at the headline only; fewer steps; 1,000 test items; 3 seeds; 500
    test items; fewer label counts; no third row.

    Args:
        wanted: steps by labels per class.
        seeds: asked for.
        test: items both rows would be tested on.
        pace: of this machine.
        seconds: there are.
    """
    counts = sorted(wanted)
    least, few = min(test, LEAST_TEST), min(seeds, FEWEST_SEEDS)
    main: tuple[int, ...] = () if pace.augmented is None else (headline(counts),)
    asked = Option(counts, seeds, test, main)
    half = asked._replace(test=min(test, SMALL_TEST))
    options = [asked, half, half._replace(seeds=few)]
    options += [Option(kept, few, least, main) for kept in (counts, *_fewer(counts))]
    options += [options[-1]._replace(third=())]
    if main:
        options.insert(0, asked._replace(third=tuple(counts)))
    for at, option in enumerate(options):
        share = _share(option, wanted, pace, seconds)
        enough = 1.0 if at == 0 and main else LAST_SHARE if at >= len(options) - 2 else LEAST_SHARE
        if share >= enough:
            share = min(1.0, share)
            steps = {count: max(1, int(share * wanted[count])) for count in option.counts}
            said = _said(asked, option, share)
            if pace.augmented is not None:
                said += _third_said(option)
            return Plan(steps, option.seeds, option.test, said, _seconds(option, steps, pace), option.third)
    last = options[-1]
    need = _seconds(last, {count: int(LAST_SHARE * wanted[count]) for count in last.counts}, pace)
    text = (
        f'"fine-tuned" and "from scratch" for time: {few} seeds at {per_class([last.counts[0]])} alone need '
        f"{duration(need)} of training, there were {duration(max(0.0, seconds))} left (give more --minutes)"
    )
    return Plan({}, 0, least, [text])


def _fewer(counts: Sequence[int]) -> list[list[int]]:
    """Ever fewer label counts, the largest first to go, the headline's last."""
    kept, main, options = list(counts), headline(counts), []
    while len(kept) > 1:
        kept.remove(next(count for count in reversed(kept) if count != main))
        options.append(list(kept))
    return options


def _share(option: Option, wanted: Mapping[int, int], pace: Pace, seconds: float) -> float:
    """The share of the wanted steps that the time allows."""
    fixed = _seconds(option, dict.fromkeys(option.counts, 0), pace)
    steps = _seconds(option, {count: wanted[count] for count in option.counts}, pace) - fixed
    return (seconds - fixed) / max(1e-9, steps)


def _seconds(option: Option, steps: Mapping[int, int], pace: Pace) -> float:
    each = option.test * pace.item + pace.cell
    pairs = sum(2 * option.seeds * (n * pace.step[count] + each) for count, n in steps.items())
    third = sum(option.seeds * (steps[count] * (pace.augmented or {})[count] + each) for count in option.third)
    return pairs + third


def _third_said(option: Option) -> list[str]:
    missing = [count for count in option.counts if count not in option.third]
    where = f" at {per_class(missing)}" if option.third else ""
    return [f'"from scratch, augmented"{where}, for time'] if missing else []


def _said(asked: Option, option: Option, share: float) -> list[str]:
    rows = '"fine-tuned" and "from scratch"'
    said = []
    if option.seeds < asked.seeds:
        said.append(f"{rows} beyond {option.seeds} of {asked.seeds} seeds, for time")
    dropped = [count for count in asked.counts if count not in option.counts]
    if dropped:
        said.append(f"{rows} at {per_class(dropped)}, for time")
    if option.test < asked.test:
        said.append(f"{rows} on {asked.test - option.test} of {asked.test} test items, for time")
    if share < 0.995:
        said.append(f"{100 * (1 - share):.0f} % of the steps that {rows} should have had, for time")
    return said
