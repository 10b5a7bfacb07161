"""What a run was asked for, checked before its data is opened."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from withheld.errors import InputError
from withheld.learn.care import ON_SICK
from withheld.learn.gradient import Loop
from withheld.learn.sharding import check_shares
from withheld.objective import Objective
from withheld.provenance import plain
from withheld.run import load_method, split_settings


@dataclass(frozen=True)
class Asked:
    """What `withheld.pretrain` was asked for, under its names; "given" in run.json. The defaults are what nobody asked for.

    Attributes:
        auto: why `auto` chose the method, where it did.
    """

    encoder: Any = "auto"
    minutes: float | None = None
    epochs: float | None = None
    steps: int | None = None
    batch_size: int | None = None
    size: int | str = "auto"
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    labels: str | None = None
    on_sick: str | None = None
    stream: bool = False
    accumulate: int | None = None
    recompute: bool = False
    shard: bool = False
    auto: dict[str, str] | None = None

    @property
    def lengths(self) -> dict[str, float]:
        """How long, in every unit that it was asked for in."""
        every = {"minutes": self.minutes, "epochs": self.epochs, "steps": self.steps}
        return {unit: value for unit, value in every.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """As run.json keeps it."""
        return {name: value for name, value in plain(vars(self)).items() if name != "auto" or value is not None}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Asked:
        """Of run.json; what could not be asked for when that was written was not asked for."""
        return cls(**{name: value for name, value in given.items() if name in cls.__dataclass_fields__})


def check_asked(method: Any, asked: Asked) -> None:
    """Says so where settings contradict each other or are none.

    Raises:
        InputError: naming the setting, and the remedy.
    """
    if len(asked.lengths) > 1:
        raise InputError(f"give one of minutes, epochs and steps, not {' and '.join(asked.lengths)}")
    sizes = {"batch_size": asked.batch_size, "accumulate": asked.accumulate}
    for name, value in {**asked.lengths, **sizes}.items():
        if value is not None and not value > 0:
            raise InputError(f"{name}={value} must be above 0")
    if asked.on_sick not in (None, *ON_SICK):
        raise InputError(f"on_sick={asked.on_sick!r}: one of {', '.join(ON_SICK)}")
    if not isinstance(method, (str, Objective)):
        raise InputError(f"method must be a name or an Objective, not {type(method).__name__}")
    if isinstance(method, str):
        split_settings(load_method(method), asked.settings)
    if asked.labels is not None:
        _check_labels(method, asked)


def _check_labels(method: Any, asked: Asked) -> None:
    """Labels are for methods that say in their signature that they take classes."""
    if isinstance(method, str) and "classes" in inspect.signature(load_method(method)).parameters:
        return
    raise InputError(
        f"--labels {asked.labels}: {method if isinstance(method, str) else 'this objective'} learns without "
        "labels; mixture takes them for some of the rows. To judge with labels: withheld evaluate; to make a classifier: "
        "withheld finetune"
    )


def check_thrift(model: Any, method: str, asked: Asked, pieces: int) -> None:
    """Says so where a model cannot save memory as it was asked to; what a loop or a network cannot, these say.

    Raises:
        InputError: with the remedy.
    """
    savings = {"accumulate": pieces > 1, "recompute": asked.recompute, "shard": asked.shard}
    if isinstance(model, Objective):
        if asked.shard:
            check_shares(model, asked.on_sick or "warn")
        return
    for name in (name for name, wanted in savings.items() if wanted):
        raise InputError(
            f"--{name}: {method} takes no gradients, and goes through the items in slices anyway: leave it out, and take a smaller "
            "--batch-size for less memory"
        )


def check_single(loop: Any) -> None:
    """Says so where batches of one item cannot be learned from; all of a run are of one size.

    Raises:
        InputError: with the remedy.
    """
    if not isinstance(loop, Loop) or loop.recipe.batch_size > 1:
        return
    try:
        loop.seconds_per_step(1, 0.0)  # leaves everything as it was
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            "--batch-size 1: a batch norm of this method or encoder divides by the spread of a batch, and one item has none: give "
            "2 at least; some hundred are usual"
        ) from None
