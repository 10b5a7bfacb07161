"""colorize: grey pictures in color."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from withheld.cli.options import DATA, RUN, device_option, talking
from withheld.cli.outputs import force_option
from withheld.narrator import Narrator
from withheld.screen import Screen


@click.command("colorize")
@click.argument("run", type=RUN)
@click.argument("data", type=DATA, nargs=-1, required=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True,
    help="A .png or .jpg for one picture; a folder for several.",
)  # fmt: skip
@click.option(
    "--temperature",
    type=click.FloatRange(min=0, min_open=True),
    help="1 is calm, towards 0 vivid.  [default: RUN's, 0.38]",
)
@force_option
@device_option
@talking
def colorize_command(run: Path, data: tuple[str, ...], output: Path, screen: Screen, **options: Any) -> None:
    """Give pictures color with RUN, a run of colorization. Lightness stays the picture's own, at full size.

    \b
      withheld colorize runs/color photo.jpg -o out.png
      withheld colorize runs/color old_photos/ -o colored/
      withheld colorize runs/color a.jpg b.jpg -o colored/
    """
    from withheld.evaluate.colorize import colorize

    with Narrator(screen) as narrator:
        written = colorize(run, data, output, listen=narrator.hear, **options)
    if len(written) > 1:
        screen.say(f"{len(written)} pictures are in color.")
        screen.result(str(output))
    else:
        screen.result(str(written[0]))
