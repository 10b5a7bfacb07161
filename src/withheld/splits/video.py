"""Splits of clips.

Shapes: B batch, T frames, C channels, H W pixels, P values of a patch (tubelet * patch * patch * C), L = (T / tubelet) *
(H / patch) * (W / patch) patches, time first and then row by row, V visible and M hidden ones.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from withheld.errors import InputError
from withheld.splits.image import gather_tokens
from withheld.types import Pair, Split


def tubes(t_BTCHW: Tensor, tubelet: int, patch: int) -> Tensor:
    """Cuts clips into patches in space and time, (B, T, C, H, W) -> (B, L, P), values ordered time, row, column, channel."""
    B, T, C, H, W = t_BTCHW.shape
    cut = t_BTCHW.reshape(B, T // tubelet, tubelet, C, H // patch, patch, W // patch, patch)
    return cut.permute(0, 1, 4, 6, 2, 5, 7, 3).reshape(B, -1, tubelet * patch * patch * C)


def untubes(patches_BLP: Tensor, tubelet: int, patch: int, grid: tuple[int, int, int]) -> Tensor:
    """Puts patches back together, (B, L, P) -> (B, T, C, H, W)."""
    B, _, P = patches_BLP.shape
    T, H, W = grid
    C = P // (tubelet * patch * patch)
    cut = patches_BLP.reshape(B, T, H, W, tubelet, patch, patch, C)
    return cut.permute(0, 1, 4, 7, 2, 5, 3, 6).reshape(B, T * tubelet, C, H * patch, W * patch)


@dataclass(frozen=True)
class MaskTubes(Split):
    """Hides the same places in all frames of a clip (Tong et al. 2022, https://arxiv.org/abs/2203.12602).

    A patch that is hidden in one frame only could be copied from the next; a tube cannot. x holds the visible patches
    "patches" (B, V, P), where they are "at" (B, V) and where the hidden ones are "hidden" (B, M); y is the hidden patches.

    Attributes:
        patch, tubelet: side in pixels and length in frames of a patch.
        ratio: share of the places that is hidden, above 0 and below 1.
        grid: patches in time, rows and columns; found from the data.
    """

    hides: ClassVar[bool] = True
    patch: int = 8
    tubelet: int = 2
    ratio: float = 0.9
    grid: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.ratio < 1.0:
            raise InputError(
                f"ratio={self.ratio} is outside (0, 1): it is the share of places to hide. Try --set ratio=0.9"
            )

    def __call__(self, t: Tensor) -> Pair:
        patches_BLP = tubes(t, self.tubelet, self.patch)
        B = len(t)
        T, H, W = self._grid_of(t)
        visible = min(H * W - 1, max(1, round(H * W * (1 - self.ratio))))
        order = torch.rand(B, H * W, device=t.device).argsort(dim=1)
        later = (torch.arange(T, device=t.device) * H * W)[None, :, None]
        at_BV = (order[:, None, :visible] + later).flatten(1)
        hidden_BM = (order[:, None, visible:] + later).flatten(1)
        x = {"patches": gather_tokens(patches_BLP, at_BV), "at": at_BV, "hidden": hidden_BM}
        return Pair(x, gather_tokens(patches_BLP, hidden_BM))

    def merge(self, pair: Pair) -> Tensor:
        """Rebuilds the clips (B, T, C, H, W) from visible patches and hidden ones, true or predicted."""
        at_BL = torch.cat([pair.x["at"], pair.x["hidden"]], dim=1)
        patches_BLP = torch.cat([pair.x["patches"], pair.y.to(pair.x["patches"].dtype)], dim=1)
        if self.grid is None:
            raise InputError("MaskTubes rebuilds clips once it has seen one: split.fitted(t)")
        return untubes(gather_tokens(patches_BLP, at_BL.argsort(dim=1)), self.tubelet, self.patch, self.grid)

    def fitted(self, sample: Any) -> MaskTubes:
        return dataclasses.replace(self, grid=self._grid_of(sample))

    def _grid_of(self, t: Tensor) -> tuple[int, int, int]:
        T, _, H, W = t.shape[1:]
        if T % self.tubelet or H % self.patch or W % self.patch:
            raise InputError(
                f"clips of {T} frames of {H}x{W} cannot be cut into patches of {self.tubelet} x {self.patch} x {self.patch}: "
                f"choose --set frames and --size as multiples of them"
            )
        return T // self.tubelet, H // self.patch, W // self.patch


@dataclass(frozen=True)
class FrameOrder(Split):
    """Three frames, in order or not (Misra et al. 2016, https://arxiv.org/abs/1603.08561).

    Of five frames a < b < c < d < e of a window, (b, c, d) is in order; (b, a, d) and (b, e, d) are not. Each of them is also
    shown backward, so the direction of time does not tell. x is (B, 3, C, H, W); y is (B,) 1 where they are in order, else 0.

    Attributes:
        positives: share of the tuples that are in order.
    """

    positives: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.positives < 1.0:
            raise InputError(f"positives={self.positives}: the share of tuples in order, between 0 and 1")

    def __call__(self, t: Tensor) -> Pair:
        B, T = t.shape[:2]
        if T < 5:
            raise InputError(f"clips of {T} frames: order is asked of five at least. Try --set frames=16")
        a, b, c, d, e = torch.rand(B, T, device=t.device).argsort(dim=1)[:, :5].sort(dim=1).values.unbind(1)
        ordered, before, backward = (torch.rand(3, B, device=t.device) < t.new_tensor([[self.positives], [0.5], [0.5]])).unbind()
        middle = torch.where(ordered, c, torch.where(before, a, e))
        at_B3 = torch.stack([torch.where(backward, d, b), middle, torch.where(backward, b, d)], dim=1)
        return Pair(t[torch.arange(B, device=t.device)[:, None], at_B3], ordered.long())


@dataclass(frozen=True)
class ArrowOfTime(Split):
    """A clip that runs forward or backward (Wei et al. 2018, Learning and Using the Arrow of Time).

    x is {"clip", "mirror"}: the clip as it is shown, and the same run the other way, both as the network sees them; y is (B,) 1
    where the clip runs forward.

    Attributes:
        see: "differences" of neighboring frames (B, T - 1, C, H, W), or the "frames".
    """

    see: str = "differences"

    def __post_init__(self) -> None:
        if self.see not in ("differences", "frames"):
            raise InputError(f"see={self.see}: there are differences and frames")

    def __call__(self, t: Tensor) -> Pair:
        forward = torch.rand(len(t), device=t.device) < 0.5
        chosen = forward.view(-1, 1, 1, 1, 1)
        clip = torch.where(chosen, t, t.flip(1))
        return Pair({"clip": self.full(clip), "mirror": self.full(clip.flip(1))}, forward.long())

    def full(self, t: Any) -> Any:
        """The clip as the network sees it, running forward."""
        return t if self.see == "frames" else t[:, 1:] - t[:, :-1]
