"""The ways that sprites move by rules, so that the answer about a clip of them is known.

Shapes: T frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Path2 = NDArray[np.float64]
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
