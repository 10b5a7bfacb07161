"""Exemplar views against one image at a time: numpy, scipy and colorsys."""

from __future__ import annotations

import colorsys
import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from withheld.errors import InputError
from withheld.splits.exemplar import ExemplarViews, box_means, from_hsv, gradient_energy, lightness, to_hsv

OFF = {"translation": 0.0, "scale": 1.0, "rotation": 0.0, "contrast": 1.0, "power": 1.0, "hue": 0.0}


def smooth(count: int, side: int, channels: int = 3) -> torch.Tensor:
    """Images whose neighbors are alike, so that interpolations agree."""
    generator = torch.Generator().manual_seed(4)
    coarse = torch.rand(count, channels, 6, 6, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=side, mode="bicubic", align_corners=False).clamp(0, 1)


def test_gradient_energy_is_numpys():
    light = torch.rand(2, 9, 9)
    for image, found in zip(light.numpy(), gradient_energy(light), strict=True):
        down, right = np.gradient(image)
        np.testing.assert_allclose(found.numpy(), down**2 + right**2, atol=1e-6)


def test_box_means_equal_a_loop():
    values = torch.rand(2, 9, 9)
    found = box_means(values, 4)
    assert found.shape == (2, 6, 6)
    for row in range(6):
        for column in range(6):
            naive = values[:, row : row + 4, column : column + 4].mean(dim=(1, 2))
            torch.testing.assert_close(found[:, row, column], naive)


def test_seeds_are_picked_in_proportion_to_the_gradient_energy():
    t = smooth(1, 40)
    t[:, :, :, 20:] = 0.5  # half of the image is flat
    split = ExemplarViews(size=40, side=8)
    number = torch.arange(4000)
    centers = split.pick(t.expand(4000, -1, -1, -1), number)
    energy = box_means(gradient_energy(lightness(t)), 8)[0].numpy()
    wanted = energy.sum(axis=0) / energy.sum()
    column = ((centers[:, 0] + 1) / 2 * 40 - 4).round().long()
    found = torch.bincount(column, minlength=33).numpy() / 4000
    np.testing.assert_allclose(found, wanted, atol=0.01)
    assert found[20:].sum() < 0.02


def test_a_seed_depends_on_its_number_and_item_only():
    t = smooth(3, 40)
    split = ExemplarViews(size=40, side=8)
    centers = split.pick(t, torch.arange(3))
    assert torch.equal(centers[1:], split.pick(t[1:], torch.tensor([1, 2])))
    assert not torch.equal(centers[1], split.pick(t[1:2], torch.tensor([7]))[0])
    flat = split.pick(torch.full((50, 3, 40, 40), 0.3), torch.arange(50))
    assert flat.std(dim=0).min() > 0.3  # nothing to choose by: anywhere


def test_without_distortion_a_view_is_the_patch():
    t = smooth(4, 48)
    split = ExemplarViews(size=48, side=16, **OFF)
    centers = split.pick(t, torch.arange(4))
    views = split.resample(t, centers)
    corner = ((centers + 1) / 2 * 48 - 8).round().long()
    for b in range(4):
        x, y = corner[b].tolist()
        torch.testing.assert_close(views[b, 0], t[b, :, y : y + 16, x : x + 16], atol=1e-4, rtol=0)
    torch.testing.assert_close(split.color(views), views)


def test_moves_scales_and_turns_equal_scipy():
    t = smooth(3, 96)
    split = ExemplarViews(size=96, side=24, views=2, translation=0.2, scale=1.4, rotation=20)
    centers = torch.zeros(3, 2)
    torch.manual_seed(5)
    views = split.resample(t, centers)
    torch.manual_seed(5)
    move_x, move_y, grow, turn = torch.rand(4, 3, 2).double().numpy()
    rows, columns = np.indices((24, 24)) - 11.5
    for b in range(3):
        for v in range(2):
            factor, angle = 0.7 + 0.7 * grow[b, v], math.radians(20) * (2 * turn[b, v] - 1)
            x = 47.5 + 24 * 0.2 * (2 * move_x[b, v] - 1) + factor * (math.cos(angle) * columns - math.sin(angle) * rows)
            y = 47.5 + 24 * 0.2 * (2 * move_y[b, v] - 1) + factor * (math.sin(angle) * columns + math.cos(angle) * rows)
            for c in range(3):
                naive = ndimage.map_coordinates(t[b, c].double().numpy(), [y, x], order=1)
                np.testing.assert_allclose(views[b, v, c].numpy(), naive, atol=1e-4)


