"""A classifier that learns from unlabelled items too: a mixture of Gaussians whose components belong to classes.

Shapes: N labelled items, U unlabelled items, M test items, D features, P principal components, K classes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from withheld.errors import Diverged, InputError
from withheld.evaluate.few_label import ENOUGH, MOST_LEARNED, check_labelled, sample, standard
from withheld.mixtures import DeadComponent, GaussianMixture
from withheld.types import UNKNOWN_LABEL

Array = NDArray[np.floating]
Labels = NDArray[np.int64]

PASSES, TOLERANCE = 30, 1e-3
MOST_CHECKED = 2000
"""Unlabelled items that settings are chosen with, a seeded sample."""
MOST_WORK = 5e5
"""Items times classes above which settings are `FIXED`: choosing takes twenty-four fits, of 300 classes a minute."""


@dataclass(frozen=True)
class Setting:
    """How a mixture is fitted.

    Attributes:
        columns: P, the principal components that are kept.
        covariance: "tied" or "full".
        weight: of all unlabelled items together, in labelled items a class; 0 learns from labelled items only.
        shrinkage: added to every variance, as a share of the mean variance.
        components: of every class.
    """

    columns: int
    covariance: str
    weight: float
    shrinkage: float = 0.1
    components: int = 1


FIXED = Setting(60, "tied", 12.0)
"""Where there are too few labels to choose."""
ALONE = Setting(60, "tied", 0.0, 0.3)
"""Labelled items only: what is left where EM breaks down."""
GRID = (
    Setting(128, "tied", 0.0, 0.005), Setting(128, "tied", 0.0, 0.03), Setting(60, "tied", 0.5), FIXED,
    Setting(60, "tied", 60.0), Setting(60, "full", 0.0, 0.3), Setting(20, "full", 12.0), Setting(20, "full", 120.0),
)  # fmt: skip


class SemiSupervisedMixture:
    """Semi-supervised EM: labelled items belong to the components of their class, the others to whichever explain them.

    Source: Nigam et al. 2000, "Text classification from labeled and unlabeled documents using EM",
    https://doi.org/10.1023/A:1007692713085, with Gaussians. Unlabelled items hurt where components are no classes
    (Cozman et al. 2003), so their weight, the covariance and the number of principal components are chosen by stratified
    cross-validation on the labelled items where every class has `ENOUGH`; below that, and beyond `MOST_WORK`, they are `FIXED`.

    Args:
        classes: K; a class without labelled items gets probability 0.
        seed: of folds and samples.
        grid: the settings to choose from; a single one is used as it is.

    Attributes:
        setting: the one used, after `fit`. smallest: the smallest weight of a component. dead: how many died.
    """

    def __init__(self, classes: int, seed: int = 0, grid: tuple[Setting, ...] = GRID) -> None:
        self.classes, self.seed, self.grid = classes, seed, grid
        self.setting = FIXED if FIXED in grid else grid[0]
        self.smallest, self.dead = 0.0, 0

    def fit(self, x_ND: Array, y_N: Labels, x_UD: Array) -> SemiSupervisedMixture:
        """Learns from labelled and unlabelled items.

        Raises:
            InputError: where fewer than two classes have labels, or a feature is not a finite number.
        """
        check_labelled(x_ND, y_N)
        if not np.isfinite(x_UD).all():
            raise InputError("features of unlabelled items are not finite numbers: the encoder has diverged")
        x_ND, y_N = sample(x_ND, y_N, MOST_LEARNED, self.seed)
        self.known, at = np.unique(y_N, return_inverse=True)
        with threadpool_limits(1):
            self._turn(np.concatenate([x_ND, x_UD]))
            z_NP, z_UP = self._turned(x_ND), self._turned(x_UD)
            self.setting = self._choose(z_NP, at, z_UP)
            try:
                self._model = _fit(z_NP, at, z_UP, self.setting, len(self.known))
            except (Diverged, InputError):  # a collapse costs the unlabelled items, not the row
                self.setting = ALONE
                self._model = _fit(z_NP, at, z_UP, ALONE, len(self.known))
        self.smallest, self.dead = float(self._model.weights_.min()), len(self._model.dead_)
        return self

    def probabilities(self, x_MD: Array) -> Array:
        """(M, K) probabilities, in the order of the classes."""
        found = np.zeros((len(x_MD), self.classes))
        with threadpool_limits(1):
            found[:, self.known] = self._model.predict_proba(self._turned(x_MD)[:, : self.setting.columns])
        return found

    def _turn(self, x_ND: Array) -> None:
        """Standardizes by all items that may be seen, and turns to their principal components, the first with variance 1."""
        self._mean, self._scale = standard(x_ND)
        z = (x_ND - self._mean) / self._scale
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(z.T, bias=True)))
        varied = int((values > 1e-12 * values[-1]).sum())  # a feature that is the same everywhere tells nothing
        most = max(1, min(max(setting.columns for setting in self.grid), varied))
        self._basis = vectors[:, ::-1][:, :most] / np.sqrt(max(values[-1], 1e-300))

    def _turned(self, x_ND: Array) -> Array:
        return (np.asarray(x_ND, np.float64) - self._mean) / self._scale @ self._basis

    def _choose(self, z_NP: Array, y_N: Labels, z_UP: Array) -> Setting:
        work = (len(z_NP) + min(len(z_UP), MOST_CHECKED)) * len(self.known)
        if len(self.grid) == 1 or int(np.bincount(y_N).min()) < ENOUGH or work > MOST_WORK:
            return self.setting
        some = np.random.default_rng([self.seed, 0x5E]).permutation(len(z_UP))[:MOST_CHECKED]
        folds = list(StratifiedKFold(3, shuffle=True, random_state=self.seed).split(z_NP, y_N))
        right = [self._checked(setting, folds, z_NP, y_N, z_UP[some]) for setting in self.grid]
        return self.grid[int(np.argmax(right))]

    def _checked(self, setting: Setting, folds: list, z_NP: Array, y_N: Labels, z_UP: Array) -> float:
        """How many held-out labelled items it gets right."""
        right = 0.0
        for learn, check in folds:
            try:
                model = _fit(z_NP[learn], y_N[learn], z_UP, setting, int(y_N.max()) + 1)
            except (Diverged, InputError):
                return -1.0
            right += float((model.predict(z_NP[check][:, : setting.columns]) == y_N[check]).sum())
        return right


def _fit(z_NP: Array, y_N: Labels, z_UP: Array, setting: Setting, classes: int) -> GaussianMixture:
    """The mixture of one setting; labelled items alone where unlabelled ones have no weight."""
    z_NP, z_UP = z_NP[:, : setting.columns], z_UP[:, : setting.columns]
    rows, label, weight = z_NP, y_N, np.ones(len(z_NP))
    if setting.weight > 0 and len(z_UP):
        rows = np.concatenate([z_NP, z_UP])
        label = np.concatenate([y_N, np.full(len(z_UP), UNKNOWN_LABEL)])
        weight = np.concatenate([weight, np.full(len(z_UP), setting.weight * classes / len(z_UP))])
    regularization = max(setting.shrinkage * float(rows.var(axis=0).mean()), 1e-9)
    model = GaussianMixture(
        covariance_type=setting.covariance, reg_covar=regularization, max_iter=PASSES, tol=TOLERANCE,
        components_per_class=setting.components,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadComponent)  # told in the note of the row
        return model.fit(rows, label, sample_weight=weight)
