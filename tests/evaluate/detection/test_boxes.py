"""Boxes against their definitions, on random ones: the fast way equals the naive loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from withheld.evaluate.detection.boxes import decode, encode, overlap, roi_align, suppress


def random_boxes(*shape: int, seed: int = 0) -> Tensor:
    corners = torch.rand(*shape, 2, 2, generator=torch.Generator().manual_seed(seed)).sort(dim=-2).values
    return corners.flatten(-2)


def naive_overlap(a: list[float], b: list[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, wide) * max(0.0, high)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def naive_suppress(boxes: Tensor, scores: Tensor, most: float) -> list[int]:
    order = sorted(range(len(boxes)), key=lambda i: (-float(scores[i]), i))
    stays: list[int] = []
    for i in order:
        if scores[i] > -math.inf and all(naive_overlap(boxes[i].tolist(), boxes[j].tolist()) <= most for j in stays):
            stays.append(i)
    return sorted(stays)


def test_overlap_is_intersection_over_union() -> None:
    a, b = random_boxes(2, 7).double(), random_boxes(2, 5, seed=1).double()
    found = overlap(a, b)
    for k in range(2):
        wanted = [[naive_overlap(x.tolist(), y.tolist()) for y in b[k]] for x in a[k]]
        np.testing.assert_allclose(found[k].numpy(), wanted, atol=1e-12)


def test_overlap_of_nothing_is_zero() -> None:
    nothing = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    assert overlap(nothing, nothing).item() == 0


@pytest.mark.parametrize("most", [0.1, 0.3, 0.5, 0.9])
def test_suppression_is_the_greedy_rule(most: float) -> None:
    generator = torch.Generator().manual_seed(3)
    middle = torch.rand(6, 80, 2, generator=generator)
    side = 0.05 + 0.3 * torch.rand(6, 80, 2, generator=generator)
    boxes = torch.cat([middle - side / 2, middle + side / 2], dim=-1)
    scores = torch.rand(6, 80, generator=generator)
    scores[:, ::9] = -math.inf  # padding
    scores[1] = scores[1].round(decimals=1)  # ties
    stays = suppress(boxes, scores, most)
    for k in range(6):
        assert stays[k].nonzero().flatten().tolist() == naive_suppress(boxes[k], scores[k], most)


def test_a_long_chain_of_suppressions_ends_right() -> None:
    """Each box overlaps only its neighbors: every second stays, which takes as many rounds as there are boxes."""
    left = torch.arange(40) * 0.5
    boxes = torch.stack([left, torch.zeros(40), left + 1, torch.ones(40)], dim=1)[None]
    stays = suppress(boxes, torch.linspace(1, 0.1, 40)[None], 0.3)
    assert stays[0].tolist() == [at % 2 == 0 for at in range(40)]


def test_offsets_are_undone() -> None:
    box, true = random_boxes(50).double(), random_boxes(50, seed=4).double()
    box, true = (torch.cat([part[:, :2], part[:, 2:] + 0.05], dim=1) for part in (box, true))  # none is next to nothing
    torch.testing.assert_close(decode(box, encode(box, true)), true, atol=1e-9, rtol=0)


def test_offsets_are_those_of_the_paper() -> None:
    box, true = torch.tensor([[0.0, 0.0, 10.0, 20.0]]), torch.tensor([[5.0, 0.0, 25.0, 20.0]])
    # the middle moves by 10 of 10 and 0 of 20; the width doubles
    wanted = torch.tensor([[1.0 / 0.1, 0.0, math.log(2) / 0.2, 0.0]])
    torch.testing.assert_close(encode(box, true), wanted)


def naive_roi_align(map_DHW: np.ndarray, box: list[float], bins: int, samples: int) -> np.ndarray:
    D, H, W = map_DHW.shape
    x0, y0, x1, y1 = box[0] * W, box[1] * H, box[2] * W, box[3] * H
    out = np.zeros((D, bins, bins))
    for i in range(bins):
        for j in range(bins):
            for a in range(samples):
                for b in range(samples):
                    y = y0 + (i + (a + 0.5) / samples) * (y1 - y0) / bins
                    x = x0 + (j + (b + 0.5) / samples) * (x1 - x0) / bins
                    out[:, i, j] += bilinear(map_DHW, y - 0.5, x - 0.5) / samples**2
    return out


def bilinear(map_DHW: np.ndarray, y: float, x: float) -> np.ndarray:
    D, H, W = map_DHW.shape
    y, x = min(max(y, 0.0), H - 1), min(max(x, 0.0), W - 1)
    top, left = int(y), int(x)
    down, right = min(top + 1, H - 1), min(left + 1, W - 1)
    dy, dx = y - top, x - left
    return (
        map_DHW[:, top, left] * (1 - dy) * (1 - dx) + map_DHW[:, top, right] * (1 - dy) * dx
        + map_DHW[:, down, left] * dy * (1 - dx) + map_DHW[:, down, right] * dy * dx
    )  # fmt: skip


@pytest.mark.parametrize(("bins", "samples"), [(1, 1), (4, 2), (7, 2), (3, 3)])
def test_roi_align_is_the_mean_of_bilinear_samples(bins: int, samples: int) -> None:
    generator = torch.Generator().manual_seed(5)
    maps = torch.randn(2, 3, 6, 9, generator=generator, dtype=torch.float64)
    boxes = random_boxes(2, 5, seed=6).double()
    found = roi_align(maps, boxes, bins, samples)
    assert found.shape == (2, 5, 3, bins, bins)
    for k in range(2):
        for r in range(5):
            wanted = naive_roi_align(maps[k].numpy(), boxes[k, r].tolist(), bins, samples)
            np.testing.assert_allclose(found[k, r].numpy(), wanted, atol=1e-12)


def test_the_whole_image_in_as_many_bins_is_the_map() -> None:
    maps = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(7))
    whole = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
    torch.testing.assert_close(roi_align(maps, whole, 8, 1)[0, 0], maps[0])


def test_roi_align_has_the_gradient_of_its_samples() -> None:
    maps = torch.randn(1, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    boxes = random_boxes(1, 3, seed=8).double()
    assert torch.autograd.gradcheck(lambda m: roi_align(m, boxes, 2), (maps,))
