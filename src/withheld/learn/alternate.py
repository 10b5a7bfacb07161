"""The other loop: what was never observed, given the parameters; the parameters, given that; and the bound never falls."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from withheld import distributed
from withheld.errors import Diverged
from withheld.latent import LatentModel
from withheld.learn.checkpoint import Keeper, load_state, save_state
from withheld.learn.gradient import between_steps
from withheld.learn.schedule import Items, seed_everything, shards_for
from withheld.learn.signals import watch_signals
from withheld.types import Recipe

FALL = 1e-7
"""Share of the bound that rounding may cost in a step."""


class Alternation:
    """Expectation-maximization and mean-field ascent over batches; the face of `gradient.Loop`. A step is a pass over all items.

    The bound on the line of a step is of the parameters before its M-step: it takes an E-step to know it.

    Args:
        model: at its start already (`LatentModel.fitted`).
        items: rows in their order; each pass reads them in slices of the recipe's batch size.
        recipe: `tolerance` is the rise of a row's bound, nats, below which it has converged.
        steps: the most passes.
        seed, shards: as in `gradient.Loop`; nothing is random here.
    """

    def __init__(
        self, model: LatentModel, items: Items, recipe: Recipe, *, steps: int, seed: int = 0,
        device: torch.device | str = "cpu", shards: int = 8,
    ) -> None:  # fmt: skip
        self.device = torch.device(device)
        self.objective = model.to(self.device)
        self.items, self.recipe, self.steps, self.seed = items, recipe, steps, seed
        self.shards = shards_for(recipe.batch_size, shards)
        self.before = -math.inf
        self.converged = False
        self.count = 0.0
        self.dead: list[int] = []
        self.seconds = {"data": 0.0, "expect": 0.0, "maximize": 0.0}

    @torch.no_grad()
    def expect(self) -> dict[str, Tensor]:
        """The sums of all items, over all processes."""
        total: dict[str, Tensor] = {}
        for index in self._slices():
            begun = time.perf_counter()
            t = self.items.batch(index, self.device)
            fetched = time.perf_counter()
            for name, value in self.objective.expect(t).items():
                total[name] = total[name] + value if name in total else value
            self.seconds["data"] += fetched - begun
            self.seconds["expect"] += time.perf_counter() - fetched
        if not total:  # fewer slices than processes: this one has nothing to add, and must say so
            t = self.items.batch(np.arange(min(len(self.items), 1)), self.device)
            total = {name: torch.zeros_like(value) for name, value in self.objective.expect(t).items()}
        return {name: distributed.total(value) for name, value in total.items()}

    @torch.no_grad()
    def step(self, step: int) -> dict[str, Any]:
        """One pass and one M-step; returns its line of the log.

        Raises:
            Diverged: the bound is not finite, or fell by more than rounding and regularization explain.
        """
        seed_everything(self.seed, step, 0, 0)
        sums = self.expect()
        bound, count = float(self.objective.total(sums)), float(sums["items"])
        self.count = count
        self._check(step, bound, count)
        begun = time.perf_counter()
        rise = (bound - self.before) / count
        self.converged = 0 < self.recipe.tolerance > rise
        self.before = bound
        if not self.converged:  # else the parameters are those whose bound this is
            self.objective.maximize(sums)
        self.seconds["maximize"] += time.perf_counter() - begun
        each = float(sums["bound"]) / count
        terms = {"items": -each}
        if bound != float(sums["bound"]):
            terms["parameters"] = each - bound / count
        line = {"step": step + 1, "steps": self.steps, "epoch": float(step + 1), "loss": -bound / count, "terms": terms}
        if math.isfinite(rise):
            line["rise"] = rise
        return {**line, "vitals": self.objective.vitals(), **self._deaths()}

    def _slices(self) -> Iterator[np.ndarray]:
        """This process's slices of the items: every so-and-so-manieth."""
        size, many = self.recipe.batch_size, len(self.items)
        for number, first in enumerate(range(0, many, size)):
            if number % distributed.world() == distributed.rank():
                yield np.arange(first, min(many, first + size))

    def _check(self, step: int, bound: float, count: float) -> None:
        if not math.isfinite(bound):
            raise Diverged(
                f"step {step + 1}: the bound is {bound}: a component has collapsed. Raise its regularization"
            )
        allowed = FALL * abs(bound) + getattr(self.objective, "slack", 0.0) * count
        if bound < self.before - allowed:
            raise Diverged(
                f"step {step + 1}: the bound fell from {self.before:.9g} to {bound:.9g} nats, which it cannot: the model's "
                "expect and maximize do not fit each other"
            )

    def _deaths(self) -> dict[str, str]:
        """What to say of components that died since."""
        dead = [k for k in getattr(self.objective, "dead", list)() if k not in self.dead]
        self.dead += dead
        if not dead:
            return {}
        several = len(dead) > 1
        who = f"component{'s' * several} {', '.join(map(str, dead))}"
        return {"note": f"{who} died (counted from 0): no row belongs to {'them' if several else 'it'} any more"}

    def run(
        self, keeper: Keeper | None = None, listen: Callable[[dict[str, Any]], None] | None = None, start: int = 0
    ) -> None:
        """Passes from `start` until it has converged or all are done; then `steps` is the pass it ended with.

        Raises:
            Interrupted: on Ctrl-C or SIGTERM, after a checkpoint was written.
        """
        started = saved = time.monotonic()
        with watch_signals() as caught:
            for step in range(start, self.steps):
                line = self.step(step)
                if self.converged:
                    self.steps = line["steps"] = step + 1
                line["seconds"] = round(time.monotonic() - started, 3)
                line["items_per_second"] = round((step + 1 - start) * len(self.items) / max(1e-9, line["seconds"]), 1)
                if listen is not None:
                    listen(line)
                saved = between_steps(self, keeper, step + 1, saved, caught)
                if self.converged:
                    return

    def save(self, keeper: Keeper, step: int) -> None:
        """Writes a checkpoint, rank 0 only."""
        if distributed.rank() == 0:
            save_state(keeper.state, step, self.objective, self, notes=keeper.notes)
        distributed.await_first()

    def resume(self, keeper: Keeper) -> int:
        """Loads the newest checkpoint that verifies and returns its step; 0 where there is none."""
        folder = keeper.newest()
        step = load_state(folder, self.objective, self) if folder else 0
        if self.converged:
            self.steps = step
        return step

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps besides the model: the last bound, and whether it had converged."""
        return {
            "state": {0: {"before": torch.tensor(self.before, dtype=torch.float64), "converged": self.converged}},
            "param_groups": [],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.before, self.converged = float(state["state"][0]["before"]), bool(state["state"][0]["converged"])

    def seconds_per_step(self) -> float:
        """Times an E-step; nothing is changed by it."""
        begun = time.perf_counter()
        self.expect()
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        return time.perf_counter() - begun
