"""suggest and search: what a run knows before there are labels."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from withheld.cli.options import DATA, SUBJECT, device_option, seed_option, talking
from withheld.cli.outputs import check_output, force_option
from withheld.errors import InputError, neighbor
from withheld.narrator import Narrator
from withheld.screen import Screen
from withheld.wording import plural

PICTURES = (".png", ".html")


@click.command("suggest")
@click.argument("run", type=SUBJECT)
@click.option(
    "--data", type=DATA, required=True, help="Unlabelled: whatever pretrain takes. Labels in it are not looked at."
)
@click.option("-n", "count", type=click.IntRange(min=1), default=100, show_default=True, help="How many to label.")
@click.option(
    "--how",
    type=click.Choice(["typical", "coverage", "random"]),
    default="typical",
    show_default=True,
    help="typical: the densest of each cluster (TypiClust); coverage: who stands for most (ProbCover), worse in our tests.",
)
@click.option("--labels", type=click.Path(path_type=Path), help="A csv of labels you have: more beside those.")
@click.option("--out", type=click.Path(path_type=Path), help="A new folder.  [default: RUN/suggested]")
@click.option("--most", type=click.IntRange(min=1), default=20_000, show_default=True, help="Items to look at.")
@seed_option
@click.option("--force", is_flag=True, help="Write over a labels.csv that exists, filled in or not.")
@device_option
@talking
def suggest_command(
    run: str, data: str, count: int, out: Path | None, force: bool, labels: Path | None, screen: Screen, **options: Any
) -> None:
    """Which items to label first, by the features of RUN: typical ones of different kinds, no near-duplicates.

    \b
      withheld suggest runs/first --data photos/ -n 100
      withheld suggest runs/first --data photos/ -n 50 --labels runs/first/suggested/labels.csv --out more/
      withheld suggest runs/bert --data reviews.csv -n 40 --how coverage
      withheld suggest runs/first --data photos/ -n 100 --how random --out to_test/   # to measure on

    Writes labels.csv, with a label to fill in on every row (rows left empty are no labels), and sheet.html and sheet.png to look
    at. Then:

    \b
      withheld evaluate runs/first --data photos/ --labels runs/first/suggested/labels.csv
    """
    out = out or _beside(run)
    if (out / "labels.csv").exists() and not force:
        raise InputError(
            f"{out / 'labels.csv'} exists, maybe filled in: choose another --out (--labels {out / 'labels.csv'} suggests more "
            "beside it), or --force to write over it"
        )
    from withheld.evaluate.suggest import suggest, write_labels_csv
    from withheld.learn.checkpoint import writing
    from withheld.report.sheet import write_sheet

    with Narrator(screen) as narrator:
        found = suggest(run, data, count, labels=labels, listen=narrator.hear, **options)
    for note in found.notes:
        screen.say(note)
    written = write_labels_csv(out / "labels.csv", found)
    with writing(out):
        (out / "sheet.png").write_bytes(found.picture)
    title = f"{plural(len(found.names), 'item')} to label first"
    notes = ["Write a label for each into labels.csv beside this page; rows left empty are no labels.", *found.notes]
    screen.say(f"Look at them: {write_sheet(out / 'sheet.html', title, notes, found.sheet)}")
    screen.result(f"Fill in: {written}")
    screen.say("Then: did it help?")
    screen.say(
        f"  withheld evaluate {shlex.quote(run)} --data {shlex.quote(data)} --labels {shlex.quote(str(written))}"
    )
    if options["how"] != "random":
        screen.say(
            "These items are the typical ones, so an accuracy measured on them flatters. For one that does not: --how random."
        )


def _beside(run: str) -> Path:
    if (Path(run) / "run.json").is_file():
        return Path(run) / "suggested"
    what = "is no run folder" if Path(run).exists() else f"is no folder here{neighbor(Path(run))}"
    raise click.UsageError(f"{run} {what}: say where labels.csv and the sheet go with --out")


@click.command("search")
@click.argument("run", type=SUBJECT)
@click.argument("query")
@click.option("--data", type=DATA, required=True, help="What is searched: whatever pretrain takes.")
@click.option("-n", "count", type=click.IntRange(min=1), default=12, show_default=True, help="How many.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A sheet of thumbnails: .html or .png.")
@click.option("--most", type=click.IntRange(min=1), default=200_000, show_default=True, help="Items to look at.")
@force_option
@device_option
@talking
def search_command(
    run: str, query: str, data: str, count: int, output: Path | None, force: bool, screen: Screen, **options: Any
) -> None:
    """The items of DATA that RUN finds nearest to QUERY: a file, the name of an item, or (runs on texts) a text.

    \b
      withheld search runs/first cat.jpg --data photos/
      withheld search runs/first 2019/IMG_0042.jpg --data photos/ -n 30 -o alike.html
      withheld search runs/bert "the ending was a disappointment" --data reviews.csv
      withheld search runs/clips goal.mp4 --data clips/ -o goals.png
    """
    if output is not None:
        check_output(output, force, *PICTURES)
    from withheld.evaluate.search import search

    with Narrator(screen) as narrator:
        found = search(run, query, data, n=count, listen=narrator.hear, **options)
    for note in found.notes:
        screen.say(note)
    for name, cosine, double, text in zip(found.names, found.similarity, found.doubles, found.texts, strict=True):
        said = "  (nearly equals the query or one above)" if double else ""
        screen.result(f"{cosine:6.3f}  {name}{said}" + (f"\n        {text}" if text else ""))
    if output is not None:
        _write(output, found, screen)


def _write(output: Path, found: Any, screen: Screen) -> None:
    from withheld.learn.checkpoint import writing
    from withheld.report.sheet import write_sheet

    if output.suffix == ".html":
        write_sheet(output, f"Nearest to {found.query}", ["Cosine of the standardized features."], found.sheet)
    else:
        with writing(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_bytes(found.picture)
    screen.say(f"Sheet: {output}")
