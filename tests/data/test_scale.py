"""Fixed scales, and resizing of arrays against Pillow's."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from small_files import photo

from withheld.data.scale import Scale, find_scale, rescaled, resized, to_block, with_channels


@pytest.mark.parametrize("size", [8, 28, 32, 50])
def test_resizing_is_what_pillow_does(size: int) -> None:
    picture = photo(0, 28, 28)[..., 0]
    ours = np.rint(resized(picture.astype(np.float32), size))
    theirs = np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR)).astype(float)
    assert np.abs(ours - theirs).max() <= 1


def test_same_size_is_a_copy() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
    assert np.array_equal(to_block(images, 8, 1)[:, 0], images[..., 0])
    assert np.array_equal(to_block(images, 8, 3)[:, 2], images[..., 0])


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (np.random.default_rng(0).uniform(0, 1, (9, 9, 1)), Scale((0.0,), (1.0,))),
        (np.arange(81).reshape(9, 9, 1) * 3, Scale((0.0,), (255.0,))),
        (np.array([[[False], [True]]]), Scale((0.0,), (1.0,))),
        (np.zeros((4, 4, 1)), Scale((0.0,), (1.0,))),
        (np.zeros((4, 4, 1), np.uint8), None),
    ],
)
def test_scales_of_known_ranges(values: np.ndarray, scale: Scale | None) -> None:
    assert find_scale([values]) == scale


def test_other_ranges_are_spread_channel_by_channel_and_nan_does_no_harm() -> None:
    values = np.random.default_rng(0).uniform(0, 1, (50, 50, 2)) * [100.0, 5000.0]
    values[0, 0] = np.nan
    scale = find_scale([values, np.zeros((50, 50, 2), np.uint8)])
    assert scale is not None
    assert np.allclose(scale.high, [100, 5000], rtol=0.02)
    out = rescaled(values, scale)
    assert np.isfinite(out).all()
    assert out.max() == 255
    assert Scale.from_json(scale.to_json()) == scale
    with pytest.raises(ValueError, match="3 channels"):
        rescaled(np.zeros((4, 4, 3)), scale)


def test_digits_from_0_to_16_use_the_whole_range() -> None:
    images = [np.random.default_rng(i).integers(0, 17, (8, 8, 1)).astype(np.float64) for i in range(9)]
    out = to_block(np.stack(images), 8, 1, find_scale(images))
    assert out.max() == 255
    assert out.min() == 0


def test_whole_numbers_and_floats_in_one_set_have_a_scale_each() -> None:
    draw = np.random.default_rng(0)
    whole, floats = draw.integers(0, 4096, (50, 50, 1)).astype(np.uint16), draw.uniform(0, 1, (50, 50, 1))
    scale = find_scale([whole, floats.astype(np.float32), np.zeros((9, 9, 3), np.uint8)])
    assert scale is not None
    assert scale.floats == Scale((0.0,), (1.0,))
    assert (scale.low, scale.high) == (find_scale([whole]).low, find_scale([whole]).high)
    assert np.allclose(rescaled(floats, scale), 255 * floats, atol=1e-3)
    assert 120 < rescaled(whole, scale).mean() < 135
    assert Scale.from_json(scale.to_json()) == scale
    assert scale.words().endswith("of those of floats 0 becomes black and 1 white")
    assert repr(Scale((0.0,), (4095.0,))) == "Scale(low=(0.0,), high=(4095.0,))"  # caches and runs are known by it


def test_constant_data_can_be_scaled() -> None:
    constant = np.full((4, 4, 1), 700, np.int32)
    assert np.isfinite(rescaled(constant, find_scale([constant]))).all()


def test_channels() -> None:
    grey = np.full((2, 1, 3, 3), 9, np.uint8)
    assert with_channels(grey, 3).shape == (2, 3, 3, 3)
    assert np.allclose(with_channels(np.repeat(grey, 3, axis=1), 1), 9)
    with pytest.raises(ValueError, match="5 channels where 3"):
        with_channels(np.zeros((1, 5, 2, 2)), 3)
