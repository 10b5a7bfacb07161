"""Fills in a photograph of any size, tile by tile, with a masked autoencoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

GREY = 0.5
BETWEEN = 8
ENLARGED = 2


def fill_photograph(run: Any, whole: np.ndarray, name: str, folder: Path, seed: int = 0) -> list[dict[str, Any]]:
    """Draws a photograph, what the network saw of it, and what it made of that.

    Args:
        run: of `mae` with `normalize_patches=False`, so that a prediction is pixels.
        whole: the photograph, (H, W, C) uint8.
        name: what it is called.
        folder: for the picture.

    Returns:
        The picture's entry for pictures/index.json.
    """
    encoder, objective = run.encoder(), run.objective()
    rows, columns = (length // encoder.size for length in whole.shape[:2])
    whole = whole[: rows * encoder.size, : columns * encoder.size]
    t = encoder.normalize(_tiles(torch.from_numpy(whole.copy()), rows, columns))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        pair, prediction = objective.predict(t)
    filled = objective.split.merge(pair._replace(y=prediction))
    seen = objective.split.merge(pair._replace(y=torch.full_like(pair.y, torch.nan)))
    drawn = [_whole(_pixels(part, encoder), rows, columns) for part in (t, seen, filled)]
    folder.mkdir(parents=True, exist_ok=True)
    _side_by_side(drawn).save(folder / "photograph.png")
    caption = f"{objective.split.ratio:.0%} of {Path(name).stem}, a photograph that was not learned from, is filled in."
    entry = {"file": "photograph.png", "section": "split", "title": "mask and fill", "caption": caption}
    return [{**entry, "data": {"columns": ["t", "x", "prediction"]}}]


def _tiles(image_HWC: Tensor, rows: int, columns: int) -> Tensor:
    """(H, W, C) -> (rows * columns, C, side, side)."""
    H, W, C = image_HWC.shape
    cut = image_HWC.view(rows, H // rows, columns, W // columns, C).permute(0, 2, 4, 1, 3)
    return cut.reshape(rows * columns, C, H // rows, W // columns)


def _whole(tiles_BCHW: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of `_tiles`."""
    _, C, H, W = tiles_BCHW.shape
    return tiles_BCHW.view(rows, columns, C, H, W).permute(0, 3, 1, 4, 2).reshape(rows * H, columns * W, C)


def _pixels(t: Tensor, encoder: Any) -> Tensor:
    """Normalized -> 0..1; what is not a number was hidden, and is grey."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (encoder.mean, encoder.std))
    return torch.nan_to_num(t * std + mean, nan=GREY).clamp(0, 1)


def _side_by_side(parts: list[Tensor]) -> Image.Image:
    height, width = parts[0].shape[0] * ENLARGED, parts[0].shape[1] * ENLARGED
    page = Image.new("RGB", (len(parts) * (width + BETWEEN) - BETWEEN, height), "white")
    for at, part in enumerate(parts):
        picture = Image.fromarray(np.asarray((part * 255).round().to(torch.uint8)))
        page.paste(picture.resize((width, height), Image.Resampling.NEAREST), (at * (width + BETWEEN), 0))
    return page
