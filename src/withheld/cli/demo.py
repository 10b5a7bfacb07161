"""demo: the whole road on data that ships inside the dependencies, in about three minutes on two cores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click

from withheld.cli.options import device_option, talking
from withheld.errors import InputError
from withheld.screen import Screen

PARTS = ("data", "digits", "photographs")
MINUTES = 3.0
# Shares of the minutes; the rest goes to starting, pictures and the report.
LEARN_DIGITS, LEARN_PHOTOGRAPHS, EVALUATE = 0.27, 0.12, 0.40
# Steps of a demo of three minutes. Fast machines all take the most, and so come to one verdict; where others keep the
# machine busy, fewer than the fewest would teach nothing.
DIGITS_STEPS, PHOTOGRAPHS_STEPS = (600, 1500), (250, 600)


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/demo"),
    show_default=True,
    help="A folder for its runs.",
)
@click.option("--minutes", type=click.FloatRange(min=0.1), default=MINUTES, show_default=True, help="For everything.")
@device_option
@talking
def demo_command(out: Path, minutes: float, device: str, screen: Screen) -> None:
    """See it all on data that ships with the install: the digits of scikit-learn, photographs of scikit-image.

    Pretrains a masked autoencoder on 1,797 digits without their labels, judges it with 1, 10 and 100 labels per
    class, and lets another one fill in a photograph it has never seen. Nothing is downloaded.

    \b
      withheld demo
      withheld demo --out runs/look --minutes 5
    """
    from withheld.cli.judge import evaluate_aloud

    clear(out)
    screen.say("1 of 3: learning from 1,797 digits; their labels are not looked at")
    digits = learn_digits(screen, out, minutes, device)
    screen.say("2 of 3: filling in a photograph that was not learned from")
    photograph = learn_photographs(screen, out, minutes, device)
    add_pictures(digits.folder, photograph)
    screen.say("3 of 3: did it help?")
    options: dict[str, Any] = {"labels_per_class": (1, 10, 100), "minutes": EVALUATE * minutes, "device": device}
    evaluate_aloud(screen, str(digits.folder), str(out / "data" / "digits.npy"), digits.folder, **options)
    screen.result(str(digits.folder / "report.html"))


def learn_digits(screen: Screen, out: Path, minutes: float, device: str) -> Any:
    """The run on the digits, 8x8 pixels in 16 patches. Digits are not mirrored, and most of their patches are empty."""
    from withheld.cli.demo_data import write_digits, write_encoder
    from withheld.cli.train import pretrain_aloud

    data = write_digits(out / "data")
    encoder = write_encoder(out / "data" / "digits-encoder.json", size=8, patch=2, channels=1, width=64)
    settings = {"ratio": 0.6, "crop": 0.8, "flip": False, "normalize_patches": False, "base_learning_rate": 8e-3}
    run = {"encoder": str(encoder), "batch_size": 128, "settings": settings, "device": device}
    steps = affordable(screen, str(data), run, LEARN_DIGITS, minutes, DIGITS_STEPS)
    return pretrain_aloud(screen, "mae", str(data), out / "digits", steps=steps, **run)


def learn_photographs(screen: Screen, out: Path, minutes: float, device: str) -> list[dict[str, Any]]:
    """The run on crops of photographs, and the picture it fills in; patches as they are, so that they can be drawn."""
    from withheld.cli.demo_data import FILLED, photograph, write_encoder, write_photographs
    from withheld.cli.train import pretrain_aloud
    from withheld.evaluate.fill import fill_photograph

    data = write_photographs(out / "data" / "photographs.npy")
    encoder = write_encoder(out / "data" / "photographs-encoder.json", size=32, patch=4, channels=3, width=96)
    settings = {"crop": 0.7, "normalize_patches": False, "base_learning_rate": 1e-2}
    run = {"encoder": str(encoder), "batch_size": 64, "settings": settings, "device": device}
    steps = affordable(screen, str(data), run, LEARN_PHOTOGRAPHS, minutes, PHOTOGRAPHS_STEPS)
    filler = pretrain_aloud(screen, "mae", str(data), out / "photographs", steps=steps, pictures=False, **run)
    return fill_photograph(filler, photograph(FILLED), FILLED, out / "digits" / "pictures")


def affordable(
    screen: Screen, data: str, run: dict[str, Any], share: float, minutes: float, bounds: tuple[int, int]
) -> int:
    """How many steps fit into a share of the minutes, within bounds that hold for three of them."""
    from withheld.run import pretrain

    screen.say("timing a few steps ...")
    fits = pretrain("mae", data, "unused", minutes=share * minutes, dry_run=True, listen=False, **run).settings["steps"]
    fewest, most = (max(1, round(bound * minutes / MINUTES)) for bound in bounds)
    return min(most, max(fewest, fits))


def clear(out: Path) -> None:
    """Makes room for a new demo where an old one was.

    Raises:
        InputError: where something else is in the folder.
    """
    if not out.exists():
        return
    if not out.is_dir() or any(child.name not in PARTS for child in out.iterdir()):
        raise InputError(f"{out} exists and is no demo: choose another --out")
    for name in PARTS:
        shutil.rmtree(out / name, ignore_errors=True)


def add_pictures(run: Path, entries: list[dict[str, Any]]) -> None:
    """Lists further pictures for the report of a run."""
    index = run / "pictures" / "index.json"
    listed = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else []
    index.write_text(json.dumps(listed + entries, indent=1), encoding="utf-8")
