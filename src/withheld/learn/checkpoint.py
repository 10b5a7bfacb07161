"""Checkpoints that are whole or absent: written aside, synced, summed, and renamed into place. Only safetensors and JSON.

A checkpoint is a directory `step-N` with MANIFEST.json, the SHA-256 of every other file in it. The newest that verifies is used.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from withheld import distributed
from withheld.errors import CannotWrite, InputError
from withheld.learn.sharding import share_like, whole

MANIFEST = "MANIFEST.json"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what a full or read-only disk raises into one clear error.

    Raises:
        CannotWrite: with the free space and the remedy.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        if number is None and "os error 28" in str(error):
            number = errno.ENOSPC
        if number is None and "os error 27" in str(error):
            number = errno.EFBIG
        if isinstance(error, SafetensorError) and number is None:
            raise
        raise CannotWrite(_cannot_write(path, number, error)) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a file beside `path` to write, which takes its place in one step at the end; of what fails nothing stays.

    Raises:
        CannotWrite: as `writing`.
    """
    aside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")  # the suffix tells many writers the format
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)


def _cannot_write(path: Path, number: int | None, error: Exception) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        folder = next((p for p in [path, *path.parents] if p.exists()), Path.cwd())
        free = shutil.disk_usage(folder).free / 2**20
        return (
            f"{path}: no space left on device ({free:.0f} MB free here). Free some space, then run again with --resume"
        )
    return f"{path}: cannot write here: {getattr(error, 'strerror', None) or error}. Choose another --out"


def write_json(path: Path, value: Any, suffix: str = ".tmp") -> None:
    """Replaces a JSON file in one step: readers see the old or the new, never a half.

    Args:
        suffix: of the name it is written under first; processes that may write the same file at once need different ones.
    """
    replace_text(path, json.dumps(value, indent=1, ensure_ascii=True), suffix)


def replace_text(path: Path, text: str, suffix: str = ".tmp") -> None:
    """The same of any text."""
    with writing(path):
        aside = path.with_name(path.name + suffix)
        with open(aside, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)


