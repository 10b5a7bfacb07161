"""Was the task solved by cheating? Runs what a method's `shortcuts()` declares: short trainings and probes.

The first row is the run as it is; "the same, short" is its task learned anew for as long as every variant, so that
variants are compared with that and not with the longer run.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from withheld.asked import Asked
from withheld.data.sample import spaced
from withheld.errors import InputError
from withheld.evaluate.features import Listen, silent
from withheld.evaluate.results import add_results
from withheld.learn.gradient import Loop
from withheld.learn.health import Measured, constant_answer, learned_target
from withheld.learn.schedule import Items, seed_everything
from withheld.modalities.modality import modality_named
from withheld.objective import Objective
from withheld.provenance import commit_of_code
from withheld.run import Run, constant, load_method, method_names, open_run, pick_device, split_settings
from withheld.shortcuts import Bounds, Probe, Variant
from withheld.types import Moment, Recipe
from withheld.wording import plural

SAME = "the same, short"
EVERY = 5  # of so many items one is held out
LOOKED_AT, AT_ONCE, DRAWS = 512, 64, 2
NO_BETTER = 0.995
"""A loss above this share of that of a constant answer has learned nothing."""
MOST_NUMBERS = 1 << 25
"""Of the items that are looked at together: clips are large."""


@dataclass(frozen=True)
class Reading:
    """One row.

    Attributes:
        row: the run, a variant, or a probe of it.
        measures: what was measured, by name.
        reads: what it means, in words.
        suspect: the measures that are outside of what is healthy.
        steps, seconds: of the short training; 0 for the run.
        held_out: whether the short trainings did not learn from the items measured; where items are told apart, they do.
        floor: the same measures of the best answer that is the same for every item; empty where there is none.
        items: that were measured; 0 where it is not known.
    """

    row: str
    measures: dict[str, float]
    reads: str = ""
    suspect: tuple[str, ...] = ()
    steps: int = 0
    seconds: float = 0.0
    held_out: bool = True
    floor: dict[str, float] = dataclasses.field(default_factory=dict)
    items: int = 0

    @property
    def by_chance(self) -> bool:
        """Whether the task is solved no better than by an answer that is the same for every item."""
        if not self.floor or not self.measures["loss"] > NO_BETTER * self.floor["loss"]:
            return False
        most = self.floor.get("accuracy")  # a loss may be high where answers are right, but too sure
        return most is None or self.measures["accuracy"] <= most + 2 * math.sqrt(most * (1 - most) / LOOKED_AT)

    def to_json(self) -> dict[str, Any]:
        """All of it, and whether the task is solved by chance."""
        return {**dataclasses.asdict(self), "suspect": list(self.suspect), "by_chance": self.by_chance}


def probe_shortcuts(
    run: str | Path, data: Any = None, *, minutes: float = 5.0, steps: int | None = None, device: str = "auto",
    results: str | Path | None = None, command: str = "", listen: Listen = silent,
) -> list[Reading]:  # fmt: skip
    """Measures a run against the shortcuts of its method.

    Args:
        run: a run folder.
        data: items without labels; None takes the run's.
        minutes: for all short trainings together.
        steps: of each short training, in place of minutes.
        device: "auto", "cpu", "cuda", "mps".
        results: a results.jsonl to append every row to as it is measured.
        command: how to do it again, kept in the results.
        listen: is told what happens.

    Raises:
        InputError: the run is not of a method that knows its shortcuts; the data. CannotWrite: for the results.
    """
    if not minutes > 0:
        raise InputError(f"--minutes {minutes} must be above 0")
    opened = open_run(run)
    declared = _declared(opened)
    bench = _Bench(opened, data, torch.device(pick_device(device)), listen)
    book = _Book(opened, data, results, command, listen, bench)
    variants = [Variant(SAME), *(each for each in declared if isinstance(each, Variant))]
    probes = [each for each in declared if isinstance(each, Probe)]
    trained = bench.trained()
    found, floor = bench.measure(trained)
    book.write(Reading("the run", found, floor=floor))
    for probe in probes:
        found = bench.ask(probe, trained)
        book.write(Reading(probe.name, found, probe.reads, _outside(found, probe.healthy)))
    del trained
    steps = steps or bench.steps_for(minutes / len(variants))
    for number, variant in enumerate(variants, 1):
        listen({"kind": "note", "text": f"{variant.name} ({number} of {len(variants)}), {plural(steps, 'step')}"})
        book.write(bench.short(variant, steps, [probe for probe in probes if probe.each]))
    return book.readings


def _declared(run: Run) -> list[Variant | Probe]:
    name = run.settings["method"]
    if name is None:
        raise InputError(f"{run.folder}: trained with an objective of your own, which declares no shortcuts")
    shortcuts = constant(name, "shortcuts", None)
    if shortcuts is None:
        with_tests = ", ".join(each for each in method_names() if constant(each, "shortcuts", None) is not None)
        raise InputError(
            f"{name} declares no way to cheat, so there is nothing to probe; methods that do: {with_tests}"
        )
    return list(shortcuts())


class _Bench:
    """The data of a run, a part of it held out, and its method built anew with other settings."""

    def __init__(self, run: Run, data: Any, device: torch.device, listen: Listen) -> None:
        self.run, self.device = run, device
        self.listen = listen
        asked = Asked.from_json(run.settings["given"])
        self.asked = dataclasses.replace(asked, size=run.settings["data"].get("size", asked.size))
        location = data if data is not None else run.settings["data"]["location"]
        kind = modality_named(run.settings["modality"])
        self.modality = kind(location, self.asked, device, lambda what, **event: listen({"kind": what, **event}))
        self.first = self.modality.open(run.settings["method"])
        for name in ("mean", "std"):  # fed as the run was
            if name in run.settings:
                setattr(self.modality, name, list(run.settings[name]))
        objective, recipe = self._made({})
        self.modality.asks = objective.split.asks
        self.modality.feed(recipe)
        self.base = self._fitted({})[0]
        every = np.arange(len(self.modality.items))
        whole = "id" in objective.split.asks  # what is told apart are the items themselves
        groups = every if self.modality.groups is None else np.unique(self.modality.groups, return_inverse=True)[1]
        held = groups % EVERY == EVERY - 1
        if not whole and not held.any():
            what = "items" if self.modality.groups is None else f"items of {groups.max() + 1} clips"
            raise InputError(f"{location}: {len(every)} {what} are too few to hold one in {EVERY} out")
        numbers = self.modality.sample[:1].numel() if isinstance(self.modality.sample, torch.Tensor) else 1
        self.most = min(LOOKED_AT, max(32, MOST_NUMBERS // numbers))
        self.learned: Items = self.modality.items if whole else _Some(self.modality.items, every[~held])
        self.held: Items = self.modality.items if whole else _Some(self.modality.items, every[held])

    def trained(self) -> Objective:
        """The run's own network."""
        return self.run.objective().to(self.device)

    @torch.no_grad()
    def measure(self, objective: Objective, task: Objective | None = None) -> tuple[dict[str, float], dict[str, float]]:
        """Loss and measures on items held out from the short trainings, of a task of its own or another's.

        And the same of the best constant answer; empty where there is none.
        """
        task = task or objective
        objective.eval()
        found: list[dict[str, float]] = []
        floor: list[dict[str, float]] = []
        for at, t in self._batches(self.held):
            for draw in range(DRAWS):
                seed_everything(self.asked.seed, at, draw)
                pair = task.pair(t)
                prediction = objective.network(pair.x)
                found.append(_measured(task, prediction, pair))
                constant = None if learned_target(task) else constant_answer(prediction, task.aim(pair.y))
                if constant is not None:
                    floor.append(_measured(task, constant, pair))
        return _mean(found), _mean(floor) if len(floor) == len(found) else {}

    @torch.no_grad()
    def ask(self, probe: Probe, objective: Objective) -> dict[str, float]:
        """The answers to a probe, its random numbers a function of the seed."""
        seed_everything(self.asked.seed)
        some = [items.batch(spaced(len(items), self.most), self.device) for items in (self.learned, self.held)]
        return probe.measure(objective.eval(), *some)

    def steps_for(self, minutes: float) -> int:
        """Steps of the run's own task that fit in so many minutes."""
        objective, recipe = self._fitted({})
        return max(1, int(minutes * 60 / self._loop(objective, recipe, 1000).seconds_per_step()))

    def short(self, variant: Variant, steps: int, probes: Sequence[Probe]) -> Reading:
        """A variant learned for so many steps, and measured."""
        begun = time.monotonic()
        objective, recipe = self._fitted(variant.settings)
        loop = self._loop(objective, recipe, steps)
        loop.run(listen=lambda line: self.listen({"kind": "step", **line}))
        found, floor = self.measure(objective)
        if variant.settings and variant.crossed:
            crossed, _ = self.measure(objective, self.base)
            found.update({f"{name} on the run's task": value for name, value in crossed.items() if name != "loss"})
        for probe in probes:
            found.update(self.ask(probe, objective))
        seconds = round(time.monotonic() - begun, 1)
        suspect = _outside(found, variant.healthy)
        return Reading(variant.name, found, variant.reads, suspect, steps, seconds, floor=floor)

    def _made(self, settings: Any) -> tuple[Objective, Recipe]:
        function = load_method(self.run.settings["method"])
        mine, of_recipe = split_settings(function, {**self.asked.settings, **settings})
        seed_everything(self.asked.seed)
        objective, recipe = function(copy.deepcopy(self.first), **mine)
        if "betas" in of_recipe:
            of_recipe["betas"] = tuple(of_recipe["betas"])
        return objective, dataclasses.replace(recipe, **of_recipe, batch_size=self.run.settings["batch_size"])

    def _fitted(self, settings: Any) -> tuple[Objective, Recipe]:
        objective, recipe = self._made(settings)
        objective.to(self.device).fit_parts(self.modality.sample)
        return objective.to(self.device), recipe

    def _loop(self, objective: Objective, recipe: Recipe, steps: int) -> Loop:
        return Loop(objective, self.learned, recipe, steps=steps, seed=self.asked.seed, device=self.device)

    def _batches(self, items: Items) -> Any:
        chosen = spaced(len(items), self.most)
        for first in range(0, len(chosen), AT_ONCE):
            yield first, items.batch(chosen[first : first + AT_ONCE], self.device)


