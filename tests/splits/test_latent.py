"""Splits whose hidden part only a teacher can tell: blocks are blocks, and what is seen has nothing of them."""

from __future__ import annotations

import pytest
import torch

from withheld.errors import InputError
from withheld.splits.image import gather_tokens, patchify
from withheld.splits.latent import HiddenBlocks, HiddenInContext
from withheld.splits.pairs import LargeAndSmall, MultiCrop, SharedView, SwappedViews
from withheld.splits.views import LUMA, View


def images(count: int = 5, side: int = 28, channels: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def test_blocks_are_rectangles_and_nothing_of_them_is_seen():
    t = images()
    split = HiddenBlocks(patch=4, blocks=4, share=0.15).fitted(t)
    x, y = split(t)
    high, wide = split.side(7, 7)
    assert (high, wide) == (3, 2)
    assert x["hidden"].shape == (5, 4 * high * wide)
    for row in x["hidden"].view(5 * 4, -1).tolist():
        places = [(number // 7, number % 7) for number in row]
        tops, lefts = {r for r, _ in places}, {c for _, c in places}
        assert len(set(places)) == high * wide == len(tops) * len(lefts)
        assert max(tops) - min(tops) == high - 1
        assert max(lefts) - min(lefts) == wide - 1
    for seen, hidden in zip(x["at"].tolist(), x["hidden"].tolist(), strict=True):
        assert not set(seen) & set(hidden)
        assert len(set(seen)) == len(seen) == split.seen(7, 7)
    torch.testing.assert_close(x["patches"], gather_tokens(patchify(t, 4), x["at"]))
    assert torch.equal(y["item"], t)
    assert torch.equal(y["hidden"], x["hidden"])


@pytest.mark.parametrize("split", [HiddenBlocks(), HiddenInContext(block=2)])
def test_what_is_seen_does_not_change_with_what_is_hidden(split):
    t = images()
    split = split.fitted(t)
    torch.manual_seed(1)
    x, _ = split(t)
    patches = patchify(t, 4)
    patches.scatter_(1, x["hidden"].unsqueeze(-1).expand(-1, -1, patches.shape[-1]), 100.0)
    changed = patches.view(5, 7, 7, 4, 4, 3).permute(0, 5, 1, 3, 2, 4).reshape(5, 3, 28, 28)
    torch.manual_seed(1)
    again, _ = split(changed)
    assert torch.equal(again["patches"], x["patches"])
    assert float(again["patches"].max()) < 100


def test_drawn_are_the_patches_seen_and_the_patches_hidden():
    t = images().abs() + 1
    split = HiddenInContext(patch=4, ratio=0.6)
    seen, hidden = split.drawn(split(t))
    torch.testing.assert_close(seen + hidden, t)
    assert 0.3 < float((seen > 0).float().mean()) < 0.5
    assert not ((seen > 0) & (hidden > 0)).any()


def test_squares_are_hidden_as_one():
    x, _ = HiddenInContext(patch=4, ratio=0.5, block=2)(images(side=32))
    for hidden in x["hidden"].tolist():
        whole = [{(number // 8 // 2, number % 8 // 2)} for number in hidden]
        squares = set.union(*whole)
        assert len(squares) == len(hidden) // 4  # 32 patches are hidden, in 8 squares of 4


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: HiddenBlocks(share=0.3),
        lambda: HiddenInContext(ratio=1.0),
        lambda: HiddenBlocks().fitted(images(side=30)),
    ],
)
def test_settings_that_leave_nothing_are_refused(wrong):
    with pytest.raises(InputError):
        wrong()


def test_views_come_in_the_numbers_asked_for():
    t = images(side=32)
    x, y = SwappedViews(View(24))(t)
    assert x.shape == y.shape == (5, 2, 3, 24, 24)
    assert torch.equal(x[:, 0], y[:, 1])
    assert torch.equal(x[:, 1], y[:, 0])
    x, y = LargeAndSmall(View(), View(16), 2, 3)(t)
    assert (x.shape, y.shape) == ((5, 2, 3, 32, 32), (5, 3, 3, 16, 16))
    assert torch.pdist(y.flatten(0, 1).flatten(1)).min() > 0.1  # every view is drawn by itself
    x, y = MultiCrop(View(), View(), View(16), 4)(t)
    assert x["small"].shape == (5, 4, 3, 16, 16)
    assert torch.equal(x["large"], y)
    assert "small" not in MultiCrop(count=0)(t).x
    with pytest.raises(InputError, match="count_small"):
        LargeAndSmall(count_small=0)


@pytest.mark.parametrize(("have", "want"), [(1, 3), (3, 1), (3, 3)])
def test_the_teacher_sees_the_same_pixels_in_its_own_units(have, want):
    pixels = torch.rand(4, have, 20, 20, generator=torch.Generator().manual_seed(1))
    mean, std = [0.4] * have, [0.2] * have
    still = View(20, scale=(1.0, 1.0), aspect=(1.0, 1.0), flip=False, color=0.0, grey=0.0)
    split = SharedView(still, 20, want, (0.5,) * want, (0.25,) * want).in_units(mean, std)
    x, y = split((pixels - 0.4) / 0.2)
    torch.testing.assert_close(x * 0.2 + 0.4, pixels)
    expected = pixels
    if (have, want) == (1, 3):
        expected = pixels.expand(-1, 3, -1, -1)
    elif (have, want) == (3, 1):
        expected = sum(weight * pixels[:, k : k + 1] for k, weight in enumerate(LUMA))
    torch.testing.assert_close(y, (expected - 0.5) / 0.25, atol=1e-5, rtol=1e-4)
