"""Patches and masks against naive loops."""

from __future__ import annotations

import pytest
import torch

from withheld.errors import InputError
from withheld.losses.target import NormalizedPatches
from withheld.splits.image import MaskPatches, patchify, unpatchify
from withheld.splits.views import RandomResizedCrop


def test_patchify_equals_the_naive_loop_and_comes_back():
    t = torch.randn(2, 3, 8, 12)
    patches = patchify(t, 4)
    assert patches.shape == (2, 6, 48)
    for row in range(2):
        for column in range(3):
            patch = t[:, :, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
            assert torch.equal(patches[:, row * 3 + column], patch.permute(0, 2, 3, 1).flatten(1))
    assert torch.equal(unpatchify(patches, 4, (2, 3)), t)


@pytest.mark.parametrize(("ratio", "hidden"), [(0.75, 12), (0.5, 8), (0.9, 15), (0.01, 1), (0.999, 15)])
def test_the_ratio_is_kept_and_something_is_always_seen_and_hidden(ratio, hidden):
    pair = MaskPatches(patch=4, ratio=ratio)(torch.randn(3, 1, 16, 16))
    assert pair.y.shape[1] == hidden
    assert pair.x["patches"].shape[1] == 16 - hidden
    together = torch.cat([pair.x["at"], pair.x["hidden"]], dim=1).sort(dim=1).values
    assert torch.equal(together, torch.arange(16).expand(3, -1))


def test_every_patch_is_hidden_equally_often():
    torch.manual_seed(0)
    hidden = MaskPatches(patch=4, ratio=0.75)(torch.zeros(4000, 1, 16, 16)).x["hidden"]
    share = torch.bincount(hidden.flatten(), minlength=16) / 4000
    assert (share - 0.75).abs().max() < 0.04


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_a_ratio_outside_is_refused(ratio):
    with pytest.raises(InputError, match="outside"):
        MaskPatches(ratio=ratio)


def test_images_that_cannot_be_cut_are_refused():
    with pytest.raises(InputError, match="multiple of 8"):
        MaskPatches(patch=8).fitted(torch.zeros(1, 3, 20, 24))


def test_oblong_images_merge():
    t = torch.randn(2, 3, 8, 16)
    split = MaskPatches(patch=4).fitted(t)
    assert split.grid == (2, 4)
    assert torch.equal(split.merge(split(t)), t)


def test_normalized_patches_and_their_undoing():
    y = 5 + 3 * torch.randn(2, 4, 48)
    target = NormalizedPatches()
    normal = target(y)
    torch.testing.assert_close(normal.mean(-1), torch.zeros(2, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal.var(-1), torch.ones(2, 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(target.undo(normal, y), y, atol=1e-4, rtol=1e-4)


def test_a_crop_of_everything_is_the_image_or_its_mirror():
    t = torch.rand(16, 3, 8, 8)
    whole = RandomResizedCrop(8, scale=(1.0, 1.0), aspect=(1.0, 1.0), flip=False)
    torch.testing.assert_close(whole(t), t, atol=1e-5, rtol=0)
    mirrored = RandomResizedCrop(8, scale=(1.0, 1.0), aspect=(1.0, 1.0), flip=True)(t)
    same = [torch.allclose(m, i, atol=1e-5) for m, i in zip(mirrored, t, strict=True)]
    turned = [torch.allclose(m, i.flip(-1), atol=1e-5) for m, i in zip(mirrored, t, strict=True)]
    assert all(a or b for a, b in zip(same, turned, strict=True))
    assert any(same)
    assert any(turned)


def test_a_crop_keeps_the_share_of_the_area_it_should():
    torch.manual_seed(0)
    ramp = torch.linspace(-1, 1, 64).expand(2000, 1, 64, 64)
    crop = RandomResizedCrop(64, scale=(0.25, 0.25), aspect=(1.0, 1.0), flip=False)(ramp)
    width = (crop[..., -1] - crop[..., 0]).mean()
    assert width.item() == pytest.approx(1.0, abs=0.05)  # half of the ramp's 2, on either axis
