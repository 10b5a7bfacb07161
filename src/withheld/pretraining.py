"""From data and a method to a run folder: what `withheld.pretrain` does, step by step."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import time
from pathlib import Path
from typing import Any

import torch

from withheld import distributed
from withheld.errors import Diverged, InputError, WithheldError
from withheld.learn.care import ON_SICK, Care, Sick
from withheld.learn.checkpoint import save_folder, tensors_of, write_json, writing
from withheld.learn.gradient import Interrupted, Keeper, Loop
from withheld.learn.illness import facts_of
from withheld.learn.schedule import seed_everything, shards_for
from withheld.learn.watch import Patient, Watch, appointed, watched
from withheld.lock import locked
from withheld.modalities.modality import modality_named
from withheld.objective import Objective
from withheld.provenance import command_line, commit_of_code, now, plain, versions
from withheld.resuming import same_run
from withheld.run import (
    Listen,
    Run,
    known_settings,
    load_method,
    modality_of,
    open_run,
    pick_device,
    split_settings,
)
from withheld.types import FunctionSplit, LatentModel, Recipe

DEFAULT_MINUTES = 10.0
PACE = 0.95  # a few timed steps are faster than a long run with its vitals and checkpoints
REST, TRUNK_RATE = 0.1, 0.2  # of a run that continues from a trained encoder
ENOUGH_BATCHES = 4  # a data set smaller than this many batches gets a smaller batch


class Pretraining:
    """One pretraining run.

    Args:
        method: a name or an `Objective`.
        data: see `withheld.pretrain`.
        out: the run folder.
        given: the settings as the caller gave them.
        device: see `pick_device`.
        listen: is told what happens.
    """

    def __init__(self, method: Any, data: Any, out: Path, given: dict[str, Any], device: str, listen: Listen) -> None:
        self.method, self.data, self.out, self.given = method, data, out, given
        self.device = torch.device(pick_device(device))
        self.listen = listen
        self.settings: dict[str, Any] = {}
        self.method_settings: dict[str, Any] = {}

    def start(self, resume: bool, dry_run: bool, pictures: bool, save_every: float) -> Run:
        """Does it all; see `withheld.pretrain`."""
        self._check_settings()
        distributed.start(self.device)
        first = distributed.rank() == 0
        with contextlib.nullcontext() if dry_run or not first else locked(self.out):
            kept = self._existing(resume, dry_run)
            self._build()
            self._plan(kept)
            if dry_run:
                return Run(self.out, self.settings)
            if kept is not None:
                self.settings = same_run(kept, self.settings, self.out)
            if first and kept is None:
                self._begin()
            self._train(resume, save_every)
            if first:
                self._keep(pictures)
            distributed.barrier()
        return Run(self.out, self.settings)

    def _check_settings(self) -> None:
        lengths = {name: self.given[name] for name in ("minutes", "epochs", "steps") if self.given[name] is not None}
        if len(lengths) > 1:
            raise InputError(f"give one of minutes, epochs and steps, not {' and '.join(lengths)}")
        for name, value in {**lengths, "batch_size": self.given["batch_size"]}.items():
            if value is not None and not value > 0:
                raise InputError(f"{name}={value} must be above 0")
        if self.given["on_sick"] not in (None, *ON_SICK):
            raise InputError(f"on_sick={self.given['on_sick']!r}: one of {', '.join(ON_SICK)}")
        if not isinstance(self.method, (str, Objective)):
            raise InputError(f"method must be a name or an Objective, not {type(self.method).__name__}")
        if isinstance(self.method, str):
            split_settings(load_method(self.method), self.given["settings"])
        if self.given["labels"] is not None:
            self._check_labels()

    def _check_labels(self) -> None:
        """Labels are for methods that say in their signature that they take classes."""
        if isinstance(self.method, str) and "classes" in inspect.signature(load_method(self.method)).parameters:
            return
        raise InputError(
            f"--labels {self.given['labels']}: {self.method if isinstance(self.method, str) else 'this objective'} learns without "
            "labels; mixture takes them for some of the rows. To judge with labels: withheld evaluate; to make a classifier: "
            "withheld finetune"
        )

    def _existing(self, resume: bool, dry_run: bool) -> dict[str, Any] | None:
        if dry_run:
            return None
        if not (self.out / "run.json").is_file():
            inside = [p for p in self.out.iterdir() if not p.name.startswith("run.lock")] if self.out.is_dir() else []
            if inside and distributed.rank() == 0:
                raise InputError(
                    f"--out {self.out} is not empty and holds no run ({inside[0].name} ...): choose another folder"
                )
            return None
        kept = open_run(self.out).settings
        if not resume:
            raise InputError(f"{self.out} holds a run already: continue it with --resume, or choose another --out")
        return kept

    def _build(self) -> None:
        """Data, model, recipe."""
        started = time.monotonic()
        by_name = isinstance(self.method, str)
        kind = modality_named(modality_of(self.method) if by_name else "image")
        self.modality = kind(self.data, self.given, self.device, self._tell)
        first = self.modality.open(self.method if by_name else None)
        seed_everything(self.given["seed"])
        if by_name:
            function = load_method(self.method)
            self.method_settings, settings = split_settings(function, self.given["settings"])
            self.method_settings |= self.modality.told()
            self.model, recipe = function(first, **self.method_settings)
        else:
            settings = dict(self.given["settings"])
            self.model, recipe = self.method, Recipe(betas=(0.9, 0.95), warmup=0.1)
        self.prepare_seconds = time.monotonic() - started
        if getattr(self.modality, "pretrained", False) and by_name:
            recipe = recipe.change(rest=REST, trunk_rate=TRUNK_RATE)
        self.recipe = dataclasses.replace(recipe, **settings)
        self._check_start()
        if isinstance(self.model, Objective):
            self.modality.asks = self.model.split.asks
        self.modality.feed(self.recipe)
        self.model.to(self.device)
        self.modality.examine(self.model)
        if isinstance(self.model, LatentModel):
            self.model = self.model.fitted(self.modality.sample)
            self.method_settings |= self.model.found
        else:
            self.modality.tell_units(self.model)
            for remark in self.model.split.remarks(self.modality.sample):
                self._tell("note", text=remark)
            self.model.fit_parts(self.modality.sample)
        self.model.to(self.device)
        self.modality.check(self.model)
        self.recipe = self.recipe.change(batch_size=self._batch_size())

    def _check_start(self) -> None:
        """A trained encoder is not put at risk by heads that know nothing yet; says so."""
        if not 0 <= self.recipe.rest < 0.5:
            raise InputError(
                f"rest={self.recipe.rest}: the share of the steps in which the trunk stands still, 0 to below 0.5"
            )
        if not self.recipe.trunk_rate >= 0:
            raise InputError(f"trunk_rate={self.recipe.trunk_rate}: times the learning rate, 0 or more")
        if getattr(self.modality, "pretrained", False) and (self.recipe.rest or self.recipe.trunk_rate != 1):
            self._tell(
                "note",
                text=f"continues from a trained encoder: it stands still for the first {self.recipe.rest:.0%} of the steps while "
                f"new heads warm up, then learns at {self.recipe.trunk_rate:g} times their rate (for neither: --set rest=0 "
                "trunk_rate=1)",
            )

    def _batch_size(self) -> int:
        if self.given["batch_size"] is not None:
            return int(self.given["batch_size"])
        batch = self.recipe.batch_size
        if self.recipe.order == "streams":
            return batch
        if isinstance(self.model, LatentModel):
            return batch  # a slice of a pass, not a step
        while batch > 8 and batch * ENOUGH_BATCHES > len(self.modality.items):
            batch //= 2
        return batch

    def _plan(self, kept: dict[str, Any] | None) -> None:
        steps = kept["steps"] if kept else self._steps()
        self.loop = _loop_of(self.model)(
            self.model, self.modality.items, self.recipe, steps=steps or 1000, seed=self.given["seed"], device=self.device
        )  # fmt: skip
        if steps is None:
            self._tell("timing")
            minutes = self.given["minutes"] or DEFAULT_MINUTES
            steps = max(1, int(distributed.from_first(PACE * minutes * 60 / self.loop.seconds_per_step())))
            self.loop.steps = steps
        on_sick = self.given["on_sick"] or "warn"
        health = kept.get("health") if kept else None
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
            "fitted": _fitted(self.model),
            "data": {**self.modality.facts(), "prepared_seconds": round(self.prepare_seconds, 2)},
            **self.modality.model_facts(self.model),
            "seed": self.given["seed"], "steps": steps,
            "batch_size": self.recipe.batch_size, "shards": shards_for(self.recipe.batch_size),
            **({"auto": self.given["auto"]} if "auto" in self.given else {}),
            "recipe": dataclasses.asdict(self.recipe), "minutes": self.given["minutes"], "given": plain(self.given),
            "health": health, "device": str(self.device), "threads": torch.get_num_threads(), "world": distributed.world(),
            "versions": versions(),
            "commit": commit_of_code(), "command": command_line(), "started": now(),
        }  # fmt: skip
        self._tell("plan", **self.settings)

    def _steps(self) -> int | None:
        if self.given["steps"] is not None:
            return int(self.given["steps"])
        if self.given["epochs"] is not None:
            passes = isinstance(self.model, LatentModel)
            each = 1 if passes else len(self.modality.items) / self.recipe.batch_size
            return max(1, round(self.given["epochs"] * each))
        if isinstance(self.model, LatentModel) and self.given["minutes"] is None:
            return max(1, round(self.recipe.epochs))
        return None

    def _begin(self) -> None:
        write_json(self.out / "run.json", self.settings)
        with writing(self.out), open(self.out / "skipped.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in self.modality.skipped)

    def _train(self, resume: bool, save_every: float) -> None:
        keeper = Keeper(
            self.out / "state", every=save_every, resume=resume, warn=lambda text: self._tell("note", text=text)
        )
        start = self.loop.resume(keeper) if resume else 0
        if start:
            self._tell("note", text=f"resumed at step {start} of {self.loop.steps}")
        first = distributed.rank() == 0
        health = self.settings["health"]
        care = Care(
            self.loop, keeper, self.out, self._watch() if first else None, health["appointments"], health["on_sick"], self._tell,
            self._treated,
        )  # fmt: skip
        try:
            self._status("running", start, True)
            care.run(start)
        except (Interrupted, Sick) as stop:
            self._status("stopped" if isinstance(stop, Interrupted) else "sick", stop.step, True, str(stop))
            if first:
                self._save_model()
            raise
        except Diverged as error:
            self._status("diverged", start, True, str(error))
            raise
        except WithheldError as error:
            self._status("failed", start, True, str(error))
            raise

    def _watch(self) -> Watch:
        """Over this run, by the first process."""
        sample = watched(self.modality.sample, self.recipe.batch_size) if isinstance(self.model, Objective) else None
        patient = Patient(self.model, sample, self.modality.held_out, self.loop.seconds, self.modality.copies)
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
        self._status("done", self.loop.steps, True)
        self._tell("done", seconds=dict(self.loop.seconds))

    def _save_model(self) -> None:
        self.modality.keep(self.model, self.settings["title"], self.out)
        save_folder(self.out / "model", {"model.safetensors": tensors_of(self.model)})

    def _status(self, state: str, step: int, resumable: bool, reason: str = "") -> None:
        if distributed.rank() == 0:
            write_json(
                self.out / "status.json",
                {"state": state, "step": step, "resumable": resumable, "reason": reason, "time": now()},
            )

    def _tell(self, kind: str, **event: Any) -> None:
        if distributed.rank() == 0:
            self.listen({"kind": kind, **event})


def _fitted(model: Objective | LatentModel) -> dict[str, Any]:
    """The fields of a split as the data has made them, so that a reopened run hides as it was trained."""
    split = getattr(model, "split", None)
    if split is None or isinstance(split, FunctionSplit):
        return {}
    return plain(dataclasses.asdict(split))  # type: ignore[no-any-return]


def _loop_of(model: Objective | LatentModel) -> Any:
    """The only place where the two ways to learn part: by gradients, or by alternating."""
    if isinstance(model, Objective):
        return Loop
    from withheld.learn.alternate import Alternation

    return Alternation
