"""The table of `benchmarks/table.py`: a line a method, the best first, with what is missing named."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def table() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "table.py"
    spec = importlib.util.spec_from_file_location("benchmark_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def judged(folder: Path, rows: dict[str, dict[int, list[float]]], step: int = 7) -> None:
    folder.mkdir(parents=True)
    lines = [
        {"kind": "score", "evaluation": 1, "method": name, "labels_per_class": count, "values": values}
        for name, counts in rows.items()
        for count, values in counts.items()
    ]
    lines.append({"kind": "verdict", "evaluation": 1})
    (folder / "results.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{cut sho")
    (folder / "status.json").write_text(json.dumps({"state": "done", "step": step}))


def test_a_line_a_method_the_best_first(table: ModuleType, tmp_path: Path) -> None:
    cells = [table.Cell("d/set.tar.gz", spec, "minutes-5", seed) for spec in ("mae", "simclr") for seed in (0, 1)]
    floor = {"raw pixels": {1: [0.2, 0.2], 10: [0.3, 0.3], 100: [0.4, 0.4]}}
    judged(tmp_path / cells[0].folder, floor | {"linear probe": {1: [0.1, 0.2], 10: [0.3, 0.5], 100: [0.5, 0.6]}})
    judged(tmp_path / cells[2].folder, {"linear probe": {1: [0.2], 10: [0.5]}, "kNN": {10: [0.45, 0.45]}}, 11)
    judged(tmp_path / cells[3].folder, {"linear probe": {1: [0.2], 10: [0.7]}}, 12)
    lines = table.grid(cells, tmp_path, [1, 10, 100]).splitlines()
    assert lines[0] == "### set.tar.gz"
    assert lines[2].startswith("| % | steps | linear probe, 1 a class | linear probe, 10 a class | linear probe, 100")
    assert lines[4].startswith(
        "| simclr | 11, 12 | 20.0 ± 0.0 | 60.0 ± 127.1 |  | 45.0 ± 0.0"
    )  # t of one degree, two seeds
    assert lines[5].startswith("| mae | 7 | 15.0 ± ")
    assert lines[6].startswith("| raw pixels | | 20.0 ± 0.0 | 30.0 ± 0.0 | 40.0 ± 0.0 |")
    assert {line.count("|") for line in lines[2:7]} == {lines[2].count("|")}
    assert "Missing: set/mae-minutes-5-seed1." in lines


def test_every_row_where_asked(table: ModuleType, tmp_path: Path) -> None:
    cells = [table.Cell("set", "mae", "steps-9", 0), table.Cell("set", "pca", "steps-9", 0)]
    judged(tmp_path / cells[0].folder, {"linear probe": {10: [0.3]}, "HOG": {10: [0.2]}})
    judged(tmp_path / "set" / "pca", {"linear probe": {10: [0.25]}})
    text = table.grid(cells, tmp_path, [10], every=True)
    for line in ("| HOG | 20.0 ±", "| PCA | 25.0 ±", "| mae, steps 9: linear probe | 30.0 ±", "Nothing is missing."):
        assert line in text
