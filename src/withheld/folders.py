"""What a folder is that is none of the kind asked for, and what to give instead."""

from __future__ import annotations

from pathlib import Path

from withheld.wording import plural

HOLD_ENCODERS = ("run.json", "config.json", "encoder/config.json", "model.json")


def no_encoder(path: Path) -> str:
    """Why there is no encoder in what is there, with what to give instead; "" where there is one, or nothing is known."""
    if not path.exists() or path.suffix == ".json" or any((path / each).is_file() for each in HOLD_ENCODERS):
        return ""
    return what_it_is(path)


def what_it_is(folder: Path) -> str:
    """Why this is no run, with what to give instead where that can be told; "" for a folder nothing is known of."""
    if folder.is_file():
        return f"it is a file, and a run is a folder{_run_around(folder)}"
    if not folder.is_dir():
        return "no such folder"
    if (folder / "model.json").is_file():
        return "it is a model, as withheld finetune makes them, for withheld predict and export; give the run it was made from"
    if around := _run_around(folder):
        return f"it is a part of one{around}"
    runs = sorted(path.parent for path in folder.glob("*/run.json"))
    if runs:
        return f"it holds {plural(len(runs), 'run')}: name {'one of them, such as ' if len(runs) > 1 else ''}{runs[0]}"
    return ""


def _run_around(path: Path) -> str:
    """The run that a file or folder is a part of, as a hint."""
    return next((f": give {near}" for near in path.parents[:2] if (near / "run.json").is_file()), "")
