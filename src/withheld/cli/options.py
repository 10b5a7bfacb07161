"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import functools
import glob
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from withheld.errors import InputError, neighbor
from withheld.folders import no_encoder
from withheld.screen import Screen


class Counts(click.ParamType):
    """`1,10,100`: positive whole numbers, in rising order."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if not isinstance(value, str):
            return tuple(value)
        words = [word.strip() for word in value.split(",") if word.strip()]
        if not words or not all(word.isdecimal() and int(word) > 0 for word in words):
            self.fail(f"{value!r} is not a list of positive whole numbers such as 1,10,100", param, ctx)
        return tuple(sorted({int(word) for word in words}))


class Size(click.ParamType):
    """`auto` or a number of pixels."""

    name = "auto|PIXELS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        if value == "auto" or isinstance(value, int):
            return value
        if not value.isdecimal() or int(value) == 0:
            self.fail(f"{value!r} is neither auto nor a number of pixels such as 96", param, ctx)
        return int(value)


class Data(click.ParamType):
    """Where data lies. What is no address (hf:NAME, table.csv:column) or pattern must be there: said before torch is loaded."""

    name = "DATA"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(value).expanduser()
        if ":" not in str(value) and not glob.has_magic(str(value)) and not path.exists():
            raise InputError(f"there is no file or folder {str(value)!r}{neighbor(path)}")
        return value


class Subject(click.ParamType):
    """A run, an encoder folder, a preset or a transformers id. What is none of them is said before torch is loaded."""

    name = "ENCODER"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        path = Path(value).expanduser()
        if path.is_dir() and not {each.name for each in path.iterdir()} - {"run.lock", "run.lock.json"}:
            raise InputError(  # as a run that was refused leaves it
                f"{value} holds no run and no encoder: it is empty; `withheld pretrain ... --out {value}` makes a run"
            )
        if what := no_encoder(path):
            raise InputError(f"{value} is neither a run nor an encoder: {what}")
        if path.exists() or path.parent == Path("."):
            return value
        from withheld.hub import may_be_known

        runs_beside = path.parent.is_dir() and any((each / "run.json").is_file() for each in path.parent.iterdir())
        if runs_beside or len(path.parts) > 2 or not may_be_known(value):
            raise InputError(
                f"there is no folder {value!r}{neighbor(path)}, and transformers knows no such id here; "
                f"`withheld pretrain ... --out {value}` makes a run"
            )
        return value


class Made(click.ParamType):
    """A folder that another command makes; where it is not there, that command is named."""

    name = "FOLDER"

    def __init__(self, what: str, by: str) -> None:
        self.what, self.by = what, by

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value).expanduser()
        if not path.exists():
            raise InputError(
                f"there is no {self.what} {str(value)!r}{neighbor(path)}; `{self.by.format(value)}` makes one"
            )
        return path


COUNTS = Counts()
DATA = Data()
SUBJECT = Subject()
RUN = Made("run", "withheld pretrain METHOD --data DATA --out {}")
MODEL = Made("model", "withheld finetune RUN --data LABELLED --out {}")
DETECTOR = Made("detector", "withheld finetune RUN --boxes DIR --out {}")
SIZE = Size()


def talking(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds -v and -q and hands the command a `screen`."""

    @click.option("-v", "--verbose", is_flag=True, help="Say more.")
    @click.option("-q", "--quiet", is_flag=True, help="Say results and errors only.")
    @functools.wraps(command)
    def spoken(*args: Any, verbose: bool, quiet: bool, **kwargs: Any) -> Any:
        return command(*args, screen=Screen(verbose, quiet), **kwargs)

    return spoken


def device_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--device auto|cpu|cuda|mps."""
    return click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")(command)


def seed_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--seed N."""
    return click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all that chance decides."
    )(command)


def length_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--minutes, --epochs and --steps, of which at most one is given."""
    for name, kind, text in (
        ("--steps", click.IntRange(min=1), "How many optimizer steps."),
        ("--epochs", click.FloatRange(min=0, min_open=True), "How often every item is seen."),
        ("--minutes", click.FloatRange(min=0, min_open=True), "How long to learn; becomes a number of steps once."),
    ):
        command = click.option(name, type=kind, help=text)(command)
    return command


def one_length(**lengths: float | None) -> dict[str, Any]:
    """The one length that was given, or none.

    Raises:
        click.UsageError: where several were given.
    """
    given = {name: value for name, value in lengths.items() if value is not None}
    if len(given) > 1:
        names = " and ".join(f"--{name}" for name in given)
        raise click.UsageError(f"{names} say the same thing twice: give one of them")
    return given
