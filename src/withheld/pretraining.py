"""From data and a method to a run folder: what `withheld.pretrain` does, step by step."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from withheld import distributed
from withheld.data.image import ImageItems, native_size
from withheld.data.prepared import Prepared, prepare
from withheld.data.source import Source, open_source
from withheld.encoder import Encoder, normalization_of
from withheld.errors import Diverged, InputError, WithheldError
from withheld.learn.checkpoint import save_folder, tensors_of, write_json, writing
from withheld.learn.gradient import Interrupted, Keeper, Loop
from withheld.learn.health import vitals
from withheld.learn.log import Log
from withheld.learn.schedule import seed_everything, shards_for
from withheld.networks.open import PRESETS, open_trunk
from withheld.objective import Objective
from withheld.provenance import command_line, commit_of_code, location_of, now, plain, versions
from withheld.run import Listen, Run, default_encoder, load_method, locked, open_run, pick_device, split_settings
from withheld.types import Recipe

DEFAULT_MINUTES = 10.0
VITALS = 20  # times a run
PACE = 0.95  # a few timed steps are faster than a long run with its vitals and checkpoints
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

    def start(self, resume: bool, dry_run: bool, pictures: bool, save_every: float) -> Run:
        """Does it all; see `withheld.pretrain`."""
        self._check_settings()
        distributed.start(self.device)
        first = distributed.rank() == 0
        with contextlib.nullcontext() if dry_run or not first else locked(self.out):
            kept = self._existing(resume, dry_run)
            self._open_data()
            self._build()
            self._plan(kept)
            if dry_run:
                return Run(self.out, self.settings)
            self._compare(kept)
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
        if not isinstance(self.method, (str, Objective)):
            raise InputError(f"method must be a name or an Objective, not {type(self.method).__name__}")
        if isinstance(self.method, str):
            split_settings(load_method(self.method), self.given["settings"])

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

    def _compare(self, kept: dict[str, Any] | None) -> None:
        """On resume, what was asked now must be what the run began with."""
        if kept is None:
            return
        before = [
            f"data: began with {kept['data']['location']}, whose files were others (fingerprint {kept['data']['fingerprint'][:12]})"
        ]
        changes = before if kept["data"]["fingerprint"] != self.settings["data"]["fingerprint"] else []
        name = self.method if isinstance(self.method, str) else None
        if kept["method"] != name:
            changes.append(f"method: {kept['method']} -> {name}")
        untouched: dict[str, Any] = {"encoder": "auto", "size": "auto", "seed": 0, "settings": {}}
        for key, value in self.given.items():
            if value != untouched.get(key) and plain(value) != kept["given"].get(key):
                changes.append(f"{key}: {kept['given'].get(key)} -> {plain(value)}")
        if changes:
            raise InputError(f"{self.out} cannot be resumed with other settings or data:\n  " + "\n  ".join(changes))
        self.settings = kept

    def _open_data(self) -> None:
        source = open_source(self.data)
        train = source.part("train")
        self.source: Source = train if train is not None and len(train) else source
        if len(self.source) == 0:
            raise InputError(f"{self.data}: no items")

    def _build(self) -> None:
        """Size, prepared data, trunk, objective, recipe."""
        started = time.monotonic()
        if isinstance(self.method, Objective):
            self._prepare(self._size(None), None)
            self.objective, self.recipe = self.method, Recipe(betas=(0.9, 0.95), warmup=0.1)
            settings: dict[str, Any] = dict(self.given["settings"])
            seed_everything(self.given["seed"])
        else:
            function = load_method(self.method)
            method_settings, settings = split_settings(function, self.given["settings"])
            trunk = self._trunk()
            seed_everything(self.given["seed"])
            self.objective, self.recipe = function(trunk, **method_settings)
        self.prepare_seconds = time.monotonic() - started
        if not self.recipe.normalize:
            self.mean, self.std = [0.0] * len(self.mean), [1.0] * len(self.std)
        self.items = ImageItems(self.prepared, self.mean, self.std)
        batch: Any = self.items.batch(_spaced(len(self.items), 256), self.device)
        sample = self._sized(batch)
        self.objective.to(self.device)
        self.objective.fit_parts(sample)
        self.objective.to(self.device)
        if self.objective.trunk is None:
            raise InputError(
                "the network has no attribute `trunk`: it names the part that is kept as the encoder, e.g. withheld.Predictor"
            )
        self.recipe = dataclasses.replace(self.recipe, **settings, batch_size=self._batch_size())
        self.sample = sample

    def _trunk(self) -> Any:
        name = self.given["encoder"]
        if name == "auto":
            name = default_encoder(self.method)
        if name is None:
            name = "vit-small" if self.device.type == "cuda" else "vit-nano"
        self.encoder_name = str(name) if isinstance(name, (str, Path)) else type(name).__name__
        self.pretrained = False
        if isinstance(name, str) and name in PRESETS:
            self._prepare(self._size(None), None)
            return open_trunk(name, size=self.size, channels=self.prepared.images.shape[1], seed=self.given["seed"])[0]
        asked = None if self.given["size"] == "auto" else int(self.given["size"])
        trunk, self.pretrained = open_trunk(name, size=asked, channels=3, seed=self.given["seed"])
        self._prepare(trunk.size, trunk.channels)
        if self.pretrained:
            self.mean, self.std = normalization_of(name, trunk.channels)
        return trunk

    def _size(self, own: int | None) -> int:
        asked = self.given["size"]
        if asked != "auto":
            try:
                number = int(asked)
            except (TypeError, ValueError):
                number = 0
            if number < 8:
                raise InputError(f"--size {asked}: give the side of the images in pixels, 8 or more, or auto")
            return number
        native = max(native_size(self.source))
        if native <= 64:
            return -(-native // 4) * 4
        return 224 if self.device.type == "cuda" else 96

    def _prepare(self, size: int, channels: int | None) -> None:
        """Decodes once; photographs are kept a third larger than they are seen, so that crops stay sharp."""
        self.size = size
        stored = size if size <= 64 or isinstance(self.method, Objective) else size * 4 // 3
        if distributed.rank() != 0:
            distributed.barrier()
        self.prepared: Prepared = prepare(
            self.source, stored, channels, progress=lambda done, total: self._tell("prepare", done=done, total=total)
        )
        if distributed.rank() == 0:
            distributed.barrier()
        self.mean, self.std = list(self.prepared.mean), list(self.prepared.std)
        if self.prepared.skipped:
            self._tell(
                "note", text=f"{len(self.prepared.skipped)} of {len(self.source)} files were skipped: see skipped.jsonl"
            )

    def _sized(self, t: torch.Tensor) -> torch.Tensor:
        """Whole items (B, C, H, W) as large as the encoder sees them."""
        if t.shape[-1] == self.size:
            return t
        return F.interpolate(t, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)

    def _batch_size(self) -> int:
        if self.given["batch_size"] is not None:
            return int(self.given["batch_size"])
        batch = self.recipe.batch_size
        while batch > 8 and batch * ENOUGH_BATCHES > len(self.items):
            batch //= 2
        return batch

    def _plan(self, kept: dict[str, Any] | None) -> None:
        steps = kept["steps"] if kept else self._steps()
        trunk = self.objective.trunk
        self.loop = Loop(
            self.objective, self.items, self.recipe, steps=steps or 1000, seed=self.given["seed"], device=self.device
        )
        if steps is None:
            self._tell("timing")
            minutes = self.given["minutes"] or DEFAULT_MINUTES
            steps = max(1, int(distributed.from_first(PACE * minutes * 60 / self.loop.seconds_per_step())))
            self.loop.steps = steps
        by_name = isinstance(self.method, str)
        self.settings = {
            "method": self.method if by_name else None,
            "title": self.method if by_name else repr(self.objective.split),
            "modality": "image",
            "settings": split_settings(load_method(self.method), self.given["settings"])[0] if by_name else {},
            "split": repr(self.objective.split),
            "data": {
                "location": location_of(self.data), "kind": self.source.kind, "items": len(self.items),
                "skipped": len(self.prepared.skipped), "size": self.size, "stored": int(self.prepared.images.shape[-1]),
                "channels": int(self.prepared.images.shape[1]),
                "scale": self.prepared.scale.to_json() if self.prepared.scale else None, "fingerprint": self.prepared.fingerprint,
                "prepared_seconds": round(self.prepare_seconds, 2),
            },
            "encoder": {
                "name": getattr(self, "encoder_name", type(trunk).__name__), "pretrained": getattr(self, "pretrained", False),
                "parameters": sum(p.numel() for p in trunk.parameters()), "width": trunk.width, "depth": trunk.depth,
                "patch": trunk.patch,
            },
            "mean": self.mean, "std": self.std, "seed": self.given["seed"], "steps": steps,
            "batch_size": self.recipe.batch_size, "shards": shards_for(self.recipe.batch_size),
            "recipe": dataclasses.asdict(self.recipe), "minutes": self.given["minutes"], "given": plain(self.given),
            "device": str(self.device), "threads": torch.get_num_threads(), "world": distributed.world(), "versions": versions(),
            "commit": commit_of_code(), "command": command_line(), "started": now(),
        }  # fmt: skip
        self._tell("plan", **self.settings)

    def _steps(self) -> int | None:
        if self.given["steps"] is not None:
            return int(self.given["steps"])
        if self.given["epochs"] is not None:
            return max(1, round(self.given["epochs"] * len(self.items) / self.recipe.batch_size))
        return None

    def _begin(self) -> None:
        write_json(self.out / "run.json", self.settings)
        with writing(self.out), open(self.out / "skipped.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in self.prepared.skipped)

    def _train(self, resume: bool, save_every: float) -> None:
        keeper = Keeper(
            self.out / "state", every=save_every, resume=resume, warn=lambda text: self._tell("note", text=text)
        )
        start = self.loop.resume(keeper) if resume else 0
        if start:
            self._tell("note", text=f"resumed at step {start} of {self.loop.steps}")
        first = distributed.rank() == 0
        with Log(self.out / "log.jsonl", start) if first else contextlib.nullcontext() as log:
            every = max(1, self.loop.steps // VITALS)

            def record(line: dict[str, Any]) -> None:
                if log is None:
                    return
                if line["step"] % every == 0 or line["step"] == self.loop.steps:
                    line["vitals"] = vitals(self.objective.trunk, self.sample)
                log.write(line)
                self._tell("step", **line)

            try:
                self._status("running", start, True)
                self.loop.run(keeper, record, start)
            except Interrupted as stop:
                self._status("stopped", stop.step, True, str(stop))
                if first:
                    self._save_model()
                raise
            except Diverged as error:
                self._status("diverged", start, True, str(error))
                raise
            except WithheldError as error:
                self._status("failed", start, True, str(error))
                raise

    def _keep(self, pictures: bool) -> None:
        self._save_model()
        if pictures:
            from withheld.evaluate.pictures import draw_run

            self._tell("pictures")
            draw_run(self.objective.eval(), self.encoder(), self.prepared.images, self.prepared.names, self.out)
        self._status("done", self.loop.steps, True)
        self._tell("done", seconds=dict(self.loop.seconds))

    def _save_model(self) -> None:
        self.encoder().save(self.out / "encoder")
        save_folder(self.out / "model", {"model.safetensors": tensors_of(self.objective)})

    def encoder(self) -> Encoder:
        """The encoder as it stands."""
        flips = bool(getattr(self.objective.change, "flip", False))
        name = f"{self.settings['title']} {self.settings['encoder']['name']}"
        return Encoder(
            self.objective.trunk, self.mean, self.std, self.objective.split, name, flips, self.prepared.scale
        )

    def _status(self, state: str, step: int, resumable: bool, reason: str = "") -> None:
        if distributed.rank() == 0:
            write_json(
                self.out / "status.json",
                {"state": state, "step": step, "resumable": resumable, "reason": reason, "time": now()},
            )

    def _tell(self, kind: str, **event: Any) -> None:
        if distributed.rank() == 0:
            self.listen({"kind": kind, **event})


def _spaced(items: int, count: int) -> Any:
    import numpy as np

    return np.unique(np.linspace(0, items - 1, min(items, count)).astype(np.int64))
