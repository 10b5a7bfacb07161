"""Clips whose answer is known: real images as sprites, moved by rules. For controls, and for data to try things on.

Shapes: N clips, T frames, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Path2 = NDArray[np.float64]
Motion = Callable[[np.random.Generator, int, float], Path2]
MOTIONS = ("left", "right", "up", "down", "fast", "fall")
REACH, FAST = 0.25, 3.0
"""Share of its room that a sprite goes from the middle of a clip to its end, and how many times as far a fast one."""


def bouncing(generator: np.random.Generator, frames: int, room: float, speed: float = 3.0) -> Path2:
    """(T, 2) places (x, y) of a sprite that moves straight and is thrown back by walls without loss: reversible in time."""
    angle = generator.uniform(0, 2 * np.pi)
    start = generator.uniform(0, room, 2)
    straight = start + np.arange(frames)[:, None] * speed * np.array([np.cos(angle), np.sin(angle)])
    folded = np.abs(straight) % (2 * room)
    return np.where(folded > room, 2 * room - folded, folded)


def falling(generator: np.random.Generator, frames: int, room: float, loss: float = 0.6) -> Path2:
    """(T, 2) places of a sprite that falls and bounces with loss: backward it would gain energy from nothing."""
    x, y = generator.uniform(0, room), generator.uniform(0, 0.5 * room)
    vx, vy, gravity = generator.uniform(-1.5, 1.5), 0.0, 0.03 * room
    places = []
    for _ in range(frames):
        places.append((np.clip(x, 0, room), np.clip(y, 0, room)))
        vy += gravity
        x, y = x + vx, y + vy
        if y > room:
            y, vy, vx = 2 * room - y, -vy * loss, vx * loss
        if not 0 <= x <= room:
            x, vx = float(np.clip(x, 0, room)), -vx * loss
    return np.array(places)


def moved(generator: np.random.Generator, frames: int, room: float, motion: str) -> Path2:
    """(T, 2) places of a sprite that moves as one of `MOTIONS` says.

    Where it is in the middle of the clip is drawn alike for all of them, so that a single frame says nothing of the motion.
    """
    middle = generator.uniform(REACH * room, (1 - REACH) * room, 2)
    half = max(frames - 1, 1) / 2
    if motion == "fall":
        return _dropped(middle, frames, room, 2 * REACH * room / half**2)
    towards = {"left": np.pi, "right": 0.0, "up": -np.pi / 2, "down": np.pi / 2}
    angle = towards.get(motion, generator.uniform(0, 2 * np.pi)) + generator.normal(0, 0.15)
    speed = (FAST if motion == "fast" else 1.0) * REACH * room / half
    straight = middle + (np.arange(frames)[:, None] - half) * speed * np.array([np.cos(angle), np.sin(angle)])
    folded = np.abs(straight) % (2 * room)
    return np.where(folded > room, 2 * room - folded, folded)


def _dropped(middle: NDArray[np.float64], frames: int, room: float, gravity: float, loss: float = 0.6) -> Path2:
    """(T, 2) places of a sprite that falls from rest, comes by the middle after half of the frames, and bounces with loss."""
    y, speed, places = middle[1] - REACH * room, 0.0, []
    for _ in range(frames):
        places.append((middle[0], min(y, room)))
        y, speed = y + speed + gravity / 2, speed + gravity
        if y > room:
            y, speed = 2 * room - y, -speed * loss
    return np.array(places)


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