class _Some:
    """A few of the items, as the loop asks for them."""

    def __init__(self, items: Items, at: np.ndarray) -> None:
        self.items, self.at = items, at

    def __len__(self) -> int:
        return len(self.at)

    def batch(self, index: np.ndarray, device: torch.device) -> Any:
        return self.items.batch(self.at[index], device)


class _Book:
    """Writes the rows as they come."""

    def __init__(
        self, run: Run, data: Any, results: str | Path | None, command: str, listen: Listen, bench: _Bench
    ) -> None:
        self.held_out, self.items = bench.held is not bench.learned, len(bench.held)
        self.path = None if results is None else Path(results)
        self.listen, self.readings = listen, list[Reading]()
        self.about = {
            "method": run.settings["method"], "data": str(data if data is not None else run.settings["data"]["location"]),
            "seed": run.settings["seed"], "commit": commit_of_code(), "command": command, "probe": uuid.uuid4().hex[:12],
        }  # fmt: skip

    def write(self, reading: Reading) -> None:
        """One row, measured."""
        reading = dataclasses.replace(reading, held_out=self.held_out, items=self.items)
        self.readings.append(reading)
        self.listen({"kind": "reading", **dataclasses.asdict(reading)})
        add_results(self.path, {"kind": "shortcut", **reading.to_json(), **self.about})


def _measured(task: Objective, prediction: Any, pair: Any) -> dict[str, float]:
    found = {"loss": float(task.total(task.compare(prediction, pair), Moment(1, 1)))}
    if isinstance(task.loss, Measured):
        found.update(task.loss.measures(prediction, pair.y))
    return found


def _mean(found: Sequence[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for each in found for name in each)
    return {name: sum(each.get(name, 0.0) for each in found) / len(found) for name in names}


def _outside(found: dict[str, float], healthy: Bounds) -> tuple[str, ...]:
    return tuple(name for name, (low, high) in healthy.items() if name in found and not low <= found[name] <= high)
