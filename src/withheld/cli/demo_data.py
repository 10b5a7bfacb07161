"""The data of the demo, written where every command can be tried on it; it ships with scikit-learn and scikit-image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

LEARNED_FROM = ("coffee.png", "rocket.jpg", "motorcycle_left.png", "astronaut.png", "hubble_deep_field.jpg")
FILLED = "chelsea.png"
CROPS, SIDE = 1500, 64
SHORT_SIDE = 192
"""Photographs are brought to this before they are cropped: fur and leaves are then as large as patches."""


def write_digits(folder: Path) -> Path:
    """digits.npy, (1797, 8, 8) uint8, and labels.csv beside it."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "digits.npy", np.round(digits.images * 255 / 16).astype(np.uint8))
    lines = [f"digits:{at},{label}\n" for at, label in enumerate(digits.target)]
    (folder / "labels.csv").write_text("file,label\n" + "".join(lines), encoding="utf-8")
    return folder / "digits.npy"


def write_encoder(path: Path, size: int, patch: int, channels: int, width: int) -> Path:
    """A transformers config of a small ViT, small enough to learn within a minute; `--encoder` takes such a file."""
    from transformers import ViTConfig

    config = ViTConfig(
        image_size=size, patch_size=patch, num_channels=channels, hidden_size=width, intermediate_size=4 * width,
        num_hidden_layers=3, num_attention_heads=width // 32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    config.to_json_file(path)
    return path


def write_photographs(path: Path) -> Path:
    """Random crops of five photographs, (1500, 64, 64, 3) uint8; the sixth is kept for filling."""
    random = np.random.default_rng(0)
    photographs = [photograph(name) for name in LEARNED_FROM]
    crops = np.empty((CROPS, SIDE, SIDE, 3), np.uint8)
    for at in range(CROPS):
        whole = photographs[at % len(photographs)]
        row, column = (random.integers(0, length - SIDE + 1) for length in whole.shape[:2])
        crops[at] = whole[row : row + SIDE, column : column + SIDE]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, crops)
    return path


def photograph(name: str) -> np.ndarray:
    """A photograph of scikit-image, (H, W, 3) uint8, its shorter side 192 pixels; nothing is fetched."""
    import skimage.data

    with Image.open(Path(skimage.data.__file__).parent / name) as image:
        scale = SHORT_SIDE / min(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))
