"""list, check, show and methods: looking before learning."""

from __future__ import annotations

import contextlib
import inspect
import re
import shlex
from collections.abc import Callable
from typing import Any

import click

from withheld.cli.options import DATA, device_option, talking
from withheld.errors import InputError, nearest
from withheld.narrator import Narrator
from withheld.screen import Screen, clock
from withheld.types import LEAST, Recipe
from withheld.wording import about, plural, size

MOST_ROWS = 1_000_000
"""Rows of a table of which missing cells are counted."""
PUBLIC = {
    "patch_dictionary": "facebook/dinov2-small", "same_text": "google/bert_uncased_L-2_H-128_A-2",
    "videomae": "MCG-NJU/videomae-small-finetuned-kinetics",
}  # fmt: skip
"""Encoders that have learned elsewhere, to go on from where there is too little data; auto_rules.py names them too."""


@click.command("list")
@click.option("--modality", help="Only methods for this: image, text, video, table.")
@talking
def list_command(modality: str | None, screen: Screen) -> None:
    """The methods by modality, a line each.

    \b
      withheld list
      withheld methods mae      # all there is to know about one
    """
    from withheld.run import describe_methods

    methods = describe_methods()
    known = {method["modality"] for method in methods}
    if modality is not None and modality not in known:
        raise InputError(f"--modality {modality}: {nearest(modality, known)}")
    shown = sorted((m for m in methods if modality in (None, m["modality"])), key=lambda m: (m["modality"], m["name"]))
    screen.table("", ["modality", "method", "what it does"], [[m["modality"], m["name"], m["summary"]] for m in shown])


@click.command("methods")
@click.argument("names", nargs=-1, metavar="[METHOD]...")
@click.option("--markdown", is_flag=True, help="As docs/methods.md has it.")
@talking
def methods_command(names: tuple[str, ...], markdown: bool, screen: Screen) -> None:
    """The documentation and settings of every METHOD, or of those named.

    \b
      withheld methods mae
      withheld methods --markdown > docs/methods.md
    """
    from withheld.run import describe_methods

    methods = {method["name"]: method for method in describe_methods()}
    for name in names:
        if name not in methods:
            raise InputError(f"no method is called {name!r}: {nearest(name, methods)}")
    chosen = [methods[name] for name in names] or list(methods.values())
    if markdown:
        screen.result("# Methods\n\nGenerated from the docstrings: `withheld methods --markdown > docs/methods.md`.")
    for method in chosen:
        screen.result(_markdown(method) if markdown else _plain(method))
    training = _of_training()
    if markdown:
        told = "\n".join(f"- `{name}`: {text}" for name, text in training.items())
        screen.result(
            f"\n## Settings of the training\n\nOf every method, with `--set`; each has defaults of its own.\n\n{told}"
        )
    else:
        told = "\n".join(f"    {name}: {text}" for name, text in training.items())
        screen.result(f"Settings of the training, with --set too (each method has defaults of its own):\n{told}")


def _of_training() -> dict[str, str]:
    """What can be set of a `Recipe`, as its docstring explains it."""
    from withheld.run import RECIPE_SETTINGS

    attributes = (inspect.getdoc(Recipe) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w[\w, ]*): (.*(?:\n        .*)*)", attributes, re.MULTILINE)
    told = {names: " ".join(text.split()) for names, text in entries}
    return {names: text for names, text in told.items() if {*names.split(", ")} & {*RECIPE_SETTINGS}}


def _plain(method: dict[str, Any]) -> str:
    settings = "\n".join(f"    --set {name}={value}" for name, value in method["settings"].items())
    return f"{method['name']} ({method['modality']})\n\n{method['doc']}\n\nSettings and their defaults:\n{settings}\n"


def _markdown(method: dict[str, Any]) -> str:
    settings = ", ".join(f"`{name}={value}`" for name, value in method["settings"].items())
    summary, _, rest = method["doc"].partition("\n")
    title = f"\n## `{method['name']}` ({method['modality']})"
    return f"{title}\n\n{summary}\n\n```text\n{rest.strip()}\n```\n\nSettings: {settings}"


