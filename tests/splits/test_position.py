"""Pairs of patches against a loop over images, grids and pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from withheld.errors import InputError
from withheld.splits.position import (
    DIRECTIONS,
    RelativePosition,
    coarser,
    cut,
    dropped,
    neighbors,
    projected,
    standardized,
)


def test_batched_crops_equal_a_loop_over_images_and_places():
    torch.manual_seed(0)
    t = torch.randn(3, 3, 40, 40)
    split = RelativePosition(blur=0.0)
    side, gap, jitter = split.pixels(40)
    places = split.places(3, 40)
    patches = split.patches(t, places)
    for b in range(3):
        for g in range(9):
            row, column = places[b, g].tolist()
            crop = t[b, :, row : row + side, column : column + side].numpy()
            a = np.array([-1.0, 2.0, -1.0])
            naive = np.einsum("dc,chw->dhw", np.eye(3) - np.outer(a, a) / (a @ a), crop)
            naive = (naive - naive.mean()) / naive.std()
            np.testing.assert_allclose(patches[b, g].numpy(), naive, atol=1e-4)


def test_the_grid_has_its_gap_and_jitter_and_stays_inside():
    torch.manual_seed(0)
    split = RelativePosition()
    side, gap, jitter = split.pixels(96)
    assert (side, gap, jitter) == (24, 8, 3)
    places = split.places(4000, 96).view(-1, 3, 3, 2)
    assert places.min() == 0
    assert places.max() == 96 - side
    steps = places[:, 1:, :, 0] - places[:, :-1, :, 0]
    assert steps.min() == side + gap - 2 * jitter
    assert steps.max() == side + gap + 2 * jitter
    assert steps.float().mean().item() == pytest.approx(side + gap, abs=0.1)


def test_labels_are_the_directions():
    torch.manual_seed(1)
    split = RelativePosition(side=4, gap=0.0, jitter=0.0, color="keep", blur=0.0)
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    x = torch.stack([rows, columns, torch.zeros(16, 16)])[None].expand(2, -1, -1, -1)
    places = split.places(2, 16)
    pairs, labels = split.questions(2)
    patches = cut(x, places, 4)
    assert pairs.shape == (2, 32, 2)
    assert torch.bincount(labels[0]).tolist() == [4] * 8  # none is likelier before anything is seen
    asked = [(*pair, label) for pair, label in zip(pairs[0].tolist(), labels[0].tolist(), strict=True)]
    assert set(asked) < set(neighbors())
    for first, second, label in asked:
        moved = (patches[0, second] - patches[0, first]).mean(dim=(1, 2))[:2]
        assert tuple((moved / 4).tolist()) == DIRECTIONS[label]


def test_shuffled_patches_are_asked_about_by_their_new_numbers():
    torch.manual_seed(2)
    t = torch.randn(4, 3, 32, 32)
    split = RelativePosition(blur=0.0)
    torch.manual_seed(3)
    x, y = split(t)
    torch.manual_seed(3)
    places = split.places(4, 32)
    in_order = split.patches(t, places)
    pairs, labels = split.questions(4)
    assert torch.equal(y, labels)
    for b in range(4):
        for (first, second), (was_first, was_second) in zip(x["pairs"][b].tolist(), pairs[b].tolist(), strict=True):
            assert torch.equal(x["patches"][b, first], in_order[b, was_first])
            assert torch.equal(x["patches"][b, second], in_order[b, was_second])
    assert (x["pairs"] != pairs).any()


def test_projection_takes_green_against_magenta_away_and_nothing_else():
    a = torch.tensor([-1.0, 2.0, -1.0])
    t = torch.randn(2, 3, 5, 5)
    gone = projected(t)
    torch.testing.assert_close(torch.einsum("c,bchw->bhw", a, gone), torch.zeros(2, 5, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(projected(gone), gone, atol=1e-5, rtol=1e-5)
    gray = torch.randn(2, 1, 5, 5).expand(-1, 3, -1, -1)
    torch.testing.assert_close(projected(gray), gray, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(projected(a.view(1, 3, 1, 1)), torch.zeros(1, 3, 1, 1), atol=1e-6, rtol=0)


def test_dropping_keeps_one_channel_and_a_hundredth_of_noise():
    torch.manual_seed(0)
    t = 3 + 2 * torch.randn(200, 3, 12, 12)
    deviation = dropped(t).std(dim=(2, 3))
    kept = deviation.argmax(dim=1)
    assert torch.bincount(kept, minlength=3).min() > 40
    torch.testing.assert_close(deviation.amax(dim=1), t.std(dim=(2, 3))[torch.arange(200), kept])
    assert deviation.sort(dim=1).values[:, :2].mean().item() == pytest.approx(0.02, rel=0.05)


def test_coarser_is_shrinking_and_enlarging():
    t = torch.randn(1, 3, 24, 24)
    small = torch.nn.functional.adaptive_avg_pool2d(t, 12)
    wanted = torch.nn.functional.interpolate(small, size=24, mode="bilinear", align_corners=False)
    torch.manual_seed(0)
    drawn = coarser(t.expand(60, -1, -1, -1), 1.0)
    assert any(torch.allclose(each, wanted[0], atol=1e-5) for each in drawn)
    assert torch.equal(coarser(t, 0.0), t)
    flat = torch.ones(8, 3, 24, 24)
    torch.testing.assert_close(coarser(flat, 1.0), flat)


def test_every_patch_has_mean_0_and_variance_1_and_flat_ones_are_0():
    patches = RelativePosition()(5 + 3 * torch.randn(4, 3, 32, 32)).x["patches"]
    torch.testing.assert_close(patches.mean(dim=(2, 3, 4)), torch.zeros(4, 9), atol=1e-4, rtol=0)
    torch.testing.assert_close(patches.square().mean(dim=(2, 3, 4)), torch.ones(4, 9), atol=1e-3, rtol=0)
    assert torch.equal(standardized(torch.full((1, 3, 4, 4), 7.0)), torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize("multiple", [1, 4, 8])
def test_the_rule_fits_every_size(multiple):
    for size in range(8 * multiple if multiple > 1 else 16, 513):
        side, gap, jitter = RelativePosition(multiple=multiple).pixels(size)
        assert 3 * side + 2 * gap + 2 * jitter <= size
        assert side % multiple == 0
    assert RelativePosition().pixels(28) == (7, 2, 1)
    assert RelativePosition().pixels(256) == (64, 21, 8)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("color", ["project", "drop", "gray", "keep"])
def test_any_channels(channels, color):
    x, y = RelativePosition(color=color)(torch.randn(2, channels, 28, 28))
    assert x["patches"].shape == (2, 9, channels, 7, 7)
    assert torch.isfinite(x["patches"]).all()
    assert y.shape == (2, 32)


def test_small_images_and_grids_that_do_not_fit_are_refused_with_the_remedy():
    with pytest.raises(InputError, match="--size"):
        RelativePosition().fitted(torch.zeros(1, 3, 12, 12))
    with pytest.raises(InputError, match="--set side"):
        RelativePosition(side=12).fitted(torch.zeros(1, 3, 32, 32))
    with pytest.raises(InputError, match="project"):
        RelativePosition(color="grey")
    with pytest.raises(InputError, match="gap"):
        RelativePosition(gap=-1.0)
