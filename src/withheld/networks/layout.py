"""How images lie in memory."""

from __future__ import annotations

import torch
from torch import Tensor


def channels_last(t_BCHW: Tensor) -> Tensor:
    """The same images with channels innermost, in which convolutions on a CPU are 1.1 to 1.5 times as fast, what follows them too.

    One channel lies in both orders at once; convolutions then look at the strides, which `contiguous` leaves as they are.
    """
    if t_BCHW.shape[1] == 1 and not torch.compiler.is_exporting():
        return torch.empty_like(t_BCHW, memory_format=torch.channels_last).copy_(t_BCHW)
    return t_BCHW.contiguous(memory_format=torch.channels_last)
