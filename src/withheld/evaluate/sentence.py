"""The closing sentence of a verdict: what pretraining was worth, or plainly what to use instead.

What is compared was decided before anything was measured:

- The worth of pretraining is "fine-tuned" against "from scratch" at equal steps (where the clock left them out: the
  linear probe against the same network frozen at random).
- The headline is at 10 labels per class, or at the middle count where 10 was not measured.
- A floor, a public encoder or training from scratch with the pretraining's augmentations is set against whichever of
  "fine-tuned" and "linear probe" did better. It counts as "as good" unless the whole 95 % interval of the paired
  difference lies above zero; "not certainly better" is a difference above zero whose interval does not.
- Where training from scratch knows less than a floor, as after few steps, what is gained over that floor is said too.
- Where fine-tuning is not better than training from scratch and the linear probe is, for certain, the sentence says both.
- Rows that also learn from unlabelled items, which no rival does, are named where they are certainly better than that row,
  together with the floor that does the same unless they are certainly better than it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from withheld.evaluate.compare import (
    AIDED,
    FLOOR,
    PRETRAINED,
    PUBLIC,
    RANDOM,
    SCRATCH,
    Difference,
    Row,
    Worth,
    difference,
    worth_in_labels,
)
from withheld.wording import per_class

FINE_TUNED, SCRATCH_ROW, PROBE, NEIGHBORS, RANDOM_ROW = (
    "fine-tuned",
    "from scratch",
    "linear probe",
    "kNN",
    "random frozen",
)
AUGMENTED_ROW = "from scratch, augmented"
MIXTURE, SELF_TRAINED, M2_ROW = "semi-supervised mixture", "self-training", "M1 + M2"
UNLABELLED_TOO = (MIXTURE, SELF_TRAINED, M2_ROW)
"""What the names of rows begin with that also learn from unlabelled items."""
HEADLINE = 10
MORE = "it needs more data or a longer run"
LONG_NAMES = {
    SCRATCH_ROW: "training from scratch",
    AUGMENTED_ROW: "training from scratch with the augmentations of the pretraining",
    RANDOM_ROW: "the same network frozen at random",
    "LSA": "LSA (main directions of tf-idf)",
}
LEARNED_BY = " with logistic regression"


@dataclass(frozen=True)
class Finding:
    """What the sentence says, in numbers.

    Attributes:
        labels: per class, of the headline.
        worth: pretrained minus its control, None where neither pair was measured.
        pretrained, control: the rows of `worth`.
        times: what it is worth in labels.
        rival: the best floor, public encoder or control that pretraining did not beat, and `gap` pretrained minus it.
        remedy: what helps where that is the untrained network.
        guessed: whether no row is better than guessing for certain, so that none is to be recommended.
        best: the pretrained row that rivals were set against. spared: it minus the control, where it is not `pretrained`.
    """

    labels: int
    worth: Difference | None
    pretrained: str
    control: str
    times: Worth | None
    rival: str | None
    gap: Difference | None
    best: str
    rival_kind: str = ""
    control_kind: str = ""
    spared: Difference | None = None
    remedy: str = MORE
    guessed: bool = False


def headline(counts: Sequence[int]) -> int:
    """The label count the sentence speaks of: 10 where it was measured, else the middle one (the lower of two)."""
    ordered = sorted(counts)
    return HEADLINE if HEADLINE in ordered else ordered[(len(ordered) - 1) // 2]


def find(rows: Sequence[Row], test_share: float | None = None, at: int | None = None) -> Finding | None:
    """Compares the rows as decided in advance; None where no pretrained row was measured.

    Args:
        at: the label count to speak of; None takes the `headline`.
    """
    named = {row.method: row for row in rows}
    pretrained, control = _pair(named)
    if pretrained is None:
        return None
    both = set(pretrained.right) & set(control.right) if control is not None else set(pretrained.right)
    labels = at if at in both else headline(sorted(both))
    control = control or _best_other(rows, labels)
    worth = difference(pretrained, control, labels, test_share) if control is not None else None
    times = None
    if worth is not None and worth.better and control is not None and control.kind == SCRATCH:
        times = worth_in_labels(worth.first, labels, control)
    best = _best(named, labels) or pretrained
    rival, gap = _rival(best, rows, labels, test_share)
    apart = best is not pretrained and control is not None
    return Finding(
        labels, worth, pretrained.method, control.method if control else "", times,
        rival.method if rival else None, gap, best.method, rival.kind if rival else "", control.kind if control else "",
        difference(best, control, labels, test_share) if apart and control is not None else None,
    )  # fmt: skip


def sentence(
    rows: Sequence[Row], test_share: float | None = None, classes: int | None = None, remedy: str = MORE
) -> str:
    """The closing sentence for these rows.

    Args:
        classes: how many there are, which says what guessing scores.
        remedy: what helps the method where an untrained network is as good.
    """
    found = find(rows, test_share)
    if found is None:
        return "No verdict: no pretrained row was measured; give it more --minutes."
    guessing = _by_guessing(rows, found.labels, test_share, classes)
    found = replace(found, remedy=remedy, guessed=bool(guessing))
    start = f"With {per_class([found.labels])}, "
    text = start + told(found) + _over_floor(found, rows, test_share) + _unlabelled(found, rows, test_share)
    text += guessing
    if not any(row.kind == PUBLIC for row in rows):
        text += "; no public encoder was compared"
    return text + "."


def told(found: Finding) -> str:
    """What was found, without its beginning: "pretraining is worth ..." or "pretraining is not better than ..."."""
    return _not_better(found) if _beaten(found) else _worth(found)


def _by_guessing(rows: Sequence[Row], labels: int, test_share: float | None, classes: int | None) -> str:
    """Says so where not one row is above chance for certain: then no difference between rows means anything."""
    measured = [row for row in rows if labels in row.right]
    if not classes or not all(row.mean(labels) - row.half(labels, test_share) <= 1 / classes for row in measured):
        return ""
    return f"; no row is certainly better than guessing ({100 / classes:.0f} %): give more labels, or more --seeds"


def _over_floor(found: Finding, rows: Sequence[Row], test_share: float | None) -> str:
    """What it is worth over the best classical floor, where training from scratch was not measured, or knows less than the floor:
    of few steps it may know nothing, and much is easily gained over that."""
    named = {row.method: row for row in rows}
    floors = [row for row in rows if row.kind == FLOOR and found.labels in row.right]
    if _beaten(found) or found.control_kind not in (RANDOM, SCRATCH) or not floors:
        return ""
    floor = max(floors, key=lambda row: row.mean(found.labels))
    gap = difference(named[found.best], floor, found.labels, test_share)
    if gap is None or not gap.better:
        return ""
    if found.control_kind == RANDOM:
        return f", and {_points(gap)} over {_long(floor.method, FLOOR)}"
    if floor.mean(found.labels) <= named[found.control].mean(found.labels):
        return ""
    ours = "it" if found.best == found.pretrained else f"its {found.best}"
    return f"; {ours} is {_points(gap)} ahead of {_long(floor.method, FLOOR)}, which does better than training from scratch"


def _unlabelled(found: Finding, rows: Sequence[Row], test_share: float | None) -> str:
    """Names the best row that also learns from unlabelled items, where it beats all other rows of ours for certain."""
    best = next(row for row in rows if row.method == found.best)
    more = []
    for row in rows:
        ours = row.kind == PRETRAINED and row.method.startswith(UNLABELLED_TOO)
        gap = difference(row, best, found.labels, test_share) if ours else None
        if gap is not None and gap.better:
            more.append((gap.first, row, gap))
    if not more:
        return _floor_too(best, rows, found.labels, test_share, False)
    _, row, gap = max(more, key=lambda one: one[0])
    text = (
        f"; {row.method}, which learns from unlabelled items too, does better still ({_points(gap)} over {found.best})"
    )
    return text + _floor_too(row, rows, found.labels, test_share, True)


def _floor_too(ours: Row, rows: Sequence[Row], labels: int, test_share: float | None, alike: bool) -> str:
    """Says so where a floor that learns from unlabelled items too is better than our best row, or (`alike`) as good."""
    floor = next((row for row in rows if row.kind == AIDED), None)
    gap = difference(ours, floor, labels, test_share) if floor is not None else None
    if floor is None or gap is None or gap.better or not math.isfinite(gap.low):
        return ""
    told = f"{100 * gap.second:.1f} % against {100 * gap.first:.1f} %, a difference of {_flat(gap)}"
    if gap.high < 0:
        return f"; {floor.method} does it better without any pretraining ({told})"
    return f"; {floor.method} does it as well without any pretraining ({told})" if alike else ""


def outcome(
    rows: Sequence[Row], test_share: float | None = None, at: int | None = None, classes: int | None = None
) -> str:
    """What the sentence says in a word: "better", "worse" (something else is as good) or "unclear", also where all only guess."""
    found = find(rows, test_share, at)
    if found is not None and _by_guessing(rows, found.labels, test_share, classes):
        return "unclear"
    if found is None or (found.worth is None and found.rival is None):
        return "unclear"
    if found.rival is None and found.worth is not None and not math.isfinite(found.worth.low):
        return "unclear"
    return "worse" if _beaten(found) else "better"


def _pair(named: dict[str, Row]) -> tuple[Row | None, Row | None]:
    """Fine-tuned and from scratch, else linear probe and random frozen, else a pretrained row alone."""
    for first, second in ((FINE_TUNED, SCRATCH_ROW), (PROBE, RANDOM_ROW), (NEIGHBORS, RANDOM_ROW)):
        if first in named and second in named and set(named[first].right) & set(named[second].right):
            return named[first], named[second]
    return next((row for row in named.values() if row.kind == PRETRAINED and row.right), None), None


def _best_other(rows: Sequence[Row], labels: int) -> Row | None:
    """The best floor or public encoder: the control of something that has no network to train from scratch."""
    others = [row for row in rows if row.kind in (FLOOR, PUBLIC) and labels in row.right]
    return max(others, key=lambda row: row.mean(labels)) if others else None


def _best(named: dict[str, Row], labels: int) -> Row | None:
    """The better of fine-tuned and linear probe, on the items both were tested on."""
    tuned, probe = named.get(FINE_TUNED), named.get(PROBE)
    if tuned is None or labels not in tuned.right:
        return probe if probe is not None and labels in probe.right else None
    gap = difference(probe, tuned, labels) if probe is not None else None
    return probe if gap is not None and gap.mean > 0 else tuned


def _rival(
    best: Row, rows: Sequence[Row], labels: int, test_share: float | None
) -> tuple[Row | None, Difference | None]:
    """The best row that is no part of ours and that `best` did not beat."""
    unbeaten = []
    for row in rows:
        apart = row.kind in (FLOOR, PUBLIC, RANDOM) or row.method == AUGMENTED_ROW
        gap = difference(best, row, labels, test_share) if apart else None
        if gap is not None and math.isfinite(gap.low) and not gap.better:
            unbeaten.append((row, gap))
    return max(unbeaten, key=lambda pair: pair[1].second) if unbeaten else (None, None)


def _beaten(found: Finding) -> bool:
    return found.rival is not None or found.worth is None or not found.worth.better


def _worth(found: Finding) -> str:
    assert found.worth is not None  # noqa: S101 - a finding without one is `_beaten`
    text = f"pretraining is worth {_points(found.worth)} over {_control(found)}{_equal(found)}"
    if found.control_kind in (FLOOR, PUBLIC):
        text += ", the best of what it was compared with"
    if found.times is not None:
        text += f", {_times(found.times)}"
    if found.best != found.pretrained:
        text += f"; its {found.best} does better still"
    return text


def _not_better(found: Finding) -> str:
    if found.rival is not None and found.gap is not None:
        rival = _long(found.rival, found.rival_kind)
        text = f"pretraining is {_no(found.gap)} than {rival} ({_numbers(found.gap, found.best)})"
        text += "" if found.guessed else f": {_instead(found)}"
        return f"{text}; {_aside(found)}" if found.worth is not None and found.control != found.rival else text
    if found.worth is None:
        return f"nothing was measured that {found.pretrained} could be compared with"
    if found.worth.seeds < 2:
        return f"pretraining scored {_points(found.worth)} over {_control(found)}: too few seeds to tell"
    learned = "it has learned nothing useful here yet" if found.remedy == MORE else found.remedy
    instead = "train from scratch" if found.control == SCRATCH_ROW else learned
    text = f"pretraining is {_no(found.worth)} than {_control(found)} ({_numbers(found.worth, found.pretrained)})"
    if found.spared is not None and found.spared.better:
        return f"{found.pretrained}, {text}; its {found.best} is better than that by {_points(found.spared)}: use it"
    return text if found.guessed else f"{text}: {instead}"


def _aside(found: Finding) -> str:
    """What pretraining is worth over its control, where something else was better still."""
    assert found.worth is not None  # noqa: S101 - asked only where it was measured
    over = f"over {_control(found)}{_equal(found)}"
    if found.worth.better:
        times = f", {_times(found.times)}" if found.times is not None else ""
        return f"{over} it is worth {_points(found.worth)}{times}"
    return f"{over} it shows no {'certain ' if found.worth.mean > 0 else ''}gain either ({_flat(found.worth)})"


def _no(gap: Difference) -> str:
    """Not better; or not certainly, where it may be."""
    return "not certainly better" if gap.mean > 0 else "not better"


def _points(gap: Difference) -> str:
    return f"{100 * gap.mean:+z.1f} points ({_interval(gap)})"


def _flat(gap: Difference) -> str:
    return f"{100 * gap.mean:+z.1f} points, {_interval(gap)}"


def _interval(gap: Difference) -> str:
    if not math.isfinite(gap.low):
        return "one seed, no interval"
    low, high = max(gap.low, -1.0), min(gap.high, 1.0)  # of a few draws that differ much; no share differs by more
    return f"95 % CI {100 * low:z.1f} to {100 * high:z.1f}"


def _numbers(gap: Difference, ours: str) -> str:
    name = "" if ours == FINE_TUNED else f" with a {ours}" if ours == PROBE else f" with {ours}"
    return f"{100 * gap.first:.1f} %{name} against {100 * gap.second:.1f} %, a difference of {_flat(gap)}"


def _times(worth: Worth) -> str:
    shown = f"{worth.times:.1f}" if worth.times < 9.95 else f"{worth.times:.0f}"
    return f"{'more than' if worth.beyond else 'as much as'} {shown} times the labels"


def _equal(found: Finding) -> str:
    return " at equal steps" if found.control == SCRATCH_ROW else ""


def _long(method: str, kind: str = "") -> str:
    return LONG_NAMES.get(method, method) + (LEARNED_BY if kind == FLOOR else "")


def _control(found: Finding) -> str:
    return _long(found.control, found.control_kind)


def _instead(found: Finding) -> str:
    if found.rival_kind == RANDOM:
        return found.remedy
    if found.rival == AUGMENTED_ROW:
        return "train from scratch with them"
    return f"use {found.rival}"
