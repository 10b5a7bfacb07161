"""track, and what evaluate does with --davis."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from withheld.cli.aloud import judge_aloud
from withheld.cli.options import DATA, SUBJECT, device_option, talking
from withheld.cli.outputs import check_output, force_option
from withheld.errors import InputError
from withheld.narrator import Narrator
from withheld.screen import Screen


@click.command("track")
@click.argument("run", type=SUBJECT)
@click.argument("clip", type=DATA)
@click.option(
    "--mask",
    required=True,
    type=click.Path(path_type=Path),
    help="A PNG as large as the first frame: any color on black.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="A .mp4, .mkv or .gif; a folder gets one mask a frame.",
)
@force_option
@device_option
@talking
def track_command(run: str, clip: str, mask: Path, output: Path, force: bool, device: str, screen: Screen) -> None:
    """Follow what MASK marks in the first frame of CLIP, with the features of RUN.

    \b
      withheld track runs/colors clip.mp4 --mask first.png -o followed.mp4
      withheld track runs/colors frames/ --mask first.png -o masks/

    Any run on images or clips has such features; runs of track_color are trained for it. To make MASK, paint over the first
    frame what shall be followed, in one color, on black or on a layer of its own.
    """
    from withheld.evaluate.tracking.track import track

    check_output(output, force)
    if not mask.is_file():
        raise InputError(f"--mask {mask}: no such file; draw one over the first frame and save it as a PNG")
    with Narrator(screen) as narrator:
        written = track(run, Path(clip), mask, output, device=device, listen=narrator.hear)
    screen.result(str(written))


def clips_aloud(screen: Screen, run: str, out: Path, data: str | None, device: str) -> None:
    """Measures what a run was trained for on clips it has not seen, with table and closing sentence."""
    from withheld.evaluate.clip_tasks import evaluate_clips

    def show(found: Any) -> None:
        screen.table(found.title, ["", *found.columns], found.rows)
        for note in found.notes:
            screen.say(note)

    judge_aloud(screen, out, partial(evaluate_clips, run, data, device=device, pictures=out), show)


def davis_aloud(screen: Screen, run: str, out: Path, folder: Path, against: tuple[str, ...], device: str) -> None:
    """Follows masks with progress, table and closing sentence."""
    from withheld.evaluate.tracking.davis import evaluate_davis
    from withheld.evaluate.tracking.pictures import draw_tracked

    def show(found: Any) -> None:
        show_tracked(screen, found)
        draw_tracked(found, folder, out)

    judge_aloud(screen, out, partial(evaluate_davis, run, folder, against=against, device=device), show)


def show_tracked(screen: Screen, found: Any) -> None:
    """Means over sequences by row, then J&F by sequence."""
    from withheld.evaluate.tracking.davis import HEADS

    body = [[name, *(f"{100 * found.mean(name, what):.1f}" for what in HEADS.values())] for name in found.rows]
    screen.table("Following masks, %: means over sequences", ["", *HEADS], body)
    names = list(found.rows["pretrained"])
    body = [[name, *(f"{100 * found.rows[name][one].j_and_f:.0f}" for one in names)] for name in found.rows]
    screen.table("J&F by sequence, %", ["", *names], body)
    for note in found.notes:
        screen.say(note)
