"""Withhold a part of your data, learn to predict it, keep what was learned.

    item t -- split --> (x, y) -- network --> p(y | x) -- loss --> -log p(y | x)

The names below load their modules on first use (PEP 562), so that `import withheld` is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.15.0"

_HOME = {
    "BayesianGaussianMixture": "mixtures",
    "BernoulliMixture": "mixtures",
    "Encoder": "encoder",
    "Features": "types",
    "GaussianMixture": "mixtures",
    "Moment": "types",
    "Objective": "objective",
    "Pair": "types",
    "Predictor": "networks.decoder",
    "Recipe": "types",
    "Run": "run",
    "Score": "types",
    "Split": "types",
    "finetune": "evaluate.finetune",
    "infer": "inference",
    "load_encoder": "run",
    "method_names": "run",
    "open_run": "run",
    "pretrain": "run",
    "squared_error": "losses.prediction",
    "verdict": "evaluate.verdict",
}

__all__ = ["__version__", *sorted(_HOME)]

if TYPE_CHECKING:
    from withheld.encoder import Encoder as Encoder
    from withheld.evaluate.finetune import finetune as finetune
    from withheld.evaluate.verdict import verdict as verdict
    from withheld.inference import infer as infer
    from withheld.losses.prediction import squared_error as squared_error
    from withheld.mixtures import BayesianGaussianMixture as BayesianGaussianMixture
    from withheld.mixtures import BernoulliMixture as BernoulliMixture
    from withheld.mixtures import GaussianMixture as GaussianMixture
    from withheld.networks.decoder import Predictor as Predictor
    from withheld.objective import Objective as Objective
    from withheld.run import Run as Run
    from withheld.run import load_encoder as load_encoder
    from withheld.run import method_names as method_names
    from withheld.run import open_run as open_run
    from withheld.run import pretrain as pretrain
    from withheld.types import Features as Features
    from withheld.types import Moment as Moment
    from withheld.types import Pair as Pair
    from withheld.types import Recipe as Recipe
    from withheld.types import Score as Score
    from withheld.types import Split as Split


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        from withheld.errors import nearest

        raise AttributeError(f"withheld has no {name!r}: {nearest(name, _HOME)}")
    value = getattr(importlib.import_module(f"withheld.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
