"""What moves in clips, measured without a network: what a task about time can be solved by, and where it matters.

Shapes: B batch, T frames, C channels, H W pixels, N rows, D numbers.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

MOVES, AROUND = 0.05, 3
"""Of 0..1, the change of a pixel that counts as motion, and how many pixels around it count too."""


def pairwise_differences(frames_BTCHW: Tensor) -> Tensor:
    """(B, T (T - 1) / 2): the logarithm of the mean squared difference of every two frames."""
    flat = frames_BTCHW.flatten(2)
    one, other = torch.triu_indices(flat.shape[1], flat.shape[1], 1, device=flat.device).unbind()
    return ((flat[:, one] - flat[:, other]).square().mean(dim=2) + 1e-6).log()


def camera_motion(clip_BTCHW: Tensor) -> Tensor:
    """(B, 6): how the whole picture moves, turns and grows, a frame on average.

    The least-squares affine flow u = a0 + a1 x + a2 y, v = a3 + a4 x + a5 y of all pixels (Lucas and Kanade 1981), x and y -1 to 1.
    """
    grey = F.avg_pool2d(clip_BTCHW.mean(dim=2), 2)
    B, T, H, W = grey.shape
    change = grey[:, 1:] - grey[:, :-1]
    both = (grey[:, 1:] + grey[:, :-1]) / 2  # in the middle of the two, so that the mirrored clip has the opposite flow
    dx = (both[..., 1:-1, 2:] - both[..., 1:-1, :-2]) / 2
    dy = (both[..., 2:, 1:-1] - both[..., :-2, 1:-1]) / 2
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, H - 2, device=grey.device),
        torch.linspace(-1, 1, W - 2, device=grey.device),
        indexing="ij",
    )
    parts = torch.stack([dx, dx * x, dx * y, dy, dy * x, dy * y], dim=-1).flatten(2, 3)
    aim = -change[..., 1:-1, 1:-1].flatten(2).unsqueeze(-1)
    gram = parts.transpose(2, 3) @ parts
    steady = 1e-3 * gram.diagonal(dim1=2, dim2=3).mean(dim=-1)[..., None, None] + 1e-8
    flow = torch.linalg.solve(gram + steady * torch.eye(6, device=grey.device), parts.transpose(2, 3) @ aim)
    return flow.squeeze(-1).mean(dim=1)


def moving_places(frames_BTCHW: Tensor, before_BCHW: Tensor) -> Tensor:
    """(B, T, H, W) whether something moves here: a pixel, or one near it, differs from the frame before.

    Args:
        frames_BTCHW: in 0..1. before_BCHW: the frame before the first of them.
    """
    earlier = torch.cat([before_BCHW.unsqueeze(1), frames_BTCHW[:, :-1]], dim=1)
    changed = (frames_BTCHW - earlier).abs().amax(dim=2) > MOVES
    return F.max_pool2d(changed.float(), 2 * AROUND + 1, stride=1, padding=AROUND) > 0


def told_from(
    seen_ND: NDArray[np.floating], answers_N: NDArray[np.int64], held_ND: NDArray[np.floating], intercept: bool = True
) -> NDArray[np.int64]:
    """What logistic regression on a few numbers answers, 0 or 1, for rows it has not seen."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(answers_N)) < 2:
        return np.full(len(held_ND), answers_N[0])
    middle = seen_ND.mean(axis=0) if intercept else 0.0
    spread = seen_ND.std(axis=0) + 1e-9
    model = LogisticRegression(fit_intercept=intercept, max_iter=1000).fit((seen_ND - middle) / spread, answers_N)
    return np.asarray(model.predict((held_ND - middle) / spread), np.int64)
