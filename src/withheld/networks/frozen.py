"""A trained encoder of others that is only asked, never trained: the teacher of distillation.

Shapes: B batch, C channels, H W pixels, D width of the teacher.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from withheld.errors import InputError
from withheld.networks.image import ImageTrunk
from withheld.networks.open import encoder_folder, normalization_of, open_trunk, read_card

LARGEST = 224


class FrozenEncoder:
    """The target of an objective: pooled features (B, D) of a trained encoder, of images in its own units, without gradients.

    No module, so that its weights are not written into every checkpoint of the student.

    Args:
        where: a run, an encoder folder, or a transformers id. side: of the images it sees, pixels; 0 takes its own, at most 224.

    Attributes:
        trunk: the encoder. mean, std: what its images are normalized by. size, channels, width: of its input and features.

    Raises:
        InputError: where there is none, or one without weights.
    """

    def __init__(self, where: str, side: int = 0) -> None:
        folder = encoder_folder(where) if Path(where).exists() else None
        card = read_card(folder)
        if card and card["full"] is not None:
            raise InputError(
                f"teacher={where}: it sees a part of an image only ({card['full']['class']}); take another"
            )
        trunk, trained = open_trunk(folder or where, size=None, channels=3)
        if not trained:
            raise InputError(
                f"teacher={where} has no trained weights: give a run, an encoder folder or a transformers id"
            )
        unit = trunk.patch or 1
        size = side or min(trunk.size, LARGEST // unit * unit)
        if size != trunk.size and trunk.patch:
            trunk, _ = open_trunk(folder or where, size=size, channels=3)
        self.trunk: ImageTrunk = trunk.eval().requires_grad_(False)
        self.size, self.channels, self.width = size, trunk.channels, trunk.width
        self.mean, self.std = (tuple(values) for values in normalization_of(folder or where, trunk.channels))

    @torch.no_grad()
    def __call__(self, y_BCHW: Tensor) -> Tensor:
        """(B, D)."""
        if next(self.trunk.parameters()).device != y_BCHW.device:
            self.trunk.to(y_BCHW.device)
        return self.trunk(y_BCHW).pooled
