"""Classifying texts: the pair is (text, label).

Shapes: B batch, L tokens, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.data.tokens import padded
from withheld.evaluate.classify import ItemClassifier, cross_entropy
from withheld.objective import Objective
from withheld.text_encoder import TextEncoder
from withheld.types import Pair, Recipe, Split

LOOKED_AT = 512
"""Tokens of a text that are trained on."""


@dataclass(frozen=True)
class AskTextLabel(Split):
    """The label from the whole text, (x, y) = ({"item", "mask", ...}, label): what people hid when they labelled."""

    asks = ("label",)

    def __call__(self, t: Mapping[str, Tensor]) -> Pair:
        return Pair(self.seen_of(t), t["label"])

    def seen_of(self, t: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the network sees."""
        return {name: part for name, part in t.items() if name != "label"}


class LabelledTexts:
    """Token rows with labels, padded batch by batch; what the loop learns from."""

    def __init__(self, rows: Sequence[NDArray[Any]], pad: int, labels: NDArray[Any] | None = None) -> None:
        self.rows, self.pad, self.labels = rows, pad, labels

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: NDArray[np.int64], device: torch.device | str) -> dict[str, Tensor]:
        """ "item" and "mask" (B, L), and "label" (B,) where there are labels."""
        t = padded([self.rows[int(i)] for i in index], self.pad, device)
        if self.labels is not None:
            t["label"] = torch.from_numpy(np.asarray(self.labels[np.asarray(index)])).to(device)
        return t


def text_objective(encoder: TextEncoder, classes: int) -> Objective:
    """The objective whose pair is (text, label), on a copy of an encoder's trunk."""
    return Objective(AskTextLabel(), ItemClassifier(encoder.copy().trunk, classes), cross_entropy)


def text_recipe(encoder: TextEncoder) -> Recipe:
    """Fine-tuning: the usual 5e-5 at a width of 768, more for smaller networks."""
    rate = 5e-5 * max(1.0, 768 / encoder.width) ** 1.6
    return Recipe(
        base_learning_rate=8 * rate, batch_size=32, weight_decay=0.01, warmup=0.1, clip=1.0, schedule="linear"
    )
