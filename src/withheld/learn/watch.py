"""The listener that watches over a run: takes vitals at its appointments and writes them, judged, into the line of the step."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from withheld import distributed
from withheld.learn.health import vitals
from withheld.learn.illness import SICK, WARN, Facts, Finding, History
from withheld.learn.intake import intake
from withheld.learn.rules_of_training import RULES
from withheld.networks.adapters import LORA, adapted, weight_of
from withheld.objective import Objective
from withheld.types import map_tensors

LATELY = 50  # steps whose mean loss the held-out loss is compared with
COST = 0.01
"""Share of the training that vitals may take."""
LEAST_SECONDS = 0.5
"""What vitals may always take: of a run of less than a minute nothing could be told otherwise."""
SHARES = (
    1.0, 0.05, 0.1, 0.2, 0.15, 0.5, 0.3, 0.75, 0.125, 0.075, 0.4, 0.6, 0.9, 0.175, 0.25, 0.02, 0.35, 0.45, 0.55, 0.65, 0.7, 0.8,
    0.85, 0.95,
)  # fmt: skip
"""When, as shares of the run, the most important first: illnesses show early, and cost most where they are found late."""
ALWAYS = 5
"""So many appointments are never left out: the first step, the last, and three in the first fifth."""
LEAST, MOST = 32, 128
"""Items that vitals are taken of: as many as a step has, so that they cost about a step and a half, but enough for a rank of 3."""


def appointments(steps: int, count: int | None = None) -> list[int]:
    """The steps after which vitals are taken, a pure function of how many steps there are; of `count`, the most important ones."""
    wanted = [1, *(max(1, round(share * steps)) for share in SHARES)]
    ordered = list(dict.fromkeys(wanted))
    return sorted(ordered if count is None else ordered[: max(ALWAYS, count)])


def affordable(seconds_per_step: float, steps: int, seconds_of_vitals: float) -> int:
    """How many appointments cost less than a hundredth of the training."""
    return int(max(LEAST_SECONDS, COST * seconds_per_step * steps) / max(seconds_of_vitals, 1e-6))


def watched(sample: Any, batch_size: int) -> Any:
    """Of a batch as many items as a step has, within `LEAST` and `MOST`, spread over it."""
    count, most = _count(sample), max(LEAST, min(MOST, batch_size))
    if count <= most:
        return sample
    return map_tensors(lambda part: part[torch.linspace(0, count - 1, most).long().to(part.device)], sample)


def appointed(loop: Any, sample: Any, held_out: bool, steps: int, on_sick: str) -> dict[str, Any]:
    """When vitals are taken in a run, for its run.json.

    Where something depends on them, how many are cheap enough is timed here, once, and all of these are kept.
    """
    some, count = watched(sample, loop.recipe.batch_size), None
    if on_sick != "warn" and isinstance(loop.objective, Objective):
        vitals(loop.objective, some, held_out)  # the first time is slower
        begun = time.perf_counter()
        vitals(loop.objective, some, held_out)
        each = time.perf_counter() - begun
        count = distributed.from_first(affordable(loop.seconds_per_step(), steps, each))
    return {"on_sick": on_sick, "sample": _count(some), "appointments": appointments(steps, count)}


def _count(batch: Any) -> int:
    """How many items a batch has."""
    return len(next(iter(batch.values())) if isinstance(batch, Mapping) else batch)


@dataclass
class Patient:
    """What is watched.

    Attributes:
        model: an `Objective`; a `LatentModel` tells its vitals by itself.
        sample: what vitals are taken of, as the loop feeds it.
        held_out: whether it is never learned from.
        seconds: of the loop, by part; "data" is waiting, and "vitals" is added.
        copies: how many near-copies an item has, asked once; None where nobody knows.
    """

    model: nn.Module
    sample: Any
    held_out: bool
    seconds: dict[str, float]
    copies: Callable[[], float | None] = lambda: None


class Watch:
    """Hears every line of a run, in place adds "vitals" and "health" to those of its appointments.

    Appointments that would cost too much are left out; where something depends on them (`fixed`) all are kept.

    Args:
        patient: what is watched.
        facts: what the run is.
        steps: at which there is an appointment, see `appointments`.
        fixed: never leave one out.
    """

    def __init__(self, patient: Patient, facts: Facts, steps: Sequence[int], fixed: bool = False) -> None:
        self.patient, self.fixed = patient, fixed
        self.steps = list(steps)
        self.rank = {step: at for at, step in enumerate(_by_importance(self.steps))}
        self.history = History(facts, RULES)
        self.spent, self.taken, self.cheapest = 0.0, 0, float("inf")
        self.weights: list[Tensor] = []
        self.lately: deque[float] = deque(maxlen=LATELY)

    def begin(self, start: int, lines: Sequence[Mapping[str, Any]], rate: float) -> None:
        """A run that goes on from a step, with the lines of its log up to there, and the base learning rate of the next steps."""
        facts = self.history.facts
        self.history = History(replace(facts, rate=rate or facts.rate), RULES)
        for line in lines:
            self.history.hear(line)
        self.lately = deque((line["loss"] for line in lines), maxlen=LATELY)
        self.taken = len(self.history.checkups)
        if isinstance(self.patient.model, Objective) and start + 1 in self.rank:
            self.weights = _matrices(self.patient.model)

    def hear(self, line: dict[str, Any]) -> list[Finding] | None:
        """The findings, where this step was an appointment."""
        if isinstance(self.patient.model, Objective):
            step = line["step"]
            # asked before the clock runs: it is of the data, and not a vital's time
            copies = self.patient.copies() if self.taken == 0 and step in self.rank else None
            begun = time.perf_counter()
            self.lately.append(line["loss"])
            if step in self.rank and self._due(line):
                line["vitals"] = self._vitals(line.get("side", 1.0)) | ({} if copies is None else {"copies": copies})
                if "held_out_loss" in line["vitals"]:
                    line["vitals"]["gap"] = line["vitals"]["held_out_loss"] - sum(self.lately) / len(self.lately)
                self.cheapest = min(self.cheapest, time.perf_counter() - begun)
                self.taken += 1
            self.weights = _matrices(self.patient.model) if step + 1 in self.rank else []
            self.spent += time.perf_counter() - begun
            self.patient.seconds["vitals"] = self.spent
        findings = self.history.hear(line)
        if findings is not None:
            line["health"] = {"state": self.history.state, "findings": [each.to_json() for each in findings]}
        return findings

    def _due(self, line: Mapping[str, Any]) -> bool:
        """Whether it costs less than its share, or is one of those that must be."""
        if self.fixed or self.rank[line["step"]] < ALWAYS or self.cheapest == float("inf"):
            return True
        trained = _trained(self.patient.seconds)
        allowed = affordable(trained / line["step"], line["steps"], self.cheapest)
        return self.rank[line["step"]] < allowed

    def _vitals(self, side: float) -> dict[str, float]:
        model = self.patient.model
        assert isinstance(model, Objective)  # noqa: S101 - asked by the caller
        found = vitals(model, self.patient.sample, self.patient.held_out, side)
        if self.taken == 0:
            found.update(intake(model, self.patient.sample))
        if self.weights:
            found["update_ratio"] = _change(self.weights, _matrices(model, copy=False))
        total = _trained(self.patient.seconds)
        if total > 0:
            found["data_wait"] = self.patient.seconds.get("data", 0.0) / total
            found["vitals_share"] = self.spent / total
        return found


def _trained(seconds: Mapping[str, float]) -> float:
    """Seconds in steps."""
    return sum(spent for name, spent in seconds.items() if name != "vitals")


def news(before: Sequence[Finding], now: Sequence[Finding]) -> list[Finding]:
    """What is worse than before: to be said aloud once."""
    known = {(each.vital, each.illness, each.state) for each in before}
    return [each for each in now if each.state in (WARN, SICK) and not {(each.vital, each.illness, each.state)} & known]


def _by_importance(steps: Sequence[int]) -> list[int]:
    """The appointments of a run, the most important first."""
    last = max(steps, default=1)
    order = [step for step in dict.fromkeys([1, *(max(1, round(share * last)) for share in SHARES)]) if step in steps]
    return order + [step for step in steps if step not in order]


def _matrices(model: nn.Module, copy: bool = True) -> list[Tensor]:
    """Weights of layers that learn; with adapters, which begin at nothing, what a layer's weight is together with them."""
    found = [p.detach() for name, p in model.named_parameters() if p.requires_grad and p.ndim >= 2 and LORA not in name]
    found = [p.clone() for p in found] if copy else found
    learning = (part for _, part in adapted(model) if any(p.requires_grad for p in part.parameters()))
    return [*found, *map(weight_of, learning)]


def _change(before: Sequence[Tensor], now: Sequence[Tensor]) -> float:
    """Norm of the change of all weights of layers over the norm of the weights."""
    moved = torch.stack([(b - a).float().square().sum() for a, b in zip(before, now, strict=True)]).sum()
    size = torch.stack([b.float().square().sum() for b in now]).sum()
    return float((moved / size.clamp_min(1e-30)).sqrt())