@click.command("check")
@click.argument("data", type=DATA)
@click.option("--labels", help="A csv with the columns file and label, to look at the labels too.")
@click.option("--labelled", is_flag=True, help="Look at the labels too: class folders, labels.csv, IDX labels.")
@device_option
@talking
def check_command(data: str, labels: str | None, labelled: bool, device: str, screen: Screen) -> None:
    """What is in DATA, what to run on it, and what that will cost. Trains nothing.

    \b
      withheld check photos/
      withheld check photos.tar.gz
      withheld check labelled/ --labelled
      withheld check clips/
      withheld check reviews.csv
    """
    from withheld.auto import TooLittle, decide
    from withheld.cost import measure

    with Narrator(screen) as narrator:
        tell = lambda done, total: narrator.hear({"kind": "look", "done": done, "total": total})  # noqa: E731
        lines = _describe(data, labels or labelled or None, tell)
    chosen, method, few = "auto", "", None
    try:
        choice = decide(data, device=device)
        method = choice.method
        lines += [("suggested", choice.lines()[0].removeprefix("auto: ")), ("measured", choice.measured)]
    except TooLittle as error:  # what was found out about the data is told all the same
        chosen = method = error.method
        few = error
        lines.append(("note", error.why))
    if method != "mixture":
        screen.say("timing a few steps ...")
        try:
            lines += _cost(measure(method, data, device))
        except InputError as error:
            lines.append(("note", str(error)))
    wide = max(len(what) for what, _ in lines)
    for what, value in sorted(lines, key=lambda line: line[0] == "note"):
        screen.result(f"{what:<{wide}}  {value}")
    screen.result("")
    _next(screen, shlex.quote(data), chosen, method, few is not None, ("items", "1") in lines)


def _next(screen: Screen, data: str, chosen: str, method: str, few: bool, alone: bool) -> None:
    """What to type next; the one line on stdout is the first of it. Of a single text nothing is there to choose or label."""
    if few:
        screen.say("All the same, from scratch:")
    screen.result(f"withheld pretrain {chosen} --data {data} --out runs/first --minutes 10")
    if few and method in PUBLIC:
        screen.say("or from an encoder that has seen more:")
        screen.say(f"  withheld pretrain auto --data {data} --encoder {PUBLIC[method]} --out runs/first --minutes 10")
    if method == "mixture":
        screen.say(f"which row is in which group:  withheld predict runs/first {data} -o groups.csv")
        return
    screen.say(f"what it hides:       withheld show {method} {data}")
    if method == "videomae":
        screen.say(
            "other things to ask: frame_order, arrow_of_time, track_color, next_frame (withheld list --modality video)"
        )
    labelled = "LABELLED.csv" if method == "bert" else "LABELLED"
    if not alone:
        screen.say(f"what to label first: withheld suggest runs/first --data {data} -n 100")
    screen.say(f"did it help?         withheld evaluate runs/first --data {labelled}")
    screen.say(f"then, few labels:    withheld finetune runs/first --data {labelled} --out models/first")
    if not alone:
        screen.say(f"label all the rest:  withheld predict models/first {data} -o labels.csv")
    elif method in ("same_text", "bert"):
        screen.say("its lines labelled:  save them one a row, as a .csv or .jsonl; a .txt file is one text")


def _describe(data: str, labels: Any, tell: Callable[[int, int], None]) -> list[tuple[str, str]]:
    """What is in the data: images where there are any, else clips, texts or a table of numbers."""
    from withheld.auto import look
    from withheld.data.describe import Unreadable, describe
    from withheld.data.describe_clips import describe_clips
    from withheld.data.wanted import named_modality

    wrong: InputError | None = None
    if named_modality(data) != "video":
        try:
            return describe(data, labels, progress=tell).to_lines()
        except InputError as error:
            wrong = error
    modality = look(data).modality
    if modality == "image":
        raise wrong or InputError(f"{data} holds files of clips, but none that is read")
    try:
        return {"video": describe_clips, "text": _texts, "table": _rows}[modality](data, labels)
    except InputError:
        if isinstance(wrong, Unreadable):  # broken images are no broken frames of a clip
            raise wrong from None
        raise


