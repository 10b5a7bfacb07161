"""evaluate and report."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Any

import click

from withheld.cli.aloud import judge_aloud
from withheld.cli.detection import Shares, box_options, detection_aloud
from withheld.cli.options import COUNTS, DATA, RUN, SUBJECT, device_option, talking
from withheld.errors import neighbor
from withheld.narrator import Narrator
from withheld.screen import Screen


@click.command("evaluate")
@click.argument("run", type=SUBJECT)
@click.option(
    "--data", type=DATA, help="Labelled: a folder per class, labels.csv (file,label), a table, IDX or hf:NAME."
)
@click.option(
    "--labels",
    help="A csv with the columns file and label, where it is not beside the data; sheet.csv:COLUMN names that of the labels.",
)
@click.option(
    "--glue", type=click.Path(path_type=Path), help="Instead of --data: the folder of GLUE's tasks as published."
)
@click.option("--tasks", help="Of GLUE: sst2,cola ...  [default: all that are there]")
@click.option("--rows", type=click.IntRange(min=10), help="Of GLUE: training rows of a task, at most.")
@click.option(
    "--submit", type=click.Path(path_type=Path), help="Of GLUE: where to write the server's submission files."
)
@box_options
@click.option(
    "--shares", type=Shares(), default="10,50,100", show_default=True, help="With --boxes: % of the training images."
)
@click.option(
    "--steps", type=click.IntRange(min=1), help="With --boxes: of training on all images, instead of what fits."
)
@click.option(
    "--davis",
    type=click.Path(path_type=Path),
    help="Instead of --data: clips with masks, JPEGImages/ and Annotations/ as in DAVIS.",
)
@click.option(
    "--clips",
    is_flag=False,
    flag_value="",
    metavar="[CLIPS]",
    help="Instead of --data: how well RUN does what it was trained for, on clips without labels that it has not seen; those it "
    "held out where nothing follows.",
)
@click.option(
    "--labels-per-class", type=COUNTS, default="1,10,100", show_default=True, help="How many labels each class has."
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    help="How often the labels are drawn, 2 or more; of GLUE: how often each row is fine-tuned.  [default: 5; with --boxes 3]",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Time for everything.  [default: 10; with --boxes 30]",
)
@click.option(
    "--against",
    type=SUBJECT,
    multiple=True,
    metavar="ENCODER",
    help="Another encoder: a run, a folder or a transformers id. Repeatable.",
)
@click.option(
    "--also",
    multiple=True,
    type=click.Choice(["m2"]),
    help="A row on request: m2 is M1 + M2, a semi-supervised VAE on the features; it takes 60 % of --minutes.",
)
@click.option(
    "--layers", type=click.Choice(["all"]), help="A linear probe of every layer; takes up to 30 % of --minutes on top."
)
@click.option("--out", type=click.Path(path_type=Path), help="Where results and report go, where RUN is no run folder.")
@device_option
@talking
def evaluate_command(
    run: str, data: str | None, labels: str | None, out: Path | None, screen: Screen, glue: Path | None,
    tasks: str | None, rows: int | None, submit: Path | None, boxes: Path | None, shares: tuple[float, ...], side: int | None,
    regions: str, steps: int | None, seeds: int | None, minutes: float | None, davis: Path | None, clips: str | None,
    **options: Any,
) -> None:  # fmt: skip
    """Did it help? Judge RUN (or an encoder folder, or a transformers id) with a few labels.

    Beside it stand the same network from scratch (of images also with the pretraining's augmentations), the same
    untrained, a classical floor, and whatever --against names;
    every row with several draws of the labels and its 95 % interval.

    \b
      withheld evaluate runs/first --data labelled/
      withheld evaluate runs/first --data labelled/ --labels-per-class 1,5,25 --minutes 5
      withheld evaluate runs/first --data photos/ --labels labels.csv --against facebook/dinov2-small
      withheld evaluate facebook/dinov2-small --data labelled/ --out runs/dino
      withheld evaluate runs/color --data labelled/ --layers all
      withheld evaluate runs/vae --data mnist/ --labels-per-class 10 --seeds 3 --also m2 --minutes 30
      withheld evaluate runs/bert --data reviews.csv
      withheld evaluate runs/bert --glue glue/ --tasks sst2,cola
      withheld evaluate runs/bert --glue glue/ --against runs/gpt --against runs/elmo --rows 10000
      withheld evaluate runs/first --boxes VOC2007/ --minutes 30
      withheld evaluate runs/first --boxes yolo/data.yaml
      withheld evaluate runs/colors --davis DAVIS/
      withheld evaluate runs/frames --clips                # next_frame, frame_order, arrow_of_time, track_color
      withheld evaluate runs/frames --clips other_clips/

    The last line is the verdict.
    """
    if sum(given is not None for given in (data, glue, boxes, davis, clips)) != 1:
        raise click.UsageError(
            "give one of --data LABELLED, --glue DIR with the tasks as published, --boxes DIR with boxes, --davis DIR with masks, "
            "and --clips, of a run on clips, with clips that have no labels"
        )
    if glue is not None:
        glue_aloud(
            screen, run, folder_for(run, out), glue, tasks=tasks, rows=rows, submit=submit, against=options["against"],
            seeds=seeds or 5, device=options["device"],
        )  # fmt: skip
    elif boxes is not None:
        detection_aloud(
            screen, run, boxes, folder_for(run, out), shares=shares, seeds=seeds or 3, minutes=minutes or 30.0, steps=steps,
            against=options["against"], way=regions, side=side, device=options["device"],
        )  # fmt: skip
    elif davis is not None:
        from withheld.cli.video import davis_aloud

        davis_aloud(screen, run, folder_for(run, out), davis, tuple(options["against"]), options["device"])
    elif clips is not None:
        from withheld.cli.video import clips_aloud

        clips_aloud(screen, run, folder_for(run, out), clips or None, options["device"])
    else:
        if seeds == 1:
            raise click.UsageError("--seeds 1: an interval needs 2 draws of the labels or more")
        options |= {"seeds": seeds or 5, "minutes": minutes or 10.0}
        evaluate_aloud(screen, run, data, folder_for(run, out), labels=labels or True, **options)


def glue_aloud(screen: Screen, run: str, out: Path, folder: Path, **options: Any) -> None:
    """Fine-tunes on every task and shows the table with the published rows."""
    from withheld.evaluate.glue import glue
    from withheld.evaluate.glue_table import lines_of, verdict_of
    from withheld.learn.checkpoint import write_json
    from withheld.learn.gradient import Interrupted
    from withheld.report import write

    out.mkdir(parents=True, exist_ok=True)
    try:
        with Narrator(screen) as narrator:
            found = glue(run, folder, results=out / "results.jsonl", listen=narrator.hear, **options)
    except Interrupted as error:
        error.args = (f"the evaluation was stopped: the same command goes on from what is in {out / 'results.jsonl'}",)
        raise
    header, cells = lines_of(found)
    rows = f", at most {options['rows']:,} training rows of a task" if options["rows"] else ""
    said = f"Percent, median over seeds (lowest-highest) on dev{rows}; published rows are of the test server."
    verdict = verdict_of(found)
    write_json(out / "glue.json", {"header": header, "rows": cells, "said": said, **verdict})
    screen.table(f"GLUE. {said}", header, cells)
    screen.say(f"Scores: {out / 'results.jsonl'}")
    screen.say(f"Report: {write(out)}")
    screen.result(f"{verdict['sentence']}.")


def folder_for(run: str, given: Path | None) -> Path:
    """Where results of a subject go: its own folder where it is a run.

    Raises:
        click.UsageError: where it is none and --out does not say.
    """
    if given is not None:
        return given
    if (Path(run) / "run.json").is_file():
        return Path(run)
    out = "--out " + shlex.quote("runs/" + (Path(run).name or "encoder"))
    if not Path(run).exists():
        raise click.UsageError(
            f"there is no folder {run!r} here{neighbor(Path(run))}; if it is a transformers id, say where the results go, for "
            f"example {out}"
        )
    if Path(run).is_dir():
        raise click.UsageError(f"{run} is no run folder: say where the results go, for example {out}")
    raise click.UsageError(f"{run} is a file: name a run folder, an encoder folder or a transformers id")


def evaluate_aloud(screen: Screen, subject: Any, data: Any, folder: Path, **options: Any) -> Any:
    """The verdict with progress, table and closing sentence; results.jsonl and report.html in the folder."""
    from withheld.evaluate.sentence import SELF_TRAINED
    from withheld.evaluate.verdict import verdict

    def show(found: Any) -> None:
        show_verdict(screen, found)
        if SELF_TRAINED in found.sentence and isinstance(subject, (str, Path)):
            screen.say("A model that learns from unlabelled items too:")
            labels = options.get("labels")
            named = f" --labels {shlex.quote(str(labels))}" if isinstance(labels, (str, Path)) else ""
            known = f"{shlex.quote(str(subject))} --data {shlex.quote(str(data))}{named}"
            screen.say(f"  withheld finetune {known} --unlabelled DATA --out MODEL")

    return judge_aloud(screen, folder, partial(verdict, subject, data, **options), show)


def show_verdict(screen: Screen, found: Any) -> None:
    """Accuracy by row and labels per class, then what there is to know about it."""
    from withheld.wording import percent

    counts = sorted({score.labels_per_class for score in found.scores}, key=lambda n: (n is None, n or 0))
    rows: dict[str, dict[Any, str]] = {}
    best = {n: max(s.value for s in found.scores if s.labels_per_class == n) for n in counts}
    for score in found.scores:
        text = percent(score.value, score.spread)
        rows.setdefault(score.method, {})[score.labels_per_class] = text + (
            " *" if score.value == best[score.labels_per_class] else ""
        )
    heads = ["all labels" if n is None else f"{n} per class" for n in counts]
    title = "Accuracy in %, mean ± half the 95 % interval (* highest)"
    screen.table(title, ["", *heads], [[name, *(cells.get(n, "") for n in counts)] for name, cells in rows.items()])
    for note in [*found.notes, *(f"Left out: {row}" for row in found.left_out)]:
        screen.say(note)


@click.command("report")
@click.argument("run", type=RUN)
@talking
def report_command(run: Path, screen: Screen) -> None:
    """Write the page of RUN, one file that opens anywhere, and print where it is.

    \b
      withheld report runs/first
    """
    from withheld.report import write

    screen.result(str(write(run)))
    if not (run / "results.jsonl").is_file() and (run / "encoder").is_dir():
        screen.say(f"It has no verdict yet: withheld evaluate {shlex.quote(str(run))} --data LABELLED")
