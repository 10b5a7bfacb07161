"""Colorization by commands: pretrain, show, colorize, shortcuts, layers; what is wrong is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def color_run(labelled: Path, withheld: Run) -> Path:
    out = labelled.parent / "color"
    result = withheld("pretrain", "colorization", "--data", labelled, "--out", out, "--steps", 2, "--batch-size", 16)
    assert result.exit_code == 0, result.output
    return out


def test_one_picture_and_a_folder(color_run: Path, labelled: Path, tmp_path: Path, withheld: Run) -> None:
    one = withheld("colorize", color_run, labelled / "across" / "0.png", "-o", tmp_path / "out.png")
    assert one.exit_code == 0, one.output
    assert one.stdout.strip() == str(tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").size == (16, 16)
    (tmp_path / "mine").mkdir()
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(tmp_path / "mine" / "grey.jpg")
    (tmp_path / "mine" / "bad.jpg").write_bytes(b"\xff\xd8 no")
    many = withheld("colorize", color_run, labelled / "down", tmp_path / "mine", "-o", tmp_path / "many")
    assert many.exit_code == 0, many.output
    assert len(list((tmp_path / "many").glob("*.png"))) == 21
    assert "bad.jpg" in many.stderr
    assert Image.open(tmp_path / "many" / "grey.png").size == (7, 9)
    again = withheld("colorize", color_run, labelled / "across" / "0.png", "-o", tmp_path / "out.png")
    assert again.exit_code == 2
    assert "--force" in again.stderr


def test_bad_input_of_colorize(run: Path, color_run: Path, labelled: Path, tmp_path: Path, withheld: Run) -> None:
    for words, said in (
        ((run, labelled, "-o", tmp_path / "o"), "a run of mae tells no colors"),
        ((tmp_path, labelled, "-o", tmp_path / "o"), "is not a run"),
        ((color_run, labelled, "-o", tmp_path / "o.png"), "name a folder"),
        ((color_run, labelled / "across" / "00.png", "-o", tmp_path / "o.png"), "00.png"),
        ((color_run, "-o", tmp_path / "o.png"), "DATA"),
    ):
        result = withheld("colorize", *words)
        assert result.exit_code == 2, result.output
        assert said in result.stderr
        assert "Traceback" not in result.output
    assert not (tmp_path / "o").exists()


def test_grey_data_is_said_before_training(tmp_path: Path, withheld: Run) -> None:
    (tmp_path / "grey").mkdir()
    for at in range(8):
        pixels = np.random.default_rng(at).integers(0, 256, (16, 16), dtype=np.uint8)
        shown = Image.fromarray(pixels).convert("RGB") if at < 5 else Image.fromarray(np.roll(pixels, at)).convert("L")
        if at == 0:
            shown = Image.fromarray(np.random.default_rng(9).integers(0, 256, (16, 16, 3), dtype=np.uint8))
        shown.save(tmp_path / "grey" / f"{at}.png")
    result = withheld("pretrain", "colorization", "--data", tmp_path / "grey", "--out", tmp_path / "o", "--steps", 1)
    assert result.exit_code == 2
    assert "88 % of 8 images looked at are grey" in result.stderr
    assert not (tmp_path / "o" / "run.json").exists()


def test_show_draws_grey_and_colors(color_run: Path, labelled: Path, tmp_path: Path, withheld: Run) -> None:
    for more in ((), ("--run", color_run)):
        result = withheld("show", "colorization", labelled, "-o", tmp_path / "s.png", "--items", 2, "--force", *more)
        assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "s.png").size[0] > 4 * 100


def test_settings_that_are_none(labelled: Path, tmp_path: Path, withheld: Run) -> None:
    for pair, said in (("rebalance=0", "outside (0, 1]"), ("temperature=-1", "above 0"), ("predict=hue", "bins, ab")):
        words = ("--data", labelled, "--out", tmp_path / "o", "--steps", 1, "--set", pair)
        result = withheld("pretrain", "colorization", *words)
        assert result.exit_code == 2
        assert said in result.stderr, result.stderr


def test_shortcuts_have_their_baselines(color_run: Path, withheld: Run) -> None:
    result = withheld("probe-shortcuts", color_run, "--steps", 1)
    assert result.exit_code == 0, result.output
    for row in ("its colors", "all grey", "the mean color", "regression of ab", "no rebalancing", "AuC rebalanced"):
        assert row in result.stdout


def test_layers_are_rows_and_a_curve(color_run: Path, labelled: Path, withheld: Run) -> None:
    words = ("--labels-per-class", "2,4", "--seeds", 2, "--minutes", 0.3, "--layers", "all")
    result = withheld("evaluate", color_run, "--data", labelled, *words)
    assert result.exit_code == 0, result.output
    for row in ("linear probe, layer 1 of 3", "linear probe, layer 3 of 3", "linear probe, best layer"):
        assert row in result.stdout
    assert "Layer by layer" in (color_run / "report.html").read_text(encoding="utf-8")
    assert withheld("evaluate", color_run, "--data", labelled, "--layers", "last").exit_code == 2
