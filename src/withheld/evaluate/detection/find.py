"""From scores and offsets of regions to detections: offsets applied, clipped, suppressed class by class.

Shapes: B images, R regions, K classes, N candidates of a class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from withheld.data.image import ImageItems
from withheld.evaluate.detection.boxes import decode, suppress
from withheld.image_encoder import ImageEncoder

OVERLAP = 0.3
"""Two detections of a class overlap by at most this (R-CNN and Fast R-CNN alike)."""
LEAST, CANDIDATES, MOST = 1e-3, 200, 100
"""The least score, candidates of a class before suppression, detections of an image after it."""
TOGETHER = 8


@dataclass(frozen=True)
class Detections:
    """What was found in one image, the surest first.

    Attributes:
        boxes: (n, 4) shares of the sides, 0 to 1. labels: (n,) classes from 0. scores: (n,) 0 to 1.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, least: float) -> Detections:
        """Those of at least this score."""
        kept = self.scores >= least
        return Detections(self.boxes[kept], self.labels[kept], self.scores[kept])


@torch.no_grad()
def detect(
    network: nn.Module, encoder: ImageEncoder, images: Any, proposals: Sequence[NDArray[np.float32]],
    listen: Callable[[dict[str, Any]], None], device: torch.device,
) -> list[Detections]:  # fmt: skip
    """Detections in images (N, C, S, S) uint8 with their proposals.

    Args:
        network: a `RegionClassifier` or `RegionMachines`. encoder: its normalization, and `full`.
        listen: is told {"kind": "detect", "done", "total"}.
    """
    network.eval()
    items = ImageItems(images, encoder.mean, encoder.std)
    found: list[Detections] = []
    for first in range(0, len(images), TOGETHER):
        index = np.arange(first, min(first + TOGETHER, len(images)))
        item: Any = items.batch(index, device)
        item = item if encoder.split is None else encoder.split.full(item)
        box, real = padded([proposals[int(i)] for i in index])
        score, offset = network.scores({"item": item, "box": box.to(device)})  # type: ignore[operator]
        score = score.masked_fill(~real.to(device).unsqueeze(-1), 0.0)
        found += kept(box.to(device), score, offset)
        listen({"kind": "detect", "done": len(found), "total": len(images)})
    return found


def padded(boxes: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """(B, R, 4) and (B, R) bool, True where a box is real; at least one region an image."""
    most = max(1, *(len(each) for each in boxes))
    box = torch.stack([F.pad(torch.from_numpy(each), (0, 0, 0, most - len(each)), value=0.5) for each in boxes])
    real = torch.stack([torch.arange(most) < len(each) for each in boxes])
    return box, real


def kept(box_BR4: Tensor, score_BRK: Tensor, offset_BRK4: Tensor) -> list[Detections]:
    """Detections of every image, of scored regions with offsets."""
    B, R, K = score_BRK.shape
    many = min(R, CANDIDATES)
    score_BKN, at_BKN = score_BRK.transpose(1, 2).topk(many, dim=2)
    start_BKN4 = box_BR4.unsqueeze(1).expand(-1, K, -1, -1).gather(2, at_BKN.unsqueeze(-1).expand(-1, -1, -1, 4))
    move_BKN4 = offset_BRK4.transpose(1, 2).gather(2, at_BKN.unsqueeze(-1).expand(-1, -1, -1, 4))
    found_BKN4 = decode(start_BKN4, move_BKN4).clamp(0, 1)
    score_BKN = score_BKN.masked_fill(score_BKN < LEAST, -torch.inf)
    empty = (found_BKN4[..., 2:] - found_BKN4[..., :2]).amin(dim=-1) <= 0
    score_BKN = score_BKN.masked_fill(empty, -torch.inf)
    stays = suppress(found_BKN4.flatten(0, 1), score_BKN.flatten(0, 1), OVERLAP).unflatten(0, (B, K))
    score_BKN = score_BKN.masked_fill(~stays, -torch.inf)
    top_BM, at_BM = score_BKN.flatten(1).topk(min(MOST, K * many), dim=1)
    boxes_BM4 = found_BKN4.flatten(1, 2).gather(1, at_BM.unsqueeze(-1).expand(-1, -1, 4))
    label_BM = at_BM // many
    top, boxes, labels = (part.cpu().numpy() for part in (top_BM, boxes_BM4, label_BM))
    real = np.isfinite(top)
    return [Detections(boxes[i][real[i]], labels[i][real[i]], top[i][real[i]]) for i in range(B)]
