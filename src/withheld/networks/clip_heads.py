"""Heads that judge frames and clips.

Shapes: B batch, T frames, C channels, H W pixels, L tokens, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withheld.networks.video import VideoTrunk


class TupleJudge(nn.Module):
    """Whether frames belong together in this order: every frame through the same trunk, features side by side, two layers.

    Args:
        trunk: of images, frame by frame; of its `VideoTrunk` face only single frames are used.
        frames: in a tuple.
    """

    def __init__(self, trunk: VideoTrunk, frames: int = 3, width: int = 256) -> None:
        super().__init__()
        self.trunk = trunk
        self.norm = nn.BatchNorm1d(trunk.width)
        self.hidden = nn.Linear(frames * trunk.width, width)
        self.judge = nn.Linear(width, 1)

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """Logits (B,) of being in order."""
        B, T = x_BTCHW.shape[:2]
        pooled = self.norm(self.trunk.frame(x_BTCHW.flatten(0, 1)).pooled).view(B, -1)
        return self.judge(F.relu(self.hidden(pooled))).squeeze(1)


class ArrowJudge(nn.Module):
    """Whether a clip runs forward: evidence for it at every place and time, averaged, minus that of the mirrored clip.

    So f(clip) = -f(mirror) holds exactly, as it must, and what speaks for both directions cancels.

    Args:
        trunk: of images, frame by frame, or of clips.
    """

    def __init__(self, trunk: VideoTrunk, width: int = 128) -> None:
        super().__init__()
        self.trunk = trunk
        self.mix = nn.Conv1d(trunk.width, width, 3)
        self.judge = nn.Linear(width, 1)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """x of `ArrowOfTime` -> logits (B,) of running forward."""
        both = self.evidence(torch.cat([x["clip"], x["mirror"]])).flatten(1).mean(dim=1)
        forward, backward = both.chunk(2)
        return forward - backward

    def net_evidence(self, x: dict[str, Tensor]) -> Tensor:
        """(B, T', H', W'): evidence of the clip minus that of its mirror, at every place and time; the mean is the logit."""
        forward, backward = self.evidence(torch.cat([x["clip"], x["mirror"]])).chunk(2)
        return forward - backward.flip(1)

    def evidence(self, clip_BTCHW: Tensor) -> Tensor:
        """(B, T', H', W'): how much every place and time speaks for forward, the class activation map."""
        found = self.trunk(clip_BTCHW)
        T, H, W = found.grid or (1, 1, 1)
        B, _, D = found.tokens.shape
        along = found.tokens.view(B, T, H * W, D).permute(0, 2, 3, 1).flatten(0, 1)
        mixed = F.relu(self.mix(along)).transpose(1, 2)
        return self.judge(mixed).squeeze(-1).view(B, H * W, -1).transpose(1, 2).reshape(B, -1, H, W)


class ColorPointer(nn.Module):
    """Colors of a grey frame, copied from wherever its places were in the frames before (Vondrick et al. 2018).

    A_ij = softmax(f_i . f_j / temperature) over all places of all reference frames; p(color of i) = sum_j A_ij color_j. Nothing but
    the trunk learns, so what it learns is to point.

    Args:
        trunk: of images, frame by frame.
        clusters: K colors.
        temperature: of cosines.
    """

    def __init__(self, trunk: VideoTrunk, clusters: int, temperature: float = 0.07) -> None:
        super().__init__()
        self.trunk, self.clusters, self.temperature = trunk, clusters, temperature

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """x of `TrackColor` -> log-probabilities (B, K, side, side)."""
        pointed_BNM = self.pointing(x["frames"])
        colors_BMK = F.one_hot(x["colors"].flatten(1), self.clusters).to(pointed_BNM.dtype)
        with torch.autocast(pointed_BNM.device.type, enabled=False):
            told = (pointed_BNM @ colors_BMK).clamp_min(1e-6).log()
        side = x["colors"].shape[-1]
        return told.transpose(1, 2).unflatten(2, (side, side)).contiguous()

    def pointing(self, frames_BTCHW: Tensor) -> Tensor:
        """(B, N, (T - 1) * N): where every place of the last frame points to."""
        B, T = frames_BTCHW.shape[:2]
        found = self.trunk.frame(frames_BTCHW.flatten(0, 1)).tokens
        with torch.autocast(found.device.type, enabled=False):  # a small temperature magnifies rounding
            tokens = F.normalize(found.float() if found.dtype == torch.bfloat16 else found, dim=-1)
            tokens = tokens.view(B, T, *tokens.shape[1:])
            references, target = tokens[:, :-1].flatten(1, 2), tokens[:, -1]
            return (target @ references.transpose(1, 2) / self.temperature).softmax(dim=-1)
