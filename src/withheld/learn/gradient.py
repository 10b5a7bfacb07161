"""The gradient loop: a run is a pure function of (seed, settings, data)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from withheld import distributed
from withheld.errors import Diverged, InputError, Unreachable, WithheldError
from withheld.learn.checkpoint import Keeper, load_state, save_state
from withheld.learn.memory import check_pieces, counting, counts_of
from withheld.learn.optimizer import build_optimizer
from withheld.learn.schedule import InWindows, Items, Windowed, order_of, seed_everything, shards_for
from withheld.learn.sharding import shard, whole
from withheld.learn.signals import watch_signals
from withheld.objective import Objective
from withheld.types import Moment, Pair, Recipe, concatenate

SPLIT, FORWARD = 0, 1  # which random numbers: those that hide, those of dropout


class Interrupted(WithheldError):
    """Ctrl-C or SIGTERM came; what is `kept` has its checkpoint written, and the run can be resumed."""

    def __init__(self, number: int, step: int, kept: bool) -> None:
        self.exit_code = 128 + number
        self.step = step
        super().__init__(f"stopped at step {step}" + (": continue with --resume" if kept else ""))


def check_sides(objective: Objective, recipe: Recipe) -> None:
    """Says so where views cannot begin small.

    Raises:
        InputError: with the reason and the remedy.
    """
    if not 0.25 <= recipe.progressive <= 1:
        raise InputError(
            f"progressive={recipe.progressive}: the share of their side that views begin with, 0.25 to 1 (off)"
        )
    if recipe.progressive == 1:
        return
    if objective.split.shrunk(recipe.progressive) is objective.split:
        raise InputError(
            f"progressive={recipe.progressive}: this method compares no views of images (simclr and others do): leave it out"
        )
    if getattr(objective.trunk, "patch", 0):
        raise InputError(
            f"progressive={recipe.progressive}: the patches of a ViT have positions, which would be others in small views: take a "
            "convolutional --encoder, or --set progressive=1"
        )


class Loop:
    """One training run, step by step; `train` is the usual way in.

    Args:
        objective: what is minimized.
        items: what it learns from.
        recipe: how.
        steps: of the whole run, on which the schedule depends.
        seed: with settings and data it decides everything.
        shards: parts of the global batch that draw their own random numbers, whichever rank computes them.
        accumulate: pieces of a step's batch that each process computes one after the other, adding up their gradients. A piece
            draws what a process of as many more would: N processes of one piece are one process of N pieces.
        share: whether each process holds a share of the weights only, see `sharding`.
    """

    def __init__(
        self, objective: Objective, items: Items, recipe: Recipe, *, steps: int, seed: int = 0,
        device: torch.device | str = "cpu", shards: int = 8, accumulate: int = 1, share: bool = False,
    ) -> None:  # fmt: skip
        check_pieces(objective, accumulate)
        check_sides(objective, recipe)
        self.accumulate, self.share = accumulate, share and distributed.world() > 1
        self.device = torch.device(device)
        self.objective = objective if self.share else objective.to(self.device)
        self.module = shard(objective, self.device) if self.share else distributed.wrap(objective)
        self.items, self.recipe, self.steps, self.seed = items, recipe, steps, seed
        self.shards = shards_for(recipe.batch_size, shards, objective.split.together)
        self.order = order_of(items, recipe, seed, self.shards)
        self.optimizer = build_optimizer(objective, recipe)
        self.parameters, self.moving = list(objective.parameters()), objective.moving()  # found once, not every step
        self.counted = objective.counted()
        self.at = 0  # the step that is or was last computed
        self.seconds = {"data": 0.0, "hide": 0.0, "forward": 0.0, "backward": 0.0, "optimizer": 0.0}
        ranks = distributed.world()
        if self.shards % ranks:
            raise InputError(
                f"{ranks} processes cannot share {self.shards} shards of a batch of {recipe.batch_size} evenly: start a "
                f"number of them that divides {self.shards}"
            )
        if self.shards // ranks % accumulate:
            raise InputError(
                f"--accumulate {accumulate}: a batch of {recipe.batch_size} on {ranks} processes has {self.shards // ranks} parts "
                f"each, which make no {accumulate} equal pieces: take 2, 4 or 8, and a --batch-size that they divide"
            )

    def pieces(self, step: int, side: float = 1.0) -> Iterator[Pair]:
        """This rank's part of a step's batch in `accumulate` pieces, each hidden when it is asked for; see `Objective.pair`.

        Shard k draws from (seed, step, k), whoever computes it.
        """
        started = time.perf_counter()
        index = self.order.step(step)
        each = len(index) // self.shards
        mine = self.shards // distributed.world()
        first = distributed.rank() * mine
        t = self.items.batch(index[first * each : (first + mine) * each], self.device)
        if isinstance(self.order, Windowed) and isinstance(self.items, InWindows):
            self.items.expect(self.order.ahead(step + 1, range(first, first + mine)))
        self.seconds["data"] += time.perf_counter() - started
        for piece in torch.arange(mine).chunk(self.accumulate):
            started = time.perf_counter()
            pairs = []
            for k in piece.tolist():
                seed_everything(self.seed, step, SPLIT, first + k)
                pairs.append(self.objective.pair(_rows(t, k * each, (k + 1) * each), side))
            pair = concatenate(pairs)
            self.seconds["hide"] += time.perf_counter() - started
            yield pair

    def _add_up(self, step: int, moment: Moment) -> tuple[list[str], list[float]]:
        """The gradient of a step; the names of its terms, and the loss followed by the terms, means over pieces and ranks."""
        N = self.accumulate
        pairs: Iterator[Pair] | list[Pair] = self.pieces(step, self.recipe.stage(moment.progress)[0])
        shares: list[dict[str, Tensor]] = [{}] * N
        if self.counted is not None and N * distributed.world() > 1:
            pairs = list(pairs)  # of words, which are small
            shares = counts_of(self.counted, pairs)
        self.optimizer.zero_grad(set_to_none=True)
        sums, names = None, []
        for k, pair in enumerate(pairs):
            begun = time.perf_counter()
            seed_everything(self.seed, step, FORWARD, distributed.rank() * N + k)
            with distributed.apart(self.module, k + 1 < N):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                    terms = self.module(pair, moment)
                    terms = {name: counting(term, shares[k].get(name)) for name, term in terms.items()}
                    loss = self.objective.total(terms, moment) / N
                between = time.perf_counter()
                loss.backward()
            told = torch.stack([loss.detach(), *(term.detach() / N for term in terms.values())]).float()
            sums = told if sums is None else sums + told
            names = list(terms)
            self.seconds["forward"] += between - begun
            self.seconds["backward"] += time.perf_counter() - between
        assert sums is not None  # noqa: S101 - there is a piece at least
        return names, distributed.mean(sums).tolist()

    def step(self, step: int, moment: Moment | None = None) -> dict[str, Any]:
        """One optimizer step; returns its line of the log. The moment is that of the step, unless another is to be timed.

        Raises:
            Diverged: where the loss or the gradient is not finite; the weights are as before the step.
        """
        self.at = step
        moment = moment or Moment(step, self.steps, self.order.epoch_of(step))
        names, numbers = self._add_up(step, moment)
        passed = time.perf_counter()
        norm = self._clip()
        terms = dict(zip(names, numbers[1:], strict=True))
        self._check(step, numbers, terms, norm)
        rate = self.recipe.learning_rate * self.recipe.factor(moment)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"] * (self.recipe.awake(moment) if group.get("rests") else 1.0)
        self.optimizer.step()
        for part in self.moving:
            part.after_step(moment)
        self.seconds["optimizer"] += time.perf_counter() - passed
        line = {
            "step": step + 1, "steps": self.steps, "epoch": round(self.order.epoch_of(step + 1), 4), "loss": numbers[0],
            "terms": terms, "learning_rate": rate, "gradient_norm": norm,
        }  # fmt: skip
        if self.recipe.progressive < 1:
            line["side"] = self.recipe.stage(moment.progress)[0]
            line["work"] = round(self.recipe.stage((step + 1) / self.steps)[1], 4)
        return line

    def _clip(self) -> float:
        """The norm of all gradients together; they are only touched where it is too large."""
        given = [p for p in self.parameters if p.grad is not None]
        norm = whole(nn.utils.get_total_norm([p.grad for p in given if p.grad is not None]))
        length, most = float(norm), self.recipe.clip
        if most is not None and not length < most:
            nn.utils.clip_grads_with_norm_(given, most, norm)
        return length

    def _check(self, step: int, numbers: list[float], terms: dict[str, float], norm: float) -> None:
        if all(map(math.isfinite, [*numbers, norm])):
            return
        named = ", ".join(f"{name} = {value:g}" for name, value in terms.items())
        raise Diverged(
            f"step {step + 1}: the loss is not a finite number ({named}; gradient norm {norm:g}). "
            f"Lower the learning rate, e.g. --set base_learning_rate={self.recipe.base_learning_rate / 3:.1g}"
        )

    def run(
        self, keeper: Keeper | None = None, listen: Callable[[dict[str, Any]], None] | None = None, start: int = 0
    ) -> None:
        """All steps from `start`, kept by `keeper`, each told to `listen`.

        Raises:
            Interrupted: on Ctrl-C or SIGTERM, after a checkpoint was written.
        """
        self.objective.train()
        started = saved = time.monotonic()
        with watch_signals() as caught, self._reading_ahead():
            for step in range(start, self.steps):
                try:
                    line = self.step(step)
                except Unreachable:  # nothing of this step is done; several processes cannot agree on a checkpoint now
                    if keeper is not None and step > start and distributed.world() == 1:
                        self.save(keeper, step)
                    raise
                line["seconds"] = round(time.monotonic() - started, 3)
                line["items_per_second"] = round(
                    (step + 1 - start) * self.recipe.batch_size / max(1e-9, line["seconds"]), 1
                )
                if listen is not None:
                    listen(line)
                saved = between_steps(self, keeper, step + 1, saved, caught)

    @contextmanager
    def _reading_ahead(self) -> Iterator[None]:
        """Of a stream; ends with whatever ends the run."""
        try:
            yield
        finally:
            if isinstance(self.items, InWindows):
                self.items.rest()

    def save(self, keeper: Keeper, step: int) -> None:
        """Writes a checkpoint, rank 0 only; of what is shared all have a part, and it is written whole."""
        keeper.before()
        with distributed.whole_state(self.objective):
            if distributed.rank() == 0 or self.share:
                save_state(keeper.state, step, self.objective, self.optimizer, notes=keeper.notes)
        distributed.await_first()

    def resume(self, keeper: Keeper) -> int:
        """Loads the newest checkpoint that verifies and returns its step; 0 where there is none."""
        folder = keeper.newest()
        if folder is None:
            return 0
        step = load_state(folder, self.objective, self.optimizer)
        distributed.take_part(self.objective)
        return step

    def seconds_per_step(self, least: int = 2, at_least_seconds: float = 1.0) -> float:
        """The mean over a run: times a few steps of each stage and puts everything back as it was."""
        weights = {name: value.detach().clone() for name, value in self.objective.state_dict().items()}
        self.objective.train()
        stages = self.recipe.stages
        passed, mean, step = 0.0, 0.0, 0
        with self._reading_ahead():
            for share, _ in stages:
                middle = Moment(round(1000 * (passed + share / 2)), 1000) if len(stages) > 1 else None
                times: list[float] = []
                while distributed.any_rank(int(len(times) <= least or sum(times) < at_least_seconds / len(stages)))[0]:
                    begun = time.perf_counter()
                    with suppress(Diverged):  # took as long; whoever trains is told
                        self.step(step % max(1, self.steps), middle)
                    if self.device.type == "cuda":
                        torch.cuda.synchronize()
                    times.append(time.perf_counter() - begun)
                    step += 1
                passed += share
                mean += share * sum(times[1:]) / len(times[1:])
        self.objective.load_state_dict(weights)
        self.optimizer = build_optimizer(self.objective, self.recipe)
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        return mean


def between_steps(loop: Any, keeper: Keeper | None, done: int, saved: float, caught: list[int]) -> float:
    """Saves where it is time to or the last step is done, and obeys a signal; all processes together.

    Args:
        loop: a `Loop` or an `Alternation`. done: its steps so far. saved: when it last was, by `time.monotonic`.
        caught: signals, see `watch_signals`.

    Returns:
        When it was last saved.

    Raises:
        Interrupted: on a signal, after the checkpoint.
    """
    distributed.await_first()  # who has looked at the model meanwhile
    late = keeper is not None and time.monotonic() - saved > keeper.every
    number, due = distributed.any_rank(caught[0] if caught else 0, int(late))
    if keeper is not None and (number or due or done == loop.steps):
        loop.save(keeper, done)
        saved = time.monotonic()
    if number:
        raise Interrupted(number, done, keeper is not None)
    return saved


def train(
    objective: Objective, items: Items, recipe: Recipe, *, steps: int, seed: int = 0, device: torch.device | str = "cpu",
    shards: int = 8, keeper: Keeper | None = None, listen: Callable[[dict[str, Any]], None] | None = None,
) -> Loop:  # fmt: skip
    """Minimizes an objective over items; the objective is changed in place.

    The order of items is a function of (seed, epoch), what is hidden of (seed, step, shard), so a run that was stopped and resumed
    ends as one that never stopped.

    Args:
        objective: already fitted to the data (`Objective.fit_parts`).
        items: what it learns from.
        recipe: how.
        steps: optimizer steps of the whole run.
        seed: with settings and data it decides everything.
        device: "cpu", "cuda", "mps".
        shards: see `Loop`.
        keeper: where to keep checkpoints; None trains in memory.
        listen: is told the log line of every step.
    """
    loop = Loop(objective, items, recipe, steps=steps, seed=seed, device=device, shards=shards)
    start = loop.resume(keeper) if keeper is not None and keeper.resume else 0
    loop.run(keeper, listen, start)
    return loop


def _rows(t: Any, start: int, stop: int) -> Any:
    if isinstance(t, Tensor):
        return t[start:stop]
    return {name: part[start:stop] for name, part in t.items()}
