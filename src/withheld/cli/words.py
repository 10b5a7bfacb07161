"""score, fill, generate: what a language model can do."""

from __future__ import annotations

import math
from pathlib import Path

import click

from withheld.cli.options import DATA, SUBJECT, device_option, seed_option, talking
from withheld.cli.outputs import check_output, force_option, free
from withheld.errors import InputError
from withheld.narrator import Narrator
from withheld.screen import Screen, printable
from withheld.wording import plural


@click.command("score")
@click.argument("run", type=SUBJECT)
@click.argument("text")
@device_option
@talking
def score_command(run: str, text: str, device: str, screen: Screen) -> None:
    """How likely TEXT is under RUN (or an encoder folder, or a transformers id): log p of each word, nats.

    \b
      withheld score runs/lm "the cat sat on the mat"

    In a terminal the words are colored, the least likely red. A model that sees both ways (bert) hides each token in
    turn; the sum is then a pseudo-log-likelihood.
    """
    from withheld.evaluate.language import score
    from withheld.evaluate.word_sheet import color_of

    found = score(run, text, device)
    _say_whose_words(screen, run)
    line = " ".join(click.style(printable(w.word), bg=color_of(math.exp(w.log_p)), fg="black") for w in found.words)
    click.echo(line, err=True)
    screen.table("", ["word", "log p"], [(w.word, f"{w.log_p:.3f}") for w in found.words])
    what = "log p(text)" if found.exact else "pseudo-log-likelihood"
    screen.result(f"{what} = {found.log_p:z.3f} nats, {found.log_p / found.tokens:z.3f} a token of {found.tokens}")


@click.command("fill")
@click.argument("run", type=SUBJECT)
@click.argument("text")
@click.option("--top", type=click.IntRange(1, 1000), default=5, show_default=True, help="Candidates for each gap.")
@device_option
@talking
def fill_command(run: str, text: str, top: int, device: str, screen: Screen) -> None:
    """What stands where [MASK] is in TEXT, by RUN (or an encoder folder, or a transformers id).

    \b
      withheld fill runs/bert "paris is the [MASK] of france"
      withheld fill bert-base-uncased "paris is the [MASK] of france"
    """
    from withheld.evaluate.language import fill

    found = fill(run, text, top, device)
    _say_whose_words(screen, run)
    for number, candidates in enumerate(found, 1):
        screen.table(f"[MASK] {number}", ["word", "probability"], [(w, f"{p:.4f}") for w, p in candidates])


def _say_whose_words(screen: Screen, run: str) -> None:
    """Says so where a run is of a method that learns vectors of texts, whose encoder is not asked for words."""
    from withheld.run import constant

    method = method_of(run)
    if method and (constant(method, "CONTINUES", False) or not constant(method, "TELLS_WORDS", True)):
        screen.say(
            f"{run}: {method} learns vectors of texts, and its encoder is not trained to tell words; what it tells is left from "
            "the language model that it continued from, or chance where there was none: better ask that one, or a run of bert"
        )


@click.command("generate")
@click.argument("run", type=SUBJECT)
@click.option("--prompt", default="", help="What the text begins with.")
@click.option("--data", type=DATA, help="Of next_frame: a clip, a folder of clips, or moving:PATH, that goes on.")
@click.option("--frames", type=click.IntRange(1, 10_000), default=30, show_default=True, help="Of next_frame: to tell.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Of next_frame: .gif, .mp4 or .mkv.  [default: frames.gif]"
)
@click.option(
    "-n", "count", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many texts or clips."
)
@click.option("--length", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Tokens, at most.")
@click.option(
    "--temperature", type=click.FloatRange(0.01, 10), default=1.0, show_default=True, help="Below 1 is surer."
)
@click.option(
    "--top-k", type=click.IntRange(min=0), default=0, help="Only the k likeliest tokens may come.  [default: all]"
)
@click.option(
    "--top-p", type=click.FloatRange(0.01, 1), default=1.0, help="Only the likeliest that have this much together."
)
@seed_option
@force_option
@device_option
@talking
def generate_command(
    run: str, screen: Screen, count: int, data: str | None, frames: int, output: Path | None, force: bool,
    **options: object,
) -> None:  # fmt: skip
    """How a text goes on, by RUN (or an encoder folder, or a transformers id) of a model that looks back only; or how a clip
    goes on, by RUN of next_frame.

    \b
      withheld generate runs/lm --prompt "Once upon a time"
      withheld generate runs/lm -n 5 --temperature 0.8 --top-p 0.95
      withheld generate runs/digits --data clip.mp4 --frames 30 -o on.gif

    A clip's first frames are given; then the network is fed with its own. Where the clip has more frames, they and the
    error stand beside what was told.
    """
    prompt = str(options.pop("prompt"))
    if data is not None:
        if prompt:
            raise InputError("--prompt begins a text, --data a clip: give one of them")
        output = output or free("frames.gif", force)
        if output.exists() and Path(data).exists() and output.samefile(data):
            raise InputError(f"-o {output} is the clip itself: choose another file")
        check_output(output, force)
        _frames_aloud(screen, run, data, frames, output, count, str(options["device"]))
        return
    if output is not None:
        raise InputError(f"-o {output}: texts are printed; for frames name the clip that goes on, with --data")
    from withheld.evaluate.generate_text import generate

    if method_of(run) == "next_frame":
        raise InputError(f"{run} tells how a clip goes on: name the clip, --data clip.mp4")
    with Narrator(screen) as narrator:
        texts = generate(run, prompt, count=count, listen=narrator.hear, **options)  # type: ignore[arg-type]
    for number, text in enumerate(texts):
        if number:
            screen.result("")
        screen.result(text)


def method_of(run: str) -> str | None:
    """The method of a run folder; None of anything else."""
    from withheld.run import open_run

    return open_run(run).settings["method"] if (Path(run) / "run.json").is_file() else None


def _frames_aloud(screen: Screen, run: str, data: str, frames: int, output: Path, count: int, device: str) -> None:
    """Writes how clips go on, and says how far that was right."""
    from withheld.evaluate.roll_out import check_film, roll_out, write_film

    check_film(output)
    with Narrator(screen) as narrator:
        found = roll_out(run, data, frames, clips=count, device=device, listen=narrator.hear)
    for one in found:
        ours, copied = one.errors()
        body = [(u + 1, f"{a:.1f}", f"{b:.1f}") for u, (a, b) in enumerate(zip(ours, copied, strict=True))]
        if body:
            screen.table(f"{one.name}: squared error, summed over a frame", ["frame", "told", "copying the last"], body)
            screen.say(
                f"Mean of {plural(len(body), 'frame')}: {ours.mean():.1f}, copying the last given frame {copied.mean():.1f}."
            )
        else:
            screen.say(f"{one.name} ends with the frames that are given: nothing to compare with.")
    screen.result(str(write_film(found, output)))
