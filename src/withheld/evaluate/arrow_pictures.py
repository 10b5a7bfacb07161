"""Where in a clip the direction of time is seen: the class activation map over its frames (Zhou et al. 2016; Wei et al. 2018).

Shapes: B clips, T frames, T' H' W' the grid of evidence, C channels, H W pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from withheld.evaluate.canvas import enlargement, stacked, strip, tile
from withheld.evaluate.latent_pictures import entry
from withheld.evaluate.parts import to_pixels
from withheld.modes import evaluating
from withheld.networks.clip_heads import ArrowJudge
from withheld.objective import Objective

SHOWN, SIDE, OPACITY = 6, 96, 0.65
FORWARD, BACKWARD = (220, 40, 40), (40, 90, 230)


@torch.no_grad()
def arrow_entries(objective: Objective, t_BTCHW: Tensor, names: list[str], mean: Any, std: Any) -> list[dict[str, Any]]:
    """A picture a clip: its frames, and below them the same under what speaks for forward (red) and for backward (blue).

    Args:
        objective: of arrow_of_time. t_BTCHW: normalized clips, running forward. names: theirs.
    """
    network = objective.network
    if not isinstance(network, ArrowJudge):
        return []
    t = t_BTCHW[:SHOWN]
    with evaluating(objective):
        evidence = network.net_evidence({"clip": objective.split.full(t), "mirror": objective.split.full(t.flip(1))})
    pixels = frames_of(t, mean, std)
    strongest = float(evidence.abs().flatten().quantile(0.99)) + 1e-9
    entries: list[dict[str, Any]] = []
    for clip, map_THW, name in zip(pixels, evidence / strongest, names, strict=False):
        probability = float(torch.sigmoid(evidence[len(entries)].mean()))
        at = ((torch.arange(len(map_THW)) + 0.5) / len(map_THW) * len(clip)).long().tolist()
        large = (
            F.interpolate(map_THW[None], size=clip.shape[1:3], mode="bilinear", align_corners=False)[0].cpu().numpy()
        )
        times = enlargement(clip.shape[2], SIDE)
        rows = [strip([tile(clip[i], None, times) for i in at])]
        rows.append(strip([tile(painted(clip[i], map_HW), None, times) for i, map_HW in zip(at, large, strict=True)]))
        said = f"{name}: forward with {100 * probability:.0f} %"
        entries.append(
            entry(
                "arrow",
                stacked(rows, 4),
                said,
                "The clip runs forward; colors are as strong as the evidence, the same scale for all.",
            )
        )
    return entries


def frames_of(t_BTCHW: Tensor, mean: Any, std: Any) -> list[NDArray[np.uint8]]:
    """Frames (T, H, W, 3) of every clip."""
    return [to_pixels(clip, mean, std) for clip in t_BTCHW]


def painted(image_HW3: NDArray[np.uint8], map_HW: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A grey picture of the frame under colors, red where the map is above 0 and blue below."""
    grey = image_HW3.mean(axis=2, keepdims=True).repeat(3, axis=2)
    strength = OPACITY * np.clip(np.abs(map_HW), 0, 1)[..., None]
    color = np.where(map_HW[..., None] > 0, np.array(FORWARD), np.array(BACKWARD))
    return np.asarray(((1 - strength) * grey + strength * color).round().astype(np.uint8))
