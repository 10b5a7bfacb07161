"""The section on detection: the latest verdict as tables, nothing where there is none, whatever the lines hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from page_reader import read

import withheld.report as report
from withheld.report.detection import read_detection
from withheld.report.folder import Contents


def line(row: str, images: int, mean: float, half: float | None = 0.02) -> dict[str, Any]:
    return {
        "row": row,
        "row_kind": "pretrained",
        "images": images,
        "mean": mean,
        "half": half,
        "seeds": [0, 1, 2],
        "steps": 90,
        "scores": {"mAP@0.5": mean, "mAP@0.5 (VOC07)": mean + 0.01, "COCO AP": mean / 2},
        "AP": {"cat": mean, "<b>dog": mean / 3},
    }


def verdict(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "detection_verdict",
        "sentence": "With 20 labelled images (10 % of them), by mAP@0.5, it is worth +9.0 points.",
        "outcome": "better",
        "classes": ["cat", "<b>dog"],
        "train": 200,
        "test": 70,
        "side": 192,
        "regions": "align",
        "seconds": 600.0,
        "notes": ["tested on test (70)"],
        "left_out": ["training on 100 images, for time"],
        "problems": ["a.xml: has no area"],
        "table": [line("fine-tuned", 20, 0.41), line("fine-tuned", 200, 0.63), line("from scratch", 20, 0.32, None)],
        "command": "withheld evaluate run --voc VOC2007",
        **changes,
    }


def page(folder: Path, *lines: Any) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    return " ".join(read(report.write(folder)).words)


def test_means_intervals_classes_and_notes(tmp_path: Path) -> None:
    words = page(tmp_path / "run", verdict(sentence="old"), verdict())
    for expected in (
        "Pretraining helped",
        "it is worth +9.0 points",
        "20 images (10\u00a0%)",
        "200 images (100\u00a0%)",
        "41.0",
        "\u00b1 2.0",
        "not measured",
        "63.0",
        "21.0",
        "<b>dog",
        "COCO AP",
        "31.5",
        "over 3 seeds",
        "192 pixels",
        "taken from one map of the image",
        "tested on test (70)",
        "Left out: training on 100 images",
        "In the data: a.xml: has no area",
        "withheld evaluate run --voc VOC2007",
    ):
        assert expected.replace("\u00a0", " ") in words.replace("\u00a0", " "), expected
    assert "old" not in words.split()


def test_nothing_where_nothing_was_measured(tmp_path: Path) -> None:
    words = page(
        tmp_path / "run",
        {"kind": "detection", "value": 0.3},
        {"kind": "score", "method": "kNN", "value": 0.5, "metric": "accuracy"},
    )
    assert "Finding objects" not in words


@pytest.mark.parametrize("wrong", [None, True, 3, -1.5, "text", [], {}, [[]], [None], [{}], {"a": 1}])
def test_wrong_types_do_not_crash(tmp_path: Path, wrong: Any) -> None:
    for key in verdict():
        read_detection(Contents(tmp_path, detection=verdict(**{key: wrong})))
    for key in line("x", 1, 0.5):
        table = [{**line("x", 1, 0.5), key: wrong}, line("y", 2, 0.5)]
        read_detection(Contents(tmp_path, detection=verdict(table=table)))
    page(tmp_path / "run", verdict(table=wrong, classes=wrong, notes=wrong))
