"""Order verification."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from withheld.losses.prediction import BinaryCrossEntropy
from withheld.motion import pairwise_differences, told_from
from withheld.networks.clip_heads import TupleJudge
from withheld.networks.video import VideoTrunk
from withheld.objective import Objective
from withheld.shortcuts import Probe, Shortcut
from withheld.splits.video import FrameOrder
from withheld.types import Recipe

ENCODER = {"cpu": "resnet-nano", "cuda": "resnet-18"}
FRAMES, RATE, MOTION = 16, 12.0, 0.5


def frame_order(trunk: VideoTrunk, *, positives: float = 0.5, width: int = 256) -> tuple[Objective, Recipe]:
    """Shows three frames of a clip and asks whether they are in order.

    (x, y): three frames; whether the middle one belongs between the others.
    p(y|x): a Bernoulli.
    Source: Misra et al. 2016, Shuffle and Learn: Unsupervised Learning using Temporal Order Verification,
        https://arxiv.org/abs/1603.08561
    Differs: windows of 16 frames at 12 a second, the half in which most moves by frame differences (paper: optical flow, gaps
        of 15 to 60 frames); half of the tuples are in order (a quarter), so that chance is 50 %; a small ResNet (CaffeNet).

    Args:
        trunk: of images: every frame passes through it alone.
        positives: share of the tuples that are in order.
        width: of the hidden layer that joins the three frames.
    """
    return (
        Objective(FrameOrder(positives), TupleJudge(trunk, 3, width), BinaryCrossEntropy()),
        Recipe(base_learning_rate=4e-3, batch_size=64, weight_decay=0.05, warmup=0.1, epochs=200),
    )


def shortcuts() -> list[Shortcut]:
    """What differences of pixels give away, and clips in which there is nothing to tell."""
    differences = (
        "logistic regression on the three mean squared differences of the frames: of a smooth motion the middle frame lies "
        "between the others in pixels, too. Well above 0.5, the task is "
        "solved by that, and no more is learned from it than what differs"
    )
    return [
        Probe("differences of the three frames", by_differences, differences, {"accuracy by differences": (0.0, 0.55)}),
        Probe("still clips", still_clips, "0.5: nothing is in order", {"accuracy on still clips": (0.4, 0.6)}),
    ]


def by_differences(objective: Objective, seen: Tensor, held: Tensor, draws: int = 8) -> dict[str, float]:
    """The share of held-out tuples that three numbers tell right."""
    (numbers, answers), (numbers_held, answers_held) = (_tuples(objective, t, draws) for t in (seen, held))
    told = told_from(numbers.numpy(), answers.numpy(), numbers_held.numpy())
    return {"accuracy by differences": float((told == answers_held.numpy()).mean())}


def still_clips(objective: Objective, seen: Tensor, held: Tensor, draws: int = 8) -> dict[str, float]:
    """The share that the network tells right of clips whose frames are all the first one."""
    still = held[:, :1].expand_as(held)
    right = []
    for _ in range(draws):
        x, y = _even(objective)(still)
        right.append(((objective.network(x) > 0) == (y > 0)).float().mean())
    return {"accuracy on still clips": float(torch.stack(right).mean())}


def _tuples(objective: Objective, t: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """Numbers (n, 3) and answers (n,) of several tuples of every clip."""
    pairs: list[Any] = [_even(objective)(t) for _ in range(draws)]
    numbers = torch.cat([pairwise_differences(x) for x, _ in pairs]).cpu().double()
    return numbers, torch.cat([y for _, y in pairs]).cpu()


def _even(objective: Objective) -> Any:
    """The split with half of the tuples in order, whatever the run's share: so that 0.5 is chance."""
    split: Any = objective.split
    return dataclasses.replace(split, positives=0.5)
