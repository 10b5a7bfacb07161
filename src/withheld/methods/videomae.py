"""Masked autoencoder of clips."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.losses.prediction import squared_error
from withheld.losses.target import NormalizedPatches
from withheld.networks.decoder import PatchPredictor
from withheld.networks.video import VideoTrunk
from withheld.objective import Objective
from withheld.splits.video import MaskTubes
from withheld.types import Recipe

ENCODER = {"cpu": "videomae-nano", "cuda": "videomae-small"}
FRAMES, RATE = 8, 12.0


def videomae(
    trunk: VideoTrunk,
    *,
    ratio: float = 0.9,
    normalize_patches: bool = True,
    decoder_width: int = 0,
    decoder_layers: int = 2,
) -> tuple[Objective, Recipe]:
    """Hides tubes through all frames of a clip and predicts their pixels from the few that are seen.

    (x, y): the visible patches in space and time; the hidden ones, each brought to mean 0 and variance 1.
    p(y|x): a Gaussian of unit variance around the prediction for every hidden patch.
    Source: Tong et al. 2022, VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
        Pre-Training, https://arxiv.org/abs/2203.12602
    Differs: 8 frames at 12 a second (paper: 16 at 6 to 15), 2 decoder layers (4), batch 32 and base learning rate 4e-3 (1.5e-4 at
        1,024), no crops, for runs of minutes; features are the mean of the tokens.

    Args:
        trunk: a model of clips; only the visible patches pass through it.
        ratio: share of the places that is hidden.
        normalize_patches: whether each hidden patch is normalized before it is compared.
        decoder_width: 0 takes half the encoder's, at least 64.
        decoder_layers: of the decoder.
    """
    if trunk.image is not None:
        raise InputError("videomae hides tubes of a clip: it needs a model of clips, such as --encoder videomae-nano")
    width = decoder_width or max(64, trunk.width // 2)
    return (
        Objective(
            MaskTubes(patch=trunk.patch, tubelet=trunk.tubelet, ratio=ratio),
            PatchPredictor(trunk, width, decoder_layers, heads=max(1, width // 32)),
            squared_error,
            target=NormalizedPatches() if normalize_patches else None,
        ),
        Recipe(base_learning_rate=8e-3, batch_size=32, betas=(0.9, 0.95), weight_decay=0.05, warmup=0.1, epochs=100),
    )
