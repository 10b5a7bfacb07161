"""The demo's parts; the whole of it is slow and stands last."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from withheld.cli.demo_data import (
    FILLED,
    LEARNED_FROM,
    SIDE,
    photograph,
    write_digits,
    write_encoder,
    write_photographs,
)


def test_digits_ship_with_the_install(tmp_path: Path) -> None:
    from withheld.data.source import open_source

    source = open_source(write_digits(tmp_path), labels=True)
    assert len(source) == 1797
    assert source.classes == [str(digit) for digit in range(10)]
    rows = list(csv.DictReader((tmp_path / "labels.csv").open()))
    assert source.labels is not None
    assert [row["label"] for row in rows[:50]] == [str(label) for label in source.labels[:50]]


def test_photographs_ship_with_the_install(tmp_path: Path) -> None:
    crops = np.load(write_photographs(tmp_path / "p.npy"), allow_pickle=False)
    assert crops.shape[1:] == (SIDE, SIDE, 3)
    assert crops.dtype == np.uint8
    assert min(photograph(FILLED).shape[:2]) >= SIDE
    assert FILLED not in LEARNED_FROM


def test_tiles_come_back_as_they_were() -> None:
    import torch

    from withheld.evaluate.fill import _tiles, _whole

    image = torch.rand(6, 8, 3)
    assert torch.equal(_whole(_tiles(image, 3, 2), 3, 2), image)


def test_a_photograph_is_filled(tmp_path: Path) -> None:
    from withheld import pretrain
    from withheld.evaluate.fill import fill_photograph

    data = write_photographs(tmp_path / "p.npy")
    encoder = write_encoder(tmp_path / "encoder.json", size=32, patch=4, channels=3, width=32)
    options = {"settings": {"normalize_patches": False}, "steps": 1, "batch_size": 8, "pictures": False}
    run = pretrain("mae", str(data), tmp_path / "run", encoder=str(encoder), **options)  # type: ignore[arg-type]
    (entry,) = fill_photograph(run, photograph(FILLED), FILLED, tmp_path / "pictures")
    picture = np.asarray(Image.open(tmp_path / "pictures" / entry["file"]))
    t, x, prediction = np.array_split(picture, 3, axis=1)
    assert t.std() > 10
    assert (np.abs(x.astype(int) - 128).max(axis=2) <= 1).mean() > 0.7, "three quarters are hidden"
    assert prediction.shape[0] == t.shape[0]


@pytest.mark.slow
def test_the_whole_demo(tmp_path: Path, withheld: Callable[..., Result]) -> None:
    result = withheld("demo", "--out", tmp_path / "demo", "--minutes", 0.4)
    assert result.exit_code == 0, result.output
    page, sentence = Path(result.stdout.splitlines()[-1]), result.stdout.splitlines()[-2]
    assert page.name == "report.html"
    assert "mask and fill" in page.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in (page.parent / "results.jsonl").read_text().splitlines()]
    assert lines[-1]["sentence"] == sentence
    assert withheld("demo", "--out", tmp_path / "demo", "--minutes", 0.4).exit_code == 0, "a demo replaces a demo"
