"""Tracking by colorizing."""

from __future__ import annotations

from withheld.losses.prediction import ColorCopied
from withheld.networks.clip_heads import ColorPointer
from withheld.networks.video import VideoTrunk
from withheld.objective import Objective
from withheld.splits.video import TrackColor
from withheld.splits.views import RandomResizedCrop
from withheld.types import Recipe

ENCODER = {"cpu": "resnet-dense", "cuda": "resnet-dense"}
FRAMES, RATE, SIZE = 4, 6.0, 128


def track_color(
    trunk: VideoTrunk, *, clusters: int = 16, temperature: float = 0.07, jitter: float = 0.1, crop: float = 0.3
) -> tuple[Objective, Recipe]:
    """Copies the colors of a grey frame from colored frames before it, and so learns to follow things.

    (x, y): three frames in color and one in grey; the colors of that one.
    p(y|x): a categorical over colors for every place: what stands where the place points to, in the frames before.
    Source: Vondrick et al. 2018, Tracking Emerges by Colorizing Videos, https://arxiv.org/abs/1806.09594
    Differs: a small ResNet of stride 8 (paper: ResNet-18 and five 3D convolutions); frames of 128 pixels (256); cosines at
        a fixed temperature (dot products); brightness and contrast are jittered, clips are cropped and also run backward; 16
        colors of the user's own clips.

    Args:
        trunk: of images, with a grid of tokens; it sees lightness only, also after training.
        clusters: colors that are told apart.
        temperature: of the pointing.
        jitter: of brightness and contrast, a share.
        crop: smallest share of the area that a random crop keeps, the same in all frames; 1 is no cropping.
    """
    side = trunk.frame_grid
    return (
        Objective(
            TrackColor(side, clusters, jitter, trunk.channels),
            ColorPointer(trunk, clusters, temperature),
            ColorCopied(),
            change=RandomResizedCrop(trunk.size, scale=(crop, 1.0)),
        ),
        Recipe(
            base_learning_rate=1.6e-2,
            batch_size=16,
            weight_decay=0.01,
            warmup=0.1,
            clip=1.0,
            epochs=100,
            normalize=False,
        ),
    )
