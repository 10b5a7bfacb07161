"""Views: against Pillow's own resizing, against colors changed pixel by pixel, and in the units of the images."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import withheld
from withheld.errors import InputError
from withheld.run import open_run
from withheld.splits.pairs import TwoViews
from withheld.splits.views import LUMA, View, blur_matrix, color_matrix, crop_matrix


def images(count: int = 4, side: int = 20, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("start", "span", "size"), [(3.4, 12.1, 16), (0.0, 40.0, 9), (7.25, 30.5, 12)])
def test_crops_are_those_of_pillow(start, span, size):
    line = torch.rand(40, 40, generator=torch.Generator().manual_seed(1))
    matrix = crop_matrix(40, size, torch.tensor([start]), torch.tensor([span]))[0]
    box = (start, start, start + span, start + span)
    pillow = Image.fromarray(line.numpy()).resize((size, size), Image.Resampling.BILINEAR, box=box)
    np.testing.assert_allclose((matrix @ line @ matrix.T).numpy(), np.asarray(pillow), atol=2e-6)


def test_a_mirrored_crop_is_the_crop_mirrored():
    start, span = torch.tensor([2.0, 2.0]), torch.tensor([9.0, 9.0])
    plain, mirrored = crop_matrix(20, 8, start, span, torch.tensor([False, True]))
    torch.testing.assert_close(mirrored, plain.flip(0))


def test_blur_is_the_gaussian_and_none_where_sigma_is_0():
    blur = blur_matrix(9, torch.tensor([0.0, 1.5]))
    torch.testing.assert_close(blur[0], torch.eye(9))
    naive = [np.exp(-((k - 4) ** 2) / (2 * 1.5**2)) for k in range(9)]
    np.testing.assert_allclose(blur[1, 4].numpy(), np.array(naive) / sum(naive), rtol=1e-5)


def naive_colors(image, bright, contrast, saturation, turn, grey, order):
    """Changes one after the other, each pixel alone, as the usual transforms have them."""
    luma = np.array(LUMA)
    to_yiq = np.array(
        [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
    )  # FCC, four digits
    for what in order:
        if what == "bright":
            image = bright * image
        elif what == "contrast":
            image = contrast * image + (1 - contrast) * (image @ luma).mean()
        elif what == "saturation":
            image = saturation * image + (1 - saturation) * (image @ luma)[..., None]
        else:
            y, i, q = np.moveaxis(image @ to_yiq.T, -1, 0)
            i, q = np.cos(turn) * i - np.sin(turn) * q, np.sin(turn) * i + np.cos(turn) * q
            image = np.stack([y, i, q], axis=-1) @ np.linalg.inv(to_yiq).T
    return (image @ luma)[..., None].repeat(3, axis=-1) if grey else image


ORDERS = [
    ("bright", "contrast", "saturation", "hue"),
    ("hue", "saturation", "contrast", "bright"),
    ("contrast", "hue", "bright", "saturation"),
]


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("order", ORDERS)
def test_one_matrix_is_the_changes_in_any_order(order, grey):
    t = images(1).double()
    factors, turn = torch.tensor([[1.3], [0.6], [1.7]]), torch.tensor([0.4])
    matrix, shift = color_matrix(t.mean(dim=(2, 3)), factors, turn, torch.tensor([grey]))
    fast = (matrix[0] @ t[0].flatten(1) + shift[0][:, None]).view(3, 20, 20)
    naive = naive_colors(t[0].permute(1, 2, 0).numpy(), 1.3, 0.6, 1.7, 0.4, grey, order)
    np.testing.assert_allclose(fast.permute(1, 2, 0).numpy(), naive, atol=2e-3)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_normalized_images_get_the_views_of_the_pixels_they_stand_for(channels):
    t = images(6, channels=channels)
    mean, std = [0.3, 0.5, 0.6, 0.2][:channels], [0.2, 0.3, 0.1, 0.4][:channels]
    view = View(16, color=1.0, grey=0.5, blur=0.5, solarize=0.5)
    shape = (1, channels, 1, 1)
    normalized = (t - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    torch.manual_seed(0)
    pixels = view.in_units([0.0] * channels, [1.0] * channels)(t)
    torch.manual_seed(0)
    found = view.in_units(mean, std)(normalized) * torch.tensor(std).view(shape) + torch.tensor(mean).view(shape)
    torch.testing.assert_close(found, pixels, atol=1e-5, rtol=1e-4)
    assert pixels.min() >= 0
    assert pixels.max() <= 1


@pytest.mark.parametrize("changes", [{}, {"color": 0.0, "grey": 0.0, "solarize": 0.0}])
@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_get_the_views_of_normalized_images(channels, changes):
    stored = (images(6, channels=channels) * 255).round().to(torch.uint8)
    mean, std = [0.3, 0.5, 0.6][:channels], [0.2, 0.3, 0.1][:channels]
    shape = (1, channels, 1, 1)
    normalized = (stored / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    view = View(16, **({"color": 1.0, "grey": 0.5, "blur": 0.5, "solarize": 0.5} | changes)).in_units(mean, std)
    torch.manual_seed(0)
    expected = view(normalized)
    torch.manual_seed(0)
    torch.testing.assert_close(view(stored), expected, atol=2e-5, rtol=1e-4)


def test_large_bytes_are_resized_as_pillow_does(monkeypatch):
    coarse = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(2))
    stored = (
        torch.nn.functional.interpolate(coarse, size=(90, 120), mode="bicubic")
        .clamp(0, 1)
        .mul(255)
        .round()
        .to(torch.uint8)
    )
    part = [torch.tensor([share]) for share in (0.25, 0.1, 0.6, 0.8)]  # left, top, width, height
    image = Image.fromarray(stored[0].permute(1, 2, 0).numpy()).crop((30, 9, 102, 81))
    for size in (48, 80):
        resized = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)).astype(np.int64)
        for mirrored in (False, True):
            rectangles = (*part, torch.tensor([mirrored]))
            monkeypatch.setattr("withheld.splits.views._rectangles", lambda *_, told=rectangles: told)
            found = (View(size, color=0.0, grey=0.0)(stored)[0] * 255).permute(1, 2, 0).numpy()
            wanted = resized[:, ::-1] if mirrored else resized
            assert np.abs(found - wanted).max() <= 1 + 1e-3


def test_training_of_views_is_given_bytes_and_learns_the_same(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    pictures = (rng.random((32, 16, 16, 3)) * 200).astype(np.uint8)
    losses, kinds = [], []

    def called(self, t, plain=View.__call__):
        kinds.append(t.dtype)
        return plain(self, t)

    monkeypatch.setattr(View, "__call__", called)
    for name, takes in (("bytes", True), ("floats", False)):
        monkeypatch.setattr(TwoViews, "takes_bytes", takes)
        withheld.pretrain("simclr", pictures, tmp_path / name, steps=3, batch_size=8, pictures=False, device="cpu")
        lines = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if "loss" in line])
        assert (torch.uint8 in kinds) == takes
        kinds.clear()
    assert len(losses[0]) >= 3
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_nothing_changes_where_all_is_off():
    t = images()
    still = View(scale=(1.0, 1.0), aspect=(1.0, 1.0), flip=False, color=0.0, grey=0.0)
    torch.testing.assert_close(still(t), t)


def test_every_image_gets_a_view_of_its_own():
    same = images(1).expand(8, -1, -1, -1)
    x, y = TwoViews(View(16))(same)
    views = torch.cat([x, y]).flatten(1)
    assert torch.pdist(views).min() > 0.1


def test_shares_that_are_none_are_refused():
    for wrong in ({"scale": (0.0, 1.0)}, {"scale": (0.9, 0.5)}, {"color": 2.0}, {"grey": 1.5}):
        with pytest.raises(InputError):
            View(**wrong)


def test_a_run_knows_its_units_and_opens_with_them(tmp_path):
    rng = np.random.default_rng(0)
    pictures = (rng.random((32, 16, 16, 3)) * 200).astype(np.uint8)
    out = tmp_path / "run"
    withheld.pretrain("simclr", pictures, out, steps=2, batch_size=8, pictures=False, device="cpu")
    objective = open_run(out).objective()
    kept = json.loads((out / "run.json").read_text())
    assert list(objective.split.view.mean) == pytest.approx(kept["mean"])
    assert list(objective.split.view.std) == pytest.approx(kept["std"])
    assert json.loads((out / "encoder" / "withheld.json").read_text())["flips"] is True
    vitals = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()][-1]["vitals"]
    assert {"alignment", "uniformity", "effective_rank"} <= set(vitals)


def test_sampled_views_are_those_by_matrices(monkeypatch):
    t = torch.nn.functional.interpolate(images(4, 6), size=80, mode="bicubic")
    for view in (
        View(72, scale=(0.6, 1.0), blur=1.0, color=0.0, grey=0.0),
        View(24, scale=(0.8, 1.0), color=0.0, grey=0.0),
    ):
        torch.manual_seed(0)
        sampled = view(t)
        monkeypatch.setattr("withheld.splits.views.SMALL", 100)
        torch.manual_seed(0)
        exact = view(t)
        monkeypatch.undo()
        apart = (sampled - exact)[..., 4:-4, 4:-4]  # at the border one repeats pixels, the other leaves them out
        assert float(apart.abs().mean()) < 0.01
        assert float(exact.std()) > 0.1