def test_hsv_is_colorsys_there_and_back():
    t = torch.rand(2, 3, 7, 7)
    t[0, :, 0] = 0.4  # a row of grey
    hue, saturation, value = to_hsv(t)
    for b in range(2):
        for i in range(7):
            for j in range(7):
                wanted = colorsys.rgb_to_hsv(*t[b, :, i, j].double().tolist())
                np.testing.assert_allclose([p[b, i, j].item() for p in (hue % 1, saturation, value)], wanted, atol=1e-5)
    torch.testing.assert_close(from_hsv(hue, saturation, value), t, atol=1e-5, rtol=0)
    torch.testing.assert_close(from_hsv(hue + 1, saturation, value), t, atol=1e-4, rtol=0)


def test_colors_equal_a_loop_over_pixels():
    t = {"item": smooth(5, 48), "id": torch.arange(5)}
    split = ExemplarViews(size=48, side=8, views=1).fitted(t)
    plain = dataclasses.replace(split, **OFF)
    views = plain.resample(t["item"], plain.pick(t["item"], t["id"]))
    torch.manual_seed(6)
    found = split.color(views)
    torch.manual_seed(6)
    up = lambda most, *shape: (math.log(most) * (2 * torch.rand(shape) - 1)).exp()  # noqa: E731
    contrast = up(2.0, 5, 3, 1)
    draws = [(up(4.0, 5, 1, 1), 0.7 + 0.7 * torch.rand(5, 1, 1), -0.1 + 0.2 * torch.rand(5, 1, 1)) for _ in range(2)]
    shift = -0.1 + 0.2 * torch.rand(5, 1, 1)
    axes, mean = np.array(split.components), np.array(split.mean)
    for b in range(5):
        for i in range(8):
            for j in range(8):
                pixel = views[b, 0, :, i, j].double().numpy() - mean
                pixel = mean + sum(contrast[b, k].item() * axes[k] * (axes[k] @ pixel) for k in range(3))
                h, *rest = colorsys.rgb_to_hsv(*pixel.clip(0, 1))
                curved = [
                    min(1.0, max(0.0, max(part, 1e-6) ** power[b].item() * factor[b].item() + add[b].item()))
                    for part, (power, factor, add) in zip(rest, draws, strict=True)
                ]
                wanted = colorsys.hsv_to_rgb((h + shift[b].item()) % 1.0, *curved)
                np.testing.assert_allclose(found[b, 0, :, i, j].numpy(), wanted, atol=2e-3)


def test_components_are_those_of_the_covariance():
    t = {"item": smooth(6, 20), "id": torch.arange(6)}
    split = ExemplarViews(size=20).fitted(t)
    pixels = t["item"].permute(0, 2, 3, 1).reshape(-1, 3).double().numpy()
    values, axes = np.linalg.eigh(np.cov(pixels.T))
    np.testing.assert_allclose(np.abs(np.array(split.components) @ axes), np.eye(3), atol=1e-4)
    np.testing.assert_allclose(split.mean, pixels.mean(axis=0), atol=1e-6)
    torch.testing.assert_close(split.full(t["item"]).mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)


def test_numbers_views_and_seeds():
    t = {"item": smooth(4, 48), "id": torch.tensor([0, 3, 5, 9])}
    split = ExemplarViews(size=48, views=3, seeds=2).fitted(t)
    torch.manual_seed(0)
    x, y = split(t)
    assert x.shape == (4, 3, 3, 24, 24)
    assert torch.equal(y, y[:, :1].expand(-1, 3))
    assert torch.equal(y[:, 0] // 2, t["id"])
    assert split.exemplars(t["item"], t["id"], 5).shape == (4, 6, 3, 24, 24)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels(channels):
    t = {"item": smooth(3, 32, channels), "id": torch.arange(3)}
    x, _ = ExemplarViews(size=32).fitted(t)(t)
    assert x.shape == (3, 1, channels, 24, 24)
    assert torch.isfinite(x).all()


def test_sides_by_the_rule_and_settings_that_are_refused():
    assert [ExemplarViews(size=size).pixels for size in (28, 32, 96, 224)] == [24, 24, 32, 74]
    assert ExemplarViews(size=224, multiple=16).pixels == 64
    assert ExemplarViews(size=16).pixels == 16
    with pytest.raises(InputError, match="side"):
        ExemplarViews(size=32, side=40)
    with pytest.raises(InputError, match="scale"):
        ExemplarViews(scale=0.5)
