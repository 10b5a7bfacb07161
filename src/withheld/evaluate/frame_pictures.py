"""Pictures of predicted frames: strips of what is true, told, and the error, and the same as moving pictures.

Shapes: T frames, U told ones, C channels, H W pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from withheld.data.sample import spread
from withheld.evaluate.canvas import Tile, blank, enlargement, pixels_of, stacked, strip, tile
from withheld.evaluate.frame_error import frame_errors, in_pixels
from withheld.evaluate.latent_pictures import entry
from withheld.motion import moving_places
from withheld.networks.next_frame import FramePredictor
from withheld.objective import Objective

SHOWN, MOVING, ACROSS, SIDE = 4, 3, 10, 96


@torch.no_grad()
def frame_entries(objective: Objective, t_BTCHW: Tensor, names: list[str], mean: Any, std: Any) -> list[dict[str, Any]]:
    """Strips of a few clips, and some of them moving.

    Args:
        objective: of next_frame. t_BTCHW: normalized clips. names: theirs.
    """
    if not isinstance(objective.network, FramePredictor):
        return []
    some = spread(len(t_BTCHW), SHOWN)
    pair = objective.split(t_BTCHW[some])
    told = in_pixels(objective.network(pair.x), mean, std).clamp(0, 1)
    true, given = (in_pixels(part, mean, std) for part in (pair.y, pair.x))
    moving = moving_places(true, given[:, -1])
    error, copied = (frame_errors(frames, true, moving)["MSE, sum"] for frames in (told, given[:, -1:].expand_as(true)))
    entries, chosen = [], [names[i] for i in some]
    for i, name in enumerate(chosen):
        title = f"{name}: MSE {float(error[i]):.0f}, of copies {float(copied[i]):.0f}"
        caption = (
            f"From above: the last of the {given.shape[1]} given frames and what came, what was told, and the error. MSE: summed "
            "over a frame, beside that of copies of the last given one."
        )
        entries.append(entry("frames", frame_strip(given[i], true[i], told[i]), title, caption))
    for i, name in enumerate(chosen[:MOVING]):
        caption = "What came at the left, what was told in the middle, the error at the right; first the given frames."
        film = {
            **entry("frames_moving", blank(1, 1), name, caption),
            "picture": frame_film(given[i], true[i], told[i]),
        }
        entries.append(film)
    return entries


def frame_strip(given_TCHW: Tensor, true_UCHW: Tensor, told_UCHW: Tensor) -> Tile:
    """Three rows: the last given frame and the true ones, the told ones, the absolute errors."""
    at = spread(len(true_UCHW), ACROSS)
    times = enlargement(true_UCHW.shape[-1], SIDE)
    empty = blank(times * true_UCHW.shape[-1], times * true_UCHW.shape[-2])
    rows = [
        [to_tile(given_TCHW[-1], times), *(to_tile(true_UCHW[u], times) for u in at)],
        [empty, *(to_tile(told_UCHW[u], times) for u in at)],
        [empty, *(to_tile((told_UCHW[u] - true_UCHW[u]).abs(), times) for u in at)],
    ]
    return stacked([strip(row) for row in rows], 4)


def frame_film(given_TCHW: Tensor, true_UCHW: Tensor, told_UCHW: Tensor) -> list[Tile]:
    """Frames of a film: true, told and error beside each other; while frames are given, told is what is given."""
    times = enlargement(true_UCHW.shape[-1], SIDE)
    nothing = torch.zeros_like(true_UCHW[0])
    steps = [(frame, frame, nothing) for frame in given_TCHW]
    steps += [(true, told, (told - true).abs()) for true, told in zip(true_UCHW, told_UCHW, strict=True)]
    return [strip([to_tile(part, times) for part in step]) for step in steps]


def to_tile(frame_CHW: Any, times: int) -> Tile:
    """A frame within 0..1, every pixel repeated `times` x `times`."""
    return tile(pixels_of(frame_CHW), None, times)
