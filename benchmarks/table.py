"""Tables as Markdown: the latest verdict of runs, or every method on every data set, filling in what is missing.

    python benchmarks/table.py runs/fashion-mnist runs/cifar10
    python benchmarks/table.py --data fashion-mnist/ --data cifar10-jpg.tar.gz --minutes 5
    python benchmarks/table.py --data fashion-mnist/ --methods mae,exemplar,mae@vit-micro+ratio=0.6 --steps 2000 --seeds 0,1,2
    make table DATA="fashion-mnist/ cifar10-jpg.tar.gz" LENGTH="--minutes 5"

A run that is done is not done again, one that was stopped goes on where it was, a verdict that was not finished is given again; so
call it again until nothing is missing. --steps make a result that a busy machine does not change. Everything lies in --out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from withheld.data.few import interval

PCA, MOST = "pca", 64
PCA_ROWS = {"linear probe": "PCA", "self-training": "self-training on PCA"}
FLOORS = (
    "raw pixels",
    "HOG",
    "HOG + color histogram",
    "self-training on HOG",
    "self-training on HOG + color histogram",
    "tf-idf",
    "LSA",
)
OTHERS = ("random frozen", "from scratch", "from scratch, augmented")
OURS = (
    "linear probe",
    "kNN",
    "fine-tuned",
    "self-training",
    "self-training with HOG",
    "self-training with HOG + color histogram",
)


@dataclass(frozen=True)
class Cell:
    """One run: `mae@vit-micro+ratio=0.6` on one data set, so long, with one pretraining seed."""

    data: str
    spec: str
    length: str
    seed: int

    @property
    def folder(self) -> str:
        """Where it lies under --out."""
        set_ = Path(self.data).name.removesuffix(".gz").removesuffix(".tar") or "data"
        words = PCA if self.spec == PCA else f"{self.spec}-{self.length}-seed{self.seed}"
        return f"{set_}/{re.sub(r'[^A-Za-z0-9.=@+_-]', '_', words)}"


def parts_of(spec: str) -> tuple[str, str, dict[str, str]]:
    """Method, encoder and settings of `method@encoder+name=value+...`."""
    head, *pairs = spec.split("+")
    method, _, encoder = head.partition("@")
    return method, encoder or "auto", dict(pair.split("=", 1) for pair in pairs)


@dataclass
class Pca:
    """The first principal components of the pixels of unlabelled images, as something with a `transform`.

    Components are given back as the pixels they stand for: the probe standardizes what it gets, and components of equal length are
    far worse than pixels (Fashion-MNIST, 10 labels per class: 51 % with 128 of them against 67 %).
    """

    size: int
    channels: int
    scale: Any
    mean: np.ndarray = field(repr=False)
    basis: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, data: str) -> Pca:
        """Learned on at most 20,000 images of the training part."""
        from withheld.data.image import native_size
        from withheld.data.prepared import prepare
        from withheld.data.source import open_source

        source = open_source(data)
        source = source.part("train") or source
        few = np.sort(np.random.default_rng(0).permutation(len(source))[:20_000])
        size = min(32, max(native_size(source)))
        prepared = prepare(source.subset(few), size)
        x = np.asarray(prepared.images[:], np.float32).reshape(len(prepared), -1) / 255
        mean = x.mean(axis=0)
        basis = np.linalg.eigh((x - mean).T @ (x - mean))[1][:, ::-1][:, :MOST]
        return cls(size, prepared.channels, prepared.scale, mean, basis)

    def transform(self, images: np.ndarray) -> np.ndarray:
        """(n, C * H * W) of (n, C, H, W) uint8."""
        return (images.reshape(len(images), -1).astype(np.float32) / 255 - self.mean) @ self.basis @ self.basis.T


def fill(cell: Cell, out: Path, given: argparse.Namespace) -> None:
    """Pretrains and evaluates where that is not done yet."""
    from withheld.cli.settings import typed
    from withheld.evaluate.verdict import verdict
    from withheld.run import load_method, pretrain

    folder = out / cell.folder
    if finished(folder):
        return
    print(f"{cell.folder} ...", file=sys.stderr, flush=True)
    judge: dict[str, Any] = {
        "labels_per_class": [int(n) for n in given.labels_per_class.split(",")], "seeds": given.label_seeds,
        "minutes": given.judge_minutes, "results": folder / "results.jsonl", "device": given.device,
    }  # fmt: skip
    if cell.spec == PCA:
        folder.mkdir(parents=True, exist_ok=True)
        verdict(Pca.of(cell.data), cell.data, **judge)
        return
    if state(folder) != "done":
        method, encoder, pairs = parts_of(cell.spec)
        kind, amount = cell.length.split("-")
        length = {kind: float(amount) if kind == "minutes" else int(amount)}
        pretrain(
            method, cell.data, folder, encoder=encoder, settings=typed(method, load_method(method), pairs), seed=cell.seed,
            resume=(folder / "run.json").is_file(), device=given.device, pictures=False, **length,
        )  # fmt: skip
    verdict(folder, cell.data, **judge)


def state(folder: Path) -> str:
    """What status.json says; "" where there is none."""
    try:
        return str(json.loads((folder / "status.json").read_text(encoding="utf-8"))["state"])
    except (OSError, ValueError, KeyError):
        return ""


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of results.jsonl; what a kill cut short is passed over."""
    found = []
    path = folder / "results.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def latest(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Scores of the latest verdict, and the verdict."""
    lines = lines_of(folder)
    verdicts = [line for line in lines if line.get("kind") == "verdict"]
    if not verdicts:
        return [], None
    last = verdicts[-1]
    return [s for s in lines if s.get("kind") == "score" and s["evaluation"] == last["evaluation"]], last


