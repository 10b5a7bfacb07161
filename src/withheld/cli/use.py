"""predict, embed and export: what a run is good for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from withheld.cli.options import DATA, MODEL, SUBJECT, device_option, talking
from withheld.cli.outputs import check_output, force_option, free
from withheld.narrator import Narrator
from withheld.screen import Screen
from withheld.wording import plural


@click.command("predict")
@click.argument("model", type=MODEL)
@click.argument("data", type=DATA)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("labels.csv"), show_default=True, help="A csv."
)
@force_option
@device_option
@talking
def predict_command(model: Path, data: str, output: Path, force: bool, screen: Screen, **options: Any) -> None:
    """Label DATA with MODEL, as `withheld finetune` makes it: a csv of file, label, probability.

    \b
      withheld predict models/first photos/ -o labels.csv
      withheld predict models/walks clips/ -o labels.csv
      withheld predict models/reviews new_reviews.csv:body -o labels.csv    # file:row, label, probability

    A run of mixture or mean_field does too: every row gets its class (with labels) or its component.

    \b
      withheld predict runs/groups table.csv -o groups.csv
    """
    check_output(output, force, ".csv")
    from withheld.evaluate.finetune import predict
    from withheld.evaluate.groups import is_groups
    from withheld.run import open_run

    with Narrator(screen) as narrator:
        count = predict(model, data, output, listen=narrator.hear, **options)
    what = plural(count, "item is labelled", "items are labelled")
    if is_groups(model) and not open_run(model).settings["data"].get("classes"):
        what = plural(count, "row has its component", "rows have their component")
    screen.say(f"{what}.")
    screen.result(str(output))


@click.command("embed")
@click.argument("run", type=SUBJECT)
@click.argument("data", type=DATA)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("features.parquet"),
    show_default=True,
    help=".parquet or .npz",
)
@click.option("--patches", is_flag=True, help="A vector for each patch of every image, with its row and column.")
@force_option
@device_option
@talking
def embed_command(run: str, data: str, output: Path, force: bool, screen: Screen, **options: Any) -> None:
    """Turn DATA into vectors, one an item, with the encoder of RUN (or an encoder folder, or a transformers id).

    \b
      withheld embed runs/first photos/ -o features.parquet
      withheld embed runs/first photos/ -o features.npz
      withheld embed runs/first photos/ --patches -o patches.parquet
    """
    check_output(output, force, ".parquet", ".npz")
    from withheld.evaluate.features import embed

    with Narrator(screen) as narrator:
        embed(run, data, output, listen=narrator.hear, **options)
    screen.result(str(output))


@click.command("export")
@click.argument("run", type=SUBJECT)
@click.option(
    "--to",
    "target",
    type=click.Choice(["hf", "onnx", "sentence-transformers"]),
    required=True,
    help="A transformers folder, one ONNX file, or, of texts, a folder for SentenceTransformer.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="A folder, of onnx an .onnx file.  [default: RUN/export-hf, RUN/export.onnx; of an id NAME-hf, NAME.onnx here]",
)
@force_option
@talking
def export_command(run: str, target: str, output: Path | None, force: bool, screen: Screen) -> None:
    """Hand the encoder of RUN (or a fine-tuned MODEL) to other software.

    \b
      withheld export runs/first --to hf      # opens with transformers' AutoModel.from_pretrained
      withheld export runs/first --to onnx    # uint8 images in, features out; resizing included
      withheld export runs/clips --to onnx    # uint8 clips in, as many frames as the encoder takes
      withheld export runs/bert --to onnx     # token numbers and their mask in; the tokenizer lies beside the file
      withheld export runs/texts --to sentence-transformers   # SentenceTransformer("runs/texts/export-sentence-transformers")
    """
    output = check_output(output or _beside(run, target, force), force, *([".onnx"] if target == "onnx" else []))
    from withheld.evaluate.export import export

    written = export(run, output, target)
    if target == "onnx" and (fed := clips_fed(run)):
        screen.say(f"Give it clips of {fed}.")
    beside = written.with_name(f"{written.stem}-tokenizer")
    if target == "onnx" and beside.is_dir():
        screen.say(f"Its tokenizer, and how to feed it: {beside}")
    kind = json.loads((written / "config.json").read_text(encoding="utf-8"))["model_type"] if target == "hf" else ""
    if kind.startswith("withheld_"):
        screen.say(
            f"Its network, {kind}, is no part of transformers: AutoModel opens it after `import withheld.architectures`. "
            "Where withheld is not installed, use --to onnx."
        )
    screen.result(str(written))


def _beside(run: str, target: str, force: bool) -> Path:
    """Where an export goes whose name was not said: into the run; of an id or preset here, in no folder that would stand for it."""
    if Path(run).is_dir():
        return Path(run) / ("export.onnx" if target == "onnx" else f"export-{target}")
    name = run.rstrip("/").split("/")[-1].removesuffix(".json")
    return free(f"{name}.onnx" if target == "onnx" else f"{name}-{target}", force)


def clips_fed(run: str) -> str:
    """What an exported model of clips is fed with; "" where it is none."""
    from withheld.networks.open import encoder_folder, read_card

    card = read_card(encoder_folder(run), ())
    if card.get("modality") != "video":
        return ""
    rate = f"{card['rate']:g} a second" if card["rate"] else "one after the other as they are"
    return f"{card['frames']} frames, {rate}, numbers from 0 to 255"
