"""sample, traverse, interpolate, likelihood, fidelity: what a model of latent variables can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from withheld.cli.options import DATA, RUN, SUBJECT, device_option, seed_option, talking
from withheld.cli.outputs import check_output, force_option, free
from withheld.screen import Screen

OUTPUT = click.Path(path_type=Path)


@click.command("sample")
@click.argument("run", type=RUN)
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=64, show_default=True, help="How many.")
@click.option(
    "-o",
    "--output",
    type=OUTPUT,
    help="A PNG; a csv for a table, a .txt for sentences.  [default: samples.png or .csv]",
)
@click.option(
    "--temperature",
    type=click.FloatRange(0.01, 10),
    default=1.0,
    show_default=True,
    help="Of code_prior and sentence_vae.",
)
@seed_option
@click.option("--unknown", is_flag=True, help="Of sentence_vae: <unk> may be told, too.")
@force_option
@talking
def sample_command(
    run: Path,
    count: int,
    output: Path | None,
    temperature: float,
    seed: int,
    unknown: bool,
    force: bool,
    screen: Screen,
) -> None:
    """Draw new items from RUN: z from its prior, then an item from z.

    \b
      withheld sample runs/vae -o samples.png
      withheld sample runs/prior -n 100       # of code_prior: codes, then images
      withheld sample runs/groups -o rows.csv # of mixture: rows of the table
      withheld sample runs/svae -n 10         # of sentence_vae: sentences, on the screen
    """
    from withheld.evaluate.generate import sample
    from withheld.run import open_run

    opened = open_run(run)
    codes = opened.settings.get("modality") == "codes"  # drawn by two runs
    for one in [opened, *([open_run(opened.settings["data"]["location"][4:])] if codes else [])]:
        if told := one.unfinished():
            screen.say(f"note: this is drawn from what was learned so far, early on from noise; {told}")
    if opened.settings.get("modality") == "text":
        from withheld.evaluate.latent_text import sample_text, write_lines

        if output is not None:
            check_output(output, force, ".txt")
        lines = sample_text(opened, count, temperature, seed, unknown)
        _say_lines(lines, screen) if output is None else screen.result(str(write_lines(lines, output)))
        return
    ending = "csv" if opened.settings.get("modality") == "table" else "png"
    output = check_output(output or free(f"samples.{ending}", force), force)
    screen.result(str(sample(opened, output, count, temperature, seed)))


@click.command("traverse")
@click.argument("run", type=RUN)
@click.option("-o", "--output", type=OUTPUT, help="A PNG.  [default: traverse.png]")
@click.option("--item", help="An image file, or the number of an item of the run's data, to start from.")
@force_option
@talking
def traverse_command(run: Path, output: Path | None, item: str | None, force: bool, screen: Screen) -> None:
    """Draw what each dimension of z of RUN does, strongest first: a row from -3 to 3.

    \b
      withheld traverse runs/vae -o traverse.png
      withheld traverse runs/vae --item digit.png
    """
    output = check_output(output or free("traverse.png", force), force, ".png")
    from withheld.evaluate.generate import traverse

    screen.result(str(traverse(run, output, item)))


@click.command("interpolate")
@click.argument("run", type=RUN)
@click.argument("a")
@click.argument("b")
@click.option("-o", "--output", type=OUTPUT, help="A PNG; a .txt for sentences.  [default: interpolation.png]")
@click.option("--steps", type=click.IntRange(2, 1000), default=7, show_default=True, help="Of sentence_vae: places.")
@click.option("--beams", type=click.IntRange(1, 100), default=5, show_default=True, help="Of sentence_vae.")
@click.option("--unknown", is_flag=True, help="Of sentence_vae: <unk> may be told, too.")
@force_option
@talking
def interpolate_command(
    run: Path, a: str, b: str, output: Path | None, steps: int, beams: int, unknown: bool, force: bool, screen: Screen
) -> None:
    """Draw the way from A to B through the z of RUN. A and B are image files, or numbers of items of its data; sentences, of
    a run of sentence_vae.

    \b
      withheld interpolate runs/vae a.png b.png
      withheld interpolate runs/vae 0 17 -o way.png
      withheld interpolate runs/svae "the company said it expects a loss" "he was very happy"

    Sentences are told twice: greedily, the likeliest word each time, and as the likeliest sentence that beams find.
    """
    from withheld.evaluate.generate import interpolate
    from withheld.run import open_run

    opened = open_run(run)
    if opened.settings.get("modality") != "text":
        output = check_output(output or free("interpolation.png", force), force, ".png")
        screen.result(str(interpolate(opened, a, b, output)))
        return
    if output is not None:
        check_output(output, force, ".txt")
    from withheld.evaluate.latent_text import interpolate_text, write_lines

    rows = interpolate_text(opened, a, b, steps=steps, beams=beams, unknown=unknown)
    if output is not None:
        screen.result(str(write_lines([f"{row.at:.2f}\t{row.greedy}\t{row.beam}" for row in rows], output)))
        return
    screen.table("", ["at", "greedy", f"{beams} beams"], [(f"{row.at:.2f}", row.greedy, row.beam) for row in rows])


@click.command("likelihood")
@click.argument("run", type=RUN)
@click.option("--data", type=DATA, required=True, help="Held-out items; the test part where there is one.")
@click.option("--samples", type=click.IntRange(min=1), default=100, show_default=True, help="Of z for every item.")
@click.option("--items", type=click.IntRange(min=1), help="At most so many items.  [default: all]")
@seed_option
@device_option
@talking
def likelihood_command(run: Path, data: str, screen: Screen, **options: Any) -> None:
    """How likely is DATA under RUN: minus log p(x) in nats an item, lower is better, on one axis for vae and mixtures.

    \b
      withheld likelihood runs/vae --data mnist/ --samples 500
      withheld likelihood runs/groups --data held_out.csv
      withheld likelihood runs/lm --data ptb/       # perplexity, and bits a character
      withheld likelihood runs/svae --data ptb/     # -ELBO, reconstruction, KL, -log p(x), and whether z is used
    """
    from withheld.evaluate.likelihood import likelihood
    from withheld.narrator import Narrator

    with Narrator(screen) as narrator:
        found = likelihood(run, data, listen=narrator.hear, **options)
    _keep(run, found, screen)


@click.command("fidelity")
@click.argument("run", type=RUN)
@click.option("--data", type=DATA, required=True, help="Real images; the test part where there is one.")
@click.option(
    "--encoder",
    type=SUBJECT,
    help="Whose features: a run, a folder or a transformers id.  [default: oriented gradients]",
)
@click.option("--items", type=click.IntRange(min=2), default=2000, show_default=True, help="Of each set.")
@seed_option
@talking
def fidelity_command(run: Path, data: str, screen: Screen, **options: Any) -> None:
    """How like real images are the samples of RUN: Frechet distance to DATA, real against real as its floor, and sharpness.

    \b
      withheld fidelity runs/vae --data mnist/
      withheld fidelity runs/prior --data photos/ --encoder facebook/dinov2-small
    """
    from withheld.evaluate.fidelity import fidelity
    from withheld.narrator import Narrator
    from withheld.run import open_run

    with Narrator(screen) as narrator:
        found = fidelity(open_run(run), data, listen=narrator.hear, **options)
    _keep(run, found, screen)


def _say_lines(lines: list[str], screen: Screen) -> None:
    for line in lines:
        screen.result(line)


def _keep(run: Path, found: Any, screen: Screen) -> None:
    """Prints what was measured and adds it to the run's results."""
    from withheld.evaluate.results import add_results
    from withheld.provenance import command_line, commit_of_code

    screen.result(str(found))
    line = {**found.to_json(), "command": command_line(), "commit": commit_of_code()}
    add_results(run / "results.jsonl", line)
