"""What ailed the run: the vitals of every checkup, as a table over the steps, and reasons with cures."""

from __future__ import annotations

from typing import Any

from withheld.report.clean import one_line, shorten
from withheld.report.folder import Contents, mapping, number, objects
from withheld.wording import count

MARKS = {"ok": "\u00b7", "warn": "!", "sick": "\u00d7", "not yet": ""}
MOST = 26
"""Checkups in a row; of more, as an EM run has, those spread over all."""


def read_health(found: Contents) -> dict[str, Any]:
    """Steps, rows of marks, what is worse than ok in words, and a sentence; empty where there was no checkup."""
    checkups = [(entry["step"], mapping(entry.get("health"))) for entry in found.log if mapping(entry.get("health"))]
    if not checkups:
        return {}
    checkups = _spread(checkups)
    by_step = [
        (step, {one_line(each.get("vital") or ""): each for each in _findings(health)}) for step, health in checkups
    ]
    last = by_step[-1][1]
    names = list(dict.fromkeys(name for _, findings in reversed(by_step) for name in findings))
    rows = []
    for name in names:
        cells = [_cell(step, findings.get(name)) for step, findings in by_step]
        rows.append({"name": name, "value": shorten(mapping(last.get(name)).get("value") or "", 80), "cells": cells})
    worse = _worse(by_step)
    return {
        "steps": [count(step) for step, _ in by_step], "rows": rows, "worse": worse, "words": _words(checkups, worse),
        "treatments": [_treatment(entry["treatment"]) for entry in found.log if mapping(entry.get("treatment"))],
    }  # fmt: skip


def _findings(health: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in objects(health.get("findings")) if one_line(each.get("vital") or "")]


def _cell(step: float, finding: dict[str, Any] | None) -> dict[str, str]:
    state = one_line(mapping(finding).get("state") or "not yet")
    state = state if state in MARKS else "not yet"
    said = f"step {count(step)}: {state}. {shorten(mapping(finding).get('value') or '', 120)}"
    return {"state": state.replace(" ", "-"), "mark": MARKS[state], "title": said}


def _worse(by_step: list[tuple[float, dict[str, Any]]]) -> list[dict[str, str]]:
    """Every illness with the steps at which it was found, the latest words, the lasting ones first."""
    seen: dict[tuple[str, str], list[tuple[float, dict[str, Any]]]] = {}
    for step, findings in by_step:
        for name, each in findings.items():
            if each.get("state") in ("warn", "sick"):
                seen.setdefault((name, one_line(each.get("illness") or "")), []).append((step, each))
    last = by_step[-1][0]
    out = []
    for (name, illness), times in seen.items():
        steps, each = [step for step, _ in times], times[-1][1]
        over = "" if steps[-1] == last else f", and not since step {count(steps[-1])}"
        sick = [step for step, found in times if found.get("state") == "sick"]
        eased = bool(sick) and not over and each.get("state") == "warn"  # as `withheld doctor` has it: what it is now
        over += f", sick until step {count(sick[-1])}" if eased else ""
        state = "sick" if sick and not eased else "warn"
        out.append(
            {
                "vital": name, "illness": illness, "state": state, "when": f"from step {count(steps[0])}{over}",
                "reason": shorten(each.get("reason") or "", 400), "cure": shorten(each.get("cure") or "", 400),
                "lasts": "yes" if steps[-1] == last else "",
            }
        )  # fmt: skip
    return sorted(out, key=lambda each: (not each["lasts"], each["state"] != "sick"))


def _words(checkups: list[tuple[float, dict[str, Any]]], worse: list[dict[str, str]]) -> str:
    lasting = [each for each in worse if each["lasts"]]
    if any(each["state"] == "sick" for each in lasting):
        return "This run is sick: " + ", ".join(each["illness"] for each in lasting if each["state"] == "sick") + "."
    if lasting:
        return "Worth a look: " + ", ".join(each["illness"] for each in lasting) + "."
    if mapping(checkups[-1][1]).get("state") == "not yet":
        return "Too early to tell."
    return "Healthy" + (" at the end; what ailed it before is below." if worse else ": nothing was found.")


def _treatment(entry: Any) -> str:
    given = mapping(entry)
    step = number(given.get("step"))
    at = f"At step {count(step)}: " if step is not None else ""
    again, factor = number(given.get("from")), number(given.get("factor"))
    how = "" if factor is None else f", times {factor:.2g}"
    how += f", again from step {count(again)}" if given.get("back") is True and again is not None else ""
    return f"{at}{one_line(given.get('illness') or 'an illness')}; remedy: {one_line(given.get('remedy') or '')}{how}"


def _spread(checkups: list[Any]) -> list[Any]:
    if len(checkups) <= MOST:
        return checkups
    at = sorted({round(i * (len(checkups) - 1) / (MOST - 1)) for i in range(MOST)})
    return [checkups[i] for i in at]
