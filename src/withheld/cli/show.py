"""show: what a method hides of the user's own items, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from withheld.cli.options import DATA, RUN, SIZE, device_option, seed_option, talking
from withheld.cli.outputs import check_output, force_option, free
from withheld.errors import InputError
from withheld.screen import Screen

SPARE = 3
"""Items are drawn from so many times more, because some may be broken."""


@click.command("show")
@click.argument("method")
@click.argument("data", type=DATA)
@click.option("--run", "folder", type=RUN, help="Draw what this run predicts, too.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A PNG.  [default: METHOD.png]")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="A setting: --set ratio=0.6. Repeatable.")
@click.option("--items", type=click.IntRange(1, 32), default=6, show_default=True, help="How many items to draw.")
@click.option(
    "--size",
    type=SIZE,
    default="auto",
    show_default=True,
    help="Side of the images in pixels, or tokens of a block of text.",
)
@seed_option
@force_option
@device_option
@talking
def show_command(
    method: str,
    data: str,
    folder: Path | None,
    output: Path | None,
    pairs: tuple[str, ...],
    items: int,
    size: str | int,
    seed: int,
    force: bool,
    device: str,
    screen: Screen,
) -> None:
    """Draw t, x and y of METHOD on DATA, and with --run what was predicted, merged back.

    \b
      withheld show mae photos/
      withheld show mae photos/ --run runs/first -o filled.png
      withheld show bert reviews/                 # hidden words, in the terminal and as a picture
      withheld show bert reviews/ --run runs/bert
      withheld show videomae clips/               # what is hidden of clips, frame by frame
      withheld show next_frame clips/ --run runs/frames
      withheld show predict_part photos/ --set part=top
      withheld show predict_part clip.gif --set part=future --set given=recent
      withheld show predict_part book.txt --set part=past
    """
    output = check_output(output or free(f"{method}.png", force), force, ".png")
    from withheld.cli.settings import split_pairs, typed
    from withheld.cli.show_text import show_text
    from withheld.evaluate.pictures import show
    from withheld.run import load_method, modality_of, pick_device

    function = load_method(method)
    if modality_of(method) in ("table", "codes", "function"):
        raise InputError(
            f"show draws what is hidden of images, texts and clips, and {method} hides nothing of them, it explains all of an "
            f"item; what it finds is on the page of a run (withheld pretrain {method}, then withheld report RUN)"
        )
    settings = typed(method, function, split_pairs(pairs))
    place = pick_device(device)
    if folder is not None and (pairs or size != "auto"):
        raise InputError("--set and --size belong to a run that is still to be made: leave them out with --run")
    if modality_of(method) == "text":
        show_text(screen, method, settings, data, folder, output, items, size, seed, place)
        return
    if modality_of(method) == "video":
        from withheld.cli.show_clips import of_clips

        subject, images, names, mean, std = of_clips(folder, method, settings, data, items, size, seed, place)
        screen.result(str(show(subject, images, output, mean, std, names=names, seed=seed, device=place)))
        return
    sequence = of_sequence(method, settings, data, items, seed) if folder is None else None
    if sequence is not None:
        subject, images, names, mean, std = sequence
    elif folder is not None:
        subject, images, names, mean, std = of_run(folder, method, data, items, seed, place)
    else:
        subject, images, names, mean, std = of_method(method, settings, data, items, size, seed)
    drawn = show(subject, images, output, mean, std, names=names, seed=seed, device=place)
    screen.result(str(drawn))


def of_sequence(method: str, settings: dict[str, Any], data: str, items: int, seed: int) -> tuple[Any, ...] | None:
    """What `predict_part` hides of a text or an animated GIF; None where the data is images."""
    from withheld.data.sequence import open_sequence
    from withheld.splits.part import PredictPart

    if method != "predict_part" or not Path(data).is_file():
        return None
    batch = open_sequence(Path(data), items, seed)
    if batch is None:
        return None
    chosen = {key: value for key, value in settings.items() if key in ("part", "given", "box")}
    return PredictPart(**{"part": "future", **chosen}), batch, [Path(data).name] * len(batch), None, None


def of_run(folder: Path, method: str, data: str, items: int, seed: int, device: str) -> tuple[Any, ...]:
    """What a run predicts of some items: objective, images, names, mean, std."""
    from withheld.run import open_run

    run = open_run(folder)
    if run.settings["method"] != method:
        raise InputError(f"{folder} was trained with {run.settings['method']}, not {method}: name that method")
    encoder = run.encoder()
    images, names, _ = some_items(data, items, seed, encoder.size, encoder.channels)
    return run.objective().to(device), images, names, encoder.mean, encoder.std


def of_method(
    method: str, settings: dict[str, Any], data: str, items: int, size: str | int, seed: int
) -> tuple[Any, ...]:
    """What a method hides of some items: split, images, names, mean, std."""
    import torch

    from withheld.data.image import native_size
    from withheld.data.source import open_source
    from withheld.networks.open import open_trunk
    from withheld.run import constant, default_encoder, load_method

    if size == "auto":
        native = max(native_size(open_source(data)))
        size = -(-native // 4) * 4 if native <= 64 else constant(method, "SIDE", 96)
    images, names, prepared = some_items(data, items, seed, int(size), None)
    trunk, _ = open_trunk(default_encoder(method) or "vit-nano", size=int(size), channels=images.shape[1])
    objective, recipe = load_method(method)(trunk, **settings)
    mean, std = (prepared.mean, prepared.std) if recipe.normalize else ([0.0] * trunk.channels, [1.0] * trunk.channels)
    shape = (1, -1, 1, 1)
    t = (torch.from_numpy(images).float() / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    objective.fit_parts({"item": t, "id": torch.arange(len(t))} if "id" in objective.split.asks else t)
    return objective.split, images, names, mean, std


def some_items(data: str, items: int, seed: int, size: int, channels: int | None) -> tuple[Any, list[str], Any]:
    """Images (N, C, H, W) uint8 and names of a few items, drawn by the seed; broken ones are passed over."""
    import numpy as np

    from withheld.data.prepared import prepare
    from withheld.data.source import open_source

    source = open_source(data)
    chosen = np.random.default_rng(seed).permutation(len(source))[: SPARE * items]
    prepared = prepare(source.subset(np.sort(chosen)), size, channels, allow_bad=1.0)
    at = np.sort(np.random.default_rng(seed).permutation(len(prepared))[:items])
    return np.array(prepared.images[at]), [prepared.names[i] for i in at], prepared
