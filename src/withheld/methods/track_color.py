"""Tracking by colorizing."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from withheld.losses.prediction import ColorCopied
from withheld.networks.clip_heads import ColorPointer
from withheld.networks.video import VideoTrunk
from withheld.objective import Objective
from withheld.shortcuts import Probe, Shortcut, Variant
from withheld.splits.video import TrackColor
from withheld.splits.views import RandomResizedCrop
from withheld.types import Recipe

ENCODER = {"cpu": "resnet-dense", "cuda": "resnet-dense"}
FRAMES, RATE, SIZE = 4, 6.0, 128


def track_color(
    trunk: VideoTrunk, *, clusters: int = 16, temperature: float = 0.07, jitter: float = 0.1, crop: float = 0.3
) -> tuple[Objective, Recipe]:
    """Copies the colors of a grey frame from colored frames before it, and so learns to follow things.

    (x, y): three frames in color and one in grey; the colors of that one.
    p(y|x): a categorical over colors for every place: what stands where the place points to, in the frames before.
    Source: Vondrick et al. 2018, Tracking Emerges by Colorizing Videos, https://arxiv.org/abs/1806.09594
    Differs: a small ResNet of stride 8 (paper: ResNet-18 and five 3D convolutions); frames of 128 pixels (256); cosines at
        a fixed temperature (dot products); brightness and contrast are jittered, clips are cropped and also run backward; 16
        colors of the user's own clips.

    Args:
        trunk: of images, with a grid of tokens; it sees lightness only, also after training.
        clusters: colors that are told apart.
        temperature: of the pointing.
        jitter: of brightness and contrast, a share.
        crop: smallest share of the area that a random crop keeps, the same in all frames; 1 is no cropping.
    """
    side = trunk.frame_grid
    return (
        Objective(
            TrackColor(side, clusters, jitter, trunk.channels),
            ColorPointer(trunk, clusters, temperature),
            ColorCopied(),
            change=RandomResizedCrop(trunk.size, scale=(crop, 1.0)),
        ),
        Recipe(
            base_learning_rate=1.6e-2,
            batch_size=16,
            weight_decay=0.01,
            warmup=0.1,
            clip=1.0,
            epochs=100,
            normalize=False,
        ),
    )


def shortcuts() -> list[Shortcut]:
    """Pointing to the same place, telling the commonest color, and pointing nowhere."""
    return [
        Probe(
            "the same place", same_place,
            "share of the places whose color is told right: by the network, by copying the same place of the frame before, by "
            "always telling the commonest color; and where the color of the same place changed, so that copying is always wrong",
            {"above the same place": (0.0, 1.0)}, each=True,
        ),
        Probe(
            "where it points", pointing,
            "entropy of the pointer over its places, 1 for all alike: then nothing is followed; and how far it points, in cells",
            {"entropy, of the most": (0.0, 0.9)}, each=True,
        ),
        Variant("no jitter", {"jitter": 0.0}, "lightness alone then tells where a place was: beside the same, short"),
        Variant("no crops", {"crop": 1.0}, "few clips are learned by heart: beside the same, short"),
    ]  # fmt: skip


def same_place(objective: Objective, seen: Tensor, held: Tensor) -> dict[str, float]:
    """Shares of colors that are told right."""
    split: Any = objective.split
    x, y = split(held)
    before = x["colors"][:, -1]
    told = torch.cat([objective.network(_part(x, i)).argmax(dim=1) for i in range(0, len(y), 16)])
    changed = before != y
    commonest = int(split.numbers_of(seen).flatten().bincount().argmax())
    share = lambda found: float(found.float().mean())  # noqa: E731
    return {
        "accuracy": share(told == y), "accuracy of the same place": share(before == y),
        "accuracy of the commonest": share(y == commonest),
        "above the same place": share(told == y) - share(before == y), "accuracy where it changed": share((told == y)[changed]),
    }  # fmt: skip


def pointing(objective: Objective, seen: Tensor, held: Tensor) -> dict[str, float]:
    """Entropy of the pointer as a share of the largest, and the mean distance it points to, in cells."""
    network = objective.network
    assert isinstance(network, ColorPointer)  # noqa: S101 - it is this method's
    x, y = objective.split(held[:32])
    weights = torch.cat([network.pointing(x["frames"][i : i + 8]) for i in range(0, len(y), 8)])
    entropy = -(weights * weights.clamp_min(1e-12).log()).sum(dim=2).mean() / math.log(weights.shape[2])
    side = y.shape[-1]
    at = (
        torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), dim=-1)
        .flatten(0, 1)
        .to(weights)
    )
    far = torch.cdist(at, at).repeat(1, weights.shape[2] // len(at))
    return {"entropy, of the most": float(entropy), "cells away": float((weights * far).sum(dim=2).mean())}


def _part(x: dict[str, Tensor], first: int, many: int = 16) -> dict[str, Tensor]:
    return {name: part[first : first + many] for name, part in x.items()}
