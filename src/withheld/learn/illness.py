"""What vitals mean: ok, warn or sick, with the reason and the cure in words and numbers.

A judgement is a pure function of the lines of log.jsonl and of run.json, so that a run, its report and `withheld doctor` say the
same; no torch here. The rules stand in `learn/rules.py`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

OK, WARN, SICK, NOT_YET = "ok", "warn", "sick", "not yet"
ORDER = (NOT_YET, OK, WARN, SICK)
AT_ONCE = ("input", "hidden part", "motion", "targets", "copies", "components")
"""Vitals of the data: what is true of them does not need to be seen twice."""


@dataclass(frozen=True)
class Finding:
    """One vital, judged.

    Attributes:
        vital: what was looked at.
        state: "ok", "warn", "sick" or "not yet".
        value: what was found, in a few words.
        illness: its name, where it is one.
        reason: what it means.
        cure: what to do about it.
        since: the step at which it was first found in this state.
    """

    vital: str
    state: str
    value: str = ""
    illness: str = ""
    reason: str = ""
    cure: str = ""
    since: int = 0

    def to_json(self) -> dict[str, Any]:
        """What is not empty."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True)
class Facts:
    """What a run is, as far as a judgement depends on it.

    Attributes:
        width: of the features. sample: items that vitals are taken of. batch: of a step. items: that are learned from.
        columns: of a table.
        unigram: nats of a model that only counts tokens.
        normalized: whether items are brought to mean 0 and variance 1.
        rate: the base learning rate, as treatments have left it; warmup: the share of the run over which it rises.
        knows: the settings that its method has. given: those it was given.
    """

    modality: str = ""
    width: int = 0
    sample: int = 0
    batch: int = 0
    items: int = 0
    columns: int = 0
    streamed: bool = False
    unigram: float | None = None
    normalized: bool = True
    rate: float = 1e-3
    warmup: float = 0.0
    knows: Sequence[str] = ()
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def most_dimensions(self) -> int:
        """The largest rank that features of the sample can have."""
        return max(1, min(self.width or 1, (self.sample or self.width or 2) - 1))


def facts_of(run: Mapping[str, Any], knows: Sequence[str] = ()) -> Facts:
    """From run.json.

    Args:
        knows: the settings of its method.
    """
    data, encoder, recipe = (run.get(name) or {} for name in ("data", "encoder", "recipe"))
    slowed = math.prod(float(each.get("factor", 1.0)) for each in run.get("treatments") or ())
    return Facts(
        modality=str(run.get("modality", "")),
        width=int(encoder.get("width") or 0), sample=int((run.get("health") or {}).get("sample") or 0),
        batch=int(run.get("batch_size") or 0), items=int(data.get("items") or 0), columns=len(data.get("columns") or ()),
        streamed=bool(data.get("streamed")), unigram=data.get("unigram_nats"),
        normalized=bool(recipe.get("normalize", True)), rate=float(recipe.get("base_learning_rate") or 1e-3) * slowed,
        warmup=float(recipe.get("warmup") or 0.0), knows=tuple(knows), given=dict(run.get("settings") or {}),
    )  # fmt: skip


@dataclass(frozen=True)
class Checkup:
    """The vitals of a step, and what the lines since the checkup before told: "loss" and "gradient_norm", medians.

    `epoch` says how often every item was seen until then; None where the log does not tell.
    """

    step: int
    steps: int
    vitals: Mapping[str, float]
    epoch: float | None = None


@dataclass(frozen=True)
class Case:
    """All checkups so far, and what the run is."""

    checkups: Sequence[Checkup]
    facts: Facts

    @property
    def step(self) -> int:
        """Of the latest checkup."""
        return self.checkups[-1].step

    @property
    def progress(self) -> float:
        """Share of the run that is done."""
        return self.step / max(1, self.checkups[-1].steps)

    def now(self, name: str) -> float | None:
        """A vital of the latest checkup."""
        return self.checkups[-1].vitals.get(name)

    def known(self, name: str) -> list[float]:
        """A vital of all checkups that have it."""
        return [each.vitals[name] for each in self.checkups if name in each.vitals]

    def last(self, name: str) -> float | None:
        """A vital as it was last taken: some are taken once."""
        found = self.known(name)
        return found[-1] if found else None

    def early(self, share: float = 0.04, steps: int = 20) -> bool:
        """Whether it is too early to judge what training changes."""
        return self.progress < share or self.step < steps

    def unwarmed(self) -> bool:
        """Whether the run is so short that its warm-up, a share of the steps, is one step: the first is at the full rate."""
        steps = self.checkups[-1].steps
        return steps < 40 and self.facts.warmup > 0 and round(self.facts.warmup * steps) < 2

    def beginning(self) -> bool:
        """Whether a short run is in its first steps: its warm-up is a few of them, and any step changes small new weights much."""
        return self.checkups[-1].steps < 100 and self.progress < 0.15


Rule = Callable[[Case], "Finding | None"]


class History:
    """Reads the lines of a log, one after the other, and judges at every checkup.

    `sick` has the first and the last step at which each illness was found.
    """

    def __init__(self, facts: Facts, rules: Sequence[Rule]) -> None:
        self.facts, self.rules = facts, rules
        self.checkups: list[Checkup] = []
        self.findings: list[Finding] = []
        self.sick: dict[str, tuple[int, int]] = {}
        self._loss: list[float] = []
        self._norm: list[float] = []

    def hear(self, line: Mapping[str, Any]) -> list[Finding] | None:
        """The findings, where this line is a checkup."""
        for name, seen in (("loss", self._loss), ("gradient_norm", self._norm)):
            if isinstance(line.get(name), int | float):
                seen.append(float(line[name]))
        if not line.get("vitals"):
            return None
        vitals = {name: float(value) for name, value in line["vitals"].items() if isinstance(value, int | float)}
        for name, seen in (("loss", self._loss), ("gradient_norm", self._norm)):
            if seen:
                vitals[name] = statistics.median(seen)
                seen.clear()
        epoch = float(line["epoch"]) if isinstance(line.get("epoch"), int | float) else None
        self.checkups.append(Checkup(int(line["step"]), int(line.get("steps") or line["step"]), vitals, epoch))
        self.findings = self._judged()
        for each in self.findings:
            if each.state == SICK:
                first, _ = self.sick.get(each.illness, (each.since, 0))
                self.sick[each.illness] = first, self.checkups[-1].step
        return self.findings

    @property
    def state(self) -> str:
        """The worst there is now."""
        return worst(self.findings)

    def _judged(self) -> list[Finding]:
        before = {(each.vital, each.state): each for each in self.findings}
        earlier = {each.vital: each for each in judge(Case(self.checkups[:-1], self.facts), self.rules)}
        found = []
        for each in judge(Case(self.checkups, self.facts), self.rules):
            was = earlier.get(each.vital)
            state = each.state
            if state == SICK and each.vital not in AT_ONCE and (was is None or was.state != SICK):
                state = WARN  # once may be chance: it is sick where the next checkup finds it again
            same = before.get((each.vital, state))
            found.append(replace(each, state=state, since=same.since if same else self.checkups[-1].step))
        return found


def judge(case: Case, rules: Sequence[Rule]) -> list[Finding]:
    """What every rule that applies says."""
    return [found for rule in rules if case.checkups and (found := rule(case)) is not None]


def worst(findings: Sequence[Finding]) -> str:
    """The worst state of all; "not yet" of none."""
    return max((each.state for each in findings), key=ORDER.index, default=NOT_YET)
