"""Next-frame prediction."""

from __future__ import annotations

from withheld.losses.prediction import FrameError
from withheld.networks.next_frame import FramePredictor
from withheld.networks.video import VideoTrunk
from withheld.objective import Objective
from withheld.splits.video import NextFrames
from withheld.types import Recipe

ENCODER = {"cpu": "resnet-fine", "cuda": "resnet-fine"}
FRAMES = 20


def next_frame(
    trunk: VideoTrunk, *, given: int = 0, kind: str = "convlstm", width: int = 64, layers: int = 2, power: int = 2,
    edges: float = 0.0,
) -> tuple[Objective, Recipe]:  # fmt: skip
    """Predicts how a clip goes on.

    (x, y): the first frames of a clip; the others.
    p(y|x): a Gaussian (power=2) or Laplace distribution (power=1) around the prediction of every pixel.
    Source: Shi et al. 2015, Convolutional LSTM Network: A Machine Learning Approach for Precipitation Nowcasting,
        https://arxiv.org/abs/1506.04214
    Differs: no peepholes; every frame is told as a change of the one before, through a small ResNet of stride 4 (paper:
        patches of 4), and the network's own frames are fed back in training too; kind=simvp is in the manner of Gao et al. 2022;
        edges adds the gradient difference loss of Mathieu et al. 2016 (power 2 there: alpha = 2).

    Args:
        trunk: of images, with a fine grid of tokens.
        given: frames that are seen; 0 takes half.
        kind: "convlstm" or "simvp".
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
