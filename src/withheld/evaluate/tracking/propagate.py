"""Carrying a mask along a clip by the likeness of features: every place asks where it was (Jabri et al. 2020).

Shapes: T frames, C channels, h w the grid of features, N = h * w places, D width, K objects and the background.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from withheld.evaluate.features import Listen, silent

AT_ONCE = 1024
"""Places that ask at a time."""


@dataclass(frozen=True)
class Pointer:
    """How places find where they were.

    Attributes:
        near: of the likest places, so many count (top-k).
        radius: how far a place may have come from one frame to the next, in cells of the grid.
        context: frames before that are asked, besides the first.
        temperature: of the softmax over cosines.
    """

    near: int = 10
    radius: float = 12.0
    context: int = 4
    temperature: float = 0.07


def disk(h: int, w: int, radius: float, device: torch.device | str = "cpu") -> Tensor:
    """(N, N) whether two places are at most so far from each other."""
    rows, columns = torch.meshgrid(torch.arange(h, device=device), torch.arange(w, device=device), indexing="ij")
    at = torch.stack([rows.flatten(), columns.flatten()], dim=1).float()
    return torch.cdist(at, at) <= radius


def point(query_ND: Tensor, keys_MND: Tensor, labels_MNK: Tensor, allowed_NN: Tensor, pointer: Pointer) -> Tensor:
    """Labels (N, K) of the places of a frame, from those of M frames before it: a weighted mean over the likest places."""
    M, N, K = labels_MNK.shape
    keys, labels = keys_MND.flatten(0, 1), labels_MNK.flatten(0, 1)
    found = []
    for first in range(0, N, AT_ONCE):
        rows = query_ND[first : first + AT_ONCE]
        likeness = rows @ keys.T / pointer.temperature
        allowed = allowed_NN[first : first + AT_ONCE].repeat(1, M)
        likeness = likeness.masked_fill(~allowed, float("-inf"))
        top, at = likeness.topk(min(pointer.near, likeness.shape[1]), dim=1)
        found.append((top.softmax(dim=1).unsqueeze(-1) * labels[at]).sum(dim=1))
    return torch.cat(found)


@torch.no_grad()
def propagate(
    features: list[Tensor], first_Khw: Tensor, pointer: Pointer = Pointer(), listen: Listen = silent
) -> list[Tensor]:
    """Soft masks (K, h, w) of every frame.

    Args:
        features: (D, h, w) of every frame.
        first_Khw: of the first frame, summing to 1 over K.
        pointer: see there.
        listen: is told {"kind": "follow", "done", "total"}.
    """
    h, w = features[0].shape[1:]
    flat = lambda f_Dhw: F.normalize(f_Dhw.flatten(1).T.float(), dim=1)  # noqa: E731
    allowed = disk(h, w, pointer.radius, features[0].device)
    first = (flat(features[0]), first_Khw.flatten(1).T)
    recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=pointer.context)
    masks = [first_Khw]
    for f_Dhw in features[1:]:
        query = flat(f_Dhw)
        asked = [first, *recent]
        labels = point(query, torch.stack([k for k, _ in asked]), torch.stack([m for _, m in asked]), allowed, pointer)
        recent.append((query, labels))
        masks.append(labels.T.unflatten(1, (h, w)))
        listen({"kind": "follow", "done": len(masks), "total": len(features)})
    return masks


def on_grid(ids_HW: Tensor, objects: int, h: int, w: int) -> Tensor:
    """(K, h, w): the share of every cell that each object, and before them the background, takes."""
    one_hot = F.one_hot(ids_HW.long(), objects + 1).permute(2, 0, 1).float()
    return F.interpolate(one_hot[None], size=(h, w), mode="area")[0]


def full_size(mask_Khw: Tensor, H: int, W: int) -> Tensor:
    """(H, W) numbers of objects: the largest share, interpolated."""
    if len(mask_Khw) == 2:  # one object: where its share is the larger
        return (F.interpolate(mask_Khw[None, 1:], size=(H, W), mode="bilinear", align_corners=False)[0, 0] > 0.5).long()
    return F.interpolate(mask_Khw[None], size=(H, W), mode="bilinear", align_corners=False)[0].argmax(dim=0)
