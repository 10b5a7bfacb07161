"""How many components: as many as the evidence is for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from withheld.errors import InputError
from withheld.latent import LatentModel
from withheld.networks.mixture import Mixture, parts_of
from withheld.wording import plural

MOST, PATIENCE = 20, 3
"""Counts that are tried, and how many in a row may be worse before the search ends."""
PASSES, RISE, WORTH = 200, 1e-4, 1e-3
"""Of EM for every count: at most so many, and what has converged: a row's bound rises by less (nats), or by less than this share of
what a component must bring."""


class ByEvidence(LatentModel):
    """A mixture that does not know yet how many components it has: `fitted` returns the one that the evidence is for.

    1, 2, 3 ... components (multiples of the classes where there are labels) learn from the sample by EM; the smallest Bayesian
    information criterion wins (Schwarz 1978), -2 log-likelihood + free numbers x log rows: more components must pay for
    themselves. Akaike's criterion stands beside it.

    Full covariances of many columns cost so much that one component may be best although groups are far apart; then mixtures with
    one covariance for all components are compared, too.

    Args:
        make: the mixture of so many components, untrained.
        classes: of the labels, 0 without.
        tied: the same with one covariance for all components; None where that is no question.

    Attributes:
        listen: is told how many components were tried, and how many are at the most.
    """

    def __init__(
        self, make: Callable[[int], Mixture], classes: int = 0, tied: Callable[[int], Mixture] | None = None
    ) -> None:
        super().__init__()
        self.make, self.each, self.tied = make, max(1, classes), tied
        self.listen: Callable[[int, int], None] = lambda done, total: None
        self.only = make(self.each)

    @property
    def names(self) -> Any:
        """Of the columns."""
        return self.only.names

    @names.setter
    def names(self, names: Any) -> None:
        self.only.names = names

    def check(self, rows_BD: Tensor, place: Callable[[int], str]) -> None:
        """As every mixture of its kind."""
        self.only.check(rows_BD, place)

    @torch.no_grad()
    def fitted(self, sample: Any) -> LatentModel:
        """The best of all counts, at the place where EM on the sample left it; `found` says what was compared."""
        best, table = self._searched(self.make, sample)
        found: dict[str, Any] = {"components": best.components}
        if best.components == 1 and self.tied is not None:
            other, again = self._searched(self.tied, sample)
            if other.components > 1:
                best, table = other, [{**each, "tied": 1.0} for each in again]
                found = {"components": other.components, "covariance": "tied"}
        best.found, best.evidence = found, table
        return best

    def _searched(self, make: Callable[[int], Mixture], sample: Any) -> tuple[Mixture, list[dict[str, float]]]:
        """The best of all counts, and what all had."""
        rows = parts_of(sample, self.only.columns)[0]
        best: tuple[float, Mixture] | None = None
        table: list[dict[str, float]] = []
        worse = 0
        most = min(MOST * self.each, len(rows))
        for count in range(self.each, most + 1, self.each):
            self.listen(count - self.each, most)
            try:
                model = self._climbed(make(count).to(rows.device), sample)
            except InputError:
                if best is None:
                    raise
                break  # a component has collapsed: so many are not there
            found = criteria(model, sample)
            table.append({"components": count, **found})
            if best is None or found["bic"] < best[0]:
                best, worse = (found["bic"], model), 0
            else:
                worse += 1
            if worse == PATIENCE:
                break
        if best is None:
            raise InputError(f"components=auto for {plural(len(rows), 'row')}: at least {self.each} are needed")
        return best[1], table

    def _climbed(self, model: Mixture, sample: Any) -> Mixture:
        model.names = self.names
        model.fitted(sample)
        before = -math.inf
        for _ in range(PASSES):
            sums = model.expect(sample)
            rows = float(sums["items"])
            bound = float(model.total(sums)) / rows
            if bound - before < max(RISE, WORTH * model.free / model.components * math.log(rows) / (2 * rows)):
                break
            before = bound
            model.maximize(sums)
        return model

    def expect(self, t: Any) -> dict[str, Tensor]:
        """Not before it is fitted."""
        raise InputError("components=auto: how many there are is known once it has seen a sample of the rows")

    def maximize(self, sums: dict[str, Tensor]) -> None:
        """Not before it is fitted."""
        raise InputError("components=auto: how many there are is known once it has seen a sample of the rows")


def evidence_words(evidence: Sequence[Mapping[str, float]]) -> str:
    """Which count was taken, and why."""
    best = min(evidence, key=lambda each: each["bic"])
    others = sorted(
        (each for each in evidence if each is not best), key=lambda each: abs(each["components"] - best["components"])
    )
    beside = ", ".join(f"{each['components']:g}: {each['bic']:,.1f}" for each in others[:2])
    tried = f"{evidence[0]['components']:g} to {evidence[-1]['components']:g}"
    least = evidence[0]["components"]
    more = ", and more were not tried" if best["components"] == MOST * least else ""
    aic = min(evidence, key=lambda each: each["aic"])["components"]
    alone = best["components"] == 1
    return (
        f"{plural(best['components'], 'component')}: {'its' if alone else 'their'} BIC of {best['bic']:,.1f} is the lowest of "
        + tried
        + (f" ({beside})" if beside else "")
        + f"{more}, on {evidence[0]['rows']:,.0f} rows; AIC would take {aic:g}"
        + ("; so no groups are found (--set components=8 makes 8 all the same)" if alone else "")
        + (
            "; with one covariance for all of them: with one for each, one component was best"
            if evidence[0].get("tied")
            else ""
        )
    )


def criteria(model: Mixture, sample: Any) -> dict[str, float]:
    """Rows, nats a row, and the Bayesian and Akaike's criterion of a mixture on these rows: lower is better."""
    sums = model.expect(sample)
    log_likelihood, rows = float(sums["bound"]), float(sums["items"])
    return {
        "rows": rows,
        "nats": log_likelihood / rows,
        "bic": -2 * log_likelihood + model.free * math.log(rows),
        "aic": -2 * log_likelihood + 2 * model.free,
    }
