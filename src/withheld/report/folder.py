"""Reads what a run folder holds, forgiving what is missing and saying what is damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from withheld.errors import InputError
from withheld.folders import what_it_is
from withheld.report.clean import shorten


@dataclass
class Contents:
    """What was found in a run folder; `notes` says what was damaged and left out."""

    folder: Path
    run: dict[str, Any] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    scores: list[dict[str, Any]] = field(default_factory=list)
    shortcuts: list[dict[str, Any]] = field(default_factory=list)
    verdict: dict[str, Any] = field(default_factory=dict)
    detection: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, dict[str, Any]] = field(default_factory=dict)
    evaluations: int = 0
    skipped: list[dict[str, Any]] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    pictures: list[dict[str, Any]] = field(default_factory=list)
    sweep: dict[str, Any] = field(default_factory=dict)
    words: dict[str, Any] = field(default_factory=dict)
    sentences: dict[str, Any] = field(default_factory=dict)
    likelihood: dict[str, Any] = field(default_factory=dict)
    glue: dict[str, Any] = field(default_factory=dict)
    near_words: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_folder(folder: Path) -> Contents:
    """Reads a run folder.

    Raises:
        InputError: there is no such folder, it holds nothing of ours, or run.json is damaged.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder: a report is made of a run folder, as `withheld pretrain --out` writes it"
        )
    known = ("run.json", "results.jsonl", "sweep.json")
    if not any((folder / name).is_file() for name in known):
        what = what_it_is(folder) or "is it the folder that was given as --out?"
        raise InputError(f"{folder} holds no {', '.join(known[:-1])} or {known[-1]}: {what}")
    found = Contents(folder)
    found.run = _object(folder / "run.json", found.notes, must=True)
    found.status = _object(folder / "status.json", found.notes)
    found.sweep = _object(folder / "sweep.json", found.notes)
    found.log = _steps(_lines(folder / "log.jsonl", found.notes))
    found.skipped = list(_lines(folder / "skipped.jsonl", found.notes))
    _read_results(found)
    found.words = _object(folder / "pictures" / "words.json", found.notes)
    found.sentences = _object(folder / "pictures" / "sentences.json", found.notes)
    found.near_words = _object(folder / "pictures" / "near_words.json", found.notes)
    found.glue = _object(folder / "glue.json", found.notes)
    found.pictures = _pictures(folder / "pictures" / "index.json", found.notes)
    return found


def number(value: Any) -> float | None:
    """A finite number, or None for everything else (a bool is not a number here)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        value = float(value)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object, or an empty one for everything else."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a JSON array."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(value: Any) -> list[str]:
    """The strings of a JSON array."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def _object(path: Path, notes: list[str], must: bool = False) -> dict[str, Any]:
    try:
        value = json.loads(_read_text(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        reason = f"{path} cannot be read ({shorten(error, 120)})"
        if must:
            raise InputError(
                f"{reason}: the run's settings are lost; restore the file or run again into another folder"
            ) from error
        notes.append(f"{path.name} is damaged and was left out")
        return {}
    if isinstance(value, dict):
        return value
    if must:
        raise InputError(
            f"{path} should hold a JSON object, it holds a {type(value).__name__}: restore the file or run again"
        )
    notes.append(f"{path.name} is damaged and was left out")
    return {}


def _lines(path: Path, notes: list[str]) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file, a line each; lines that are none are counted in a note."""
    damaged: list[int] = []
    if path.is_file():
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            for at, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError):
                    value = None
                if isinstance(value, dict):
                    yield value
                else:
                    damaged.append(at)
    if damaged:
        some = ", ".join(map(str, damaged[:5])) + (", …" if len(damaged) > 5 else "")
        lines = "line" if len(damaged) == 1 else "lines"
        notes.append(f"{path.name}: {len(damaged)} damaged {lines} left out ({lines} {some})")


def _steps(lines: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Logged steps in order; a step logged twice (stopped, then resumed) counts once, as it was last."""
    by_step: dict[float, dict[str, Any]] = {}
    for line in lines:
        step = number(line.get("step"))
        if step is not None:
            by_step[step] = line
    return [by_step[step] for step in sorted(by_step)]


def _read_results(found: Contents) -> None:
    """Takes the scores of the latest evaluation; the ones before it are only counted."""
    lines = list(_lines(found.folder / "results.jsonl", found.notes))
    verdicts = [line for line in lines if line.get("kind") == "verdict"]
    scores = [line for line in lines if line.get("kind") == "score" and number(line.get("value")) is not None]
    found.verdict = verdicts[-1] if verdicts else {}
    found.likelihood = next((line for line in reversed(lines) if line.get("kind") == "likelihood"), {})
    found.evaluations = len(verdicts)
    probed = [line for line in lines if line.get("kind") == "shortcut"]
    found.shortcuts = [line for line in probed if line.get("probe") == probed[-1].get("probe")]
    found.measured = {str(line.get("what")): line for line in lines if line.get("kind") == "measured"}
    found.detection = next((line for line in reversed(lines) if line.get("kind") == "detection_verdict"), {})
    wanted: Callable[[dict[str, Any]], bool]
    if found.verdict and "evaluation" in found.verdict:
        wanted = lambda score: score.get("evaluation") == found.verdict["evaluation"]  # noqa: E731
    else:
        last = scores[-1].get("evaluation") if scores else None
        wanted = lambda score: score.get("evaluation") == last  # noqa: E731
    found.scores = [score for score in scores if wanted(score)]


def _pictures(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    try:
        listed = json.loads(_read_text(path))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError):
        notes.append("pictures/index.json is damaged: the pictures were left out")
        return []
    return [item for item in objects(listed) if isinstance(item.get("file"), str)]
