"""The arrow of time."""

from __future__ import annotations

import torch
from torch import Tensor

from withheld.losses.prediction import BinaryCrossEntropy
from withheld.motion import camera_motion, told_from
from withheld.networks.clip_heads import ArrowJudge
from withheld.networks.video import VideoTrunk
from withheld.objective import Objective
from withheld.shortcuts import Probe, Shortcut, Variant
from withheld.splits.video import ArrowOfTime, DriftingBar
from withheld.types import Recipe

ENCODER = {"cpu": "resnet-nano", "cuda": "resnet-18"}
FRAMES, RATE, MOTION = 8, 12.0, 0.5


def arrow_of_time(
    trunk: VideoTrunk, *, see: str = "differences", width: int = 128, bar: str = "none"
) -> tuple[Objective, Recipe]:
    """Runs a clip forward or backward and asks which.

    (x, y): a clip in one of the two directions, and the same mirrored in time; whether it runs forward.
    p(y|x): a Bernoulli whose logit changes its sign when the clip is mirrored.
    Source: Wei et al. 2018, Learning and Using the Arrow of Time, CVPR, https://openaccess.thecvf.com/content_cvpr_2018/html/Wei_Learning_and_Using_CVPR_2018_paper.html
    Differs: frame differences (paper: optical flow) of 8 frames; one small ResNet, frame by frame, with a convolution over
        time (two VGG-16 streams); both directions are scored in training too; black bars are cut off when clips are read, the
        camera's motion is not taken out.

    Args:
        trunk: of images, frame by frame, or of clips.
        see: "differences" of neighboring frames, or "frames".
        width: of the layer that looks along time.
        bar: for a control: "drifting" puts a black bar at the bottom of every clip that grows with time, "cut" also cuts off what
            is black in any frame, as is done for real bars; "none".
    """
    return (
        Objective(
            ArrowOfTime(see),
            ArrowJudge(trunk, width),
            BinaryCrossEntropy(),
            change=None if bar == "none" else DriftingBar(bar),
        ),
        Recipe(base_learning_rate=4e-3, batch_size=32, weight_decay=0.05, warmup=0.1, epochs=200),
    )


def shortcuts() -> list[Shortcut]:
    """A black bar that gives the direction away, the camera, and evidence at the borders."""
    camera = (
        "logistic regression on the affine motion of the whole picture: well above 0.5, the way the camera moves tells the "
        "direction (who films walks forward), and that is learned first"
    )
    return [
        Probe("both directions", both_directions, "0: what is for a clip is against its mirror", {"sum of logits": (0, 1e-3)}),
        Probe("the camera's motion", by_camera, camera, {"accuracy by the camera": (0.0, 0.6)}),
        Probe(
            "evidence at the borders", at_the_borders,
            "share of the evidence in the outer ring of the grid, over the ring's share of the area: 1 where it is everywhere "
            "alike; far above, borders tell", {"evidence at borders, over area": (0.0, 1.5)}, each=True,
        ),
        Variant(
            "a drifting black bar", {"bar": "drifting"},
            "an artefact was put in: accuracy beside the same, short, is how leakage looks; on the run's task it is worth nothing",
        ),
        Variant(
            "a drifting black bar, cut off", {"bar": "cut"}, "what is black in any frame is cut off first: back to the same, short"
        ),
    ]  # fmt: skip


def both_directions(objective: Objective, seen: Tensor, held: Tensor) -> dict[str, float]:
    """The largest sum of a clip's logit and its mirror's."""
    x, _ = objective.split(held)
    mirrored = {"clip": x["mirror"], "mirror": x["clip"]}
    return {"sum of logits": float((objective.network(x) + objective.network(mirrored)).abs().max())}


def by_camera(objective: Objective, seen: Tensor, held: Tensor) -> dict[str, float]:
    """The share of held-out clips whose direction the camera's motion tells right."""
    rows, answers = _both(seen)
    rows_held, answers_held = _both(held)
    told = told_from(rows.numpy(), answers.numpy(), rows_held.numpy(), intercept=False)
    return {"accuracy by the camera": float((told == answers_held.numpy()).mean())}


def _both(t: Tensor) -> tuple[Tensor, Tensor]:
    """The camera's motion (2 B, 6) of clips and of their mirrors, and which run forward."""
    forward = torch.cat([torch.ones(len(t)), torch.zeros(len(t))]).long()
    return torch.cat([camera_motion(t), camera_motion(t.flip(1))]).cpu().double(), forward


def at_the_borders(objective: Objective, seen: Tensor, held: Tensor) -> dict[str, float]:
    """How much of the evidence for either direction lies in the outer ring of places, over that ring's share of the places."""
    network, split = objective.network, objective.split
    assert isinstance(network, ArrowJudge)  # noqa: S101 - it is this method's
    some = held[:64] if objective.change is None else objective.change(held[:64])
    strength = (
        network.net_evidence({"clip": split.full(some), "mirror": split.full(some.flip(1))}).abs().mean(dim=(0, 1))
    )
    ring = torch.ones_like(strength, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    return {"evidence at borders, over area": float(strength[ring].mean() / strength.mean())}
