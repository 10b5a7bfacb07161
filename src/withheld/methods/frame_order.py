"""Order verification."""

from __future__ import annotations

from withheld.losses.prediction import BinaryCrossEntropy
from withheld.networks.clip_heads import TupleJudge
from withheld.networks.video import VideoTrunk
from withheld.objective import Objective
from withheld.splits.video import FrameOrder
from withheld.types import Recipe

FRAMES, RATE, MOTION = 16, 12.0, 0.5


def frame_order(trunk: VideoTrunk, *, positives: float = 0.5, width: int = 256) -> tuple[Objective, Recipe]:
    """Shows three frames of a clip and asks whether they are in order.

    (x, y): three frames; whether the middle one belongs between the others.
    p(y|x): a Bernoulli.
    Source: Misra et al. 2016, Shuffle and Learn: Unsupervised Learning using Temporal Order Verification,
        https://arxiv.org/abs/1603.08561
    Differs: windows of 16 frames at 12 a second, the half in which most moves by frame differences (paper: optical flow, gaps
        of 15 to 60 frames); half of the tuples are in order (a quarter), so that chance is 50 %; a small ViT (CaffeNet).

    Args:
        trunk: of images: every frame passes through it alone.
        positives: share of the tuples that are in order.
        width: of the hidden layer that joins the three frames.
    """
    return (
        Objective(FrameOrder(positives), TupleJudge(trunk, 3, width), BinaryCrossEntropy()),
        Recipe(base_learning_rate=4e-3, batch_size=64, weight_decay=0.05, warmup=0.1, epochs=200),
    )
