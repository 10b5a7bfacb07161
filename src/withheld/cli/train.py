"""pretrain and finetune."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from withheld.cli.detection import box_options, finetune_detector_aloud
from withheld.cli.options import DATA, SIZE, SUBJECT, device_option, length_options, one_length, seed_option, talking
from withheld.narrator import Narrator
from withheld.screen import Screen

USES = {
    "next_frame": ("evaluate {} --clips", "generate {} --data clip.mp4 --frames 30 -o on.gif"),
    "frame_order": ("evaluate {} --clips",),
    "arrow_of_time": ("evaluate {} --clips",),
    "track_color": ("evaluate {} --clips", "track {} clip.mp4 --mask first.png -o followed.mp4"),
    "colorization": ("colorize {} photo.jpg -o out.png",),
    "vae": ("sample {} -o samples.png", "traverse {}"),
    "vq_vae2": ("pretrain code_prior --data run:{0} --out {0}-prior",),
    "code_prior": ("sample {} -o samples.png",),
    "sentence_vae": ("sample {} -n 10",),
    "bert": ('fill {} "a [MASK] film"',),
    "gpt": ('generate {} --prompt "Once upon a time"',),
    "transformer_lm": ('generate {} --prompt "Once upon a time"',),
    "lstm_lm": ('generate {} --prompt "Once upon a time"',),
}
"""What a run can do beside giving features: said when it is made. {} is the run."""


@click.command("pretrain")
@click.argument("method")
@click.option(
    "--data",
    type=DATA,
    required=True,
    help="A folder, tar, zip, IDX .gz, Parquet file, 'shards/*.tar', 's3://bucket/*.tar' (also gs, https, hf) or hf:NAME. Labels "
    "are not read without --labels.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The run folder to make.")
@click.option(
    "--encoder",
    type=SUBJECT,
    default="auto",
    show_default=True,
    help="vit-tiny, a transformers id, a local folder or config.json.",
)
@length_options
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Items of a step, over all processes.  [default: the method's]"
)
@click.option(
    "--size",
    type=SIZE,
    default="auto",
    show_default=True,
    help="Side in pixels; auto: native up to 64, else 96 (GPU: 224).",
)
@click.option(
    "--set", "pairs", multiple=True, metavar="NAME=VALUE", help="A setting of the method: --set ratio=0.6. Repeatable."
)
@seed_option
@click.option(
    "--labels", help="mixture: labels of some rows, a csv of row,label (or file,label) or a column of the table."
)
@click.option(
    "--on-sick",
    type=click.Choice(["warn", "stop", "fix"]),
    help="An illness (see: withheld doctor): say so, stop after a checkpoint, or apply its remedy.  [default: warn]",
)
@click.option(
    "--stream",
    is_flag=True,
    help="Decode images, or tokenize texts, as they are needed; prepare nothing on the disk, download nothing whole. [images too "
    "large for the disk: always]",
)
@click.option(
    "--accumulate",
    type=click.IntRange(min=1),
    help="Take every batch in so many pieces and add up their gradients: the same steps in less memory.  [default: 1]",
)
@click.option(
    "--recompute", is_flag=True, help="Keep what enters a layer only, and compute the rest twice: less memory."
)
@click.option(
    "--shard", is_flag=True, help="Under torchrun: each process holds its share of weights and optimizer (FSDP)."
)
@click.option("--resume", is_flag=True, help="Continue the run in --out, bit for bit, with the options it began with.")
@click.option("--dry-run", is_flag=True, help="Plan and time the run; train nothing, write nothing.")
@device_option
@talking
def pretrain_command(
    method: str, data: str, out: Path, screen: Screen, pairs: tuple[str, ...], minutes: float | None,
    epochs: float | None, steps: int | None, **options: Any,
) -> None:  # fmt: skip
    """Learn from unlabelled data with METHOD (see: withheld list), or with what `auto` chooses.

    \b
    Ten minutes on a folder of photographs:
      withheld pretrain mae --data photos/ --out runs/first --minutes 10
    What would it do, and how long would it take?
      withheld pretrain mae --data photos/ --out runs/first --dry-run
    It was stopped, or the machine was:
      withheld pretrain mae --data photos/ --out runs/first --minutes 10 --resume
    Other settings, a larger encoder, continuing from published weights:
      withheld pretrain mae --data photos/ --out runs/second --set ratio=0.6 --encoder vit-small
      withheld pretrain mae --data photos/ --out runs/third --encoder facebook/vit-mae-base
    Groups in a table, as many as the evidence is for; and with labels for some of the rows:
      withheld pretrain mixture --data table.csv --out runs/groups --set components=auto
      withheld pretrain mixture --data table.csv --labels labels.csv --out runs/classes
    It runs overnight; where it collapses, go back and take smaller steps:
      withheld pretrain mae --data photos/ --out runs/night --minutes 480 --on-sick fix
    Chosen by the data and the time, by rules that were measured; says why, and refuses what is too little:
      withheld pretrain auto --data photos/ --out runs/first --minutes 10
    Larger than the disk: read shard by shard, in windows, as the items are needed:
      withheld pretrain mae --data 'shards/*.tar' --out runs/large --steps 20000 --stream
    And where they lie: object storage, a server, the hub (nothing is downloaded whole):
      withheld pretrain mae --data 's3://bucket/train-*.parquet' --out runs/far --steps 20000 --stream
      withheld pretrain mae --data hf:NAME --out runs/hub --steps 20000 --stream
    Texts, too: shards of Parquet, JSON lines (.jsonl, .jsonl.gz), .txt or tars of .txt; a column may be named:
      withheld pretrain bert --data 'texts/*.parquet:body' --out runs/words --steps 20000 --stream
    Two processes:
      torchrun --nproc-per-node 2 -m withheld pretrain mae --data photos/ --out runs/two
    Larger than the memory: the batch, what layers keep, or the encoder itself, shared by eight processes:
      withheld pretrain mae --data photos/ --out runs/large --batch-size 1024 --accumulate 8 --recompute
      torchrun --nproc-per-node 8 -m withheld pretrain mae --data photos/ --out runs/eight --encoder vit-small --shard

    Without --minutes, --epochs or --steps it learns for 10 minutes.
    """
    length = one_length(minutes=minutes, epochs=epochs, steps=steps)
    from withheld.auto import AUTO, decide
    from withheld.cli.settings import split_pairs, typed
    from withheld.run import load_method

    chosen: Any = method
    if method == AUTO:
        screen.say(f"looking at {data} ...")
        asked = {name: options[name] for name in ("encoder", "size", "batch_size", "device", "stream")}
        chosen = decide(data, minutes=minutes, **asked)
        method = chosen.method
    settings = typed(method, load_method(method), split_pairs(pairs))
    run = pretrain_aloud(screen, chosen, data, out, settings=settings, **length, **options)
    if options["dry_run"]:
        screen.say("This was a dry run: nothing was trained or written.")
        return
    if run.settings["modality"] in ("image", "text", "video"):
        screen.result(f"Encoder: {run.folder / 'encoder'}")
        _say_use(screen, run.settings["method"], out)
        screen.say("Did it help? With some labels (a folder per class, or labels.csv):")
        screen.say(f"  withheld evaluate {shlex.quote(str(out))} --data LABELLED")
        # moving: and their kin are made while learning, and of lines of one text none is an item: nothing to label
        if ":" not in data and run.settings["data"].get("documents") != 1:
            screen.say("No labels yet? These first:")
            screen.say(f"  withheld suggest {shlex.quote(str(out))} --data {shlex.quote(data)} -n 100")
        return
    screen.result(f"Model: {run.folder / 'model'}")
    if run.settings["modality"] == "table":
        screen.say("Which row belongs to what:")
        screen.say(f"  withheld predict {shlex.quote(str(out))} {shlex.quote(str(data))} -o groups.csv")
    _say_use(screen, run.settings["method"], out)
    screen.say("Look at it:")
    screen.say(f"  withheld report {shlex.quote(str(out))}")


def _say_use(screen: Screen, method: str, out: Path) -> None:
    """What a run of this method can do beside giving features."""
    if method in USES:
        screen.say("What it is for:")
        for words in USES[method]:
            screen.say(f"  withheld {words.format(shlex.quote(str(out)))}")


def pretrain_aloud(screen: Screen, method: Any, data: Any, out: Path, **options: Any) -> Any:
    """Pretrains and shows what happens: preparing, the plan, loss, items/s and the time left."""
    from withheld.run import pretrain

    with Narrator(screen) as narrator:
        return pretrain(method, data, out, listen=narrator.hear, **options)


@click.command("finetune")
@click.argument("encoder", type=SUBJECT, metavar="RUN")
@click.option("--data", type=DATA, help="Labelled: a folder per class, labels.csv (file,label), IDX or hf:NAME.")
@box_options
@click.option(
    "--head",
    type=click.Choice(["softmax", "svm"]),
    default="softmax",
    show_default=True,
    help="With --boxes: Fast R-CNN trained end to end, or R-CNN's machines on the encoder as it is.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The model folder to make.")
@click.option(
    "--labels",
    help="A csv with the columns file and label, where it is not beside the data; sheet.csv:COLUMN names that of the labels.",
)
@click.option(
    "--unlabelled",
    type=DATA,
    help="More items of the same classes: their labels are guessed, and the surest learned from too.",
)
@length_options
@seed_option
@device_option
@talking
def finetune_command(
    encoder: str, data: str | None, out: Path, labels: str | None, screen: Screen, minutes: float | None,
    epochs: float | None, steps: int | None, boxes: Path | None, regions: str, side: int | None, head: str, **options: Any,
) -> None:  # fmt: skip
    """Make a classifier from RUN (or an encoder folder, or a transformers id) and labelled data, or a detector from boxes.

    \b
      withheld finetune runs/first --data labelled/ --out models/first
      withheld predict models/first photos/ -o labels.csv
      withheld finetune runs/first --data photos/ --labels labels.csv --unlabelled photos/ --out models/more
      withheld finetune runs/bert --data labelled_reviews.csv --labels stars --out models/reviews
      withheld finetune runs/first --boxes VOC2007/ --out models/d
      withheld detect models/d photo.jpg -o found.png
    """
    length = one_length(minutes=minutes, epochs=epochs, steps=steps)
    if (data is None) == (boxes is None):
        raise click.UsageError("give --data LABELLED for a classifier, or --boxes DIR for a detector")
    if boxes is not None:
        if options.pop("unlabelled") is not None:
            raise click.UsageError("--unlabelled goes with --data: a detector learns from boxes only")
        finetune_detector_aloud(screen, encoder, boxes, out, way=regions, side=side, head=head, **length, **options)
        return
    from withheld.evaluate.finetune import finetune

    with Narrator(screen) as narrator:
        model = finetune(encoder, data, out, labels=labels or True, listen=narrator.hear, **length, **options)
    screen.result(f"Model: {model}")
    screen.say("Label the rest:")
    screen.say(f"  withheld predict {shlex.quote(str(out))} DATA -o labels.csv")
