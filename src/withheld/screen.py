"""What the user sees: plain lines, tables and progress. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from withheld.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_EVERY = 10.0
"""Seconds between two lines of progress where there is no terminal."""


class Screen:
    """Speaks for the first process only, so that `torchrun` shows one program.

    Args:
        verbose: says details too.
        quiet: says results and errors only.
    """

    def __init__(self, verbose: bool = False, quiet: bool = False) -> None:
        self.first = not int(os.environ.get("RANK") or 0)
        self.verbose = verbose
        self.quiet = quiet

    def result(self, text: str = "") -> None:
        """What the command was called for: stdout, also when quiet."""
        if self.first:
            click.echo(printable(text))

    def say(self, text: str = "") -> None:
        """What is good to know: stderr."""
        if self.first and not self.quiet:
            click.echo(printable(text), err=True)

    def detail(self, text: str) -> None:
        """What `-v` asks for: stderr."""
        if self.verbose:
            self.say(text)

    def table(
        self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], styles: Sequence[str] = ()
    ) -> None:
        """A table on stdout; numbers (also written out) stand to the right, `styles` has one rich style a row."""
        if not self.first:
            return
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        cells = [list(row) for row in rows]
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for at, column in enumerate(columns):
            right = bool(cells) and all(_is_number(row[at]) for row in cells)
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for at, row in enumerate(cells):
            # Text, not str: a file name in square brackets is no markup.
            table.add_row(*(Text(printable(str(cell))) for cell in row), style=styles[at] if styles else None)
        out = console(sys.stdout)
        if title:  # a line of its own: rich would fold it to the width of the table
            out.print(Text(printable(title), style="italic"))
        out.print(table)

    @contextmanager
    def progress(self, title: str, wait: float = 0.0) -> Iterator[Callable[..., None]]:
        """Gives `update(done, total, note="", work=None)`: a bar in a terminal, else lines, none before `wait` seconds.

        The time left is by the share of the work that is done, where it is told.
        """
        if not self.first or self.quiet:
            yield lambda *_, **__: None
        elif (shown := console(sys.stderr)).is_terminal and not shown.is_jupyter:  # bars there want widgets
            with _bar(title) as update:
                yield update
        else:
            yield _lines(title, wait)


def _is_number(cell: Any) -> bool:
    """Whether a cell is a number, or one already written out."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def console(file: Any) -> Console:
    """A rich console that does not fold tables to 80 columns where nobody looks at a terminal."""
    from rich.console import Console

    width = None if file.isatty() else 160
    return Console(file=file, width=width, highlight=False, soft_wrap=False)


def clock(seconds: float) -> str:
    """7 s, 3:05, 2:10:00."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextmanager
def _bar(title: str) -> Iterator[Callable[..., None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        *map(TextColumn, ("{task.fields[count]}", "{task.fields[note]}")),
    ]
    with Progress(*columns, TimeRemainingColumn(), TextColumn("left"), console=console(sys.stderr)) as bar:
        task = bar.add_task(title, total=None, note="", count="")

        def update(done: int, total: int | None, note: str = "", work: float | None = None) -> None:
            passed = done if work is None or total is None else work * total
            bar.update(
                task,
                completed=passed,
                total=total,
                note=note,
                count=f"{done:,}/{'?' if total is None else f'{total:,}'}",
            )

        yield update


def _lines(title: str, wait: float) -> Callable[..., None]:
    """A line at the start, every ten seconds, and at the end; none at all for what takes less than `wait` seconds."""
    began = last = time.monotonic()
    first: float | None = None
    before, told = 0, False

    def update(done: int, total: int | None, note: str = "", work: float | None = None) -> None:
        nonlocal began, last, first, before, told
        now = time.monotonic()
        if done < before:  # the next of several
            began, first, told = now, None, False
        before = done
        passed = done if work is None or total is None else work * total
        first = passed if first is None else first
        if now - began < wait or (told and now - last < PLAIN_EVERY and done != total):
            return
        left = ""
        if total and first < passed < total:
            left = f"{clock((now - began) / (passed - first) * (total - passed))} left"
        last, told = now, True
        words = [f"{title} {done:,}{f'/{total:,}' if total else ''}", note, left]
        click.echo("  ".join(word for word in words if word), err=True)

    return update
