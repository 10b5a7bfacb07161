"""A run: pretrain an objective on data into a folder, and open that folder again."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from withheld.aloud import Listen as Listen
from withheld.aloud import aloud
from withheld.errors import InputError, nearest
from withheld.folders import no_encoder, what_it_is
from withheld.json_lines import read_lines

# What a method's function takes first says what it learns from.
MODALITIES = {
    "ImageTrunk": "image",
    "TextTrunk": "text",
    "VideoTrunk": "video",
    "CodeTrunk": "codes",
    "LogJoint": "function",
}
METHODS = Path(__file__).parent / "methods"
RECIPE_SETTINGS = (
    "base_learning_rate", "weight_decay", "warmup", "schedule", "clip", "betas", "layer_decay", "trunk_rate", "rest",
    "lora", "tolerance", "optimizer", "matrix_rate", "hold", "decay", "most_epochs", "most_items", "progressive",
)  # fmt: skip
# What a modality may be told besides.
MODALITY_SETTINGS: dict[str, dict[str, type]] = {
    "text": {"tokenizer": str, "vocabulary": int, "held_out": float, "sentences": str},
    "video": {"frames": int, "rate": float, "motion": float, "held_out": float},
}


def method_names() -> list[str]:
    """The methods by name: the files in methods/."""
    return sorted(path.stem for path in METHODS.glob("*.py") if not path.stem.startswith("_"))


def describe_methods() -> list[dict[str, Any]]:
    """Every method's name, modality, five-part docstring and settings, read without importing it."""
    return [_describe(METHODS / f"{name}.py") for name in method_names()]


def _describe(path: Path) -> dict[str, Any]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == path.stem)
    first = (
        ast.unparse(function.args.args[0].annotation) if function.args.args and function.args.args[0].annotation else ""
    )
    defaults = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    doc = ast.get_docstring(function) or ""
    return {
        "name": path.stem,
        "modality": MODALITIES.get(first, "table"),
        "summary": doc.split("\n", 1)[0],
        "doc": doc,
        "settings": {argument.arg: ast.literal_eval(value) for argument, value in defaults if value is not None},
    }


def load_method(name: str) -> Callable[..., Any]:
    """The function of a method.

    Raises:
        InputError: for an unknown name, with the nearest.
    """
    if name not in method_names():
        raise InputError(f"no method is called {name!r}: {nearest(name, method_names())} (see: withheld list)")
    return getattr(importlib.import_module(f"withheld.methods.{name}"), name)


def modality_of(name: str) -> str:
    """What a method learns from: "image", "table", ..."""
    return _describe(METHODS / f"{name}.py")["modality"]


def modality_settings(name: str) -> dict[str, type]:
    """What the modality of a method may be told, with its type."""
    return MODALITY_SETTINGS.get(modality_of(name), {}) if name in method_names() else {}


def default_encoder(name: str, device: str = "cpu") -> str | None:
    """The preset that a method takes where `--encoder auto` was given: its file may define ENCODER, also by device."""
    found = constant(name, "ENCODER", None)
    return found.get(device, found["cpu"]) if isinstance(found, dict) else found


def constant(name: str, what: str, otherwise: Any) -> Any:
    """What a method's file says of itself beside its function."""
    return getattr(importlib.import_module(f"withheld.methods.{name}"), what, otherwise)