def finished(folder: Path) -> bool:
    """Whether there is nothing left to do."""
    return latest(folder)[1] is not None


def grid(cells: list[Cell], out: Path, counts: list[int], every: bool = False) -> str:
    """One table a data set: a line a method, the best linear probe first, then what needs no pretraining.

    Args:
        every: a line for every row of every verdict instead.
    """
    text = []
    for data in dict.fromkeys(cell.data for cell in cells):
        mine = [cell for cell in cells if cell.data == data]
        text += [f"### {Path(data).name}", ""]
        text += all_rows(mine, out, counts) if every else lines_a_method(mine, out, counts)
        missing = [cell.folder for cell in mine if not finished(out / cell.folder)]
        text += ["", f"Missing: {', '.join(missing)}." if missing else "Nothing is missing.", ""]
    text.append(
        "± half the 95 % interval: over pretraining seeds where there are several, else over draws of the labels."
    )
    return "\n".join(text)


def runs_of(cells: list[Cell], out: Path) -> dict[tuple[str, str], list[tuple[Path, list[dict[str, Any]]]]]:
    """Folder and scores of the runs that have a verdict, by method and length, over pretraining seeds."""
    found: dict[tuple[str, str], list[tuple[Path, list[dict[str, Any]]]]] = defaultdict(list)
    for cell in cells:
        if cell.spec != PCA and (scores := latest(out / cell.folder)[0]):
            found[cell.spec, cell.length].append((out / cell.folder, scores))
    return found


