"""Clips made while they are learned from: any images as sprites that move by rules; `moving:PATH`, `falling:PATH`, `motions:PATH`.

moving is Moving MNIST (Srivastava et al. 2015, https://arxiv.org/abs/1502.04681) where PATH holds the digits: two sprites of 28
pixels in frames of 64, a tenth of their room a frame; walls throw them back without loss (in the published set they stop there
for the rest of the frame), so time has no direction. falling has one; motions is one sprite whose way is its class. A clip is a
function of its number; those held out have sprites of their own, images of PATH's test part where it has one.

Shapes: B clips, K sprites in a clip, T frames, C = 3 channels, h w pixels of a sprite, S side of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.data.clip import ASSUMED_RATE, Made
from withheld.data.clips import PreparedClips
from withheld.data.decode import Raw
from withheld.data.rows import take
from withheld.data.sample import spread
from withheld.data.source import Labels, Source, Store, digest, labels_wanted, open_source
from withheld.data.synthetic import MOTIONS, bouncing, falling, moved
from withheld.errors import InputError
from withheld.wording import plural

KINDS = ("moving", "falling", "motions")
LEARN, HELD = 0, 1
"""Which sprites and numbers: those to learn from, and those that are never learned from."""
SIDE, SPRITE, LENGTH, PACE = 64, 28, 20, 0.1
ENDLESS, HELD_CLIPS, LISTED = 1_000_000, 10_000, 1_200
"""Clips to learn from and to check with, and clips where a list of them is wanted (one in `EVERY` of them held out)."""
MOST_SPRITES, EVERY, LOOKED_AT = 60_000, 10, 64


def is_moving(data: Any) -> bool:
    """Whether this names clips that are made."""
    return isinstance(data, str) and data.partition(":")[0] in KINDS and ":" in data


@dataclass
class MovingClips:
    """Clips of one kind.

    Attributes:
        kind: of `KINDS`. location: as the user gave it. fingerprint: of the images and the kind.
        sprites: images (n, 3 or 1, h, w) uint8, by `LEARN` and `HELD`.
        side: S. frames: T. stride: steps of the sprites between two frames.
    """

    kind: str
    location: str
    fingerprint: str
    sprites: tuple[Any, Any]
    side: int = SIDE
    frames: int = LENGTH
    stride: float = 1.0

    def batch(self, numbers: NDArray[np.int64], part: int = LEARN, device: torch.device | str = "cpu") -> Tensor:
        """Clips (B, T, 3, S, S) uint8 of these numbers."""
        ways = [self._way(part, int(number)) for number in numbers]
        chosen = np.stack([which for which, _ in ways])
        few, which = np.unique(chosen, return_inverse=True)
        sprites, which = take(self.sprites[part], few), which.reshape(chosen.shape)
        pictures = torch.from_numpy(np.ascontiguousarray(sprites)).to(device)[torch.from_numpy(which).to(device)]
        places = torch.from_numpy(np.stack([places for _, places in ways])).to(device)
        return drawn(pictures, places, self.side).expand(-1, -1, 3, -1, -1)

    def label(self, number: int) -> int:
        """Which of `MOTIONS` a clip of "motions" shows."""
        return number % len(MOTIONS)

    def _way(self, part: int, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(K,) which sprites, and (K, T, 2) where they are, x and y in pixels."""
        generator = np.random.default_rng([part, number])
        sprites = self.sprites[part]
        room = float(self.side - sprites.shape[-1])
        each = 1 if self.kind == "motions" else 2
        which = generator.integers(len(sprites), size=each)
        steps = np.floor(np.arange(self.frames) * self.stride + 1e-6).astype(np.int64)
        length = int(steps[-1]) + 1
        ways = []
        for _ in range(each):
            if self.kind == "moving":
                way = bouncing(generator, length, room, speed=PACE * room)
            elif self.kind == "falling":
                way = falling(generator, length, room)
            else:
                way = moved(generator, length, room, MOTIONS[self.label(number)])
            ways.append(np.round(way[steps]).astype(np.int64))
        return which, np.stack(ways)


def drawn(pictures_BKChw: Tensor, places_BKT2: Tensor, side: int) -> Tensor:
    """(B, T, C, S, S): every sprite at its places (x, y of its upper left corner), the lighter one in front."""
    B, K, C, h, w = pictures_BKChw.shape
    T, device = places_BKT2.shape[2], pictures_BKChw.device
    rows = places_BKT2[..., 1, None] + torch.arange(h, device=device)
    columns = places_BKT2[..., 0, None] + torch.arange(w, device=device)
    at_BKTp = (rows[..., :, None] * side + columns[..., None, :]).flatten(3)
    canvas = pictures_BKChw.new_zeros(B, T, C, side * side)
    for k in range(K):
        at = at_BKTp[:, k, :, None].expand(-1, -1, C, -1)
        sprite = pictures_BKChw[:, k, None].flatten(3).expand(-1, T, -1, -1)
        canvas = canvas.scatter(3, at, torch.maximum(canvas.gather(3, at), sprite))
    return canvas.unflatten(3, (side, side))


