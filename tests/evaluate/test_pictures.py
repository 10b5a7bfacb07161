"""Pictures: what is hidden is found for any split, drawings are repeatable, bounded, and the report can show them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from withheld.encoder import Encoder
from withheld.errors import InputError
from withheld.evaluate.parts import HIDDEN, NEITHER, SEEN, columns_of, to_pixels
from withheld.evaluate.pictures import draw_errors, draw_run, show
from withheld.image_encoder import ImageEncoder
from withheld.losses.prediction import squared_error
from withheld.methods.mae import mae
from withheld.networks.open import open_trunk
from withheld.objective import Objective
from withheld.splits.image import MaskPatches
from withheld.splits.part import PredictPart
from withheld.types import Pair


def left_half(t: Tensor) -> Pair:
    """Predict the right half of an image from its left half."""
    middle = t.shape[-1] // 2
    return Pair(x=t[..., :middle], y=t[..., middle:])


class Copy(nn.Module):
    """Predicts what it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def images(count: int, channels: int = 3, size: int = 16) -> np.ndarray:
    """Blobs of color in a few kinds, so that neighbors exist."""
    draw = np.random.default_rng(0)
    rows, across = np.indices((size, size)) / size
    out = np.zeros((count, channels, size, size), np.uint8)
    for at in range(count):
        for channel in range(channels):
            wave = np.sin(6 * (rows * (at % 3) + across * (channel + 1)) + draw.normal(0, 0.3))
            out[at, channel] = np.clip(128 + 100 * wave + draw.normal(0, 8, (size, size)), 0, 255)
    return out


@pytest.fixture(scope="module")
def trained() -> tuple[Objective, Encoder]:
    torch.manual_seed(0)
    trunk, _ = open_trunk("vit-nano", size=16, channels=3)
    objective, _ = mae(trunk)
    objective.fit_parts(torch.zeros(2, 3, 16, 16))
    return objective.eval(), ImageEncoder(trunk, [0.5] * 3, [0.25] * 3)


def covered(split: Any, t: Tensor) -> np.ndarray:
    found = {column.name: column for column in columns_of(split, t)}["x"].covered
    assert found is not None
    return found


def test_mask_patches_hides_its_share() -> None:
    places = covered(MaskPatches(patch=4, ratio=0.75), torch.randn(3, 3, 16, 16))
    assert places.shape == (3, 16, 16)
    assert (places == HIDDEN).mean() == 0.75
    assert (places == SEEN).mean() == 0.25


@pytest.mark.parametrize("part", ["top", "bottom", "left", "right"])
def test_parts_of_images(part: str) -> None:
    places = covered(PredictPart(part), torch.randn(2, 3, 8, 8))
    half = {"top": np.s_[:, :4], "bottom": np.s_[:, 4:], "left": np.s_[:, :, :4], "right": np.s_[:, :, 4:]}[part]
    assert (places[half] == HIDDEN).all()
    assert (places == HIDDEN).sum() == places.size // 2


def test_what_is_neither_seen_nor_asked() -> None:
    places = covered(PredictPart("future", given="recent"), torch.randn(1, 8, 3, 4, 4))
    assert [int(frame[0, 0]) for frame in places[0]] == [NEITHER] * 3 + [SEEN] + [HIDDEN] * 4


def test_text_tokens() -> None:
    places = covered(PredictPart("future"), torch.arange(10).view(1, 10))
    assert places.tolist() == [[SEEN] * 5 + [HIDDEN] * 5]


def test_occluded_box() -> None:
    places = covered(PredictPart("occluded", box=0.5), torch.randn(4, 1, 8, 8))
    assert ((places == HIDDEN).sum(axis=(1, 2)) == 16).all()


def test_a_plain_function_is_drawn_side_by_side() -> None:
    columns = columns_of(Objective(left_half, Copy(), squared_error), torch.randn(2, 3, 8, 8))
    assert [column.name for column in columns] == ["t", "x", "y", "prediction"]
    assert [tuple(c.values.shape) for c in columns if c.values is not None] == [(2, 3, 8, 8)] + 3 * [(2, 3, 8, 4)]


def test_undrawable_parts_are_named() -> None:
    columns = columns_of(lambda t: Pair(t.mean(dim=(1, 2, 3)), {"n": t.sum(dim=(2, 3))}), torch.randn(2, 3, 8, 8))
    assert [column.words for column in columns] == ["", "one numbers", "3 numbers"]


