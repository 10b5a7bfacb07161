"""Where commands write: one rule for all of them, nothing that exists is written over without --force.

A picture whose name was not said takes the next free one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from withheld.errors import CannotWrite, InputError


def force_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--force."""
    return click.option("--force", is_flag=True, help="Write over an output that exists.")(command)


def check_output(output: Path, force: bool, *endings: str) -> Path:
    """The output, where it can be written: fails before the work instead of after it. A folder with nothing in it is free.

    Args:
        endings: what the name of the file may end in; none where anything goes, or the library says.

    Raises:
        InputError: it exists and `force` is not given; another ending. CannotWrite: its folder cannot be made.
    """
    if endings and output.suffix.lower() not in endings:
        raise InputError(f"{output}: write to a file that ends in {', '.join(endings[:-1])}{_or(endings)}{endings[-1]}")
    if not force and (any(output.iterdir()) if output.is_dir() else output.exists()):
        raise InputError(f"{output} exists: choose another name, or --force to write over it")
    if output.parent.exists() and not output.parent.is_dir():
        raise CannotWrite(f"{output.parent} is a file: choose another -o")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"{output.parent}: {error.strerror}: choose another -o") from None
    return output


def free(name: str, force: bool) -> Path:
    """Where a picture goes whose name was not said: the name, else name-2, name-3 ..., the first that is free."""
    path, number = Path(name), 1
    while path.exists() and not force:
        number += 1
        path = Path(name).with_stem(f"{Path(name).stem}-{number}")
    return path


def _or(endings: tuple[str, ...]) -> str:
    return " or " if len(endings) > 1 else ""
