"""From data and a method to a run folder: what `withheld.pretrain` does, step by step."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from withheld import continuing, distributed
from withheld.asked import Asked, check_asked, check_single, check_thrift
from withheld.errors import Diverged, InputError, RankFailed, Terminated
from withheld.latent import LatentModel
from withheld.learn.care import Care, Sick
from withheld.learn.checkpoint import Keeper, save_folder, tensors_of, write_json
from withheld.learn.gradient import Interrupted, Loop
from withheld.learn.illness import facts_of
from withheld.learn.memory import recompute
from withheld.learn.schedule import seed_everything
from withheld.learn.sharding import fill, hollow
from withheld.learn.watch import Patient, Watch, appointed, watched
from withheld.lock import locked
from withheld.modalities.modality import modality_named
from withheld.objective import Objective
from withheld.provenance import command_line, commit_of_code, fitted_of, now, versions
from withheld.resuming import existing, same_run, taken_up
from withheld.run import (
    Listen,
    Run,
    known_settings,
    load_method,
    modality_of,
    pick_device,
    split_settings,
)
from withheld.skipped import add_skipped, list_skipped
from withheld.types import Recipe, map_tensors

DEFAULT_MINUTES = 10.0
PACE = 0.95  # a few timed steps are faster than a long run with its vitals and checkpoints
ENOUGH_BATCHES = 4  # a data set smaller than this many batches gets a smaller batch


class Pretraining:
    """One pretraining run.

    Args:
        method: a name or an `Objective`.
        data: see `withheld.pretrain`.
        out: the run folder.
        asked: what the caller asked for.
        device: see `pick_device`.
        listen: is told what happens.
    """

    def __init__(self, method: Any, data: Any, out: Path, asked: Asked, device: str, listen: Listen) -> None:
        self.method, self.data, self.out, self.asked = method, data, out, asked
        self.device = torch.device(pick_device(device))
        self.listen = listen
        self.settings: dict[str, Any] = {}
        self.method_settings: dict[str, Any] = {}
        self.reached = 0  # the step that a resumed run would begin with, as far as is known

    def start(self, resume: bool, dry_run: bool, pictures: bool, save_every: float) -> Run:
        """Does it all; see `withheld.pretrain`."""
        check_asked(self.method, self.asked)
        distributed.start(self.device)
        first = distributed.rank() == 0
        with distributed.failures(), contextlib.nullcontext() if dry_run or not first else locked(self.out):
            kept = distributed.from_first(existing(self.out, resume) if first and not dry_run else None)
            if kept is not None:
                self.asked = taken_up(self.asked, Asked.from_json(kept["given"]))
            self._build(kept)
            self._plan(kept)
            if dry_run:
                return Run(self.out, self.settings)
            if kept is not None:
                self.settings = same_run(kept, self.settings, self.out)
            elif first:
                self._begin()
            with self._told():
                self._train(resume, save_every)
                self._put_together()
                if first:
                    self._keep(pictures)
                distributed.await_first()
        return Run(self.out, self.settings)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever ends the run stands in status.json, with the exit code and whether it can be resumed."""
        try:
            with distributed.failures():
                yield
        except (Interrupted, Sick) as stop:
            self.reached = stop.step
            self._status("stopped" if isinstance(stop, Interrupted) else "sick", True, str(stop), stop.exit_code)
            self._put_together()
            if distributed.rank() == 0:
                self._save_model()
            raise
        except KeyboardInterrupt as stop:
            self._status("stopped", True, "stopped before it was done", 143 if isinstance(stop, Terminated) else 130)
            raise
        except Exception as error:
            full = isinstance(error, (MemoryError, torch.OutOfMemoryError))
            code = getattr(error, "exit_code", RankFailed.exit_code if full else 1)
            self._status("diverged" if isinstance(error, Diverged) else "failed", True, str(error), code)
            raise

    def _build(self, kept: dict[str, Any] | None) -> None:
        """Data, model, recipe; a run goes on with what it began with: a stream, whatever room there is now, and the settings
        that its data decided, whatever this version would decide."""
        started, by_name = time.monotonic(), isinstance(self.method, str)
        kind = modality_named(modality_of(self.method) if by_name else "image")
        self.modality = kind(self.data, self.asked, self.device, self._tell)
        self.device = self.modality.device
        self.modality.stream = self.asked.stream or bool(kept and kept["data"].get("streamed"))
        if self.modality.stream and not self.modality.streams:
            raise InputError(
                f"--stream: images and blocks of text are streamed; a {self.modality.name} run prepares its data once"
            )
        first = self.modality.open(self.method if by_name else None)
        seed_everything(self.asked.seed)
        if by_name:
            function = load_method(self.method)
            self.method_settings, settings = split_settings(function, self.asked.settings)
            told = self.modality.told()
            self.method_settings |= {key: told[key] for key in told if kept is None or key in kept["settings"]}
            if settings.get("lora"):
                self.modality.adapt(first, int(settings["lora"]))
            self.model, recipe = function(first, **self.method_settings)
        else:
            settings = dict(self.asked.settings)
            if settings.get("lora"):
                raise InputError(
                    f"lora={settings['lora']}: of an objective of your own, put adapters into its trunk yourself "
                    "(withheld.networks.adapters.adapt) before you make it"
                )
            self.model, recipe = self.method, Recipe(betas=(0.9, 0.95), warmup=0.1)
        self.prepare_seconds = time.monotonic() - started
        # texts go on as their papers do: vectors of sentences are learned from a language model at the full rate
        trained = getattr(self.modality, "pretrained", False) and self.modality.name != "text"
        recipe = continuing.safe(recipe) if trained and by_name else recipe
        self.recipe = dataclasses.replace(recipe, **settings)
        if note := continuing.checked(self.recipe, trained):
            self._tell("note", text=note)
        if isinstance(self.model, Objective):
            self.modality.asks = self.model.split.asks
        self.modality.feed(self.recipe)
        # Weights of which each process takes a share go to the device layer by layer, in the loop.
        place = torch.device("cpu") if self.asked.shard else self.device
        self.model.to(place)
        self.modality.examine(self.model)
        if isinstance(self.model, LatentModel):
            self.model = self.model.fitted(self.modality.sample)
            self.method_settings |= self.model.found
        else:
            self.modality.tell_units(self.model)
            for remark in self.model.split.remarks(self.modality.sample):
                self._tell("note", text=remark)
            self.model.fit_parts(map_tensors(lambda part: part.to(place), self.modality.sample))
        self.model.to(place)
        self.modality.check(self.model)
        self.recipe = self.recipe.change(batch_size=self._batch_size())

    def _batch_size(self) -> int:
        if self.asked.batch_size is not None:
            return int(self.asked.batch_size)
        batch = self.recipe.batch_size
        if self.recipe.order == "streams":
            return batch
        if isinstance(self.model, LatentModel):
            return batch  # a slice of a pass, not a step
        while batch > 8 and batch * ENOUGH_BATCHES > len(self.modality.items):
            batch //= 2
        return batch

    def _plan(self, kept: dict[str, Any] | None) -> None:
        self.recipe = Recipe.of(kept["recipe"]) if kept else self.recipe  # whatever this version would take
        steps = kept["steps"] if kept else self._steps()
        # More processes than shards take as many shards, and the run keeps them, whatever resumes it.
        pieces = int(self.asked.accumulate or (kept or {}).get("accumulate", 1))
        shards = kept["shards"] if kept else max(8, distributed.world() * pieces)
        self.loop = _loop_of(self.model)(
            self.model, self.modality.items, self.recipe, steps=steps or 1000, seed=self.asked.seed, device=self.device,
            shards=shards, **self._thrift(pieces),
        )  # fmt: skip
        check_single(self.loop)
        self.shards = self.loop.shards
        if steps is None:
            self._tell("timing")
            seconds = 60 * (self.asked.minutes or DEFAULT_MINUTES)
            steps = max(1, int(distributed.from_first(PACE * seconds / self.loop.seconds_per_step())))
            if (enough := self.recipe.enough(len(self.modality.items), steps)) < steps:
                text = f"{enough} steps are enough, more would not be better; --epochs and --steps take more"
                self._tell("note", text=text)
            self.loop.steps = steps = enough
        on_sick, health = self.asked.on_sick or "warn", kept.get("health") if kept else None
        if health is None:
            if on_sick != "warn":
                self._tell("timing")
            health = appointed(self.loop, self.modality.sample, self.modality.held_out, steps, on_sick)
        by_name = isinstance(self.method, str)
        split = repr(self.model.split) if isinstance(self.model, Objective) else ""
        self.settings = {
            "method": self.method if by_name else None,
            "title": self.method if by_name else split,
            "modality": self.modality.name,
            "settings": self.method_settings,
            "split": split,
            "fitted": fitted_of(getattr(self.model, "split", None)),
            "data": {**self.modality.facts(), "prepared_seconds": round(self.prepare_seconds, 2)},
            **self.modality.model_facts(self.model),
            "seed": self.asked.seed, "steps": steps,
            "batch_size": self.recipe.batch_size, "shards": self.shards, "accumulate": pieces,
            "recompute": self.asked.recompute, "shard": self.asked.shard,
            **({"auto": self.asked.auto} if self.asked.auto else {}),
            "recipe": dataclasses.asdict(self.recipe), "minutes": self.asked.minutes, "given": self.asked.to_json(),
            "health": health, "device": str(self.device), "threads": torch.get_num_threads(), "world": distributed.world(),
            "versions": versions(),
            "commit": commit_of_code(), "command": command_line(), "started": now(),
        }  # fmt: skip
        self._tell("plan", **self.settings)

    def _thrift(self, pieces: int) -> dict[str, Any]:
        """How the loop saves memory, as it was asked to."""
        check_thrift(self.model, str(self.method), self.asked, pieces)
        if not isinstance(self.model, Objective):
            return {}
        if self.asked.shard and not self.shared:
            self._tell("note", text="--shard: one process holds everything. Start several: torchrun --nproc-per-node N")
        if self.asked.recompute:
            recompute(self.model)
        if self.shared and distributed.rank() == 0:
            self.twin = hollow(self.model)
        return {"accumulate": pieces, "share": self.shared}

    @property
    def shared(self) -> bool:
        """Whether every process has a share of the weights, and none the whole."""
        return bool(self.asked.shard) and distributed.world() > 1

    def _put_together(self) -> None:
        """Of weights in shares: the whole model, in the first process; all take part."""
        if self.shared:
            tensors = tensors_of(self.model)
            if distributed.rank() == 0:
                self.model = fill(self.twin, tensors)

    def _steps(self) -> int | None:
        if self.asked.steps is not None:
            return int(self.asked.steps)
        if self.asked.epochs is not None:
            passes = isinstance(self.model, LatentModel)
            each = 1 if passes else len(self.modality.items) / self.recipe.batch_size
            return max(1, round(self.asked.epochs * each))
        if isinstance(self.model, LatentModel) and self.asked.minutes is None:
            return max(1, round(self.recipe.epochs))
        return None

    def _begin(self) -> None:
        """What was skipped, then run.json: once that is there, there is a run to resume."""
        list_skipped(self.out, self.modality.skipped)
        write_json(self.out / "run.json", self.settings)

    def _train(self, resume: bool, save_every: float) -> None:
        keeper = Keeper(
            self.out / "state", every=save_every, resume=resume, warn=lambda text: self._tell("note", text=text)
        )
        if self.settings["data"].get("streamed"):
            keeper.before = lambda: add_skipped(self.out, self.modality.met())
        start = self.reached = self.loop.resume(keeper) if resume else 0
        if start:
            self._tell("note", text=f"resumed at step {start} of {self.loop.steps}")
        health = self.settings["health"]
        care = Care(
            self.loop, keeper, self.out, self._watch() if distributed.rank() == 0 else None, health["appointments"],
            health["on_sick"], self._tell, self._treated,
        )  # fmt: skip
        self._status("running", True)
        care.run(start)

    def _watch(self) -> Watch:
        """Over this run, by the first process."""
        sample = watched(self.modality.sample, self.recipe.batch_size) if isinstance(self.model, Objective) else None
        # Vitals are taken by one process, which has no whole weights to take them of where they are shared.
        model = torch.nn.Identity() if self.shared else self.model
        patient = Patient(model, sample, self.modality.held_out, self.loop.seconds, self.modality.copies)
        health = self.settings["health"]
        facts = facts_of(self.settings, self._knows())
        return Watch(patient, facts, health["appointments"], fixed=health["on_sick"] != "warn")

    def _knows(self) -> list[str]:
        """The settings that the method has."""
        return known_settings(load_method(self.method)) if isinstance(self.method, str) else []

    def _treated(self, treatments: list[dict[str, Any]]) -> None:
        self.settings = {**self.settings, "treatments": treatments}
        if distributed.rank() == 0:
            write_json(self.out / "run.json", self.settings)

    def _keep(self, pictures: bool) -> None:
        self._save_model()
        if pictures:
            self._tell("pictures")
            self.modality.draw(self.model.eval(), self.settings["title"], self.out)
        self.reached = self.loop.steps
        self._status("done", True)
        self._tell("done", seconds=dict(self.loop.seconds))

    def _save_model(self) -> None:
        self.modality.keep(self.model, self.settings["title"], self.out)
        save_folder(self.out / "model", {"model.safetensors": tensors_of(self.model)})

    def _status(self, state: str, resumable: bool, reason: str = "", code: int = 0) -> None:
        """Of rank 0; where a process failed, of every one, since rank 0 may be no more."""
        rank = distributed.rank()
        if rank and not (code == RankFailed.exit_code and (self.out / "run.json").is_file()):
            return
        told = {"state": state, "step": self.reached, "resumable": resumable, "reason": reason, "exit_code": code}
        write_json(self.out / "status.json", {**told, "time": now()}, f".{rank}.tmp" if rank else ".tmp")

    def _tell(self, kind: str, **event: Any) -> None:
        if distributed.rank() == 0:
            self.listen({"kind": kind, **event})


def _loop_of(model: Objective | LatentModel) -> Any:
    """The only place where the two ways to learn part: by gradients, or by alternating."""
    if isinstance(model, Objective):
        return Loop
    from withheld.learn.alternate import Alternation

    return Alternation
