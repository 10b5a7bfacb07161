"""Classifying clips, and what a verdict on clips has to beat.

Shapes: N clips, B batch, T frames, C channels, S side in pixels, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from withheld.data.clip import Clip
from withheld.evaluate.classify import AskLabel, ItemClassifier, cross_entropy
from withheld.objective import Objective
from withheld.resize import at_size
from withheld.types import Recipe
from withheld.video_encoder import VideoEncoder

Array = NDArray[np.floating]
BINS, CELLS, STEPS = 8, 2, 3
FINE_TUNE_CLIPS = Recipe(base_learning_rate=0.016, batch_size=16, warmup=0.1, clip=1.0, layer_decay=0.7)


class LabelledClips:
    """The middle window of every clip, with its label; what the loop learns from.

    Args:
        encoder: whose windows, mean and deviation are taken. clips: decoded. labels: (N,).
    """

    def __init__(self, encoder: VideoEncoder, clips: Sequence[Clip], labels: NDArray[np.int64] | None = None) -> None:
        self.encoder, self.labels = encoder, labels
        rows = []
        for clip in clips:
            windows = encoder.windows(len(clip.frames), clip.rate)
            rows.append(clip.frames[windows[len(windows) // 2]])
        self.windows = (
            np.stack(rows) if rows else np.zeros((0, encoder.frames, 3, encoder.size, encoder.size), np.uint8)
        )

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, index: NDArray[np.int64], device: torch.device | str) -> Any:
        """(B, T, C, S, S) normalized; with labels {"item", "label"}."""
        shape = (1, 1, 3, 1, 1)
        item = torch.from_numpy(self.windows[np.asarray(index)]).to(device).float() / 255
        item = (item - item.new_tensor(self.encoder.mean).view(shape)) / item.new_tensor(self.encoder.std).view(shape)
        if self.labels is None:
            return item
        return {"item": item, "label": torch.from_numpy(self.labels[np.asarray(index)]).to(device)}


@dataclass(frozen=True)
class ShiftClips:
    """A light augmentation that leaves motion as it is: every clip is moved by up to a sixteenth, the same in all frames."""

    share: float = 1 / 16

    def __call__(self, t: Mapping[str, Tensor]) -> dict[str, Tensor]:
        clip = t["item"]
        B, T, _, H, W = clip.shape
        shift = (2 * torch.rand(B, 2, device=clip.device) - 1) * 2 * self.share
        theta = torch.eye(2, 3, device=clip.device).repeat(B, 1, 1)
        theta[:, :, 2] = shift
        grid = F.affine_grid(theta, [B, 1, H, W], align_corners=False)
        item = F.grid_sample(clip.flatten(1, 2), grid, mode="bilinear", padding_mode="border", align_corners=False)
        return {**t, "item": item.view_as(clip)}


def clip_objective(encoder: VideoEncoder, classes: int) -> Objective:
    """The objective whose pair is (clip, label), on a copy of an encoder's trunk."""
    seen = None if encoder.split is None else encoder.split.full
    return Objective(AskLabel(seen), ItemClassifier(encoder.copy().trunk, classes), cross_entropy, change=ShiftClips())


@dataclass
class ClipFloor:
    """A floor's function of the frames (T, C, S, S) uint8 of a clip, as something with a `transform`."""

    of: Callable[[NDArray[np.uint8]], Array]

    def transform(self, clips: Sequence[Clip]) -> Array:
        """(N, D)."""
        return np.stack([self.of(clip.frames) for clip in clips]).astype(np.float32)


def clip_floors() -> dict[str, ClipFloor]:
    """The floors by name."""
    return {"pixels of the middle frame": ClipFloor(middle_pixels), "histogram of motion": ClipFloor(motion_histogram)}


def middle_pixels(frames_TCSS: NDArray[np.uint8], side: int = 16) -> Array:
    """(side * side * 3,) pixels of the middle frame, in 0..1: what can be known without motion."""
    frame = torch.from_numpy(np.array(frames_TCSS[len(frames_TCSS) // 2 :][:1])).float() / 255
    return at_size(frame, side).flatten().numpy()


def motion_histogram(frames_TCSS: NDArray[np.uint8]) -> Array:
    """(D,) directions of motion, weighted by its speed, in 2 x 2 cells and 3 thirds of the clip.

    Motion is the least-squares flow of each 8 x 8 block from its gradients (Lucas and Kanade 1981), so no model is needed.
    """
    grey = frames_TCSS.astype(np.float32).mean(axis=1) / 255
    dt = np.diff(grey, axis=0)
    dy, dx = np.gradient(grey[:-1], axis=(1, 2))
    side = grey.shape[-1] // 8
    block = lambda a: a[:, : side * 8, : side * 8].reshape(len(a), side, 8, side, 8).sum(axis=(2, 4))  # noqa: E731
    xx, yy, xy = block(dx * dx) + 1e-3, block(dy * dy) + 1e-3, block(dx * dy)
    xt, yt = block(dx * dt), block(dy * dt)
    determinant = xx * yy - xy * xy
    u, v = -(yy * xt - xy * yt) / determinant, -(xx * yt - xy * xt) / determinant
    speed = np.minimum(np.hypot(u, v), 4.0)
    angle = ((np.arctan2(v, u) / (2 * np.pi) + 1 / (2 * BINS)) % 1 * BINS).astype(int)
    third = np.arange(len(u)) * STEPS // max(1, len(u))
    cell = np.arange(side) * CELLS // max(1, side)
    place = ((third[:, None, None] * CELLS + cell[None, :, None]) * CELLS + cell[None, None, :]) * BINS + angle
    found = np.bincount(place.ravel(), weights=speed.ravel(), minlength=STEPS * CELLS * CELLS * BINS)
    return np.sqrt(found / max(1, speed.size))
