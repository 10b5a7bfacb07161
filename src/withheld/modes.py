"""The mode of a network while it is only looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """In `eval`; afterwards in the mode it was in, whatever happened."""
    was = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was)