def _rows(data: str, labels: Any) -> list[tuple[str, str]]:
    """What is in a table of numbers."""
    import numpy as np

    from withheld.data.vectors import as_floats, open_vectors
    from withheld.modalities.table import leave_out_constants

    table = open_vectors(data)
    if not np.isin(table.values[:MOST_ROWS], (0, 1)).all():  # of 0 and 1 a mixture is of Bernoullis, which take them
        leave_out_constants(table)
    values = as_floats(np.asarray(table.values[:MOST_ROWS]))
    missing = int(np.isnan(values).sum())
    share = f"{missing:,} of {values.size:,}, {missing / max(1, values.size):.1%}" if missing else "none"
    return [
        ("kind", "a table of numbers"), ("rows", f"{len(table):,}"),
        ("columns", f"{values.shape[1]}: {', '.join(table.columns[:8])}{', ...' if len(table.columns) > 8 else ''}"),
        ("missing cells", share), *(("note", note) for note in table.notes),
    ]  # fmt: skip


def _texts(data: str, labels: Any) -> list[tuple[str, str]]:
    """What is in data that holds texts and no images."""
    from collections import Counter

    from withheld.data.sentences import MORE, how_parted, items_told, sentences_of
    from withheld.data.text import documents, open_texts

    source = open_texts(data, labels)
    bad: list[dict[str, str]] = []
    how = how_parted({}, source, "passages")
    sizes, parts = [], 0
    for _, text in documents(source, bad):
        sizes.append(len(text))
        parts += len(sentences_of(text, how))
    middle = sorted(sizes)[len(sizes) // 2]
    lines = [("kind", f"texts, {source.kind}"), ("items", f"{len(sizes):,}")]
    lines.append(("characters", f"{sum(sizes):,}; the median text has {middle:,}, the longest {max(sizes):,}"))
    if parts > MORE * len(sizes):
        lines.append(("to learn from", items_told(source, parts, how)))
    if source.told:
        lines.append(("note", source.told))
    lines += [("note", note) for note in source.notes]
    if source.parts is not None:
        told = Counter(part or "no part" for part in source.parts.tolist())
        lines.append(("parts", ", ".join(f"{name} {count:,}" for name, count in told.items())))
    if source.labels is not None:
        lines.append(
            (
                "classes",
                f"{len(source.classes)}; {plural((source.labels >= 0).sum(), 'text has a label', 'texts have labels')}",
            )
        )
    elif source.kind == "table":
        with contextlib.suppress(InputError):
            names = open_texts(data, True).classes
            shown = f"{', '.join(map(repr, names[:3]))}{', ...' if len(names) > 3 else ''}"
            lines.append(("note", f"its column of labels ({shown}) is not looked at by pretraining; evaluate looks"))
    reasons = Counter(line["reason"] for line in bad)
    for reason, count in reasons.most_common(5):
        first = next(line["file"] for line in bad if line["reason"] == reason)
        which = f"{first}:" if count == 1 else f"{plural(count, 'text')} (the first: {first}):"
        lines.append(("note", f"{which} {reason}"))
    return lines


def _cost(cost: Any) -> list[tuple[str, str]]:
    plan = cost.plan
    encoder = f"{plan['encoder']['name']} on {plan['device']}"
    lines = [("speed", f"{about(cost.items_per_second, 'item')}/s with {encoder}, batch {plan['batch_size']}")]
    often = plan["recipe"]["epochs"]
    if plan["recipe"]["most_epochs"]:
        often = round(max(often, LEAST * plan["batch_size"] / cost.items))
    once, all_ = (clock(max(1.0, 60 * cost.minutes(epochs))) for epochs in (1, often))
    lines.append(("time", f"{once} an epoch, {all_} for {often:g} epochs"))
    if cost.memory_bytes is not None:
        lines.append(("memory", f"{size(cost.memory_bytes)} at most, while timing"))
    return lines
