"""list, check, show and methods: looking before learning."""

from __future__ import annotations

import contextlib
import shlex
from typing import Any

import click

from withheld.cli.options import DATA, device_option, talking
from withheld.cli.screen import Screen, size
from withheld.errors import InputError, nearest

ENOUGH = 1_000_000
"""Characters below which a language model has little to learn from."""


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
    from withheld.cost import measure
    from withheld.data.describe import describe

    try:
        found = describe(data, labels or labelled or None)
        lines, method = found.to_lines(), found.suggested_method
    except InputError:
        lines, method = _clips_or_texts(data, labels or labelled or None)
        if not lines:
            raise
    screen.say("timing a few steps ...")
    try:
        lines += _cost(measure(method, data, device))
    except InputError as error:  # what was found out about the data is told all the same
        lines.append(("note", str(error)))
    wide = max(len(what) for what, _ in lines)
    for what, value in sorted(lines, key=lambda line: line[0] == "note"):
        screen.result(f"{what:<{wide}}  {value}")
    screen.result("")
    screen.result(f"withheld pretrain {method} --data {shlex.quote(data)} --out runs/first --minutes 10")
    if method == "videomae":
        screen.say(f"what it hides:       withheld show videomae {shlex.quote(data)}")
        screen.say(
            "other things to ask: frame_order, arrow_of_time, track_color, next_frame (withheld list --modality video)"
        )
    if method == "bert":
        screen.say(f"what it hides:       withheld show bert {shlex.quote(data)}")
        screen.say("did it help?         withheld evaluate runs/first --data LABELLED.csv")
        screen.say("then, few labels:    withheld finetune runs/first --data LABELLED.csv --out models/first")
        screen.say(f"label all the rest:  withheld predict models/first {shlex.quote(data)} -o labels.csv")


def _clips_or_texts(data: str, labels: Any) -> tuple[list[tuple[str, str]], str]:
    """What is in data that holds no images, and a method for it; no lines where it holds neither clips nor texts."""
    from withheld.data.describe_clips import describe_clips

    with contextlib.suppress(InputError):
        return describe_clips(data, labels), "videomae"
    return _texts(data, labels) or [], "bert"


def _texts(data: str, labels: Any) -> list[tuple[str, str]] | None:
    """What is in data that holds texts and no images; None where it holds neither."""
    from collections import Counter

    from withheld.data.text import documents, open_texts

    try:
        source = open_texts(data, labels)
    except InputError:
        return None
    bad: list[dict[str, str]] = []
    sizes = [len(text) for _, text in documents(source, bad)]
    if not sizes:
        return None
    middle = sorted(sizes)[len(sizes) // 2]
    few = sum(sizes) < ENOUGH
    lines = [("kind", f"texts, {source.kind}"), ("items", f"{len(sizes):,}")]
    lines.append(("characters", f"{sum(sizes):,}; the median text has {middle:,}, the longest {max(sizes):,}"))
    if source.parts is not None:
        told = Counter(part or "no part" for part in source.parts.tolist())
        lines.append(("parts", ", ".join(f"{name} {count:,}" for name, count in told.items())))
    if source.labels is not None:
        lines.append(("classes", f"{len(source.classes)}; {(source.labels >= 0).sum():,} texts have labels"))
    if few:
        lines.append(("note", "little text to learn from: compare with a public encoder (evaluate --against)"))
    lines += [("note", f"{line['file']}: {line['reason']}") for line in bad[:5]]
    return lines


def _cost(cost: Any) -> list[tuple[str, str]]:
    plan = cost.plan
    encoder = f"{plan['encoder']['name']} on {plan['device']}"
    lines = [("speed", f"{cost.items_per_second:,.0f} items/s with {encoder}, batch {plan['batch_size']}")]
    lines.append(("minutes", f"{cost.minutes(1):.1f} an epoch, {cost.minutes(100):,.0f} for 100 epochs"))
    if cost.memory_bytes is not None:
        lines.append(("memory", f"{size(cost.memory_bytes)} at most, while timing"))
    return lines
