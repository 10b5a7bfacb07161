"""probe-shortcuts: was the task solved by cheating?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from withheld.cli.options import DATA, RUN, device_option, talking
from withheld.narrator import Narrator
from withheld.screen import Screen


@click.command("probe-shortcuts")
@click.argument("run", type=RUN)
@click.option("--data", type=DATA, help="Items without labels.  [default: what RUN learned from]")
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True,
    help="For all short trainings together.",
)  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), help="Of each short training, in place of --minutes.")
@device_option
@talking
def probe_shortcuts_command(run: Path, data: str | None, screen: Screen, **options: Any) -> None:
    """Was the task of RUN solved by cheating? Asks the network, and learns the task again with its defenses off.

    Every row is one such test: a low loss may come from a border that continues, from colors that tell the place, or from
    twins among the items, and then nothing useful was learned. Each row says what its numbers mean.

    \b
      withheld probe-shortcuts runs/position
      withheld probe-shortcuts runs/position --data other_photos/ --minutes 20
    """
    from withheld.evaluate.shortcuts import probe_shortcuts
    from withheld.provenance import command_line
    from withheld.report import write
    from withheld.report.shortcuts import columns_of, sentence_of, shown

    with Narrator(screen) as narrator:
        found = probe_shortcuts(
            run, data, results=run / "results.jsonl", command=command_line(), listen=narrator.hear, **options
        )
    columns = columns_of([{"measures": reading.measures} for reading in found])
    rows = []
    for reading in found:
        cells = [
            shown(name, reading.measures.get(name)) + (" !" if name in reading.suspect else "") for name in columns
        ]
        rows.append([reading.row, *cells])
    screen.table("The same items in every row (! outside of what is healthy)", ["", *columns], rows)
    if found[0].held_out:
        screen.say("Short trainings did not learn from these items; the run itself did, unless --data names others.")
    else:
        screen.say("Short trainings learned from these very items: the task is to tell them apart.")
    for reads in dict.fromkeys(reading.reads for reading in found if reading.reads):
        screen.say(f"{', '.join(reading.row for reading in found if reading.reads == reads)}: {reads}")
    screen.say(f"Report: {write(run)}")
    screen.result(sentence_of([reading.to_json() for reading in found]))
