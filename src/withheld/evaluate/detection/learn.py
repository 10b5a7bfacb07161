"""Training a detector: Fast R-CNN end to end through the loop, or R-CNN's machines on features that stay."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from withheld.evaluate.detection.network import RegionClassifier, Way
from withheld.evaluate.detection.regions import AskRegions, MirrorBoxes, RegionItems, Regions, region_loss
from withheld.image_encoder import ImageEncoder
from withheld.learn.gradient import Loop
from withheld.objective import Objective
from withheld.types import Recipe

TUNED = Recipe(base_learning_rate=0.064, batch_size=4, warmup=0.1, clip=1.0, layer_decay=0.75, weight_decay=0.05)
FROM_SCRATCH = TUNED.change(layer_decay=1.0)
"""1e-3 at four images a step."""


def fast_rcnn(
    encoder: ImageEncoder, regions: Regions, at: NDArray[np.int64], *, way: Way, steps: int, seed: int, scratch: bool,
    device: torch.device,
) -> Loop:  # fmt: skip
    """A loop that trains a copy of an encoder, with heads, to classify regions and to move their borders; `run()` it.

    Args:
        encoder: where to begin, of the side of the regions' images (for "warped" of its own). at: images to learn from.
        scratch: whether the encoder is untrained: then all layers learn at the same rate.
    """
    torch.manual_seed(seed)
    seen = None if encoder.split is None else encoder.split.full
    network = RegionClassifier(encoder.copy().trunk, len(regions.classes), way)
    split = AskRegions(seen=seen)
    change = MirrorBoxes() if encoder.flips else None
    objective = Objective(split, network, region_loss, change=change)
    items = RegionItems(regions, at, encoder, split.count)
    recipe = (FROM_SCRATCH if scratch else TUNED).change(batch_size=min(TUNED.batch_size, _power(len(at))))
    return Loop(objective, items, recipe, steps=steps, seed=seed, device=device)


def _power(count: int) -> int:
    """The largest power of two that is no larger."""
    return 1 << (max(1, count).bit_length() - 1)
