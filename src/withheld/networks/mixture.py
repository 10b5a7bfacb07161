"""Mixtures of exponential families: p(x) = sum_k weight_k p_k(x), with the component z of every row never observed.

The log density of every component is linear in a few features of a row, so the E-step and the M-step are two matrix products over
tiles that stay in cache, whatever the family. Tiles may be float32, sums are float64.

Shapes: B rows, D columns, K components, F features, S classes.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from withheld.errors import InputError
from withheld.latent import LatentModel
from withheld.types import UNKNOWN_LABEL
from withheld.wording import plural

TILE, TILE_OF_OTHERS = 1 << 18, 1 << 24
"""Numbers of a tile of features on a CPU: a megabyte, which stays in the cache of a core between its two products; elsewhere
enough to keep many cores busy."""
LEAST_ROWS = 512
DEAD = 1e-3
"""A component that answers for less than this share of one row is dead."""
FAINT = -60.0
"""Responsibilities below e^-60 of the largest count as that much: no digit changes, and denormal numbers are slow."""
STARTS = ("kmeans", "random")

COMPONENTS = 8
"""Where no number is given."""


class Mixture(LatentModel):
    """What all mixtures share: the E-step, the start, sampling, and which rows belong to which components.

    Args:
        columns: D.
        components: K.
        classes: S > 0 learns from labels too (Nigam et al. 2000): component k belongs to class k % S, and a labelled row
            only to those of its class.
        start: "kmeans" (k-means++ and Lloyd's steps on a sample) or "random" (rows of the sample).

    Attributes:
        weights: (K,), float64.
        names: of the columns, for messages; numbers where nobody set them.
        evidence: what other numbers of components had, where they were compared (networks/evidence.py).
    """

    names: Sequence[str] = ()
    evidence: Sequence[dict[str, float]] = ()
    takes_missing = True
    weights: Tensor
    counts: Tensor

    def __init__(self, columns: int, components: int, classes: int = 0, start: str = "kmeans") -> None:
        super().__init__()
        if components < 1:
            raise InputError(f"components={components}: a mixture has at least 1")
        if classes and components % classes:
            raise InputError(f"components={components} cannot be shared evenly by {classes} classes: take a multiple")
        if start not in STARTS:
            raise InputError(f"start={start!r}: one of {', '.join(STARTS)}")
        self.columns, self.components, self.classes, self.start = columns, components, classes, start
        self.register_buffer("weights", torch.full((components,), 1 / components, dtype=torch.float64))
        self.register_buffer("counts", torch.ones(components, dtype=torch.float64))

    @abstractmethod
    def writer(self, out_FB: Tensor) -> Callable[[Tensor], object]:
        """What writes the features of rows (B, D) into this tile, in its dtype; made once for many tiles."""

    @property
    @abstractmethod
    def width(self) -> int:
        """F, how many features a row has."""

    @abstractmethod
    def natural(self) -> Tensor:
        """(F, K), float64: `features.T @ natural` is log weight_k + log p_k(x) but for `offset`."""

    @property
    def offset(self) -> float:
        """What the log density of every row has besides."""
        return 0.0

    @property
    def exact(self) -> torch.dtype:
        """The dtype tiles need for the present parameters."""
        return torch.float64

    def log_joint(self, rows_BD: Tensor) -> Tensor:
        """(K, B) log p(x, z=k) of rows without missing values, float64."""
        natural = self.natural().T.contiguous()
        parts = [natural @ features for _, features in self._tiles(rows_BD, torch.float64)]
        return torch.cat(parts, dim=1) + self.offset if parts else natural.new_zeros(self.components, 0)

    def expect(self, t: Any) -> dict[str, Tensor]:
        """The E-step: sums of the features under q(z) = p(z | x), and the bound, which then is the log-likelihood."""
        rows, weight, label = parts_of(t, self.columns)
        sums = self._blank()
        if not bool(torch.isnan(rows.sum())):  # one reduction instead of a mask
            return self._add(sums, rows, weight, label)
        whole = ~torch.isnan(rows).any(dim=1)
        self._add(sums, rows[whole], take(weight, whole), take(label, whole))
        return self._add_missing(sums, rows[~whole], take(weight, ~whole), take(label, ~whole))

    def posterior(self, t: Any) -> tuple[Tensor, Tensor]:
        """(B, K) responsibilities and (B,) log p(x), float64; missing values are integrated out."""
        rows, _, label = parts_of(t, self.columns)
        whole = ~torch.isnan(rows).any(dim=1)
        joint = rows.new_zeros(self.components, len(rows), dtype=torch.float64)
        joint[:, whole] = self.log_joint(rows[whole])
        for pattern, at in patterns(rows, ~whole):
            joint[:, at] = self._joint_of_pattern(rows[at], pattern)
        joint = self._clamped(joint, label)
        log_density = torch.logsumexp(joint, dim=0)
        return (joint - log_density).exp().T, log_density

    def fitted(self, sample: Any) -> Mixture:
        """Starts from a sample of the rows: k-means, or random rows; labelled rows start the components of their class."""
        rows, weight, label = parts_of(sample, self.columns)
        self.check(rows)
        empty = torch.isnan(rows).all(dim=0).nonzero().flatten().tolist()
        if empty and len(rows):
            raise InputError(f"{self.named(empty[0])} has no value at all: leave it out")
        filled = filled_in(rows.double())
        if len(filled) < self.components:
            raise InputError(
                f"components={self.components} for {plural(len(filled), 'row')}: give at most as many components as rows"
            )
        self._prepare(filled)
        at = torch.as_tensor(self._first_assignment(filled, label), device=filled.device)
        start = torch.nn.functional.one_hot(at, self.components).T.to(torch.float64)
        if weight is not None:
            start = start * weight
        self.maximize(self._sums_of(filled, start))
        return self

    def check(self, rows_BD: Tensor, place: Callable[[int], str] = "row {}".format) -> None:
        """Says so where a value cannot be learned from.

        Args:
            rows_BD: some rows.
            place: what an error calls the row of a number.

        Raises:
            InputError: naming row and column, and the remedy.
        """
        infinite = torch.isinf(rows_BD).nonzero()
        if len(infinite):
            row, column = infinite[0].tolist()
            raise InputError(
                f"{place(row)}, {self.named(column)} is infinite: mend it, or make it NaN to have it taken as missing"
            )
        if not self.takes_missing and bool(torch.isnan(rows_BD).any()):
            row, column = torch.isnan(rows_BD).nonzero()[0].tolist()
            raise InputError(
                f"{place(row)}, {self.named(column)} is missing (NaN), and mean field takes no missing values: fill it in, "
                "leave the row out, or take mixture (GaussianMixture), which integrates over it"
            )

    def named(self, column: int) -> str:
        """A column as an error says it."""
        return f"column {self.names[column]!r}" if len(self.names) else f"column {column}"

    @property
    def free(self) -> int:
        """How many numbers are free, as BIC and AIC count them."""
        raise InputError("bic and aic count free numbers; mean field has its own evidence: lower_bound_")

    def dead(self) -> list[int]:
        """Components that answer for next to nothing."""
        return (self.counts < DEAD).nonzero().flatten().tolist()

    def vitals(self) -> dict[str, float]:
        """The smallest weight, and how many components are in use: exp of the entropy of the weights."""
        share = self.weights / self.weights.sum()
        entropy = -(share * share.clamp_min(1e-300).log()).sum()
        return {"smallest_weight": float(share.min()), "components_used": float(entropy.exp())}

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """(count, D) rows and (count,) their components, from torch's generator."""
        z = torch.multinomial(self.weights / self.weights.sum(), count, replacement=True)
        return self._draw(z), z

    @abstractmethod
    def _draw(self, z_B: Tensor) -> Tensor:
        """A row from each of these components."""

    def _prepare(self, rows_BD: Tensor) -> None:
        """What a family wants to know of the sample before it starts."""

    def _joint_of_pattern(self, rows_BD: Tensor, seen_D: Tensor) -> Tensor:
        """(K, B) log p(x_seen, z=k), the unseen columns integrated out."""
        raise InputError(f"{type(self).__name__} takes no missing values (NaN): fill them in, or use a mixture")

    def _add_missing(self, sums: dict[str, Tensor], rows_BD: Tensor, weight: Any, label: Any) -> dict[str, Tensor]:
        """Adds rows with missing values, those with the same columns missing at once."""
        for pattern, at in patterns(rows_BD, torch.ones(len(rows_BD), dtype=torch.bool, device=rows_BD.device)):
            joint = self._clamped(self._joint_of_pattern(rows_BD[at], pattern), take(label, at))
            log_density = torch.logsumexp(joint, dim=0)
            share = (joint - log_density).exp()
            one = torch.ones_like(log_density) if weight is None else weight[at]
            sums["items"] += one.sum()
            sums["bound"] += (one * log_density).sum()
            sums["expected"] += self._expected_of_pattern(rows_BD[at], pattern, share * one)
        return sums

    def _expected_of_pattern(self, rows_BD: Tensor, seen_D: Tensor, share_KB: Tensor) -> Tensor:
        """(K, F) sums of the expected features, the unseen columns at their conditional moments."""
        raise NotImplementedError

    def _blank(self) -> dict[str, Tensor]:
        zero = self.weights.new_zeros(())
        return {"items": zero, "bound": zero.clone(), "expected": self.weights.new_zeros(self.components, self.width)}

    def _add(self, sums: dict[str, Tensor], rows_BD: Tensor, weight: Any, label: Any) -> dict[str, Tensor]:
        kind = self.exact
        natural = self.natural().T.to(kind).contiguous()
        for at, features in self._tiles(rows_BD, kind):
            joint = self._clamped(natural @ features, take(label, at))
            most = joint.amax(dim=0)
            share = joint.sub_(most).clamp_(min=FAINT).exp_()
            total = share.sum(dim=0)
            share.div_(total)
            log_density = total.log_().add_(most)
            one = None if weight is None else weight[at].to(kind)
            if one is not None:
                share, log_density = share * one, log_density * one
            sums["items"] += share.shape[1] if one is None else one.sum().double()
            sums["bound"] += log_density.sum(dtype=torch.float64)
            sums["expected"] += share @ features.T
        sums["bound"] += self.offset * (len(rows_BD) if weight is None else float(weight.sum()))
        return sums

    def _sums_of(self, rows_BD: Tensor, share_KB: Tensor) -> dict[str, Tensor]:
        """The sums of rows whose components are given."""
        sums = self._blank()
        for at, features in self._tiles(rows_BD, torch.float64):
            sums["expected"] += share_KB[:, at] @ features.T
        sums["items"] += share_KB.sum()
        return sums

    def _tiles(self, rows_BD: Tensor, kind: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        """Yields (which rows, their features (F, B)), in one piece of memory that is written again and again."""
        tile_size = TILE if rows_BD.device.type == "cpu" else TILE_OF_OTHERS
        size = min(max(LEAST_ROWS, tile_size // self.width), len(rows_BD))
        out = torch.empty(self.width * size, dtype=kind, device=rows_BD.device)
        tile = out.view(self.width, size)
        write = self.writer(tile)
        for first in range(0, len(rows_BD), size or 1):
            part = rows_BD[first : first + size]
            if len(part) < size:
                tile = out[: self.width * len(part)].view(self.width, len(part))
                write = self.writer(tile)
            write(part.to(kind))
            yield slice(first, first + len(part)), tile

    def _clamped(self, joint_KB: Tensor, label: Tensor | None) -> Tensor:
        """A labelled row belongs to the components of its class only."""
        if label is None or not self.classes:
            return joint_KB
        owner = torch.arange(self.components, device=joint_KB.device)[:, None] % self.classes
        return joint_KB.masked_fill((label >= 0) & (owner != label), -math.inf)

    def _first_assignment(self, rows_BD: Tensor, label: Tensor | None) -> np.ndarray:
        """The component that every row of the sample starts in."""
        seed = int(torch.randint(2**31 - 1, ()))
        scaled = self._comparable(rows_BD).cpu().numpy()
        known = None if label is None or not self.classes else label.cpu().numpy()
        if known is None or not (known >= 0).any():
            return assign(scaled, self.components, self.start, seed)
        each = self.components // self.classes
        found = np.empty(len(scaled), np.int64)
        means = [scaled[known == s].mean(axis=0) for s in range(self.classes) if (known == s).any()]
        owners = np.array([s for s in range(self.classes) if (known == s).any()])
        owner = np.where(known >= 0, known, owners[near(scaled, np.stack(means))])
        for s in range(self.classes):
            mine = np.flatnonzero(owner == s)
            split = each > 1 and len(mine) > each
            inner = assign(scaled[mine], each, self.start, seed) if split else np.arange(len(mine)) % each
            found[mine] = inner * self.classes + s
        return found

    def _comparable(self, rows_BD: Tensor) -> Tensor:
        """Rows as distances between them are taken for the start."""
        return rows_BD


def parts_of(t: Any, columns: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Rows (B, D), weight (B,) or None, label (B,) or None of a batch."""
    if isinstance(t, Tensor):
        rows, weight, label = t, None, None
    else:
        rows, weight, label = t["item"], t.get("weight"), t.get("label")
    if rows.ndim != 2 or rows.shape[1] != columns:
        raise InputError(f"rows of shape {tuple(rows.shape)}: expected (rows, {columns})")
    if label is not None and not bool((label != UNKNOWN_LABEL).any()):
        label = None
    return rows, None if weight is None else weight.double(), label


def take(value: Tensor | None, at: Any) -> Any:
    """Some of it, where there is any."""
    return None if value is None else value[at]


def patterns(rows_BD: Tensor, some_B: Tensor) -> Any:
    """Yields (seen (D,) bool, positions) of the rows of `some` that miss the same columns."""
    at = some_B.nonzero().flatten()
    if not len(at):
        return
    kinds, which = torch.unique(~torch.isnan(rows_BD[at]), dim=0, return_inverse=True)
    for number, seen in enumerate(kinds):
        yield seen, at[which == number]


def filled_in(rows_BD: Tensor) -> Tensor:
    """Missing values at the mean of their column: good enough to start from."""
    missing = torch.isnan(rows_BD)
    return torch.where(missing, rows_BD.nanmean(dim=0).expand_as(rows_BD), rows_BD) if bool(missing.any()) else rows_BD


def assign(rows_ND: np.ndarray, components: int, start: str, seed: int) -> np.ndarray:
    """(N,) a component for every row: Lloyd's k-means from k-means++ (Arthur and Vassilvitskii 2007), or nearest of random rows."""
    if start == "kmeans":
        import warnings

        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than components
            return KMeans(components, n_init=1, random_state=seed).fit(rows_ND).labels_.astype(np.int64)
    random = np.random.default_rng(seed)
    return near(rows_ND, rows_ND[random.choice(len(rows_ND), components, replace=False)])


def near(rows_ND: np.ndarray, centers_KD: np.ndarray) -> np.ndarray:
    """(N,) the nearest center of every row."""
    from sklearn.metrics import pairwise_distances_argmin

    return pairwise_distances_argmin(rows_ND, centers_KD)
