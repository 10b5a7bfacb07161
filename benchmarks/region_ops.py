"""RoIAlign and non-maximum suppression of `withheld.evaluate.detection.boxes` beside the usual ways without a compiled kernel.

python benchmarks/region_ops.py

RoIAlign as two products of matrices, against one `grid_sample` over all samples of all regions, with the gradient; suppression as
a fixed point on the matrix of overlaps, against the greedy loop of py-faster-rcnn in NumPy. Above 1, ours is faster.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from paired import compare
from torch import Tensor

from withheld.evaluate.detection.boxes import roi_align, suppress


def sampled(map_BDHW: Tensor, box_BR4: Tensor, bins: int, samples: int = 2) -> Tensor:
    """RoIAlign by `grid_sample`."""
    B, R = box_BR4.shape[:2]
    n = bins * samples
    at = (torch.arange(n) + 0.5) / n
    x = box_BR4[..., 0, None] + (box_BR4[..., 2] - box_BR4[..., 0])[..., None] * at
    y = box_BR4[..., 1, None] + (box_BR4[..., 3] - box_BR4[..., 1])[..., None] * at
    grid = torch.stack([x[:, :, None, :].expand(B, R, n, n), y[:, :, :, None].expand(B, R, n, n)], dim=-1) * 2 - 1
    found = F.grid_sample(map_BDHW, grid.flatten(1, 2), mode="bilinear", padding_mode="border", align_corners=False)
    return F.avg_pool2d(found.unflatten(2, (R, n)).transpose(1, 2).flatten(0, 1), samples).unflatten(0, (B, R))


def greedy(boxes: np.ndarray, scores: np.ndarray, most: float) -> list[int]:
    """py_cpu_nms of py-faster-rcnn, on continuous boxes."""
    x0, y0, x1, y1 = boxes.T
    areas = (x1 - x0) * (y1 - y0)
    order, keep = scores.argsort()[::-1], []
    while order.size:
        i = order[0]
        keep.append(int(i))
        wide = np.maximum(0.0, np.minimum(x1[i], x1[order[1:]]) - np.maximum(x0[i], x0[order[1:]]))
        high = np.maximum(0.0, np.minimum(y1[i], y1[order[1:]]) - np.maximum(y0[i], y0[order[1:]]))
        both = wide * high
        order = order[1:][both / (areas[i] + areas[order[1:]] - both) <= most]
    return keep


def align(B: int, R: int, D: int, side: int, rounds: int) -> None:
    """RoIAlign with its gradient."""
    maps = torch.randn(B, D, side, side, requires_grad=True)
    boxes = torch.rand(B, R, 2, 2).sort(dim=2).values.flatten(2)
    torch.testing.assert_close(roi_align(maps, boxes, 4), sampled(maps, boxes, 4), atol=1e-4, rtol=1e-4)
    print(f"RoIAlign and its gradient, {B} maps of {side} x {side} x {D}, {R} regions each")
    compare(
        lambda _: roi_align(maps, boxes, 4).sum().backward(), lambda _: sampled(maps, boxes, 4).sum().backward(), rounds,
        ("matrices", "grid_sample"), what=f"RoIAlign, maps of {side} x {side} x {D}",
    )  # fmt: skip


def main() -> None:
    """Both, at the sizes of a small detector and of a large one."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    align(4, 64, 128, 24, 30)
    align(2, 64, 768, 38, 10)
    middle, side = torch.rand(24, 200, 2), 0.05 + 0.2 * torch.rand(24, 200, 2)
    boxes, scores = torch.cat([middle - side / 2, middle + side / 2], dim=-1), torch.rand(24, 200)
    plain = [(boxes[k].numpy(), scores[k].numpy()) for k in range(24)]
    stays = suppress(boxes, scores, 0.3)
    assert [sorted(greedy(*each, 0.3)) for each in plain] == [row.nonzero().flatten().tolist() for row in stays]
    print("suppression: 8 images, 3 classes, 200 boxes each")
    compare(
        lambda _: suppress(boxes, scores, 0.3),
        lambda _: [greedy(*each, 0.3) for each in plain],
        30,
        ("matrix", "greedy loop"),
        what="non-maximum suppression",
    )


if __name__ == "__main__":
    main()
