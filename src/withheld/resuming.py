"""Going on with a run: what is asked now must be what it began with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from withheld.asked import Asked
from withheld.errors import InputError
from withheld.run import open_run

BEFORE_A_RUN = {"run.lock", "run.lock.json", "skipped.jsonl", "status.json", "run.json.tmp"}
"""What one killed in its first moments leaves."""
UNTOUCHED = vars(Asked())
LENGTHS = ("minutes", "epochs", "steps")
FREE = ("on_sick", "recompute", "shard")
"""What may differ: care as far as `_care` allows, and what changes where numbers are kept, but not what they are."""


def existing(out: Path, resume: bool) -> dict[str, Any] | None:
    """run.json of the run that is there; None where none is.

    Raises:
        InputError: where one is there that is not to be continued, or something else.
    """
    if not (out / "run.json").is_file():
        inside = [p for p in out.iterdir() if p.name not in BEFORE_A_RUN] if out.is_dir() else []
        if inside:
            raise InputError(f"--out {out} is not empty and holds no run ({inside[0].name} ...): choose another folder")
        return None
    kept = open_run(out).settings
    if not resume:
        raise InputError(f"{out} holds a run already: continue it with --resume, or choose another --out")
    return kept


def taken_up(asked: Asked, began: Asked) -> Asked:
    """What is asked now, and what the run began with where nothing is asked: `--resume` needs no other option."""
    kept = {*FREE, *(LENGTHS if asked.lengths else ())}
    free = [name for name, value in vars(asked).items() if name not in kept and value == UNTOUCHED[name]]
    found = {name: getattr(began, name) for name in free}
    return replace(asked, **{**found, "settings": {**began.settings, **asked.settings}})


def same_run(kept: dict[str, Any], now: dict[str, Any], out: Path) -> dict[str, Any]:
    """The settings to go on with: those of run.json.

    Args:
        kept: run.json. now: what it would be of what is asked now; its "given" is compared where it was given at all.

    Raises:
        InputError: naming every difference.
    """
    changes = _other_data(kept["data"], now["data"])
    if kept["method"] != now["method"]:
        changes.append(f"method: {kept['method']} -> {now['method']}")
    began = {**kept["given"], "accumulate": kept.get("accumulate", 1)}
    for key, value in now["given"].items():
        if key not in FREE and value != UNTOUCHED[key] and value != began.get(key):
            changes.append(f"{key}: {began.get(key)} -> {value}")
    health = _care(kept, now, changes)
    if changes:
        remedy = "\nleave out what differs, so that it goes on as it began, or begin another run with another --out"
        raise InputError(f"{out} cannot be resumed with other settings or data:\n  " + "\n  ".join(changes) + remedy)
    return {**kept, "health": health}


def _other_data(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """How the data differ from what a run began with; nothing where they do not."""
    if before["fingerprint"] == after["fingerprint"]:
        return []
    told = [
        f"data: began with {before['location']}, whose files were others (fingerprint {before['fingerprint'][:12]})"
    ]
    for name in sorted((before.keys() & after.keys()) - {"fingerprint", "prepared_seconds"}):
        if isinstance(before[name], (str, int)) and before[name] != after[name]:
            told.append(f"data, {name}: {before[name]} -> {after[name]}")
    return told


def _care(kept: dict[str, Any], now: dict[str, Any], changes: list[str]) -> dict[str, Any]:
    """Warning and stopping change nothing that is computed, remedies do."""
    asked = now["given"].get("on_sick")
    health = {**now["health"], **kept.get("health", {})}
    if asked is None or asked == health["on_sick"]:
        return health
    if "fix" in (asked, health["on_sick"]) and "health" in kept:
        changes.append(f"on_sick: {health['on_sick']} -> {asked}: remedies change what is computed")
    return {**health, "on_sick": asked}
