"""skipped.jsonl: which items could not be used, and why."""

from __future__ import annotations

import json
from pathlib import Path

from withheld import distributed
from withheld.json_lines import read_lines
from withheld.learn.checkpoint import replace_text, writing

NAME = "skipped.jsonl"
Line = dict[str, str]


def list_skipped(out: Path, lines: list[Line]) -> None:
    """Begins the list of a run with what its data showed at first."""
    with writing(out), open(out / NAME, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def add_skipped(out: Path, met: list[Line]) -> None:
    """Adds what the ranks of a stream have met on the way, each its own; called by all of them, written by the first."""
    every = [line for lines in distributed.from_all(met) for line in lines]
    if distributed.rank() or not every:
        return
    with writing(out):
        before = read_lines(out / NAME)
        known = {line["file"] for line in before}
        fresh = {line["file"]: line for line in every if line["file"] not in known}
        if fresh:
            lines = sorted([*before, *fresh.values()], key=lambda line: line["file"])
            replace_text(out / NAME, "".join(json.dumps(line) + "\n" for line in lines))