def pick_device(device: str = "auto") -> str:
    """ "auto" takes cuda, then mps, then cpu.

    Raises:
        InputError: for a device this machine does not have.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"--device {device}: not on this machine ({str(error).splitlines()[0]}). Use --device auto"
        ) from None
    return device


@dataclass
class Run:
    """A run folder.

    Attributes:
        folder: where it is.
        settings: its run.json.
    """

    folder: Path
    settings: dict[str, Any] = field(repr=False)

    def encoder(self) -> Any:
        """The trained `Encoder`.

        Raises:
            InputError: where runs of this kind keep none.
        """
        return load_encoder(self.folder)

    def objective(self) -> Any:
        """The whole trained `Objective` or `LatentModel`, for pictures.

        Raises:
            InputError: where the run was trained with an objective of the user's own, whose code is not in the folder, or was
                killed before it kept anything.
        """
        from withheld.learn.checkpoint import load_tensors
        from withheld.modalities.modality import modality_named
        from withheld.provenance import refitted

        if self.settings["method"] is None:
            raise InputError(
                f"{self.folder}: trained with an objective of your own; build it again and load model/model.safetensors"
            )
        if not (self.folder / "model" / "model.safetensors").is_file():
            raise InputError(f"{self.folder}: this run has kept no model yet. {self.unfinished() or 'Learn it again'}")
        first, blank = modality_named(self.settings["modality"]).first(self.settings, self.folder)
        objective, _ = load_method(self.settings["method"])(first, **self.settings["settings"])
        if blank is not None:
            objective.fit_parts(_asked(blank, objective, self.settings["data"]))
        if self.settings.get("fitted"):
            objective.split = refitted(objective.split, self.settings["fitted"])
        load_tensors(objective, self.folder / "model" / "model.safetensors")
        return objective.eval()

    def unfinished(self) -> str:
        """What to say of a run that stopped before its end, with the remedy; "" where it is done."""
        try:
            status = json.loads((self.folder / "status.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        if not isinstance(status, dict) or status.get("state") in (None, "done"):
            return ""
        return (
            f"{self.folder} is not finished (step {int(status.get('step') or 0):,} of {self.settings['steps']:,}): "
            f"continue it with withheld pretrain ... --out {self.folder} --resume"
        )

    def log(self) -> list[dict[str, Any]]:
        """The lines of log.jsonl."""
        return read_lines(self.folder / "log.jsonl")

    def results(self) -> list[dict[str, Any]]:
        """The lines of results.jsonl."""
        return read_lines(self.folder / "results.jsonl")


def open_run(folder: str | Path) -> Run:
    """Opens a run folder.

    Raises:
        InputError: where it is none.
    """
    folder = Path(folder).expanduser()
    path = folder / "run.json"
    if not path.is_file():
        made = f". A run is what `withheld pretrain ... --out {folder}` makes"
        what = what_it_is(folder) or f"no run.json in it{made}"
        raise InputError(f"{folder} is not a run: {what}{'' if folder.exists() else made}")
    try:
        return Run(folder, json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from None


def _check_keeps_encoder(folder: Path, settings: dict[str, Any]) -> None:
    modality = settings.get("modality", "image")
    groups = f"which row belongs to what: withheld predict {folder} DATA -o groups.csv; " if modality == "table" else ""
    if modality not in ("image", "text", "video"):
        raise InputError(
            f"{folder}: a run of {settings.get('title') or settings.get('method')} keeps a model of items, and no encoder; "
            f"{groups}new items from it: withheld sample {folder}"
        )


def load_encoder(where: str | Path) -> Any:
    """The `Encoder` of a run folder, an encoder folder, or a transformers id.

    Raises:
        InputError: where there is none.
    """
    from withheld.encoder import Encoder

    folder = Path(where).expanduser()
    kept = (folder / "encoder" / "config.json").is_file()
    if (folder / "run.json").is_file() and not kept:
        _check_keeps_encoder(folder, open_run(folder).settings)
        raise InputError(
            f"{folder}: this run has no encoder yet. Finish it: withheld pretrain ... --out {folder} --resume"
        )
    if what := no_encoder(folder):
        raise InputError(f"{folder} is no encoder: {what}")
    return Encoder.open(folder / "encoder" if kept else folder if folder.exists() else where)


def pretrain(
    method: Any,
    data: Any,
    out: str | Path,
    *,
    encoder: Any = "auto",
    minutes: float | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    size: int | str = "auto",
    settings: dict[str, Any] | None = None,
    seed: int = 0,
    labels: str | Path | None = None,
    on_sick: str | None = None,
    stream: bool = False,
    accumulate: int | None = None,
    recompute: bool = False,
    shard: bool = False,
    resume: bool = False,
    dry_run: bool = False,
    device: str = "auto",
    save_every: float = 120.0,
    pictures: bool = True,
    listen: Listen | bool = True,
) -> Run:
    """Learns from unlabelled data by hiding a part of it, and keeps the encoder in a run folder.

    Args:
        method: a method's name, such as "mae", "auto" (chosen by withheld/auto_rules.py), or an `Objective` of your own.
        data: a folder, archive, IDX or Parquet file, an address of shards ("s3://bucket/*.parquet"), `hf:NAME`, or what
            Python holds: arrays, tensors, lists, tables of pandas, a torch or `datasets` Dataset. Labels are never read.
        out: the run folder to make.
        encoder: "auto", a preset ("vit-nano"), a transformers id, a folder or config, or a model in memory.
        minutes, epochs, steps: how long, one of the three; 10 minutes where none is given.
        batch_size: items of an optimizer step over all processes; the method's where None.
        size: side of the images in pixels; "auto" is native up to 64, else 96 on a CPU and 224 on a GPU.
        settings: of the method (ratio=0.6) or its recipe (base_learning_rate=5e-4).
        seed: with settings and data it decides everything.
        labels: of some of the rows, for methods that take them (mixture): a csv with the columns row and label (file and label,
            where rows are files), or a column of the table; None reads none.
        on_sick: what to do about an illness (see `withheld doctor`): "warn" (the default) says so, "stop" stops after a checkpoint,
            "fix" applies the documented remedy and goes on.
        stream: decodes images (Parquet, tar, hf:), or tokenizes blocks of text (JSON lines and .txt too), as they are needed, shard
            by shard, and prepares nothing on the disk; as is done with images in any case where the prepared cache has no room
            for them. Of hf:NAME nothing is downloaded whole.
        accumulate: pieces of a batch whose gradients are added up, so a large batch needs the memory of a small one; None is 1.
        recompute: keeps what goes into every layer only and computes the rest again: less memory, a third more time.
        shard: under torchrun each process holds its share of weights, gradients and optimizer (FSDP2). Checkpoints stay whole.
        resume: continues the run in `out`; the settings must be those it began with.
        dry_run: plans and times the run, trains nothing, writes nothing.
        device: "auto", "cpu", "cuda", "mps".
        save_every: seconds between two checkpoints; they do not change the result.
        pictures: whether to draw the pictures of the report at the end.
        listen: True shows progress and notes on stderr; False is silent; a function is told what happens, as dicts with a "kind":
            prepare, plan, step, note, done.

    Returns:
        The run.

    Raises:
        InputError: bad data or settings. CannotWrite, RunInUse: the folder. Diverged: the loss is not finite.
        Interrupted: Ctrl-C or SIGTERM, after a checkpoint. Sick: with on_sick="stop".
    """
    from withheld.asked import Asked
    from withheld.auto import AUTO, Choice, decide
    from withheld.pretraining import Pretraining

    asked = Asked(
        encoder=encoder, minutes=minutes, epochs=epochs, steps=steps, batch_size=batch_size, size=size,
        settings=dict(settings or {}), seed=seed, labels=None if labels is None else str(labels), on_sick=on_sick,
        stream=stream, accumulate=accumulate, recompute=recompute, shard=shard,
    )  # fmt: skip
    with aloud(listen) as hear:
        if isinstance(method, str) and method == AUTO:
            method = decide(
                data, minutes=minutes, encoder=encoder, size=size, batch_size=batch_size, device=device, stream=stream
            )
        if isinstance(method, Choice):
            for line in method.lines():
                hear({"kind": "note", "text": line})
            method, asked = method.method, method.asked(asked)
        job = Pretraining(method, data, Path(out).expanduser(), asked, device, hear)
        return job.start(resume, dry_run, pictures, save_every)


def known_settings(function: Callable[..., Any]) -> list[str]:
    """The settings that a method has."""
    return [name for name, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY]


def split_settings(function: Callable[..., Any], settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of a method and of its recipe.

    Raises:
        InputError: for a key neither has, with the nearest.
    """
    known = known_settings(function)
    more = modality_settings(function.__name__)
    everything = [*known, *RECIPE_SETTINGS, *more]
    unknown = [key for key in settings if key not in everything]
    if unknown:
        raise InputError(
            f"--set {unknown[0]}=...: {function.__name__} has no such setting, {nearest(unknown[0], everything)}"
        )
    method = {key: value for key, value in settings.items() if key in known}
    return method, {key: value for key, value in settings.items() if key not in known and key not in more}


def _asked(blank: Any, objective: Any, data: dict[str, Any]) -> Any:
    """A blank batch with what a split asks for besides: the numbers of the first and the last item."""
    import torch

    if "id" not in objective.split.asks:
        return blank
    return {"item": blank, "id": torch.tensor([0, data["items"] - 1])}
