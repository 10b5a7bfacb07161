"""Clips whose answer is known: images as sprites that move by the rules of `withheld.data.synthetic`.

Shapes: N clips, T frames, S side in pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from withheld.data.synthetic import MOTIONS, Path2, bouncing, falling, moved

Bytes = NDArray[np.uint8]


def clips_of(sprites: Bytes, paths: list[list[Path2]], chosen: list[list[int]], size: int) -> Bytes:
    """(N, T, S, S): in every clip some sprites (h, w), each along its path; the lighter one is in front."""
    h, w = sprites.shape[1:]
    clips = np.zeros((len(paths), len(paths[0][0]), size, size), np.uint8)
    for clip, tracks, which in zip(clips, paths, chosen, strict=True):
        for track, number in zip(tracks, which, strict=True):
            for frame, (x, y) in zip(clip, np.round(track).astype(int), strict=True):
                place = frame[y : y + h, x : x + w]
                np.maximum(place, sprites[number], out=place)
    return clips


def moving_sprites(sprites: Bytes, count: int, frames: int = 20, size: int = 64, each: int = 2, seed: int = 0) -> Bytes:
    """(N, T, S, S) clips of sprites that bounce without loss, as in Moving MNIST (Srivastava et al. 2015).

    Args:
        sprites: (n, h, w) uint8, such as the digits of MNIST. each: sprites in a clip.
    """
    generator = np.random.default_rng(seed)
    room = float(size - sprites.shape[-1])
    paths = [[bouncing(generator, frames, room) for _ in range(each)] for _ in range(count)]
    return clips_of(sprites, paths, generator.integers(len(sprites), size=(count, each)).tolist(), size)


def falling_sprites(
    sprites: Bytes, count: int, frames: int = 20, size: int = 64, each: int = 2, seed: int = 0
) -> Bytes:
    """(N, T, S, S) clips of sprites that fall and bounce with loss: time has a direction in them."""
    generator = np.random.default_rng(seed)
    room = float(size - sprites.shape[-1])
    paths = [[falling(generator, frames, room) for _ in range(each)] for _ in range(count)]
    return clips_of(sprites, paths, generator.integers(len(sprites), size=(count, each)).tolist(), size)


def motion_classes(
    sprites: Bytes, count: int, frames: int = 16, size: int = 64, seed: int = 0
) -> tuple[Bytes, NDArray[np.int64]]:
    """(clips (N, T, S, S), labels (N,)) of one sprite each that moves as `MOTIONS[label]`; what it shows says nothing."""
    generator = np.random.default_rng(seed)
    room = float(size - sprites.shape[-1])
    labels = np.arange(count) % len(MOTIONS)
    paths = [[moved(generator, frames, room, MOTIONS[label])] for label in labels]
    return clips_of(sprites, paths, generator.integers(len(sprites), size=(count, 1)).tolist(), size), labels
