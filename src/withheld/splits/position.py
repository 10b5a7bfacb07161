"""Where a patch lies from another: pairs of patches of a 3 x 3 grid.

Shapes: B batch, C channels, S side of an image, G = 9 patches of a grid, h side of a patch, P pairs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from withheld.errors import InputError
from withheld.types import Pair, Split

DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
"""Down and right from the first patch to the second, by label."""
ROWS, COLUMNS = (0, 0, 0, 1, 1, 1, 2, 2, 2), (0, 1, 2, 0, 1, 2, 0, 1, 2)
COLORS = ("project", "drop", "gray", "keep")
PROJECTED = (-1.0, 2.0, -1.0)  # green against magenta, along which most lenses spread colors
DROPPED_TO, GRAY_SHARE = 0.01, 0.66
SMALLEST, EACH = 16, 4


def neighbors() -> list[tuple[int, int, int]]:
    """Every ordered pair of touching places of the grid, 40 of them: first, second, label."""
    place = {(row, column): at for at, (row, column) in enumerate(zip(ROWS, COLUMNS, strict=True))}
    return [
        (first, place[row + down, column + right], label)
        for (row, column), first in place.items()
        for label, (down, right) in enumerate(DIRECTIONS)
        if (row + down, column + right) in place
    ]


@dataclass(frozen=True)
class RelativePosition(Split):
    """Cuts a jittered 3 x 3 grid of patches and asks where one lies from another.

    Doersch et al. 2015, https://arxiv.org/abs/1505.05192.

    x holds "patches" (B, 9, C, h, h) in an order drawn anew for every image, and "pairs" (B, P, 2), which two of them are asked
    about: those that touch, both ways, 4 of every direction, so that nine patches make 32 questions. y (B, P) is the direction
    from the first to the second, 0 to 7 row by row. Each patch is brought to mean 0 and variance 1: brightness tells nothing.

    Attributes:
        side: of a patch in pixels; 0 takes a quarter of the image, rounded down to a multiple of `multiple`.
        gap: between neighbors, a share of the side; against borders that continue.
        jitter: each patch moves so far both ways, a share of the side (at least a pixel where above 0); against long lines.
        color: against lenses that spread colors toward the borders: "project" takes green against magenta away; "drop" leaves one
            channel, drawn for every patch, and noise; "gray" makes two thirds of the patches grey; "keep" does nothing.
        blur: share of the patches that are made coarser; against the noise of a camera and the blocks of JPEG.
        multiple: of this many pixels is a side, for a trunk that cuts patches into patches of its own.
    """

    side: int = 0
    gap: float = 0.34
    jitter: float = 0.125
    color: str = "project"
    blur: float = 0.33
    multiple: int = 1

    def __post_init__(self) -> None:
        if self.color not in COLORS:
            raise InputError(f"color={self.color}: there are {', '.join(COLORS)}")
        for name, most in (("gap", 4.0), ("jitter", 4.0), ("blur", 1.0)):
            if not 0 <= getattr(self, name) <= most:
                raise InputError(f"{name}={getattr(self, name)} is outside 0 to {most:g}")

    def pixels(self, size: int) -> tuple[int, int, int]:
        """Side, gap and jitter in pixels, for images of a size.

        The rule: a side is a quarter of the image, a gap a third of the side, the jitter an eighth. Grid, gaps and jitter then
        take at most 0.98 of the image, whatever its size.

        Raises:
            InputError: for images too small for the grid.
        """
        if size < SMALLEST:
            raise InputError(
                f"images of {size} pixels are smaller than a grid of 3 x 3 patches can be: they need {SMALLEST}. "
                f"Enlarge them, e.g. --size {4 * SMALLEST}, or choose another method"
            )
        side = self.side or max(self.multiple, size // 4 // self.multiple * self.multiple)
        gap = int(self.gap * side)
        jitter = max(1, int(self.jitter * side)) if self.jitter else 0
        need = 3 * side + 2 * gap + 2 * jitter
        if need > size:
            raise InputError(
                f"3 patches of {side} pixels with gaps of {gap} and a jitter of {jitter} need {need} pixels, "
                f"the images have {size}: "
                f"choose a larger --size, or a smaller --set side (now {self.side or 'a quarter'}), gap or jitter"
            )
        return side, gap, jitter

    def __call__(self, t: Tensor) -> Pair:
        patches = self.patches(t, self.places(len(t), t.shape[-1], t.device))
        pairs_BP2, label_BP = self.questions(len(t), t.device)
        shuffled_BG = torch.rand(len(t), len(ROWS), device=t.device).argsort(dim=1)
        rows = torch.arange(len(t), device=t.device)[:, None]
        now_at_BG = shuffled_BG.argsort(dim=1)
        return Pair({"patches": patches[rows, shuffled_BG], "pairs": now_at_BG[rows[:, None], pairs_BP2]}, label_BP)

    def questions(self, count: int, device: Any = None) -> tuple[Tensor, Tensor]:
        """Pairs of touching places (count, 32, 2), row by row in the grid, and their directions (count, 32).

        A grid has 6 pairs of each straight direction and 4 of each diagonal; 4 of the 6 are drawn, so that no direction is likelier
        before anything is seen, and knowing nothing costs ln 8.
        """
        every = torch.tensor(neighbors())
        of_label = [torch.nonzero(every[:, 2] == label).squeeze(1) for label in range(len(DIRECTIONS))]
        chosen = torch.cat([at[torch.randperm(len(at))[:EACH]] for at in of_label])
        asked = every[chosen].to(device)
        return asked[:, :2].expand(count, -1, -1), asked[:, 2].expand(count, -1)

    def patches(self, t: Tensor, places_BG2: Tensor) -> Tensor:
        """Patches (B, 9, C, h, h) at these corners, as the network sees them."""
        return self.dress(cut(t, places_BG2, self.pixels(t.shape[-1])[0]))

    def places(self, count: int, size: int, device: Any = None) -> Tensor:
        """Draws the upper left corners (count, 9, 2), row and column in pixels, of the patches of one grid an image."""
        side, gap, jitter = self.pixels(size)
        room = size - 3 * side - 2 * gap - 2 * jitter
        start = torch.randint(room + 1, (count, 1, 2), device=device)
        moved = torch.randint(2 * jitter + 1, (count, len(ROWS), 2), device=device)
        return start + moved + (side + gap) * torch.tensor([ROWS, COLUMNS], device=device).T

    def dress(self, patches_BGChh: Tensor) -> Tensor:
        """Takes color and fineness from patches and brings each to mean 0 and variance 1."""
        flat = coarser(patches_BGChh.flatten(0, 1), self.blur)
        return standardized(self._recolored(flat)).view(patches_BGChh.shape)

    def full(self, t: Tensor) -> Tensor:
        """Whole images as the trunk knows patches: of mean 0 and variance 1, without the color that it never saw."""
        if t.shape[1] == 3 and self.color == "project":
            t = projected(t)
        return standardized(t)

    def fitted(self, sample: Any) -> RelativePosition:
        """Checks that the grid fits; nothing is learned."""
        self.pixels(sample.shape[-1])
        return dataclasses.replace(self)

    def _recolored(self, t_NChh: Tensor) -> Tensor:
        if t_NChh.shape[1] != 3 or self.color == "keep":
            return t_NChh
        if self.color == "project":
            return projected(t_NChh)
        if self.color == "drop":
            return dropped(t_NChh)
        gray = t_NChh.mean(dim=1, keepdim=True).expand_as(t_NChh)
        return torch.where(torch.rand(len(t_NChh), 1, 1, 1, device=t_NChh.device) < GRAY_SHARE, gray, t_NChh)


def cut(t_BCSS: Tensor, places_BG2: Tensor, side: int) -> Tensor:
    """Square patches (B, G, C, side, side) at corners given as row and column, one gather for all."""
    B, C, _, S = t_BCSS.shape
    step = torch.arange(side, device=t_BCSS.device)
    within = step[:, None] * S + step
    corner_BG = places_BG2[..., 0] * S + places_BG2[..., 1]
    index = (corner_BG[..., None] + within.flatten()).view(B, 1, -1).expand(-1, C, -1)
    found = t_BCSS.flatten(2).gather(2, index)
    return found.view(B, C, -1, side, side).transpose(1, 2)


def projected(t: Tensor) -> Tensor:
    """Color images (..., 3, H, W) without their part along a = (-1, 2, -1): B = I - aᵀa / (a aᵀ), as in the paper."""
    a = t.new_tensor(PROJECTED)
    B = torch.eye(3, dtype=t.dtype, device=t.device) - torch.outer(a, a) / a.dot(a)
    return torch.einsum("dc,...chw->...dhw", B, t)


def dropped(t_NChh: Tensor) -> Tensor:
    """One channel, drawn for every patch, less its mean; the others are noise of a hundredth of its deviation."""
    N, C, _, _ = t_NChh.shape
    kept = torch.randint(C, (N,), device=t_NChh.device)
    centered = t_NChh - t_NChh.mean(dim=(2, 3), keepdim=True)
    chosen = F.one_hot(kept, C).bool()[:, :, None, None]
    deviation = centered[torch.arange(N, device=t_NChh.device), kept].std(dim=(1, 2)).view(N, 1, 1, 1)
    return torch.where(chosen, centered, DROPPED_TO * deviation * torch.randn_like(t_NChh))


def standardized(t: Tensor) -> Tensor:
    """Each image of (N, C, H, W) with mean 0 and variance 1 over all its values; flat ones become 0."""
    centered = t - t.mean(dim=(-3, -2, -1), keepdim=True)
    deviation = centered.square().mean(dim=(-3, -2, -1), keepdim=True).sqrt()
    return centered / deviation.clamp_min(1e-3)


def coarser(t_NChh: Tensor, share: float) -> Tensor:
    """A share of the patches shrunk to between half and a tenth of their pixels and enlarged again: two matrix products.

    Shrinking (areas) and enlarging (bilinear) are linear along each axis, so a table of (h, h) matrices holds every degree.
    """
    if not share:
        return t_NChh
    h = t_NChh.shape[-1]
    table = _blurs(h).to(t_NChh)
    degree = torch.randint(1, len(table), (len(t_NChh),), device=t_NChh.device)
    degree = torch.where(torch.rand(len(t_NChh), device=t_NChh.device) < share, degree, 0)
    matrix = table[degree].unsqueeze(1)
    return matrix @ t_NChh @ matrix.transpose(-1, -2)


def _blurs(h: int) -> Tensor:
    """(degrees, h, h): nothing, then down to h / 2 ... h / 10 values, at least 2, and up again."""
    sizes = sorted({max(2, round(h / factor)) for factor in (2, 3, 4, 6, 10)}, reverse=True)
    unit = torch.eye(h)[None]
    down_up = [
        F.interpolate(F.adaptive_avg_pool1d(unit, size), size=h, mode="linear", align_corners=False)[0].T
        for size in sizes
    ]
    return torch.stack([torch.eye(h), *down_up])
