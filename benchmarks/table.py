"""The latest verdict of runs as Markdown, for docs/gallery.md.

python benchmarks/table.py runs/fashion-mnist runs/cifar10
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def table(run: Path) -> str:
    """The table, the sentence and what was left out."""
    lines = [json.loads(line) for line in (run / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    verdict = [line for line in lines if line["kind"] == "verdict"][-1]
    scores = [line for line in lines if line["kind"] == "score" and line["evaluation"] == verdict["evaluation"]]
    counts = sorted({score["labels_per_class"] for score in scores})
    rows: dict[str, dict[int, str]] = {}
    for score in scores:
        cell = f"{100 * score['value']:.1f} ± {100 * score['spread']:.1f}"
        rows.setdefault(score["method"], {})[score["labels_per_class"]] = cell
    text = [
        "| accuracy, % | " + " | ".join(f"{count} per class" for count in counts) + " |",
        "| --- |" + " --- |" * len(counts),
    ]
    text += [
        f"| {name} | " + " | ".join(cells.get(count, "") for count in counts) + " |" for name, cells in rows.items()
    ]
    text += ["", f"> {verdict['sentence']}", ""]
    text += [f"- left out: {part}" for part in verdict["left_out"]] + [f"- {part}" for part in verdict["notes"]]
    seeds = max(len(score["seeds"]) for score in scores)
    text.append(
        f"- {seeds} seeds, ± half the 95 % interval, {verdict['seconds'] / 60:.1f} minutes, commit {scores[0]['commit'][:7]}"
    )
    return "\n".join(text)


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        print(f"{folder}\n\n{table(Path(folder))}\n")
