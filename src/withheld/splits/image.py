"""Splits of images by patches.

Shapes: B batch, C channels, H height, W width, P = patch * patch * C values of a patch, L = (H / patch) * (W / patch) patches in
row-by-row order, V visible and M hidden patches, V + M = L.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from withheld.errors import InputError
from withheld.types import Pair, Split


def patchify(t_BCHW: Tensor, patch: int) -> Tensor:
    """Cuts images into patches, (B, C, H, W) -> (B, L, P), values ordered row, column, channel as in He et al. 2021."""
    B, C, H, W = t_BCHW.shape
    cut = t_BCHW.reshape(B, C, H // patch, patch, W // patch, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(B, -1, patch * patch * C)


def unpatchify(patches_BLP: Tensor, patch: int, grid: tuple[int, int]) -> Tensor:
    """Puts patches back together, (B, L, P) -> (B, C, H, W)."""
    B, _, P = patches_BLP.shape
    C = P // (patch * patch)
    cut = patches_BLP.reshape(B, grid[0], grid[1], patch, patch, C)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(B, C, grid[0] * patch, grid[1] * patch)


def grid_of(t_BCHW: Tensor, patch: int) -> tuple[int, int]:
    """Rows and columns of the patches of images.

    Raises:
        InputError: they cannot be cut into patches of this side.
    """
    H, W = t_BCHW.shape[-2:]
    if H % patch or W % patch:
        raise InputError(
            f"images of {H}x{W} cannot be cut into patches of {patch}: choose --size as a multiple of {patch}"
        )
    return H // patch, W // patch


def gather_tokens(tokens_BLD: Tensor, at_BV: Tensor) -> Tensor:
    """Picks tokens by position, (B, L, D) at (B, V) -> (B, V, D)."""
    return tokens_BLD.gather(1, at_BV.unsqueeze(-1).expand(-1, -1, tokens_BLD.shape[-1]))


@dataclass(frozen=True)
class MaskPatches(Split):
    """Hides a random share of the patches of an image (He et al. 2021, https://arxiv.org/abs/2111.06377).

    x holds the visible patches "patches" (B, V, P), where they are "at" (B, V) and where the hidden ones are "hidden" (B, M);
    y is the hidden patches (B, M, P).

    Attributes:
        patch: side of a patch in pixels.
        ratio: share of the patches that is hidden, above 0 and below 1.
        grid: rows and columns of patches; found from the data, only `merge` needs it.
    """

    hides: ClassVar[bool] = True
    patch: int = 4
    ratio: float = 0.75
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.ratio < 1.0:
            raise InputError(
                f"ratio={self.ratio} is outside (0, 1): it is the share of patches to hide. Try --set ratio=0.75"
            )

    def __call__(self, t: Tensor) -> Pair:
        patches_BLP = patchify(t, self.patch)
        B, L, _ = patches_BLP.shape
        visible = min(L - 1, max(1, int(L * (1 - self.ratio))))
        order_BL = torch.rand(B, L, device=t.device).argsort(dim=1)
        at_BV, hidden_BM = order_BL[:, :visible], order_BL[:, visible:]
        x = {"patches": gather_tokens(patches_BLP, at_BV), "at": at_BV, "hidden": hidden_BM}
        return Pair(x, gather_tokens(patches_BLP, hidden_BM))

    def merge(self, pair: Pair) -> Tensor:
        """Rebuilds the images (B, C, H, W) from visible patches and hidden ones, true or predicted."""
        at_BL = torch.cat([pair.x["at"], pair.x["hidden"]], dim=1)
        patches_BLP = torch.cat([pair.x["patches"], pair.y.to(pair.x["patches"].dtype)], dim=1)
        side = round(at_BL.shape[1] ** 0.5)
        return unpatchify(gather_tokens(patches_BLP, at_BL.argsort(dim=1)), self.patch, self.grid or (side, side))

    def fitted(self, sample: Any) -> MaskPatches:
        return dataclasses.replace(self, grid=grid_of(sample, self.patch))
