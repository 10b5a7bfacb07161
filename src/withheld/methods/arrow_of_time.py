"""The arrow of time."""

from __future__ import annotations

from withheld.losses.prediction import BinaryCrossEntropy
from withheld.networks.clip_heads import ArrowJudge
from withheld.networks.video import VideoTrunk
from withheld.objective import Objective
from withheld.splits.video import ArrowOfTime
from withheld.types import Recipe

FRAMES, RATE, MOTION = 8, 12.0, 0.5


def arrow_of_time(trunk: VideoTrunk, *, see: str = "differences", width: int = 128) -> tuple[Objective, Recipe]:
    """Runs a clip forward or backward and asks which.

    (x, y): a clip in one of the two directions, and the same mirrored in time; whether it runs forward.
    p(y|x): a Bernoulli whose logit changes its sign when the clip is mirrored.
    Source: Wei et al. 2018, Learning and Using the Arrow of Time, CVPR, https://openaccess.thecvf.com/content_cvpr_2018/html/Wei_Learning_and_Using_CVPR_2018_paper.html
    Differs: frame differences (paper: optical flow) of 8 frames; one small ViT, frame by frame, with a convolution over time
        (two VGG-16 streams); both directions are scored in training too; black bars are cut off when clips are read, the
        camera's motion is not taken out.

    Args:
        trunk: of images, frame by frame, or of clips.
        see: "differences" of neighboring frames, or "frames".
        width: of the layer that looks along time.
    """
    return (
        Objective(ArrowOfTime(see), ArrowJudge(trunk, width), BinaryCrossEntropy()),
        Recipe(base_learning_rate=4e-3, batch_size=32, weight_decay=0.05, warmup=0.1, epochs=200),
    )