def lines_a_method(cells: list[Cell], out: Path, counts: list[int]) -> list[str]:
    """The linear probe at every label count, the other rows at the middle one, and how many steps that were."""
    middle = counts[len(counts) // 2]
    runs = runs_of(cells, out)
    names = dict.fromkeys(score["method"] for each in runs.values() for _, scores in each for score in scores)
    others = [name for name in names if name in (*OTHERS, *OURS) and name != OURS[0]]
    heads = ["%", "steps", *(f"{OURS[0]}, {n} a class" for n in counts), *(f"{name}, {middle}" for name in others)]
    lines = []
    for (spec, length), each in runs.items():
        values = {
            name: [found[name] for _, scores in each if name in (found := first_of([scores], (name,)))]
            for name in (OURS[0], *others)
        }
        steps = ", ".join(str(steps_of(folder)) for folder, _ in each)
        label = f"{spec}, {length.replace('-', ' ')}" if len({one[1] for one in runs}) > 1 else spec
        cells_ = [*cells_of(values[OURS[0]], counts), *(cells_of(values[name], [middle])[0] for name in others)]
        best = [float(np.mean(run[middle])) for run in values[OURS[0]] if middle in run]
        lines.append((-float(np.mean(best)) if best else 0.0, f"| {label} | {steps} | " + " | ".join(cells_) + " |"))
    text = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    text += [line for _, line in sorted(lines)]
    floors = first_of([scores for each in runs.values() for _, scores in each], FLOORS)
    for cell in cells:
        if cell.spec == PCA:
            probe = first_of([latest(out / cell.folder)[0]], ("linear probe", "self-training"))
            floors |= {PCA_ROWS[name]: told for name, told in probe.items()}
    blank = [""] * len(others)
    return text + [
        f"| {name} | | " + " | ".join([*cells_of([told], counts), *blank]) + " |" for name, told in floors.items()
    ]


def steps_of(folder: Path) -> int:
    """How many steps a run took."""
    try:
        return int(json.loads((folder / "status.json").read_text(encoding="utf-8"))["step"])
    except (OSError, ValueError, KeyError):
        return 0


def all_rows(cells: list[Cell], out: Path, counts: list[int]) -> list[str]:
    """Floors once, then every method with its rows."""
    text = [
        "| accuracy, % | " + " | ".join(f"{n} per class" for n in counts) + " |",
        "| --- |" + " --- |" * len(counts),
    ]
    runs = runs_of(cells, out)
    floors = first_of([scores for each in runs.values() for _, scores in each], FLOORS)
    text += [row_of(name, [scores], counts) for name, scores in floors.items()]
    for cell in cells:
        if cell.spec == PCA:
            probe = first_of([latest(out / cell.folder)[0]], ("linear probe", "self-training"))
            text += [row_of(PCA_ROWS[name], [scores], counts) for name, scores in probe.items()]
    for (spec, length), each in runs.items():
        for name in (*OTHERS, *OURS):
            values = [found[name] for _, scores in each if name in (found := first_of([scores], (name,)))]
            if values:
                text.append(row_of(f"{spec}, {length.replace('-', ' ')}: {name}", values, counts))
    return text


def first_of(verdicts: list[list[dict[str, Any]]], names: tuple[str, ...]) -> dict[str, dict[int, list[float]]]:
    """Values by row and label count of the first verdict that has the row, in the order of the names."""
    found: dict[str, dict[int, list[float]]] = defaultdict(dict)
    for name in names:
        for scores in verdicts:
            mine = [score for score in scores if score["method"] == name]
            if mine:
                found[name] = {score["labels_per_class"]: score["values"] for score in mine}
                break
    return dict(found)


def row_of(name: str, runs: list[dict[int, list[float]]], counts: list[int]) -> str:
    """A line of the table."""
    return f"| {name} | " + " | ".join(cells_of(runs, counts)) + " |"


def cells_of(runs: list[dict[int, list[float]]], counts: list[int]) -> list[str]:
    """Mean and half the interval at every label count: one run's spread is over labels, several runs' over their means."""
    cells = []
    for count in counts:
        each = [run[count] for run in runs if count in run]
        if not each:
            cells.append("")
            continue
        values = each[0] if len(each) == 1 else [float(np.mean(values)) for values in each]
        cells.append(f"{100 * np.mean(values):.1f} ± {100 * interval(values):.1f}")
    return cells


def verdict_table(run: Path) -> str:
    """The table, the sentence and what was left out."""
    scores, verdict = latest(run)
    if verdict is None:
        return f"{run} has no verdict"
    counts = sorted({score["labels_per_class"] for score in scores})
    rows: dict[str, dict[int, str]] = {}
    for score in scores:
        cell = f"{100 * score['value']:.1f} ± {100 * score['spread']:.1f}"
        rows.setdefault(score["method"], {})[score["labels_per_class"]] = cell
    text = [
        "| accuracy, % | " + " | ".join(f"{count} per class" for count in counts) + " |",
        "| --- |" + " --- |" * len(counts),
    ]
    text += [
        f"| {name} | " + " | ".join(cells.get(count, "") for count in counts) + " |" for name, cells in rows.items()
    ]
    text += ["", f"> {verdict['sentence']}", ""]
    text += [f"- left out: {part}" for part in verdict["left_out"]] + [f"- {part}" for part in verdict["notes"]]
    seeds = max(len(score["seeds"]) for score in scores)
    text.append(
        f"- {seeds} seeds, ± half the 95 % interval, {verdict['seconds'] / 60:.1f} minutes, commit {scores[0]['commit'][:7]}"
    )
    return "\n".join(text)


def methods_for(data: str) -> list[str]:
    """The methods whose encoder a verdict can judge and that ask for nothing else, for data of this kind."""
    from withheld.auto import look
    from withheld.run import describe_methods

    modality = look(data).modality
    others = (
        "vae", "vq_vae2", "code_prior", "next_frame", "track_color", "sentence_vae", "predict_part", "distill", "distill_text",
    )  # fmt: skip
    names = [m["name"] for m in describe_methods() if m["modality"] == modality and m["name"] not in others]
    return [PCA, *names] if modality == "image" else names


def asked() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="run folders: their latest verdict, nothing is computed")
    parser.add_argument("--data", action="append", default=[], help="a labelled data set; repeatable")
    parser.add_argument(
        "--methods", help="METHOD[@ENCODER][+name=value...],... [default: all of the modality, and pca]"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float)
    length.add_argument("--steps", type=int)
    parser.add_argument("--seeds", default="0", help="of pretraining")
    parser.add_argument("--labels-per-class", default="1,10,100")
    parser.add_argument("--label-seeds", type=int, default=5)
    parser.add_argument(
        "--judge-minutes", type=float, default=10.0, help="of each verdict; short ones leave out fine-tuning"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/table"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--print", action="store_true", help="only print what there is")
    parser.add_argument("--rows", action="store_true", help="every row of every verdict, in place of a line a method")
    given = parser.parse_args()
    if bool(given.runs) == bool(given.data):
        parser.error("name run folders, or --data to fill a table")
    return given


def main() -> None:
    """Prints tables of runs, or fills one."""
    from withheld.errors import WithheldError

    given = asked()
    for folder in given.runs:
        print(f"{folder}\n\n{verdict_table(folder)}\n")
    if not given.data:
        return
    length = f"steps-{given.steps}" if given.steps else f"minutes-{given.minutes or 5.0:g}"
    cells = [
        Cell(data, spec, length, int(seed))
        for seed in given.seeds.split(",")
        for data in given.data
        for spec in (given.methods.split(",") if given.methods else methods_for(data))
    ]
    cells = list(dict.fromkeys(Cell(c.data, c.spec, c.length, 0) if c.spec == PCA else c for c in cells))
    failed = []
    for cell in [] if given.print else cells:
        try:
            fill(cell, given.out, given)
        except WithheldError as error:  # one method that cannot does not cost the others
            failed.append(f"{cell.folder}: {error}")
            print(failed[-1], file=sys.stderr, flush=True)
    print(grid(cells, given.out, [int(n) for n in given.labels_per_class.split(",")], given.rows))
    if failed:
        sys.exit("\n".join(["Failed:", *failed]))


if __name__ == "__main__":
    main()
