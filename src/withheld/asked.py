"""What a run was asked for, checked before its data is opened."""

from __future__ import annotations

import inspect
from typing import Any

from withheld.errors import InputError
from withheld.learn.care import ON_SICK
from withheld.learn.gradient import Loop
from withheld.learn.sharding import check_shares
from withheld.objective import Objective
from withheld.run import load_method, split_settings


def check_asked(method: Any, given: dict[str, Any]) -> None:
    """Says so where settings contradict each other or are none.

    Raises:
        InputError: naming the setting, and the remedy.
    """
    lengths = {name: given[name] for name in ("minutes", "epochs", "steps") if given[name] is not None}
    if len(lengths) > 1:
        raise InputError(f"give one of minutes, epochs and steps, not {' and '.join(lengths)}")
    sizes = {name: given[name] for name in ("batch_size", "accumulate")}
    for name, value in {**lengths, **sizes}.items():
        if value is not None and not value > 0:
            raise InputError(f"{name}={value} must be above 0")
    if given["on_sick"] not in (None, *ON_SICK):
        raise InputError(f"on_sick={given['on_sick']!r}: one of {', '.join(ON_SICK)}")
    if not isinstance(method, (str, Objective)):
        raise InputError(f"method must be a name or an Objective, not {type(method).__name__}")
    if isinstance(method, str):
        split_settings(load_method(method), given["settings"])
    if given["labels"] is not None:
        _check_labels(method, given)


def _check_labels(method: Any, given: dict[str, Any]) -> None:
    """Labels are for methods that say in their signature that they take classes."""
    if isinstance(method, str) and "classes" in inspect.signature(load_method(method)).parameters:
        return
    raise InputError(
        f"--labels {given['labels']}: {method if isinstance(method, str) else 'this objective'} learns without "
        "labels; mixture takes them for some of the rows. To judge with labels: withheld evaluate; to make a classifier: "
        "withheld finetune"
    )


def check_thrift(model: Any, method: str, given: dict[str, Any], pieces: int) -> None:
    """Says so where a model cannot save memory as it was asked to; what a loop or a network cannot, these say.

    Raises:
        InputError: with the remedy.
    """
    asked = {"accumulate": pieces > 1, "recompute": given["recompute"], "shard": given["shard"]}
    if isinstance(model, Objective):
        if given["shard"]:
            check_shares(model, given["on_sick"] or "warn")
        return
    for name in (name for name, wanted in asked.items() if wanted):
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
