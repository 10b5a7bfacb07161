"""Text and clips as small batches, for `withheld show predict_part`: what has a past and a future.

Shapes: B batch, L characters, T frames, C channels, H W pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from withheld.data.sample import spread
from withheld.errors import InputError

LINE = 64
MOST_BYTES, MOST_FRAMES, MOST_SIDE = 1_000_000, 12, 128


def open_sequence(path: Path, items: int, seed: int) -> np.ndarray | None:
    """Text as (B, L) int64 code points, an animated GIF as (1, T, C, H, W) uint8; None for any other file.

    Raises:
        InputError: for a text too short, or a clip that cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix == ".txt":
        return _text(path, items, seed)
    if suffix == ".gif":
        return _clip(path)
    return None


def _text(path: Path, items: int, seed: int) -> np.ndarray:
    with open(path, "rb") as file:
        words = " ".join(file.read(MOST_BYTES).decode("utf-8", errors="replace").split())
    if len(words) < LINE:
        raise InputError(f"{path}: {len(words)} characters are too few to draw: {LINE} or more are needed")
    starts = np.random.default_rng(seed).integers(0, len(words) - LINE + 1, items)
    return np.array([[ord(letter) for letter in words[start : start + LINE]] for start in starts])


def _clip(path: Path) -> np.ndarray | None:
    try:
        with Image.open(path, formats=("GIF",)) as image:
            if getattr(image, "n_frames", 1) < 2:
                return None
            frames = [
                np.asarray(_small(frame)) for frame, _ in zip(ImageSequence.Iterator(image), range(500), strict=False)
            ]
    except Exception as error:  # a damaged file may raise anything
        raise InputError(f"{path}: not a GIF that can be read: {error}") from None
    chosen = spread(len(frames), MOST_FRAMES)
    return np.stack([frames[i] for i in chosen]).transpose(0, 3, 1, 2)[None]


def _small(frame: Image.Image) -> Image.Image:
    scale = min(1.0, MOST_SIDE / max(frame.size))
    return frame.convert("RGB").resize((max(1, round(frame.width * scale)), max(1, round(frame.height * scale))))
