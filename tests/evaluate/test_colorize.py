"""Pictures in color: their own lightness at full size, under their own names, bad files named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import withheld
from withheld.color import lightness
from withheld.errors import InputError
from withheld.evaluate.colorize import Colorizing, colorize


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Two steps on colored noise."""
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    out = tmp_path_factory.mktemp("color") / "run"
    withheld.pretrain("colorization", images, out, steps=2, batch_size=8, pictures=False)
    return out


def photo(height: int = 300, width: int = 50) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([y % 256, 255 - y % 256, (5 * x) % 256], axis=2).astype(np.uint8)


def light(pixels: np.ndarray) -> np.ndarray:
    return lightness(torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()).float() / 255)[0, 0].numpy()


def test_lightness_is_the_pictures_own_at_full_size(run):
    colorizing = Colorizing(run)
    middle = (90 + photo() // 4).astype(np.uint8)  # where every color told lies within sRGB, or nearly
    found = colorizing.picture(middle)
    assert found.shape == middle.shape
    assert np.median(np.abs(light(found) - light(middle))) < 0.5
    assert np.ptp(found.astype(int), axis=2).mean() > 3, "a color is told"


def test_what_is_told_does_not_depend_on_the_color_that_was_there(run):
    colorizing = Colorizing(run)
    grey = np.repeat(photo()[:, :, :1], 3, axis=2)
    alone = colorizing.picture(Image.fromarray(grey[:, :, 0]))
    np.testing.assert_array_equal(alone, colorizing.picture(Image.fromarray(grey)))
    assert np.abs(light(alone) - light(grey)).mean() < np.abs(light(grey) - light(photo())).mean()


def test_the_temperature_is_that_of_the_annealed_mean(run, tmp_path):
    own, same, mode = (Colorizing(run, temperature=T).picture(photo()) for T in (None, 0.38, 1e-4))
    np.testing.assert_array_equal(own, same)
    assert not np.array_equal(own, mode)
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    withheld.pretrain("colorization", images, tmp_path / "ab", steps=1, settings={"predict": "ab"}, pictures=False)
    assert Colorizing(tmp_path / "ab").picture(photo()).shape == photo().shape
    with pytest.raises(InputError, match="regresses ab"):
        Colorizing(tmp_path / "ab", temperature=1.0)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(photo()).convert("RGBA"),
        Image.fromarray(photo()).convert("P"),
        Image.fromarray(photo()).convert("CMYK"),
        Image.fromarray(photo()[:, :, 0]).convert("1"),
        photo()[:, :, :1].astype(np.uint16) * 257,
        photo().astype(np.float32) / 255,
    ],
    ids=["alpha", "palette", "cmyk", "bits", "16 bit", "floats"],
)
def test_any_mode(run, image):
    assert Colorizing(run).picture(image).shape == photo().shape


def test_one_picture_to_a_file(run, tmp_path):
    Image.fromarray(photo()).save(tmp_path / "a.png")
    assert colorize(run, [tmp_path / "a.png"], tmp_path / "new" / "out.jpg") == [tmp_path / "new" / "out.jpg"]
    assert Image.open(tmp_path / "new" / "out.jpg").size == (50, 300)
    with pytest.raises(InputError, match="--force"):
        colorize(run, [tmp_path / "a.png"], tmp_path / "new" / "out.jpg")
    colorize(run, [tmp_path / "a.png"], tmp_path / "new" / "out.jpg", force=True)


def test_a_folder_keeps_its_names_and_bad_files_are_named(run, tmp_path):
    data, out, told = tmp_path / "data", tmp_path / "out", []
    (data / "deep").mkdir(parents=True)
    for name in ("a.png", "a.jpg", "deep/b.png"):
        Image.fromarray(photo()).save(data / name)
    (data / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    written = colorize(run, [data], out, listen=lambda event: told.append(event.get("text", "")))
    assert sorted(str(path.relative_to(out)) for path in written) == ["a.jpg.png", "a.png", "deep/b.png"] or sorted(
        str(path.relative_to(out)) for path in written
    ) == ["a.png", "a.png.png", "deep/b.png"]
    assert all(Image.open(path).size == (50, 300) for path in written)
    assert any("broken.jpg" in text for text in told)
    assert not list(out.rglob("*.tmp"))


def test_bad_input(run, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"x\.jpg"):
        colorize(run, [tmp_path / "bad"], tmp_path / "o")
    for name in ("a.png", "b.png"):
        Image.fromarray(photo()).save(tmp_path / name)
    with pytest.raises(InputError, match="name a folder"):
        colorize(run, [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "o.png")
    with pytest.raises(InputError, match=r"\.png, \.jpg"):
        colorize(run, [tmp_path / "a.png"], tmp_path / "o.gif")
    with pytest.raises(InputError, match="is a file"):
        colorize(run, [tmp_path / "a.png", tmp_path / "b.png"], Path(tmp_path / "bad" / "x.jpg").rename(tmp_path / "x"))


def test_a_run_of_another_method_is_refused(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    withheld.pretrain("mae", images, tmp_path / "mae", steps=1, pictures=False)
    with pytest.raises(InputError, match="tells no colors"):
        Colorizing(tmp_path / "mae")


def test_grey_data_is_refused_before_anything_is_learned(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 1), dtype=np.uint8)
    with pytest.raises(InputError, match="color images"):
        withheld.pretrain("colorization", images, tmp_path / "run", steps=1)
    mixed = np.repeat(images, 3, axis=3)
    mixed[:2] = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3))
    with pytest.raises(InputError, match="75 % of 8 images looked at are grey"):
        withheld.pretrain("colorization", mixed, tmp_path / "run", steps=1)
    assert not (tmp_path / "run" / "run.json").exists()
    mixed[2:5] = np.random.default_rng(2).integers(0, 256, (3, 16, 16, 3))
    told: list[str] = []
    withheld.pretrain(
        "colorization",
        mixed,
        tmp_path / "run",
        steps=1,
        pictures=False,
        listen=lambda e: told.append(e.get("text", "")),
    )
    assert any("38 % of 8 images looked at are grey" in text for text in told)
