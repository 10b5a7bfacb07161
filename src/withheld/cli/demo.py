"""demo: the whole road on data that ships inside the dependencies, in about three minutes on two cores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click

from withheld.cli.options import device_option, talking
from withheld.cli.screen import Screen
from withheld.errors import InputError

PARTS = ("data", "digits", "photographs")
# Shares of the minutes; the rest goes to starting, pictures and the report.
LEARN_DIGITS, LEARN_PHOTOGRAPHS, EVALUATE = 0.28, 0.17, 0.30


@click.command("demo")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True)
@click.option("--minutes", type=click.FloatRange(min=0.1), default=3.0, show_default=True, help="For everything.")
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
    from withheld.cli.demo_data import write_digits, write_photographs
    from withheld.cli.fill import fill_photograph
    from withheld.cli.judge import evaluate_aloud
    from withheld.cli.train import pretrain_aloud

    clear(out)
    digits, run = out / "data" / "digits.npy", out / "digits"
    screen.say("1 of 3: learning from 1,797 digits; their labels are not looked at")
    write_digits(digits.parent)
    seconds = {"minutes": LEARN_DIGITS * minutes, "device": device}
    settings = {"crop": 0.7, "flip": False, "ratio": 0.6, "base_learning_rate": 2e-3}
    pretrain_aloud(screen, "mae", str(digits), run, size=16, batch_size=128, settings=settings, **seconds)
    screen.say("2 of 3: filling in a photograph")
    write_photographs(out / "data" / "photographs.npy")
    seconds["minutes"] = LEARN_PHOTOGRAPHS * minutes
    photographs = pretrain_aloud(
        screen, "mae", str(out / "data" / "photographs.npy"), out / "photographs", size=48, batch_size=64,
        settings={"crop": 0.7, "normalize_patches": False}, pictures=False, **seconds,
    )  # fmt: skip
    add_pictures(run, fill_photograph(photographs, run / "pictures"))
    screen.say("3 of 3: did it help?")
    options: dict[str, Any] = {"labels_per_class": (1, 10, 100), "minutes": EVALUATE * minutes, "device": device}
    evaluate_aloud(screen, str(run), str(digits), run, **options)
    screen.result(str(run / "report.html"))


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
