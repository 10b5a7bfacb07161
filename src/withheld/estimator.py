"""What mixtures have in common as scikit-learn estimators: the models and the loop of `withheld pretrain mixture`, on arrays."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils.validation import check_is_fitted

from withheld.errors import Diverged, InputError
from withheld.learn.alternate import Alternation
from withheld.networks.evidence import criteria
from withheld.networks.mixture import Mixture
from withheld.types import UNKNOWN_LABEL, Recipe

Array = NDArray[np.floating]
MOST_AUTO = 20
SAMPLE = 20_000


class DeadComponent(UserWarning):
    """A component of a mixture answers for no row."""


class MixtureEstimator(DensityMixin, BaseEstimator):
    """What the three have in common."""

    model_: Any

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Learns by EM from rows, some of which may have labels.

        Args:
            X: (n, D). NaN is a missing value, where the family can integrate it out.
            y: (n,) whole numbers from 0; -100, -1, NaN or None where unknown. With labels, `predict` gives classes.
            sample_weight: (n,), how many rows each stands for.

        Raises:
            InputError: more components than rows, constant columns, infinite values, naming them.
        """
        rows = self._rows(X)
        batch = self._batch(rows, y, sample_weight)
        if self.n_components == "auto":
            return self._fit_auto(X, y, sample_weight)
        best: tuple[float, Any, Alternation] | None = None
        for number in range(self.n_init):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self._seed() + number)
                model, loop, bound = self._climb(batch)
            if best is None or bound > best[0]:
                best = (bound, model, loop)
        bound, self.model_, loop = best  # type: ignore[misc]
        self.n_features_in_ = rows.shape[1]
        self.n_iter_, self.converged_ = loop.steps, loop.converged
        self.lower_bound_ = bound / max(1e-300, float(loop.count))
        self.dead_ = self.model_.dead()
        self._expose()
        if self.dead_:
            said = f"component{'s' * (len(self.dead_) > 1)} {', '.join(map(str, self.dead_))}"
            warnings.warn(
                f"{said} of {self.n_components} died: take fewer, or another start",
                DeadComponent,
                stacklevel=2,
            )
        return self

    def predict_proba(self, X: Any) -> Array:
        """(n, K) responsibilities; (n, classes) where it learned from labels."""
        share = self._posterior(X)[0]
        if not self.model_.classes:
            return share
        return share.reshape(len(share), -1, self.model_.classes).sum(axis=1)

    def predict(self, X: Any) -> NDArray[np.int64]:
        """(n,) the most probable component; the most probable class where it learned from labels."""
        return self.predict_proba(X).argmax(axis=1)

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> NDArray[np.int64]:
        """`fit`, then `predict`."""
        return self.fit(X, y, sample_weight).predict(X)

    def score_samples(self, X: Any) -> Array:
        """(n,) log p(x), nats; missing values are integrated out."""
        return self._posterior(X)[1]

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log p(x), nats."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1) -> tuple[Array, NDArray[np.int64]]:
        """Rows (n, D) and their components (n,)."""
        check_is_fitted(self, "model_")
        if n_samples < 1:
            raise InputError(f"n_samples={n_samples}: give at least 1")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed())
            rows, z = self.model_.draw(int(n_samples))
        return rows.cpu().numpy(), z.cpu().numpy()

    def bic(self, X: Any) -> float:
        """Bayesian information criterion (Schwarz 1978), lower is better."""
        return -2 * float(self.score_samples(X).sum()) + self.model_.free * math.log(len(X))

    def aic(self, X: Any) -> float:
        """Akaike's information criterion (1974), lower is better."""
        return -2 * float(self.score_samples(X).sum()) + 2 * self.model_.free

    def _model(self, columns: int, classes: int) -> Mixture:
        raise NotImplementedError

    def _expose(self) -> None:
        self.weights_ = self.model_.weights.cpu().numpy()
        self.means_ = self.model_.means.cpu().numpy()

    def _seed(self) -> int:
        state = self.random_state
        if state is None:
            return 0
        return int(state.randint(2**31 - 1)) if isinstance(state, np.random.RandomState) else int(state)

    def _rows(self, X: Any) -> Array:
        rows = np.asarray(X)
        if rows.dtype.kind not in "fiub":
            try:
                rows = np.asarray(X, dtype=np.float64)
            except (TypeError, ValueError):
                raise InputError(f"X holds {rows.dtype}: give numbers, NaN where one is missing") from None
        if rows.ndim != 2 or not rows.size:
            raise InputError(f"X has shape {rows.shape}: give rows and columns, (n, D), at least one of each")
        return rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float64)

    def _batch(self, rows: Array, y: Any, sample_weight: Any) -> dict[str, Any]:
        batch: dict[str, Any] = {"item": torch.from_numpy(np.array(rows)).to(self.device)}
        if y is not None:
            label = np.asarray(y)
            if label.dtype.kind not in "fiub":
                try:
                    label = np.array([np.nan if each is None else each for each in label], np.float64)
                except (TypeError, ValueError):
                    raise InputError(
                        f"y holds {label.dtype}: give whole numbers, NaN, None or -100 where unknown"
                    ) from None
            if label.shape != (len(rows),) or (
                label.dtype.kind == "f" and not (np.isnan(label) | (label % 1 == 0)).all()
            ):
                raise InputError(f"y has shape {label.shape}: give one whole number a row, -100 where unknown")
            label = (
                np.where(np.isnan(label), -1, label).astype(np.int64)
                if label.dtype.kind == "f"
                else label.astype(np.int64)
            )
            batch["label"] = torch.from_numpy(np.where(label < 0, UNKNOWN_LABEL, label)).to(self.device)
        if sample_weight is not None:
            weight = np.asarray(sample_weight, dtype=np.float64)
            if (
                weight.shape != (len(rows),)
                or not np.isfinite(weight).all()
                or (weight < 0).any()
                or not weight.sum() > 0
            ):
                raise InputError(f"sample_weight has shape {weight.shape}: give a number of 0 or more for every row")
            batch["weight"] = torch.from_numpy(weight).to(self.device)
        return batch

    def _climb(self, batch: dict[str, Any]) -> tuple[Mixture, Alternation, float]:
        """One start, run until it has converged."""
        rows, label = batch["item"], batch.get("label")
        known = label is not None and bool((label >= 0).any())
        model = self._model(rows.shape[1], int(label.max()) + 1 if known and label is not None else 0).to(rows.device)
        many = len(rows)
        at = torch.arange(many, device=rows.device)
        if many > SAMPLE:
            at = torch.randperm(many)[:SAMPLE].sort().values.to(rows.device)
        if known and label is not None and many > SAMPLE:  # no label is left out of the start
            at = torch.cat([at, (label >= 0).nonzero().flatten()]).unique()
        model.check(rows)
        model.fitted({name: value[at] for name, value in batch.items()})
        self._set_start(model)
        recipe = Recipe(batch_size=self.batch_size, tolerance=self.tol)
        loop = Alternation(model, _Batches(batch), recipe, steps=self.max_iter, device=rows.device)
        loop.run()
        if not loop.converged:
            sums = loop.expect()
            return model, loop, float(model.total(sums))
        return model, loop, loop.before

    def _set_start(self, model: Mixture) -> None:
        """Where the caller said where to begin."""

    def _fit_auto(self, X: Any, y: Any, sample_weight: Any) -> Any:
        """As many components as the evidence is for: up from one, until it has been worse three times."""
        best, worse = None, 0
        batch = self._batch(self._rows(X), y, sample_weight)
        for count in range(1, min(MOST_AUTO, len(X)) + 1):
            try:
                each = self.__class__(**{**self.get_params(), "n_components": count}).fit(X, y, sample_weight)
            except (InputError, Diverged):
                if best is None:
                    raise
                break  # a component has collapsed: so many are not there
            evidence = each._evidence(batch)
            if best is None or evidence > best[0]:
                best, worse = (evidence, each), 0
            else:
                worse += 1
            if worse == 3:
                break
        chosen = best[1]  # type: ignore[index]
        self.__dict__.update({name: value for name, value in vars(chosen).items() if name.endswith("_")})
        self.n_components_ = chosen.n_components
        return self

    def _evidence(self, batch: dict[str, Any]) -> float:
        """By which counts of components are compared, weights and labels counted."""
        return -criteria(self.model_, batch)["bic"]

    def _posterior(self, X: Any) -> tuple[Array, Array]:
        check_is_fitted(self, "model_")
        rows = torch.from_numpy(np.array(self._rows(X))).to(self.device)
        parts = [self.model_.posterior(part) for part in rows.split(self.batch_size)]
        return torch.cat([p for p, _ in parts]).cpu().numpy(), torch.cat([d for _, d in parts]).cpu().numpy()


class _Batches:
    """Rows of tensors, sliced without copying."""

    def __init__(self, batch: dict[str, Any]) -> None:
        self.batch_of = batch

    def __len__(self) -> int:
        return len(self.batch_of["item"])

    def batch(self, index: NDArray[np.int64], device: Any) -> Any:
        found = {name: value[index[0] : index[-1] + 1] for name, value in self.batch_of.items()}
        return found["item"] if len(found) == 1 else found


def shaped(name: str, value: Any, like: torch.Tensor) -> torch.Tensor:
    given = torch.as_tensor(np.asarray(value, dtype=np.float64), device=like.device)
    if given.shape != like.shape:
        raise InputError(f"{name} has shape {tuple(given.shape)}, expected {tuple(like.shape)}")
    return given