def open_moving(text: str, side: int = SIDE, frames: int = LENGTH, rate: float = 0.0) -> MovingClips:
    """Opens what `is_moving` knows, the sprites scaled with the frames.

    Args:
        text: `moving:PATH`, PATH whatever holds images. side: S. frames: T.
        rate: frames a second, of 25 that such clips have; 0 takes them all.

    Raises:
        InputError: for PATH, or too few images.
    """
    from withheld.data.prepared import prepare

    kind, _, path = text.partition(":")
    if not path:
        raise InputError(f"{text}: give what holds the images that move, such as {kind}:photos/")
    images = open_source(path)
    learn, held = images.part("train"), images.part("test")
    if learn is None or held is None:
        numbers = np.arange(len(images))
        apart = numbers % EVERY == EVERY - 1
        learn, held = images.subset(numbers[~apart]), images.subset(numbers[apart])
    if len(learn) < 2 or len(held) < 1:
        raise InputError(
            f"{text}: {plural(len(images), 'image')}; ten or more are needed, so that some can be held out"
        )
    small = max(4, round(SPRITE * side / SIDE))
    sprites = tuple(prepare(part.subset(spread(len(part), MOST_SPRITES)), small).images for part in (learn, held))
    fingerprint = digest([images.fingerprint, "moving", 3 if kind == "motions" else 2, kind, side, frames, str(rate)])
    stride = max(1.0, ASSUMED_RATE / rate) if rate > 0 else 1.0
    return MovingClips(kind, text, fingerprint, (sprites[0], sprites[1]), side, frames, stride)


class MovingItems:
    """Made clips as the loop asks for them: (B, T, 3, S, S) float32, normalized per channel.

    Args:
        clips: see there. part: `LEARN` or `HELD`. mean, std: a channel, of pixels in 0..1.
    """

    def __init__(self, clips: MovingClips, part: int, mean: list[float], std: list[float]) -> None:
        self.clips, self.part, self.frames = clips, part, clips.frames
        self.mean, self.std = mean, std

    def __len__(self) -> int:
        return HELD_CLIPS if self.part == HELD else ENDLESS

    def owners(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Each is a clip of its own."""
        return np.asarray(index)

    def names(self, index: NDArray[np.int64]) -> list[str]:
        """Such as "moving:17"."""
        return [f"{self.clips.kind}:{int(number)}" for number in index]

    def batch(self, index: NDArray[np.int64], device: torch.device | str) -> Tensor:
        """The clips of these numbers."""
        found = self.clips.batch(np.asarray(index), self.part, device).float() / 255
        shape = (1, 1, len(self.mean), 1, 1)
        return (found - found.new_tensor(self.mean).view(shape)) / found.new_tensor(self.std).view(shape)


def scale_of(clips: MovingClips | PreparedClips) -> tuple[list[float], list[float]]:
    """Mean and deviation of every channel, of pixels in 0..1; of made clips from a few."""
    if isinstance(clips, PreparedClips):
        return clips.mean, clips.std
    some = clips.batch(np.arange(LOOKED_AT)).float().div(255).transpose(1, 2).transpose(0, 1).flatten(1)
    return some.mean(dim=1).tolist(), some.std(dim=1).clamp_min(1e-3).tolist()


class MovingStore(Store):
    """A list of made clips: `LISTED` of them, every tenth one held out."""

    def __init__(self, clips: MovingClips) -> None:
        self.clips = clips

    def raw(self, positions: NDArray[np.int64]) -> Iterator[tuple[int, Raw]]:
        for place, position in enumerate(positions):
            clip = self.clips.batch(np.array([position]), int(is_held(int(position))))[0]
            yield place, np.ascontiguousarray(clip.permute(0, 2, 3, 1).numpy()).view(Made)


def is_held(position: int) -> bool:
    """Whether this one of a list has held-out sprites: one round of the classes in `EVERY`."""
    return position // len(MOTIONS) % EVERY == EVERY - 1


def list_moving(text: str, labels: Labels = None) -> Source:
    """The first clips as a source, such as for `embed` and the verdict; those of "motions" have labels.

    Raises:
        InputError: for PATH; where labels are asked of clips that have none.
    """
    clips = open_moving(text)
    names = [f"{clips.kind}:{i}" for i in range(LISTED)]
    parts = np.array(["test" if is_held(i) else "train" for i in range(LISTED)])
    source = Source(text, f"{clips.kind} sprites", names, MovingStore(clips), clips.fingerprint, parts=parts)
    if labels_wanted(labels):
        if clips.kind != "motions" or labels is not True:
            raise InputError(f"{text}: only motions:PATH has labels, its own: {', '.join(MOTIONS)}")
        source.labels = np.array([clips.label(i) for i in range(LISTED)])
        source.classes = list(MOTIONS)
    return source
