"""Who hears what long work reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Listen = Callable[[dict[str, Any]], None]


def silent(event: dict[str, Any]) -> None:
    """Hears nothing."""


@contextmanager
def aloud(listen: Listen | bool | None) -> Iterator[Listen]:
    """A function is told everything; True is progress and notes on stderr, as on the command line; False and None are silence."""
    if callable(listen):
        yield listen
    elif not listen:
        yield silent
    else:
        from withheld.narrator import Narrator
        from withheld.screen import Screen

        with Narrator(Screen()) as narrator:
            yield narrator.hear
