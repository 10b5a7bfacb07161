"""Fine-tuning: the sentence of the library in which people did the splitting, the pair being (item, label).

Shapes: B batch, C channels, H W pixels, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from withheld.evaluate.few_label import LinearProbe
from withheld.image_encoder import ImageEncoder as Encoder
from withheld.learn.gradient import Loop
from withheld.networks.sentences import label_of
from withheld.objective import Objective
from withheld.types import Pair, Recipe, Split

LARGEST_BATCH = 32
AREA = 0.85
FINE_TUNE = Recipe(base_learning_rate=0.03, batch_size=LARGEST_BATCH, warmup=0.1, clip=1.0, layer_decay=0.7)
SCRATCH = FINE_TUNE.change(layer_decay=1.0)


@dataclass(frozen=True)
class AskLabel(Split):
    """The label from the whole item, (x, y) = (item, label): what people hid when they labelled.

    Attributes:
        seen: what the encoder sees of an item, the `full` of the split it was trained with; None for all of it.
    """

    asks = ("label",)
    seen: Callable[[Tensor], Tensor] | None = None

    def __call__(self, t: Mapping[str, Tensor]) -> Pair:
        return Pair(self.seen_of(t), t["label"])

    def seen_of(self, t: Any) -> Tensor:
        """What the network sees of items with or without labels."""
        return self.full(t["item"] if isinstance(t, Mapping) else t)

    def full(self, t: Any) -> Any:
        """The item as the encoder sees it."""
        return t if self.seen is None else self.seen(t)


@dataclass(frozen=True)
class LightCrop:
    """A light augmentation: every item (B, C, H, W) is cropped to a random part of its area, and mirrored if `flip`.

    Attributes:
        area: the smallest share that is kept.
        flip: whether every second item is mirrored.
    """

    area: float = AREA
    flip: bool = True

    def __call__(self, t: Mapping[str, Tensor]) -> dict[str, Tensor]:
        image = t["item"]
        B = len(image)
        area, place_x, place_y, mirror = torch.rand(4, B, device=image.device).unbind()
        side = (self.area + (1 - self.area) * area).sqrt()
        sign = torch.where(mirror < 0.5, -1.0, 1.0) if self.flip else torch.ones_like(side)
        zero = torch.zeros_like(side)
        row_x = torch.stack([side * sign, zero, (2 * place_x - 1) * (1 - side)], dim=1)
        row_y = torch.stack([zero, side, (2 * place_y - 1) * (1 - side)], dim=1)
        grid = F.affine_grid(torch.stack([row_x, row_y], dim=1), list(image.shape), align_corners=False).to(image.dtype)
        item = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return {**t, "item": item}


@dataclass(frozen=True)
class Augmented:
    """Every item (B, C, H, W) changed as an encoder's pretraining changed it.

    Attributes:
        augment: of `ImageEncoder`.
    """

    augment: Callable[[Tensor], Tensor]

    def __call__(self, t: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**t, "item": self.augment(t["item"])}


class ItemClassifier(nn.Module):
    """Trunk, standardized pooled features, linear head: items as the trunk takes them in, logits (B, K) out.

    It begins as the linear probe of its own features, so that the first steps do not tear up what the trunk knows
    (Kumar et al. 2022, Fine-Tuning can Distort Pretrained Features).

    Args:
        trunk: an encoder's.
        classes: K.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, trunk: Any, classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(trunk.width, classes)
        self.register_buffer("mean", torch.zeros(trunk.width))
        self.register_buffer("scale", torch.ones(trunk.width))

    def forward(self, x: Any) -> Tensor:
        """Logits (B, K) of whole items."""
        return self.head((self.trunk(x).pooled - self.mean) / self.scale)

    @torch.no_grad()
    def begin_at(self, probe: LinearProbe) -> None:
        """Takes over a fitted linear probe."""
        places = self.mean, self.scale, self.head.weight, self.head.bias
        for place, value in zip(places, probe.head(), strict=True):
            place.copy_(torch.as_tensor(value, dtype=torch.float32))


def cross_entropy(logits_BK: Tensor, label_B: Tensor) -> Tensor:
    """-log of the categorical p(label | item), a mean over the batch; unknown labels (-100) do not count."""
    return F.cross_entropy(logits_BK, label_B, ignore_index=-100)


def classifier_objective(
    encoder: Encoder, classes: int, augment: Callable[[Tensor], Tensor] | None = None
) -> Objective:
    """The objective whose pair is (item, label), on a copy of an encoder's trunk.

    Args:
        encoder: where to begin, trained or fresh.
        classes: K.
        augment: how images are changed instead of by a light crop.
    """
    seen = None if encoder.split is None else encoder.split.full
    change = LightCrop(flip=encoder.flips) if augment is None else Augmented(augment)
    return Objective(AskLabel(seen), ItemClassifier(encoder.copy().trunk, classes), cross_entropy, change=change)


def loop_of(
    objective: Objective, items: Any, recipe: Recipe, *, steps: int, seed: int = 0, device: torch.device | str = "cpu",
    probe: LinearProbe | None = None,
) -> Loop:  # fmt: skip
    """A loop that trains a classifier, an `ItemClassifier` from the head of a linear probe where one is given."""
    network = objective.network
    if probe is not None and isinstance(network, ItemClassifier):
        network.begin_at(probe)
    recipe = recipe.change(batch_size=batch_for(len(items), recipe.batch_size))
    return Loop(objective, items, recipe, steps=steps, seed=seed, device=device)


def batch_for(items: int, largest: int = LARGEST_BATCH) -> int:
    """Small batches for few items: 8 below 32 of them, 16 below 256, else 32."""
    return min(largest, 8 if items < 32 else 16 if items < 256 else 32)


def steps_for(items: int) -> int:
    """Steps that fine-tuning on so many items should have: 10 times their root, 60 to 600."""
    return int(min(600, max(60, 10 * items**0.5)))


@torch.no_grad()
def class_probabilities(objective: Objective, items: Any, batch_size: int = 256) -> NDArray[np.float32]:
    """(N, K) probabilities of whole items."""
    objective.eval()
    device = next(objective.parameters()).device
    parts = []
    for first in range(0, len(items), batch_size):
        index = np.arange(first, min(first + batch_size, len(items)))
        x = objective.split.seen_of(items.batch(index, device))  # type: ignore[attr-defined]
        parts.append(label_of(objective.network(x)).float().softmax(dim=1).cpu().numpy())
    return np.concatenate(parts)
