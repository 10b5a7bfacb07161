"""run: a recipe is one YAML file and one reproducible result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from withheld.cli.options import DATA, device_option, talking
from withheld.cli.recipe_file import read_recipe
from withheld.errors import InputError
from withheld.screen import Screen

ROWS = ("fine-tuned", "linear probe")
"""That a sweep compares where its recipe names no row: the first that every value has; fine-tuning may be left out for time."""
PRETRAIN = ("encoder", "minutes", "epochs", "steps", "batch_size", "size", "seed", "accumulate", "recompute", "shard")


@click.command("run")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--data", type=DATA, help="What to learn from; needed where the recipe names no data.")
@click.option("--labelled", help="What to evaluate on.  [default: the recipe's, else --data]")
@click.option(
    "--out", type=click.Path(path_type=Path), help="The folder of its runs.  [default: runs/NAME-OF-THE-RECIPE]"
)
@click.option("--resume", is_flag=True, help="Go on where it stopped; what is finished is kept.")
@device_option
@talking
def run_command(
    recipe: Path, data: str | None, labelled: str | None, out: Path | None, resume: bool, device: str, screen: Screen
) -> None:
    """Pretrain and evaluate as RECIPE says. Its header tells the command, the minutes, and the score to expect.

    \b
      withheld run recipes/fashion-mnist.yaml --data fashion-mnist/ --out runs/fashion-mnist
      withheld run recipes/mask_ratio.yaml --data fashion-mnist/ --resume

    Keys: method, data, encoder, minutes or epochs or steps, batch_size, size, set, seed, accumulate, recompute, shard,
    evaluate: {data, labels, labels_per_class, seeds, minutes, against},
    sweep: {SETTING: [values]}, each value a run of its own, plotted by the report.
    """
    settings = read_recipe(recipe)
    settings["data"] = data or settings.get("data")
    if not settings["data"]:
        raise InputError(f"{recipe} names no data: give it as --data PATH")
    if labelled:
        settings["evaluate"] = {**(settings.get("evaluate") or {}), "data": labelled}
    out = out or Path("runs") / recipe.stem
    if "sweep" in settings:
        sweep(screen, settings, out, resume, device, recipe)
    else:
        once(screen, settings, out, resume, device, recipe)


def once(screen: Screen, recipe: dict[str, Any], out: Path, resume: bool, device: str, path: Path, **more: Any) -> None:
    """One pretraining and its verdict; on resume what is done is not done again."""
    from withheld.cli.judge import evaluate_aloud
    from withheld.cli.settings import typed
    from withheld.cli.train import pretrain_aloud
    from withheld.run import load_method

    method = recipe["method"]
    settings = typed(method, load_method(method), {**(recipe.get("set") or {}), **more}, where=f"{path}: set:")
    if not (resume and _state(out) == "done"):
        options = {key: recipe[key] for key in PRETRAIN if key in recipe}
        begun = (out / "run.json").is_file()
        pretrain_aloud(
            screen, method, recipe["data"], out, settings=settings, resume=resume and begun, device=device, **options
        )
    judge = dict(recipe.get("evaluate") or {})
    if recipe.get("evaluate") is not None and not (resume and _judged(out)):
        labelled = judge.pop("data", None) or recipe["data"]
        evaluate_aloud(screen, str(out), labelled, out, labels=judge.pop("labels", True), device=device, **judge)
    else:
        screen.result(str(out))


def sweep(screen: Screen, recipe: dict[str, Any], out: Path, resume: bool, device: str, path: Path) -> None:
    """A run for every value of one setting, and sweep.json, rewritten after each so that nothing is lost."""
    from withheld.cli.settings import typed
    from withheld.report import write
    from withheld.run import load_method
    from withheld.wording import percent

    (parameter, values), *_ = recipe["sweep"].items()
    for value in values:  # a wrong one is said now, not after hours of the others
        typed(recipe["method"], load_method(recipe["method"]), {parameter: value}, where=f"{path}: sweep:")
    if out.exists() and any(out.iterdir()) and not resume:
        raise InputError(f"{out} exists: go on with --resume, or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    found: list[tuple[Any, list[dict[str, Any]]]] = []
    scores: list[dict[str, Any]] = []
    row = ""
    for number, value in enumerate(values, start=1):
        screen.say(f"{parameter} = {value} ({number} of {len(values)})")
        folder = out / f"{parameter}={value}"
        once(screen, recipe, folder, resume, device, path, **{parameter: value})
        found.append((value, _scores(folder)))
        row, scores = _compared(found, recipe.get("row"), folder)
        table = {"parameter": parameter, "values": values, "metric": f"accuracy, {row}", "scores": scores}
        (out / "sweep.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    rows = [[s["value"], s["labels_per_class"], percent(s["mean"], s["spread"])] for s in scores]
    screen.table(f"Accuracy in %, {row}", [parameter, "labels per class", "mean ± half the 95 % interval"], rows)
    screen.result(str(write(out)))


def _scores(folder: Path) -> list[dict[str, Any]]:
    """All scores of a run's latest verdict."""
    from withheld.run import open_run

    results = open_run(folder).results()
    verdicts = [line for line in results if line.get("kind") == "verdict"]
    latest = verdicts[-1].get("evaluation") if verdicts else None
    return [r for r in results if r.get("kind") == "score" and r.get("evaluation") == latest]


def _compared(
    found: list[tuple[Any, list[dict[str, Any]]]], asked: str | None, folder: Path
) -> tuple[str, list[dict[str, Any]]]:
    """The row that every value has, and its scores.

    Args:
        found: values so far, and the scores of each. asked: the row that the recipe names. folder: of the last value.

    Raises:
        InputError: where no such row is among the results of all.
    """
    having = [{score["method"] for score in scores} for _, scores in found if scores]
    rows = [asked] if asked else ROWS
    row = next((each for each in rows if all(each in methods for methods in having)), None)
    if row is None:
        known = ", ".join(sorted(set.intersection(*having))) or "none"
        raise InputError(
            f"the row {' or '.join(map(repr, rows))} is not among the results of {folder}, perhaps left out for time. Rows of all "
            f"values so far: {known}. Name one in the recipe, as `row: linear probe`, and go on with --resume"
        )
    keys = ("labels_per_class", "spread")
    return row, [
        {"value": value, "mean": r["value"], **{key: r[key] for key in keys}}
        for value, scores in found
        for r in scores
        if r["method"] == row
    ]


def _state(folder: Path) -> str:
    try:
        return str(json.loads((folder / "status.json").read_text(encoding="utf-8"))["state"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _judged(folder: Path) -> bool:
    path = folder / "results.jsonl"
    return path.is_file() and '"kind": "verdict"' in path.read_text(encoding="utf-8")