def save_folder(folder: Path, files: dict[str, Any]) -> None:
    """Writes a folder of safetensors (dicts of tensors) and JSON files (anything else), whole or not at all."""
    aside = folder.with_name(folder.name + ".tmp")
    with writing(folder):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for name, content in files.items():
            if name.endswith(".safetensors"):
                save_file({key: value.contiguous() for key, value in content.items()}, aside / name)
            else:
                (aside / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
        sums = {name: _digest(aside / name) for name in files}
        (aside / MANIFEST).write_text(_manifest(sums), encoding="utf-8")
        for name in [*files, MANIFEST]:
            _sync(aside / name)
        _sync(aside)
        before = folder.with_name(folder.name + ".old")
        shutil.rmtree(before, ignore_errors=True)
        if folder.exists():
            os.rename(folder, before)
        os.rename(aside, folder)
        _sync(folder.parent)
        shutil.rmtree(before, ignore_errors=True)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, naming the file; None where every sum is right."""
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        sums = json.loads(text)
        if not isinstance(sums, dict) or not sums or text != _manifest(sums):
            return f"{folder / MANIFEST} is damaged"
        for name, expected in sums.items():
            if Path(name).name != name or not (folder / name).is_file():
                return f"{folder / name} is missing"
            if _digest(folder / name) != expected:
                return f"{folder / name} is damaged"
        return None
    except (OSError, ValueError, RecursionError) as error:
        return f"{folder / MANIFEST} cannot be read ({error})"


def _manifest(sums: dict[str, str]) -> str:
    """Every byte of it is told by its content, so that no change of it goes unnoticed."""
    return json.dumps(sums, indent=1)


def newest(state: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that verifies, and what was wrong with those passed over."""
    passed: list[str] = []
    for folder in sorted(steps_in(state), key=step_of, reverse=True):
        problem = damage(folder)
        if problem is None:
            return folder, passed
        passed.append(problem)
    return None, passed


@dataclass
class Keeper:
    """Where and how often a run is kept.

    Attributes:
        state: folder of the checkpoints.
        every: seconds between two of them; they do not change what is computed.
        resume: whether to start from the newest that verifies.
        warn: is told of every damaged checkpoint that was passed over.
        before: is called on every rank before a checkpoint is written.
        notes: what else goes into every checkpoint and comes back with it, JSON.
    """

    state: Path
    every: float = 120.0
    resume: bool = False
    warn: Callable[[str], None] = lambda message: None
    before: Callable[[], None] = lambda: None
    notes: dict[str, Any] = field(default_factory=dict)

    def newest(self) -> Path | None:
        """The newest checkpoint that verifies, its notes taken back; every damaged one is told of."""
        folder, passed = newest(self.state)
        for problem in passed:
            self.warn(f"{problem}: passed over, using the checkpoint before it")
        self.notes = notes_of(folder) if folder else {}
        return folder


class Stateful(Protocol):
    """An optimizer, or what stands in its place."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


def save_state(
    state: Path, step: int, model: nn.Module, optimizer: Stateful, keep: int = 2, notes: dict[str, Any] | None = None
) -> Path:
    """Writes `state/step-N` and removes all but the newest `keep`; `notes` are what else to keep, JSON.

    Of rank 0; where weights are shared, all processes call it, and rank 0 writes them whole.
    """
    tensors, numbers = _flatten(optimizer.state_dict())
    weights = tensors_of(model)
    folder = state / f"step-{step}"
    if distributed.rank() > 0:
        return folder
    save_folder(
        folder,
        {
            "model.safetensors": weights,
            "optimizer.safetensors": tensors,
            "loop.json": {"step": step, "optimizer": numbers, "notes": notes or {}},
        },
    )
    for old in sorted(steps_in(state), key=step_of, reverse=True)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def load_state(folder: Path, model: nn.Module, optimizer: Stateful) -> int:
    """Loads a checkpoint that verified; returns its step.

    Raises:
        InputError: where it belongs to something else.
    """
    try:
        load_tensors(model, folder / "model.safetensors")
        loop = json.loads((folder / "loop.json").read_text(encoding="utf-8"))
        state = _unflatten(load_file(folder / "optimizer.safetensors"), loop["optimizer"])
        optimizer.load_state_dict(_shared(state, optimizer))
        return int(loop["step"])
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise InputError(
            f"{folder} is no checkpoint of this run: {error!r}. Remove it, or choose another --out"
        ) from None


def notes_of(folder: Path) -> dict[str, Any]:
    """What else was kept with a checkpoint that verified."""
    return dict(json.loads((folder / "loop.json").read_text(encoding="utf-8")).get("notes") or {})


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers on the CPU, a tensor that stands under two names once.

    Where processes have shares of them, all must ask at once; rank 0 gets them whole, and the others nothing of these.
    """
    return {name: _gathered(tensor) for name, tensor in _distinct(module).items()}


def _distinct(module: nn.Module) -> dict[str, Tensor]:
    seen: set[int] = set()
    kept = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        place = id(tensor) if distributed.in_shares(tensor) else tensor.data_ptr()  # a share may be empty
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        kept[name] = tensor
    return kept


def _gathered(tensor: Tensor) -> Tensor:
    if not distributed.in_shares(tensor):
        return tensor.detach().cpu()
    found = whole(tensor.detach())
    return found.cpu() if distributed.rank() == 0 else found.new_empty(0)


def _shared(state: dict[str, Any], optimizer: Any) -> dict[str, Any]:
    """The state of an optimizer, this process's share of it where it has shares of the weights."""
    groups = getattr(optimizer, "param_groups", [])
    for index, parameter in enumerate(p for group in groups for p in group["params"]):
        for name, value in state["state"].get(index, {}).items():
            if isinstance(value, Tensor):
                state["state"][index][name] = share_like(parameter, value)
    return state


def load_tensors(module: nn.Module, path: Path) -> None:
    """Loads what `tensors_of` kept.

    Raises:
        InputError: where the file does not belong to this network.
    """
    tensors = load_file(path)
    mine = module.state_dict(keep_vars=True)
    tensors = {name: share_like(mine[name], tensor) if name in mine else tensor for name, tensor in tensors.items()}
    try:
        missing, unexpected = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit this network: {str(error).splitlines()[-1].strip()}") from None
    unknown = set(missing) & set(_distinct(module))
    if unexpected or unknown:
        raise InputError(f"{path} does not fit this network: {sorted([*unexpected, *unknown])[:3]}")


def _flatten(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, numbers = {}, {}
    for index, entry in state["state"].items():
        for name, value in entry.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = _gathered(value)
            else:
                numbers[f"{index}.{name}"] = value
    return tensors, {"groups": state["param_groups"], "numbers": numbers}


def _unflatten(tensors: dict[str, Tensor], loop: dict[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *loop["numbers"].items()]:
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": loop["groups"]}


def steps_in(state: Path) -> list[Path]:
    """The checkpoints of a folder, in no order."""
    if not state.is_dir():
        return []
    return [f for f in state.iterdir() if f.is_dir() and f.name.startswith("step-") and f.name[5:].isdigit()]


def step_of(folder: Path) -> int:
    """The N of `step-N`."""
    return int(folder.name[5:])


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder; its rename is durable enough
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows syncs only what may be written to
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
