"""Pictures of what an encoder finds alike: nearest neighbors, patch features as colors, a map of all items.

Shapes: N items, L tokens, D features, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from withheld.data.sample import spread
from withheld.evaluate.canvas import Tile, blank, item_tile, strip
from withheld.image_encoder import ImageEncoder
from withheld.modes import evaluating

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

WORK = 1.6e11  # floating-point operations to spend on features: some 3 s on two cores
MOST, LEAST, TOKENS = 800, 48, 96
MAPPED = 400
POSITIONS_KNOWN = 16
CONVOLUTIONAL = 16  # a network of convolutions costs about what one of patches of so many pixels does


@dataclass(frozen=True)
class Seen:
    """Items as pixels (N, H, W, 3) with their pooled features (N, D), and the tokens (n, L, D) of the first n."""

    pixels: Bytes
    names: list[str]
    pooled: Floats
    tokens: Floats
    grid: tuple[int, ...] | None


def how_many(encoder: ImageEncoder, items: int) -> int:
    """How many items can be looked at in a few seconds: a function of the encoder's size, not of the clock."""
    trunk = encoder.trunk
    work = (
        2.0 * sum(p.numel() for p in trunk.parameters()) * max(1, (trunk.size // (trunk.patch or CONVOLUTIONAL)) ** 2)
    )
    affordable = WORK * (1 if encoder.device.type == "cpu" else 40) / work
    return min(items, MOST, max(LEAST, int(affordable)))


@torch.no_grad()
def look(encoder: ImageEncoder, images_NCHW: Bytes, pixels: Bytes, names: list[str], batch_size: int = 32) -> Seen:
    """Features of these items; the encoder is left in the mode it was in."""
    pooled, tokens, grid, kept = [], [], None, 0
    with evaluating(encoder):
        for first in range(0, len(images_NCHW), batch_size):
            found = encoder(torch.from_numpy(images_NCHW[first : first + batch_size]).to(encoder.device))
            pooled.append(found.pooled.float().cpu().numpy())
            if kept < TOKENS:
                tokens.append(found.tokens.float().cpu().numpy())
                kept, grid = kept + len(tokens[-1]), found.grid
    return Seen(pixels, names, np.nan_to_num(np.concatenate(pooled)), np.nan_to_num(np.concatenate(tokens)), grid)


def neighbors(seen: Seen, queries: int = 6, near: int = 5) -> list[tuple[str, Tile]]:
    """A strip for each query: the item, and its nearest by cosine of the centered features."""
    near = min(near, len(seen.pixels) - 1)
    if near < 1:
        return []
    centered = seen.pooled - seen.pooled.mean(axis=0)
    unit = centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-12)
    asked = spread(len(unit), queries)
    drawn = []
    for at in asked:
        likeness = unit @ unit[at]
        likeness[at] = -np.inf
        order = np.argsort(-likeness, kind="stable")[:near]
        drawn.append((seen.names[at], strip([item_tile(seen.pixels[i]) for i in (at, *order)])))
    return drawn


def patch_colors(seen: Seen, items: int = 6) -> list[tuple[str, Tile]]:
    """A strip for each item: the photo, and its patches colored by the first three principal components."""
    if seen.grid is None or len(seen.grid) != 2 or seen.tokens.shape[1] != seen.grid[0] * seen.grid[1]:
        return []
    if seen.grid[0] * seen.grid[1] == 1:
        return []
    colors = _components(seen.tokens)
    chosen = spread(len(colors), items)
    drawn = []
    for at in chosen:
        photo = item_tile(seen.pixels[at])
        small = Image.fromarray((colors[at].reshape(*seen.grid, 3) * 255).round().astype(np.uint8))
        large = small.resize(photo.size, Image.Resampling.BICUBIC)
        over = Image.blend(photo.convert("L").convert("RGB"), large, 0.72)
        drawn.append((seen.names[at], strip([photo, over.convert("RGBA")])))
    return drawn


def _components(tokens_NLD: Floats) -> Floats:
    """The first three principal components of tokens, each brought to 0..1 between its 1st and 99th percentile.

    What every item has at the same place (the position) is taken off first, where there are items enough to know it.
    """
    N, L, D = tokens_NLD.shape
    usual = (
        tokens_NLD.mean(axis=0, keepdims=True) if N >= POSITIONS_KNOWN else tokens_NLD.mean(axis=(0, 1), keepdims=True)
    )
    flat = (tokens_NLD - usual).reshape(-1, D).astype(np.float64)
    values, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
    first = vectors[:, np.argsort(-values, kind="stable")[:3]]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), np.arange(first.shape[1])])
    along = flat @ first
    low, high = np.percentile(along, [1, 99], axis=0)
    shown = np.clip((along - low) / np.maximum(high - low, 1e-12), 0, 1).astype(np.float32)
    if shown.shape[1] < 3:
        shown = np.pad(shown, ((0, 0), (0, 3 - shown.shape[1])), constant_values=0.5)
    return shown.reshape(N, L, 3)


def item_map(seen: Seen, seed: int = 0, width: int = 1680, height: int = 1050) -> Tile | None:
    """Thumbnails laid out so that alike items are near, each in the free cell nearest to its place."""
    count = min(len(seen.pixels), MAPPED)
    if count < 4:
        return None
    place = _plane(seen.pooled[:count], seed)
    low, high = np.percentile(place, [1, 99], axis=0)
    place = np.clip((place - low) / np.maximum(high - low, 1e-9), 0, 1)
    side = int(max(24, min(150, np.sqrt(width * height * 0.62 / count))))
    columns, rows = width // side, height // side
    while columns * rows < count:
        side -= 1
        columns, rows = width // side, height // side
    cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    wanted = place * [columns - 1, rows - 1]
    free = np.ones(len(cells), bool)
    out = blank(columns * side, rows * side)
    for at in np.random.default_rng(seed).permutation(count):
        away = np.where(free, ((cells - wanted[at]) ** 2).sum(axis=1), np.inf)
        cell = int(away.argmin())
        free[cell] = False
        thumb = Image.fromarray(seen.pixels[at]).resize((side - 2, side - 2), _resampling(seen.pixels[at], side))
        out.paste(thumb, (int(cells[cell, 0]) * side + 1, int(cells[cell, 1]) * side + 1))
    return out


def _plane(pooled_ND: Floats, seed: int) -> NDArray[np.float64]:
    """Places in the plane: t-SNE where there are items enough, else the first two principal components."""
    centered = (pooled_ND - pooled_ND.mean(axis=0)).astype(np.float64)
    left, sizes, _ = np.linalg.svd(centered, full_matrices=False)
    main = left[:, :50] * sizes[:50]
    main = main * np.where(main[np.abs(main).argmax(axis=0), np.arange(main.shape[1])] < 0, -1.0, 1.0)
    if main.shape[1] < 2:
        main = np.pad(main, ((0, 0), (0, 2 - main.shape[1])))
    if len(main) < 12 or sizes[:1].sum() < 1e-9:
        return main[:, :2]
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    scale = main[:, 0].std() or 1.0
    start = main[:, :2] / scale * 1e-4
    near = min(30.0, (len(main) - 1) / 3)
    with threadpool_limits(1):  # its many short parallel loops are slower with threads, where others compute too
        return TSNE(2, perplexity=near, init=start, random_state=seed, max_iter=500, n_jobs=1).fit_transform(main)


def _resampling(pixels: Bytes, side: int) -> Image.Resampling:
    return Image.Resampling.NEAREST if side > 2 * pixels.shape[0] else Image.Resampling.LANCZOS
