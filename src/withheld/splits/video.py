"""Splits of clips.

Shapes: B batch, T frames, C channels, H W pixels, P values of a patch (tubelet * patch * patch * C), L = (T / tubelet) *
(H / patch) * (W / patch) patches, time first and then row by row, V visible and M hidden ones.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from withheld.color import lightness, to_lab, to_srgb
from withheld.errors import InputError
from withheld.splits.color import MIDDLE, SHOWN, UNIT
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
    answers: ClassVar[tuple[str, ...]] = ("not in order", "in order")

    def __post_init__(self) -> None:
        if not 0.0 < self.positives < 1.0:
            raise InputError(f"positives={self.positives}: the share of tuples in order, between 0 and 1")

    def __call__(self, t: Tensor) -> Pair:
        B, T = t.shape[:2]
        if T < 5:
            raise InputError(f"clips of {T} frames: order is asked of five at least. Try --set frames=16")
        a, b, c, d, e = torch.rand(B, T, device=t.device).argsort(dim=1)[:, :5].sort(dim=1).values.unbind(1)
        ordered, before, backward = (
            torch.rand(3, B, device=t.device) < t.new_tensor([[self.positives], [0.5], [0.5]])
        ).unbind()
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
    answers: ClassVar[tuple[str, ...]] = ("backward", "forward")

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


@dataclass(frozen=True)
class DriftingBar:
    """A change of whole clips, for a control: a black bar at the bottom that grows from frame to frame (Wei et al. 2018 found that
    such artefacts tell the direction of many clips).

    Attributes:
        kind: "drifting", or "cut": then rows that are black in any frame are cut off again and the rest is stretched, knowing
            nothing of the bar, as black bars are cut off when clips are read.
        share: of the height, in the last frame; half of it in the first one.
    """

    kind: str = "drifting"
    share: float = 0.25

    def __post_init__(self) -> None:
        if self.kind not in ("drifting", "cut"):
            raise InputError(f"bar={self.kind}: there are none, drifting and cut")

    def __call__(self, t: Tensor) -> Tensor:
        B, T, C, H, W = t.shape
        heights = torch.linspace(H * self.share / 2, H * self.share, T, device=t.device).round().long()
        barred = torch.arange(H, device=t.device) >= H - heights[:, None]
        dark = t.amin(dim=(0, 1, 3, 4)).view(1, 1, C, 1, 1)
        out = torch.where(barred[None, :, None, :, None], dark, t)
        if self.kind == "drifting":
            return out
        return torch.stack([self._cut(clip, dark[0]) for clip in out])

    def _cut(self, clip_TCHW: Tensor, dark_1C11: Tensor) -> Tensor:
        black = ((clip_TCHW - dark_1C11).abs().amax(dim=(1, 3)) < 0.02).any(dim=0)
        kept = (~black).nonzero().flatten()
        if len(kept) < 2:
            return clip_TCHW
        inner = clip_TCHW[:, :, int(kept[0]) : int(kept[-1]) + 1]
        return F.interpolate(inner, size=clip_TCHW.shape[-2:], mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class TrackColor(Split):
    """Reference frames in color, the last frame in grey: its colors are asked for (Vondrick et al. 2018).

    Takes clips of sRGB in 0..1. x is {"frames" (B, T, channels, H, W) lightness, "colors" (B, T - 1, side, side) numbers of the
    reference frames' colors}; y is (B, side, side) numbers of the last frame's.

    Attributes:
        side: of the grid on which colors are told, that of the network's tokens.
        clusters: colors that are told apart, found by k-means in ab.
        jitter: by how much brightness and contrast of every frame are changed, so that light alone does not tell where a place was.
        channels: that the network takes.
        centers: ab of every color; found from the data.
    """

    side: int = 8
    clusters: int = 16
    jitter: float = 0.1
    channels: int = 3
    centers: tuple[tuple[float, float], ...] = ()

    def __call__(self, t: Tensor) -> Pair:
        B, T = t.shape[:2]
        backward = torch.rand(B, device=t.device) < 0.5
        t = torch.where(backward.view(-1, 1, 1, 1, 1), t.flip(1), t)
        gain, shift = (self.jitter * (2 * torch.rand(2, B, T, 1, 1, 1, device=t.device) - 1)).unbind()
        numbers = self.numbers_of(t)
        return Pair({"frames": self.full(t) * (1 + gain) + shift, "colors": numbers[:, :-1]}, numbers[:, -1])

    def full(self, t: Any) -> Any:
        """The lightness of sRGB clips in 0..1, as (L - 50) / 25, the same in every channel."""
        light = lightness(t.flatten(0, 1)).view(*t.shape[:2], 1, *t.shape[3:])
        return ((light - MIDDLE) / UNIT).expand(-1, -1, self.channels, -1, -1)

    def drawn(self, pair: Pair) -> Pair:
        """Reference frames in the colors that they are told in, then the grey one; and that one's colors, (B, 1, 3, H, W)."""
        L = pair.x["frames"][:, :, :1] * UNIT + MIDDLE
        ab = L.new_tensor(self.centers)
        seen = ab[pair.x["colors"]]
        seen = torch.cat([seen, torch.zeros_like(seen[:, :1])], dim=1)
        return Pair(_in_color(L, seen), _in_color(torch.full_like(L[:, -1:], SHOWN), ab[pair.y].unsqueeze(1)))

    def numbers_of(self, t: Tensor) -> Tensor:
        """(B, T, side, side): the color nearest to the mean one of every cell."""
        if not self.centers:
            raise InputError("TrackColor knows its colors once it has seen a sample: split.fitted(t)")
        ab = self._cells(t).movedim(2, -1)
        distance = torch.cdist(ab.flatten(0, 3), t.new_tensor(self.centers))
        return distance.argmin(dim=1).view(ab.shape[:-1])

    def fitted(self, sample: Any) -> TrackColor:
        """Finds the colors by k-means on a sample (Vondrick et al.: 16 in the ab plane of Lab)."""
        from sklearn.cluster import KMeans

        ab = self._cells(sample).movedim(2, -1).reshape(-1, 2).double().cpu()
        some = ab[torch.linspace(0, len(ab) - 1, min(len(ab), 20_000)).long()].numpy()
        different = len({tuple(row) for row in some.round(3).tolist()})
        if different < 2:
            raise InputError("these clips have no color: there is nothing to learn for track_color. Try videomae")
        found = KMeans(min(self.clusters, different), n_init=3, random_state=0).fit(some)
        return dataclasses.replace(self, centers=tuple(map(tuple, found.cluster_centers_.round(4).tolist())))

    def _cells(self, t: Tensor) -> Tensor:
        """(B, T, 2, side, side): the mean ab of every cell."""
        flat = F.interpolate(to_lab(t.flatten(0, 1))[:, 1:], size=(self.side, self.side), mode="area")
        return flat.view(*t.shape[:2], *flat.shape[1:])


def _in_color(L_BT1HW: Tensor, ab_BTSS2: Tensor) -> Tensor:
    """sRGB in 0..1, (B, T, 3, H, W), of lightness and the colors of cells."""
    B, T, _, H, W = L_BT1HW.shape
    ab = F.interpolate(ab_BTSS2.flatten(0, 1).movedim(-1, 1), size=(H, W), mode="nearest")
    return to_srgb(torch.cat([L_BT1HW.flatten(0, 1), ab], dim=1)).clamp(0, 1).view(B, T, 3, H, W)


@dataclass(frozen=True)
class NextFrames(Split):
    """The future of a clip from its past: x is the first frames (B, given, C, H, W), y the others (B, T - given, C, H, W).

    Attributes:
        given: frames that are seen; 0 takes half.
    """

    hides: ClassVar[bool] = True
    given: int = 0

    def __call__(self, t: Tensor) -> Pair:
        given = self.given or t.shape[1] // 2
        if not 0 < given < t.shape[1]:
            raise InputError(
                f"given={self.given} of clips of {t.shape[1]} frames: at least one frame must be seen and one told. Try "
                f"--set given={t.shape[1] // 2}"
            )
        return Pair(t[:, :given], t[:, given:])

    def merge(self, pair: Pair) -> Tensor:
        """The clip: its past, and a future, true or predicted."""
        return torch.cat([pair.x, pair.y.to(pair.x.dtype)], dim=1)
