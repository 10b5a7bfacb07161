"""Small patches from anywhere: each lies in its image somewhere, and images that have no room for one are refused."""

from __future__ import annotations

import pytest
import torch

from withheld.errors import InputError
from withheld.splits.scattered import Scattered


def test_every_patch_is_in_its_image_somewhere_and_all_places_are_drawn():
    t = torch.randn(3, 2, 9, 11, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    pair = Scattered(side=4, rows=12)(t)
    assert pair.y.shape == pair.x["patches"].shape == (3, 2, 48, 48)
    assert torch.equal(pair.x["item"], t)
    assert torch.equal(pair.x["patches"], pair.y)
    for image, row_of_patches in zip(t, pair.y, strict=True):
        places = set()
        for row in range(0, 48, 4):
            for column in range(0, 48, 4):
                patch = row_of_patches[:, row : row + 4, column : column + 4]
                found = [
                    (top, left)
                    for top in range(9 - 4 + 1)
                    for left in range(11 - 4 + 1)
                    if torch.equal(image[:, top : top + 4, left : left + 4], patch)
                ]
                assert len(found) == 1
                places.update(found)
        assert {top for top, _ in places} == set(range(6))
        assert {left for _, left in places} == set(range(8))


def test_the_same_seed_draws_the_same_patches():
    t, drawn = torch.randn(2, 1, 16, 16), []
    for seed in (4, 4, 5):
        torch.manual_seed(seed)
        drawn.append(Scattered()(t).y)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_an_image_as_large_as_a_patch_is_the_patch():
    t = torch.randn(2, 1, 6, 6)
    assert torch.equal(Scattered(rows=2)(t).y, t.repeat(1, 1, 2, 2))


@pytest.mark.parametrize("shape", [(5, 5), (5, 9), (9, 5)])
def test_images_smaller_than_a_patch_are_refused_with_the_remedy(shape):
    said = rf"images of {shape[1]} x {shape[0]} pixels are smaller than a patch of 6: enlarge them with --size 8"
    with pytest.raises(InputError, match=said):
        Scattered()(torch.randn(2, 1, *shape))


def test_photographs_are_brought_to_the_side_that_an_encoder_sees():
    t = torch.full((2, 3, 24, 24), 0.5)
    x = Scattered(6, 3, size=18)(t).x
    assert x["item"].shape == (2, 3, 18, 18)
    torch.testing.assert_close(x["patches"], torch.full((2, 3, 18, 18), 0.5))