def test_global_randomness_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    columns_of(MaskPatches(patch=4), torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_pixels_of_any_channels(channels: int) -> None:
    values = torch.rand(2, channels, 6, 4)
    pixels = to_pixels(values, [0.0] * channels, [1.0] * channels)
    assert pixels.shape == (2, 6, 4, 3)
    assert np.abs(pixels[..., 0] / 255 - values[:, 0].numpy()).max() < 0.01


def test_clips_are_film_strips() -> None:
    assert to_pixels(torch.rand(2, 5, 3, 6, 4), [0.0] * 3, [1.0] * 3).shape == (2, 6, 5 * (4 + 1), 3)


@pytest.mark.parametrize(
    ("subject", "items"),
    [
        (MaskPatches(patch=4), images(3)),
        (MaskPatches(patch=4), images(2, 1)),
        (PredictPart("top"), images(2, 5)),
        (left_half, images(3)),
        (PredictPart("occluded"), images(2).astype(np.float32) / 255),
        (PredictPart("past"), np.stack([images(6)] * 2)),
        (PredictPart("future"), np.full((2, 40), ord("a"))),
    ],
    ids=["mask", "gray", "five", "function", "floats", "clip", "text"],
)
def test_show_draws_the_same_twice(subject: Any, items: np.ndarray, tmp_path: Path) -> None:
    first = show(subject, items, tmp_path / "a.png", names=["an item", "caf\udce9 \u202e\x00.jpg"])
    second = show(subject, items, tmp_path / "b.png", names=["an item", "caf\udce9 \u202e\x00.jpg"])
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as picture:
        assert min(picture.size) > 150
        assert max(picture.size) < 3000


def test_show_with_a_prediction(trained: tuple[Objective, Encoder], tmp_path: Path) -> None:
    without = show(trained[0].split, images(2), tmp_path / "a.png")
    with_it = show(trained[0], images(2), tmp_path / "b.png", [0.5] * 3, [0.25] * 3)
    with Image.open(without) as narrow, Image.open(with_it) as wide:
        assert wide.width > narrow.width


def test_show_refuses_other_shapes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="images are"):
        show(MaskPatches(), np.zeros((3, 3), np.float32), tmp_path / "a.png")
    with pytest.raises(InputError, match="3 channels"):
        show(MaskPatches(), images(2), tmp_path / "a.png", [0.5], [0.5])


def test_draw_run_fills_every_section_and_repeats(trained: tuple[Objective, Encoder], tmp_path: Path) -> None:
    items = images(40)
    names = [f"{i}.jpg" for i in range(40)]
    folders = [draw_run(*trained, items, names, tmp_path / run) for run in ("a", "b")]
    index = json.loads((folders[0] / "index.json").read_text())
    assert {entry["section"] for entry in index} == {"samples", "split", "neighbors", "patches", "map"}
    assert {"t", "x", "y", "prediction"} == set(next(e for e in index if e["section"] == "split")["data"]["columns"])
    for entry in index:
        assert (folders[0] / entry["file"]).read_bytes() == (folders[1] / entry["file"]).read_bytes()


def test_drawing_again_replaces_and_keeps_the_rest(trained: tuple[Objective, Encoder], tmp_path: Path) -> None:
    errors = [{"name": f"{i}.jpg", "true": "cat", "predicted": "dog", "probability": 0.9} for i in range(3)]
    draw_errors(errors, images(3), tmp_path)
    draw_run(*trained, images(40), [str(i) for i in range(40)], tmp_path)
    folder = draw_run(*trained, images(8), [str(i) for i in range(8)], tmp_path)
    index = json.loads((folder / "index.json").read_text())
    sections = [entry["section"] for entry in index]
    assert sections.count("errors") == 3
    assert sections.count("samples") == 2
    assert {entry["file"] for entry in index} == {path.name for path in folder.glob("*.png")}
    draw_errors([], images(0), tmp_path)
    assert "errors" not in (folder / "index.json").read_text().replace("errors of", "")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_few_items(count: int, trained: tuple[Objective, Encoder], tmp_path: Path) -> None:
    folder = draw_run(*trained, images(5)[:count], [str(i) for i in range(count)], tmp_path)
    assert json.loads((folder / "index.json").read_text()) or not count


def test_items_stored_larger_than_they_are_seen(trained: tuple[Objective, Encoder], tmp_path: Path) -> None:
    folder = draw_run(*trained, images(6, size=24), [str(i) for i in range(6)], tmp_path)
    index = json.loads((folder / "index.json").read_text())
    assert "prediction" in next(e for e in index if e["section"] == "split")["data"]["columns"]


def test_constant_and_broken_features_are_drawn(trained: tuple[Objective, Encoder], tmp_path: Path) -> None:
    draw_run(*trained, np.full((20, 3, 16, 16), 128, np.uint8), [str(i) for i in range(20)], tmp_path)


def test_modes_are_left_as_they_were(trained: tuple[Objective, Encoder], tmp_path: Path) -> None:
    objective, encoder = trained
    objective.train()
    encoder.train()
    draw_run(objective, encoder, images(4), list("abcd"), tmp_path)
    assert objective.training
    assert encoder.training
    objective.eval()


def test_the_report_shows_what_was_drawn(trained: tuple[Objective, Encoder], tmp_path: Path) -> None:
    from withheld.report import write

    (tmp_path / "run.json").write_text("{}")
    draw_run(*trained, images(40), [f"<b>{i}.jpg" for i in range(40)], tmp_path)
    page = write(tmp_path).read_text()
    for section in ("split", "neighbors", "patches", "map"):
        assert f'<section id="{section}">' in page
    assert "<b>1.jpg" not in page
    assert "left out" not in page
