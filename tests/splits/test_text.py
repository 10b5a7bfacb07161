"""Deleting words, and parting them."""

from __future__ import annotations

import pytest
import torch

from withheld.splits.text import DeleteWords, PartWords


def test_deletion_keeps_order_ends_and_the_share():
    mask = torch.arange(22) < torch.tensor([22, 12, 3])[:, None]
    item = torch.arange(10, 32).repeat(3, 1)
    item[:, 0] = 2
    item[torch.arange(3), mask.sum(dim=1) - 1] = 3
    item = item.masked_fill(~mask, 0)
    torch.manual_seed(0)
    x = DeleteWords(0.6, (2, 3), 0)({"item": item, "mask": mask}).x
    assert x["mask"].sum(dim=1).tolist() == [10, 6, 3]  # of 20, 10 and 1 free words 8, 4 and 1 are left, and both ends
    for row, real in zip(x["item"], x["mask"], strict=True):
        left = row[real].tolist()
        assert left[0] == 2
        assert left[-1] == 3
        assert left[1:-1] == sorted(left[1:-1])
        assert not row[~real].any()


def test_what_is_deleted_does_not_depend_on_padding():
    item = torch.randint(5, 30, (4, 10), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(item, dtype=torch.bool)
    torch.manual_seed(4)
    short = DeleteWords(0.5)({"item": item, "mask": mask}).x
    torch.manual_seed(4)
    wide = torch.nn.functional.pad(item, (0, 3)), torch.nn.functional.pad(mask, (0, 3))
    long = DeleteWords(0.5)({"item": wide[0], "mask": wide[1]}).x
    L = int(short["mask"].sum(dim=1).max())
    assert torch.equal(short["item"][:, :L], long["item"][:, :L])


def test_every_word_is_told_and_nothing_else():
    mask = torch.tensor([[True, True, True, False]])
    pair = DeleteWords(0.5)({"item": torch.tensor([[2, 7, 8, 0]]), "mask": mask})
    assert pair.y.tolist() == [[7, 8, -100]]
    assert pair.x["before"].tolist() == [[2, 7, 8]]


def parted(cut: float, share: float, count: int = 200):
    item = torch.randint(5, 50, (count, 60), generator=torch.Generator().manual_seed(0))
    item[:, 0] = 2
    mask = torch.arange(60) < torch.randint(30, 61, (count, 1), generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    x, y = PartWords(share, cut, (2,))({"item": item, "mask": mask})
    return x["mask"], y["mask"], mask & (item != 2)


@pytest.mark.parametrize("cut", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("share", [0.3, 0.5])
def test_every_word_is_in_one_of_two_parts(cut, share):
    x, y, real = parted(cut, share)
    assert not (x & y).any()
    assert torch.equal(x | y, real)
    assert abs(float(x.sum() / real.sum()) - share) < 0.03


def test_a_text_is_cut_once_or_word_by_word():
    for cut, least, most in ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.4, 0.3, 0.5)):
        x, y, real = parted(cut, 0.5)
        once = torch.stack([(x[i][real[i]].int().diff() > 0).sum() == 0 for i in range(len(x))])  # never back again
        assert least <= float(once.float().mean()) <= most
        if cut == 1.0:
            shares = x.sum(dim=1) / real.sum(dim=1)
            assert 0.2 < float(shares.min()) < 0.35
            assert 0.65 < float(shares.max()) < 0.8


def test_a_text_of_one_word_and_of_none():
    item, mask = torch.tensor([[2, 9, 0], [2, 0, 0]]), torch.tensor([[True, True, False], [True, False, False]])
    for cut in (0.0, 1.0):
        x, y = PartWords(0.5, cut, (2,))({"item": item, "mask": mask})
        assert x["mask"].tolist() == y["mask"].tolist() == [[False, True, False], [False] * 3]
