"""Features of the places of every frame of a clip, by any encoder of images or clips.

Shapes: T frames, S side in pixels, D width, h w the grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.errors import InputError
from withheld.evaluate.features import Listen, silent
from withheld.networks.open import resize_positions

CELLS = 32
"""Places along a side, as in Vondrick et al. 2018."""
AT_ONCE = 8


def at_grid(encoder: Any, cells: int = CELLS) -> tuple[Any, int]:
    """A copy of an encoder that has about so many places along a side, and the side of the frames it takes.

    A ViT's positions are interpolated; convolutions take any size; a model of clips keeps its own.

    Raises:
        InputError: where it has no grid of places.
    """
    copy = encoder.copy().eval()
    trunk = copy.trunk
    image = trunk.image if copy.modality == "video" else trunk
    if image is None:
        return copy, trunk.size
    grid = _grid(copy)
    side = max(image.size, round(cells / grid) * image.size)
    if side != image.size:
        resize_positions(image.model, side)
        image.size = side
        trunk.size = side
    return copy, side


def _grid(encoder: Any) -> int:
    blank = torch.zeros(1, encoder.size, encoder.size, 3, dtype=torch.uint8)
    found = places(encoder, blank.numpy())[0]
    if found.ndim != 3 or found.shape[-1] < 2:
        raise InputError("this encoder has no grid of places: masks cannot be followed with it")
    return int(found.shape[-1])


@torch.no_grad()
def places(encoder: Any, frames_TSS3: NDArray[np.uint8], listen: Listen = silent) -> list[Tensor]:
    """(D, h, w) of every frame."""
    found = []
    for first in range(0, len(frames_TSS3), AT_ONCE):
        listen({"kind": "features", "done": first, "total": len(frames_TSS3)})
        some = torch.from_numpy(np.ascontiguousarray(frames_TSS3[first : first + AT_ONCE].transpose(0, 3, 1, 2)))
        some = some.to(encoder.device)
        if encoder.modality == "image":
            features = encoder(some)
            tokens, grid = features.tokens, features.grid
        else:
            still = 1 if encoder.trunk.image is not None else encoder.frames
            full = encoder.normalize(some.unsqueeze(1).expand(-1, max(2, still), -1, -1, -1))
            features = encoder.trunk(full[:, :1] if still == 1 else full)
            T, *grid = features.grid
            tokens = features.tokens.view(len(some), T, -1, features.tokens.shape[-1]).mean(dim=1)
        if grid is None or len(grid) != 2:
            raise InputError("this encoder has no grid of places: masks cannot be followed with it")
        found += list(tokens.transpose(1, 2).unflatten(2, tuple(grid)))
    listen({"kind": "features", "done": len(found), "total": len(frames_TSS3)})
    return found
