"""results.jsonl of detection: every cell as it is measured, so that an evaluation that was stopped goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from withheld.data.source import digest
from withheld.evaluate.detection.closing import METRIC
from withheld.evaluate.detection.plan import Plan
from withheld.evaluate.results import add_results
from withheld.json_lines import read_lines
from withheld.provenance import commit_of_code


class Book:
    """Cells by (key of the row, images, seed), those of an earlier evaluation with the same settings among them.

    Args:
        path: results.jsonl; None keeps them in memory. settings: all that a cell depends on; another settings, other cells.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any], command: str) -> None:
        self.path, self.settings, self.command = path, settings, command
        self.id = digest([json.dumps(settings, sort_keys=True)])[:12]
        self.cells: dict[tuple[str, int, int], dict[str, Any]] = {}
        self.planned: Plan | None = None
        if path is None:
            return
        add_results(path)
        for line in read_lines(path):
            if line.get("settings") != self.id:
                continue
            if line.get("kind") == "detection":
                self.cells[str(line["key"]), int(line["images"]), int(line["seed"])] = line
            elif line.get("kind") == "detection_plan":
                steps = {int(count): int(steps) for count, steps in line["steps"].items()}
                self.planned = Plan(steps, int(line["seeds"]), list(line["left_out"]))

    def plan(self, plan: Plan) -> None:
        """Keeps a plan: from then on its steps are a setting."""
        self.planned = plan
        told = {"steps": plan.steps, "seeds": plan.seeds, "left_out": plan.left_out}
        add_results(self.path, {"kind": "detection_plan", "settings": self.id, **told, "of": self.settings})

    def write(self, key: str, images: int, seed: int, scores: dict[str, Any], **more: Any) -> dict[str, Any]:
        """One cell, measured."""
        line = {
            "kind": "detection", "key": key, "images": images, "seed": seed, "metric": METRIC, "value": scores[METRIC],
            "scores": scores, **more, "settings": self.id, "commit": commit_of_code(), "command": self.command,
        }  # fmt: skip
        self.cells[key, images, seed] = line
        add_results(self.path, line)
        return line

    def close(self, verdict: dict[str, Any]) -> None:
        """The verdict, at the end."""
        line = {"kind": "detection_verdict", "settings": self.id, "command": self.command, **verdict}
        add_results(self.path, line)
