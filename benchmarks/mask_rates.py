"""How much to hide? The sweep over mask rates of text beside that of images, as one picture.

    python benchmarks/mask_rates.py runs/mask_rate_text [--images runs/mask_ratio] -o docs/images/mask-rate-text.png

RUN is what `withheld run recipes/mask_rate_text.yaml` made. Without --images the numbers of the images' sweep are read from the
table under "How much to hide?" in docs/gallery.md.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from withheld.evaluate.plot import COLORS, SOFT, drawn, plot

GALLERY = Path(__file__).parent.parent / "docs" / "gallery.md"
Sweep = dict[str, list[tuple[float, float, float]]]


def of_run(folder: Path) -> Sweep:
    """By labels per class: (setting, mean, spread) in %."""
    found: Sweep = {}
    for score in json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["scores"]:
        name = f"{score['labels_per_class']:,} labels per class"
        found.setdefault(name, []).append((float(score["value"]), 100 * score["mean"], 100 * score["spread"]))
    return {name: sorted(points) for name, points in found.items()}


def of_gallery(text: str) -> Sweep:
    """The same, from the gallery's table."""
    part = text.split("### How much to hide?", 1)[1].split("\n#", 1)[0]
    table = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in part.splitlines() if line.startswith("|")
    ]
    found: Sweep = {}
    for column, title in enumerate(table[0]):
        if not (counted := re.fullmatch(r"([\d,]+) per class", title)):
            continue
        cells = [(float(row[0]), *map(float, row[column].split("±"))) for row in table[2:]]
        found[f"{counted[1]} labels per class"] = sorted(cells)  # type: ignore[arg-type]
    return found


def known(folder: Path) -> list[tuple[float, float]]:
    """(rate, held-out loss of words behind [MASK], one in seven whatever the rate) of every run of a sweep."""
    found = []
    for run in folder.glob("rate=*"):
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        last = [line["vitals"]["masked_loss"] for line in lines if "vitals" in line][-1]
        found.append((float(run.name.split("=")[1]), last))
    return sorted(found)


def panel(axes: object, sweep: Sweep, title: str, hidden: str) -> None:
    """Accuracy with 95 % intervals by the share that was hidden."""
    for color, (name, points) in zip(COLORS, sweep.items(), strict=False):
        at, mean, spread = zip(*points, strict=True)
        axes.errorbar(
            [100 * x for x in at], mean, spread, color=color, marker="o", capsize=3, linewidth=1.8, label=name
        )  # type: ignore[attr-defined]
    axes.set_title(title, fontsize=10, loc="left")  # type: ignore[attr-defined]
    axes.set_xlabel(hidden, color=SOFT, fontsize=8)  # type: ignore[attr-defined]
    axes.set_ylabel("accuracy of a linear probe, %", color=SOFT, fontsize=8)  # type: ignore[attr-defined]
    axes.set_xlim(5, 100)  # type: ignore[attr-defined]
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)  # type: ignore[attr-defined]
    axes.margins(y=0.15)  # type: ignore[attr-defined]


def main() -> None:
    """Draws the picture and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("mask-rates.png"))
    asked = parser.parse_args()
    text = of_run(asked.run)
    images = of_run(asked.images) if asked.images else of_gallery(GALLERY.read_text(encoding="utf-8"))
    figure, first = plot(11, 3.6)
    first.remove()
    axes = figure.subplots(1, 3)
    panel(axes[0], images, "Images: MAE on Fashion-MNIST", "% of the patches hidden")
    panel(axes[1], text, "Texts: BERT on reviews", "% of the words hidden")
    loss = known(asked.run)
    axes[2].plot(
        [100 * rate for rate, _ in loss], [nats for _, nats in loss], color=COLORS[2], marker="o", linewidth=1.8
    )
    axes[2].set_title("Texts: what it knows of words", fontsize=10, loc="left")
    axes[2].set_xlabel("% of the words hidden", color=SOFT, fontsize=8)
    axes[2].set_ylabel("held-out nats a word, one in seven hidden", color=SOFT, fontsize=8)
    axes[2].set_xlim(5, 100)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.spines[["left", "bottom"]].set_color(SOFT)
        each.tick_params(colors=SOFT, labelsize=8)
    drawn(figure).convert("RGB").save(asked.out)
    names = list(text)
    print("| rate | " + " | ".join(names) + " | held-out nats |\n| --- |" + " --- |" * (len(names) + 1))
    for row, (rate, nats) in enumerate(loss):
        cells = [f"{text[name][row][1]:.1f} ± {text[name][row][2]:.1f}" for name in names]
        print(f"| {rate:g} | " + " | ".join(cells) + f" | {nats:.2f} |")


if __name__ == "__main__":
    main()
