"""Squares of one size, as all of the library makes them: what trains and what is measured must see the same pixels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def at_size(t_BCHW: Tensor, size: int) -> Tensor:
    """(B, C, size, size), bilinear and antialiased; the images themselves where they have this size."""
    if t_BCHW.shape[-2:] == (size, size):
        return t_BCHW
    return F.interpolate(t_BCHW, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
