"""Color hidden, lightness seen."""

from __future__ import annotations

import pytest
import torch

from withheld.color import lightness, to_lab
from withheld.errors import InputError
from withheld.splits.color import HideColor
from withheld.types import Pair


def images(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_network_sees_after_training_what_it_saw_in_training(channels):
    split = HideColor(channels)
    x, y = split(images())
    assert x.shape == (4, channels, 8, 8)
    assert y.shape == (4, 2, 8, 8)
    torch.testing.assert_close(split.full(images()), x)
    torch.testing.assert_close(x[:, :1] * 25 + 50, lightness(images()))
    assert bool((x == x[:, :1]).all())


def test_grey_and_color_of_one_lightness_look_the_same():
    split = HideColor()
    grey = split.merge(Pair(split(images()).x, torch.zeros(4, 2, 8, 8)))
    torch.testing.assert_close(split.full(grey), split.full(images()), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(split.full(grey[:, :1]), split.full(images()), atol=1e-3, rtol=1e-3)


def test_pictures_are_the_grey_image_and_the_colors():
    split = HideColor()
    drawn = split.drawn(split(images()))
    torch.testing.assert_close(lightness(drawn.x), lightness(images()), atol=1e-3, rtol=1e-3)
    assert float(to_lab(drawn.x)[:, 1:].abs().max()) < 1e-2
    assert drawn.y.shape == (4, 3, 8, 8)
    assert 0 <= float(drawn.y.min()) <= float(drawn.y.max()) <= 1


def test_grey_images_are_counted_and_too_many_refused():
    grey = images(1)[:, :1].expand(-1, 3, -1, -1)
    split = HideColor()
    assert split.remarks(images()) == []
    assert split.remarks(torch.cat([images(3), grey])) == [
        "25 % of 4 images looked at are grey: they have no color to learn from"
    ]
    with pytest.raises(InputError, match="60 % of 5 images looked at are grey"):
        split.remarks(torch.cat([images(2), grey, grey, grey]))
    with pytest.raises(InputError, match="color images"):
        split.remarks(images()[:, :1])
