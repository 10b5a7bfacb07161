"""Pictures of a run on clips: what is hidden of them, what is told, and which clips the encoder finds alike.

Shapes: N items, T frames, C channels, H W pixels, D features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from withheld.data.sample import spaced
from withheld.evaluate.arrow_pictures import arrow_entries
from withheld.evaluate.canvas import enlargement, stacked, strip, tile
from withheld.evaluate.frame_pictures import frame_entries
from withheld.evaluate.latent_pictures import entry
from withheld.evaluate.parts import columns_of, to_pixels, to_places
from withheld.evaluate.pictures import keep
from withheld.modes import evaluating
from withheld.video_encoder import VideoEncoder

SHOWN, FRAMES = 6, 8
QUERIES, NEAR, COMPARED = 5, 4, 200


def draw_clips(objective: Any, encoder: VideoEncoder, items: Any, folder: Path, seed: int = 0) -> Path:
    """Draws clips, the split and nearest neighbors into `folder`/pictures.

    Args:
        objective: what was trained. items: windows as the loop asks for them, never learned from where some were held out.
    """
    some = np.sort(np.random.default_rng(seed).permutation(len(items))[:COMPARED])
    names = items.names(some)
    few = _various(items.owners(some))
    t = items.batch(some[few], encoder.device)
    entries = [_line("samples", column, encoder, names[i]) for i, column in zip(few, t, strict=True)]
    rows: dict[int, list[Any]] = {i: [] for i in range(len(few))}
    shown = []
    for column in columns_of(objective, t, seed):
        if column.values is None or column.values.ndim != 5:
            continue
        shown.append(column.name)
        pixels, places = to_pixels(column.values, encoder.mean, encoder.std), to_places(column)
        for i in range(len(few)):
            times = enlargement(column.values.shape[-1], 72)
            rows[i].append(tile(pixels[i], None if places is None else places[i], times))
    if len(shown) > 1:
        for i, row in rows.items():
            entries.append(
                entry(
                    "split", stacked(row), names[int(few[i])], "From above: " + ", ".join(shown) + ".", {"columns": []}
                )
            )
    entries += task_entries(objective, t, [names[i] for i in few], encoder)
    return keep(folder, entries + _neighbors(encoder, items, some, names))


def _various(owners: Any) -> Any:
    """Places of up to `SHOWN` windows, of as many clips as there are and no more than two of one: windows of a clip look alike."""
    clips = [np.flatnonzero(owners == owner) for owner in dict.fromkeys(owners.tolist())]
    clips = [clips[i] for i in spaced(len(clips), SHOWN)]
    firsts, lasts = [places[0] for places in clips], [places[-1] for places in clips]
    return np.unique(list(dict.fromkeys(firsts + lasts))[:SHOWN])


def task_entries(objective: Any, t_BTCHW: torch.Tensor, names: list[str], encoder: Any) -> list[dict[str, Any]]:
    """What a method has to show of its own: frames that were told, evidence for the direction of time."""
    with evaluating(objective):
        found = frame_entries(objective, t_BTCHW, names, encoder.mean, encoder.std)
        return found + arrow_entries(objective, t_BTCHW, names, encoder.mean, encoder.std)


def _line(section: str, clip: torch.Tensor, encoder: VideoEncoder, name: str) -> dict[str, Any]:
    pixels = to_pixels(clip[None, :FRAMES], encoder.mean, encoder.std)[0]
    return entry(section, tile(pixels, None, enlargement(clip.shape[-1], 72)), name, "Clips, frame by frame.", {})


@torch.no_grad()
def _neighbors(encoder: VideoEncoder, items: Any, some: Any, names: list[str]) -> list[dict[str, Any]]:
    """A strip for each query: the middle frame of the clip, and of the nearest windows of other clips."""
    with evaluating(encoder):
        found = [
            encoder.trunk(items.batch(some[i : i + 16], encoder.device)).pooled.cpu().numpy()
            for i in range(0, len(some), 16)
        ]
    pooled = np.concatenate(found)
    pooled = pooled - pooled.mean(axis=0)
    unit = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
    owner = items.owners(some)
    if len(np.unique(owner)) < 3:
        return []
    middle = items.batch(some, "cpu")[:, items.frames // 2]
    pixels = to_pixels(middle, encoder.mean, encoder.std)
    drawn = []
    for at in spaced(len(some), QUERIES):
        likeness, row = unit @ unit[at], [at]
        for other in np.argsort(-likeness, kind="stable"):
            if owner[other] not in owner[row] and len(row) <= NEAR:
                row.append(int(other))
        tiles = [tile(pixels[i], None, enlargement(pixels.shape[1], 96)) for i in row]
        caption = "By cosine of the features, their mean taken off, among windows of other clips."
        columns = ["clip", "nearest", "2nd", "3rd", "4th"][: len(tiles)]
        drawn.append(entry("neighbors", strip(tiles), names[int(at)], caption, {"columns": columns}))
    return drawn
