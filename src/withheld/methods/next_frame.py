"""Next-frame prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from withheld.losses.prediction import FrameError
from withheld.networks.next_frame import FramePredictor
from withheld.networks.video import VideoTrunk
from withheld.objective import Objective
from withheld.shortcuts import Probe, Shortcut, Variant
from withheld.splits.video import NextFrames
from withheld.types import Recipe

ENCODER = {"cpu": "resnet-fine", "cuda": "resnet-fine"}
FRAMES = 20


def next_frame(
    trunk: VideoTrunk, *, given: int = 0, kind: str = "simvp", width: int = 64, layers: int = 2, power: int = 2,
    edges: float = 0.0,
) -> tuple[Objective, Recipe]:  # fmt: skip
    """Predicts how a clip goes on.

    (x, y): the first frames of a clip; the others.
    p(y|x): a Gaussian (power=2) or Laplace distribution (power=1) around the prediction of every pixel.
    Source: Gao et al. 2022, SimVP: Simpler yet Better Video Prediction, https://arxiv.org/abs/2206.05099; kind=convlstm: Shi et al.
        2015, Convolutional LSTM Network, https://arxiv.org/abs/1506.04214
    Differs: frames enter through a small ResNet of stride 4 and leave through one layer of 4 x 4 patches (papers: more layers and
        skips; patches of 4); simvp mixes them by single kernels of 7 (four kernels side by side); convlstm has no peepholes, tells
        every frame as a change of the one before, and is fed its own frames in training too; edges adds the gradient difference
        loss of Mathieu et al. 2016 (power 2 there: alpha = 2).

    Args:
        trunk: of images, with a fine grid of tokens.
        given: frames that are seen; 0 takes half.
        kind: "simvp", which tells all frames at once, or "convlstm", which tells one after the other, at a third of the speed.
        width: of the hidden layers.
        layers: of the hidden network.
        power: of the errors, 2 or 1.
        edges: weight of the gradient difference.
    """
    given = given or trunk.frames // 2
    return (
        Objective(
            NextFrames(given),
            FramePredictor(trunk, trunk.frames - given, kind, width, layers),
            FrameError(power, edges),
        ),
        Recipe(base_learning_rate=3.2e-2, batch_size=8, weight_decay=0.0, warmup=0.05, clip=1.0, epochs=50),
    )


def shortcuts() -> list[Shortcut]:
    """Copying the last frame, the mean frame, and blur."""
    copying = (
        "mean squared errors, normalized: of the run, of copies of the last frame, of the mean of the frames given; above 1, "
        "copying is better than the run"
    )
    blur = (
        "mean slope of the frames told over that of the true ones: far below 1 they are blurred, the mean of all that may come, "
        "which squared error asks for"
    )
    return [
        Probe(
            "copying",
            copying_frames,
            copying,
            {"error over copying": (0.0, 1.0), "error over mean frame": (0.0, 1.0)},
            each=True,
        ),
        Probe("blur", sharpness, blur, {"sharpness": (0.3, 2.0)}, each=True),
        Variant(
            "absolute error and edges",
            {"power": 1, "edges": 1.0},
            "sharper, beside the same, short (the loss is another one)",
            crossed=False,
        ),
    ]


def copying_frames(objective: Objective, seen: Tensor, held: Tensor) -> dict[str, float]:
    """Errors of the network, of copies and of the mean frame."""
    x, y = objective.split(held)
    error = float((_told(objective, x) - y).square().mean())
    last = float((x[:, -1:] - y).square().mean())
    mean = float((x.mean(dim=1, keepdim=True) - y).square().mean())
    return {
        "error": error, "error of copying": last, "error of the mean frame": mean,
        "error over copying": error / max(last, 1e-12), "error over mean frame": error / max(mean, 1e-12),
    }  # fmt: skip


def sharpness(objective: Objective, seen: Tensor, held: Tensor) -> dict[str, float]:
    """Slopes of what was told over those of what came."""
    x, y = objective.split(held)
    slope = lambda t: float(t.diff(dim=-1).abs().mean() + t.diff(dim=-2).abs().mean())  # noqa: E731
    return {"sharpness": slope(_told(objective, x)) / max(1e-12, slope(y))}


def _told(objective: Objective, x_BTCHW: Tensor, many: int = 16) -> Tensor:
    return torch.cat([objective.network(part) for part in x_BTCHW.split(many)])
