"""A dictionary of small patches, learned in seconds: which atom a patch is made of was never observed."""

from __future__ import annotations

from withheld.losses.codes import Reconstruction, untold
from withheld.networks.image import ImageTrunk
from withheld.networks.patch_dictionary import DictionaryLearner
from withheld.objective import Objective
from withheld.splits.scattered import Scattered
from withheld.types import Recipe

ENCODER = "patch-dictionary"
SIDE = 64  # of photographs
REMEDY = (
    "a longer run or more images help this method little; another method (simclr, with more minutes) or more labels may"
)


def patch_dictionary(trunk: ImageTrunk, *, patches: int = 6) -> tuple[Objective, Recipe]:
    """Tells small patches of images as multiples of one atom each, out of a dictionary that it learns in seconds, of few images.

    (x, y): small patches of an image twice; what is hidden is z, which atom a patch is made of, and how much.
    p(y|x): a Gaussian of unit variance around the best multiple of an atom, of whitened patches.
    Source: Coates, Lee and Ng 2011, An Analysis of Single-Layer Networks in Unsupervised Feature Learning,
        https://proceedings.mlr.press/v15/coates11a.html; Coates and Ng 2012, Learning Feature Representations with K-means
    Differs: gradient steps on batches in place of k-means over all patches (the same error from batches of 64 on, docs/log.md); an
        atom answers by inner products; means of 4 x 4 regions (paper: sums of 2 x 2), and their square roots.

    Args:
        trunk: "patch-dictionary", of 128 atoms.
        patches: that many times as many of an image are drawn at a time.
    """
    learner = DictionaryLearner(trunk)
    split = Scattered(trunk.model.config.kernel_size, patches, trunk.size)
    return Objective(split, learner, untold, target=Reconstruction()), Recipe(
        base_learning_rate=4e-2,
        batch_size=128,
        weight_decay=0.0,
        warmup=0.02,
        schedule="linear",
        epochs=3,
        most_epochs=3,
    )
