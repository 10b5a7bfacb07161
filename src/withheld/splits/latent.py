"""Hidden patches that are told by what a teacher makes of them, seeing the whole image.

Shapes: B batch, L patches in row-by-row order, V visible and M hidden ones, P values of a patch.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from withheld.errors import InputError
from withheld.splits.image import gather_tokens, grid_of, patchify, unpatchify
from withheld.types import Pair, Split


@dataclass(frozen=True)
class HiddenBlocks(Split):
    """Blocks of patches from what is left of an image (Assran et al. 2023, https://arxiv.org/abs/2301.08243).

    x holds the visible patches "patches" (B, V, P), where they are "at" (B, V) and where the blocks are, "hidden" (B, M), one block
    after the other; y the whole image "item" and "hidden": only a teacher that sees all of it can tell. Every image has blocks of
    its own, of the same shape; they may overlap, so of what is left a random V are visible.

    Attributes:
        patch: side of a patch in pixels.
        blocks: how many.
        share: of the image's area that one block covers.
        visible: largest share of the patches that is seen; never more than any draw of blocks leaves.
        grid: rows and columns of patches; found from the data.
    """

    patch: int = 4
    blocks: int = 4
    share: float = 0.15
    visible: float = 0.85
    grid: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.blocks < 1 or not 0 < self.blocks * self.share < 1:
            raise InputError(
                f"blocks={self.blocks} of share={self.share}: together they must leave something of the image to see"
            )

    def fitted(self, sample: Any) -> HiddenBlocks:
        found = dataclasses.replace(self, grid=grid_of(sample, self.patch))
        if found.seen(*found.grid) < 1:
            raise InputError(
                f"blocks of share={self.share} leave nothing of a {sample.shape[-2]}x{sample.shape[-1]} image to see: give a "
                "smaller share"
            )
        return found

    def side(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of a block."""
        high = min(rows, max(1, round((self.share * rows * columns) ** 0.5)))
        return high, min(columns, max(1, round(self.share * rows * columns / high)))

    def seen(self, rows: int, columns: int) -> int:
        """V, how many patches are seen."""
        high, wide = self.side(rows, columns)
        return min(rows * columns - self.blocks * high * wide, round(self.visible * rows * columns))

    def __call__(self, t: Tensor) -> Pair:
        patches_BLP = patchify(t, self.patch)
        B, L, _ = patches_BLP.shape
        rows, columns = t.shape[-2] // self.patch, t.shape[-1] // self.patch
        high, wide = self.side(rows, columns)
        place = torch.rand(2, B, self.blocks, 1, device=t.device)
        top, left = (place[0] * (rows - high + 1)).long(), (place[1] * (columns - wide + 1)).long()
        within = torch.arange(high * wide, device=t.device)
        hidden_BM = ((top + within // wide) * columns + left + within % wide).flatten(1)
        taken_BL = torch.zeros(B, L, device=t.device).scatter_(1, hidden_BM, 2.0)
        order_BL = (torch.rand(B, L, device=t.device) + taken_BL).argsort(dim=1)
        at_BV = order_BL[:, : self.seen(rows, columns)]
        x = {"patches": gather_tokens(patches_BLP, at_BV), "at": at_BV, "hidden": hidden_BM}
        return Pair(x, {"item": t, "hidden": hidden_BM})

    def drawn(self, pair: Pair) -> Pair:
        """What is seen of the image, and what is hidden."""
        return _cut_out(pair, self.patch)


@dataclass(frozen=True)
class HiddenInContext(Split):
    """A random share of the patches from the rest; y is the whole image and where they are (Baevski et al. 2022).

    x holds "patches" (B, V, P), "at" (B, V), "hidden" (B, M); y "item" and "hidden".

    Attributes:
        patch: side of a patch in pixels.
        ratio: share of the patches that is hidden.
        block: side of the squares, in patches, that are kept or hidden as one.
    """

    patch: int = 4
    ratio: float = 0.7
    block: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.ratio < 1.0:
            raise InputError(
                f"ratio={self.ratio} is outside (0, 1): it is the share of patches to hide. Try --set ratio=0.7"
            )

    def fitted(self, sample: Any) -> HiddenInContext:
        grid_of(sample, self.patch)
        return self

    def __call__(self, t: Tensor) -> Pair:
        patches_BLP = patchify(t, self.patch)
        B, L, _ = patches_BLP.shape
        rows, columns = t.shape[-2] // self.patch, t.shape[-1] // self.patch
        V = min(L - 1, max(1, int(L * (1 - self.ratio))))
        down, across = -(-rows // self.block), -(-columns // self.block)
        noise = torch.rand(B, down, across, device=t.device)
        noise = (
            noise.repeat_interleave(self.block, 1).repeat_interleave(self.block, 2)[:, :rows, :columns].reshape(B, L)
        )
        order_BL = (noise + 1e-4 * torch.rand(B, L, device=t.device)).argsort(dim=1)
        at_BV, hidden_BM = order_BL[:, :V], order_BL[:, V:]
        x = {"patches": gather_tokens(patches_BLP, at_BV), "at": at_BV, "hidden": hidden_BM}
        return Pair(x, {"item": t, "hidden": hidden_BM})

    def drawn(self, pair: Pair) -> Pair:
        """What is seen of the image, and what is hidden."""
        return _cut_out(pair, self.patch)


def _cut_out(pair: Pair, patch: int) -> Pair:
    """The patches that are seen and those that are hidden, each (B, C, H, W), 0 everywhere else."""
    item = pair.y["item"]
    patches_BLP = patchify(item, patch)
    grid = (item.shape[-2] // patch, item.shape[-1] // patch)
    shown = []
    for places in (pair.x["at"], pair.y["hidden"]):
        chosen_BL = patches_BLP.new_zeros(patches_BLP.shape[:2]).scatter_(1, places, 1.0)
        shown.append(unpatchify(patches_BLP * chosen_BL.unsqueeze(-1), patch, grid))
    return Pair(*shown)
