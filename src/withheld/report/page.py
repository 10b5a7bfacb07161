"""Puts the page together and writes it in one rename."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from withheld.errors import CannotWrite
from withheld.report import (
    curves,
    detection,
    facts,
    headline,
    health,
    layers,
    measured,
    sentences,
    shortcuts,
    training,
    words,
)
from withheld.report.clean import clean
from withheld.report.embed import Picture, embedded
from withheld.report.folder import Contents, mapping, number, objects, read_folder
from withheld.report.scores import Table, read_scores
from withheld.wording import short_numbers

TEMPLATES = Path(__file__).parent / "template"

WORST = 24

# The order of the page; a section appears where it has something to show.
SECTIONS = {
    "verdict": "Did it help?",
    "glue": "GLUE",
    "detection": "Finding objects",
    "measured": "Measured",
    "frames": "Frames to come",
    "frames_moving": "Frames to come, moving",
    "tracking": "Masks followed",
    "tracking_moving": "Masks followed, moving",
    "arrow": "What tells the direction of time",
    "sweep": "Sweep",
    "layers": "Layer by layer",
    "data": "The data",
    "split": "What is hidden",
    "shortcuts": "Shortcuts",
    "words": "Words",
    "near_words": "Words near each other",
    "sentences": "Sentences",
    "pairs": "Pairs of patches",
    "confusion": "Directions taken for others",
    "near_patches": "Nearest patches",
    "exemplars": "Views of a seed",
    "atoms": "Atoms",
    "components": "Components",
    "reconstructions": "Reconstructions",
    "drawn": "Samples",
    "manifold": "The plane of z",
    "traversals": "Traversals",
    "interpolations": "Interpolations",
    "posterior": "Where z lies",
    "neighbors": "Nearest neighbors",
    "patches": "Patch features",
    "map": "A map",
    "errors": "Worst errors",
    "health": "Health",
    "training": "Training",
    "more": "More pictures",
    "cost": "Cost",
    "reproduce": "Reproduce",
}

# Sections that are pictures and a sentence: what a task about patches, or a model of latent variables, has to show.
LATENT = {
    "frames": "What came, what was told, and the absolute error; of clips that were never learned from.",
    "frames_moving": "The same clips, moving.",
    "tracking": "The mask of the first frame was given; in the others it was found by the likeness of features.",
    "tracking_moving": "The same, every frame.",
    "arrow": "Red speaks for forward, blue for backward; the clips run forward. Evidence at the borders hints at a shortcut.",
    "pairs": "Where does the second patch lie from the first? Each is seen alone, as drawn; told in percent, the truth framed.",
    "confusion": "The true direction of a pair at the left, what was told above.",
    "near_patches": "A patch at the left, and those of other items that the encoder finds most alike.",
    "exemplars": "A patch of an item, and views as the network gets them; it must tell from any of them which patch it was.",
    "atoms": "Every small patch of an image is told as a multiple of one of these, learned from the images; the most used first.",
    "components": "A row came from one of these, and nobody saw which: the model's answer.",
    "reconstructions": "An item, and what is left of it when only its z is kept.",
    "drawn": "Drawn from the model: z from its prior, then an item from z. No item of the data is among them.",
    "manifold": "What every place of the plane of the two strongest dimensions of z looks like, through the inverse Gaussian CDF.",
    "traversals": "One item, one dimension of z moved from -3 to 3, the others left; strongest dimensions first.",
    "interpolations": "From one item to another, along the straight line between their z.",
    "posterior": "The mean of z for many items, against the prior it should fill.",
}


def write_page(folder: Path) -> Path:
    """Writes report.html into a run folder and returns its path."""
    return write_text(folder / "report.html", render(read_folder(folder)))


def write_text(path: Path, page: str) -> Path:
    """As `write_whole`, of text."""
    return write_whole(path, page.encode("utf-8", errors="backslashreplace"))


def write_whole(path: Path, content: bytes) -> Path:
    """Writes a file in one rename.

    Raises:
        CannotWrite: the disk is full or read-only.
    """
    waiting = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        waiting.write_bytes(content)
        os.replace(waiting, path)
    except OSError as error:
        waiting.unlink(missing_ok=True)
        raise CannotWrite(
            f"cannot write {path} ({error.strerror or error}): free some space or choose a folder that can be written"
        ) from error
    return path


def render(found: Contents) -> str:
    """The page as text."""
    return filled("report.html", _view(found))


def filled(template: str, view: dict[str, Any]) -> str:
    """A template of ours with the style and these values, every one of them cleaned and escaped."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FileSystemLoader(TEMPLATES),
        finalize=_final,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))  # noqa: S704, our own file
    return environment.get_template(template).render(style=style, **view)


def _final(value: Any) -> Any:
    """Everything the template prints is cleaned, then escaped; only our own markup passes as it is."""
    return value if isinstance(value, Markup) else clean(value)


def _view(found: Contents) -> dict[str, Any]:
    pictures = embedded(found)
    table, sweep = read_scores(found), curves.read_sweep(found)
    view: dict[str, Any] = {
        "title": facts.run_title(found),
        "headline": headline.headline(found, table, sweep),
        "status": facts.status_words(found),
        "curve": _curve(table),
        "sweep": _sweep(sweep),
        "glue": words.read_table(found.glue),
        "layers": _sweep(layers.read_layers(found)),
        "shortcuts": shortcuts.read_shortcuts(found),
        "words": words.read_words(found),
        "near_words": words.read_table(found.near_words),
        "sentences": sentences.read_sentences(found),
        "detection": detection.read_detection(found),
        "measured": measured.read_measured(found),
        "detections": pictures.pop("detections", []),
        "data": {
            "facts": facts.data_facts(found),
            "skipped": facts.skipped_facts(found),
            "pictures": pictures.pop("samples", []),
        },
        "health": health.read_health(found),
        "training": _training(found),
        "errors": _errors(found, pictures.pop("errors", [])),
        "errors_of": facts.error_source(found),
        "confused": facts.confused_pairs(found),
        "cost": facts.cost_facts(found),
        "settings": facts.settings_facts(found),
        "versions": facts.version_facts(found),
        "config": facts.config_text(found),
        "commands": facts.commands(found),
        "evaluate": facts.evaluate_command(found) if facts.can_be_judged(found) else "",
        "evaluation_notes": facts.notes(found),
        "evaluations": found.evaluations,
        "damage": found.notes,
        "split_words": short_numbers(facts.one_line(found.run.get("split") or "")),
    }
    for name in ("split", "neighbors", "patches", "map"):
        view[name] = pictures.pop(name, [])
    latent = [(name, said, pictures.pop(name, [])) for name, said in LATENT.items()]
    view["more"] = [picture for rest in pictures.values() for picture in rest]
    view["latent"] = [(name, said, pictures_of) for name, said, pictures_of in latent if pictures_of]
    view |= {name: pictures_of for name, _, pictures_of in latent}
    view["sections"] = [(name, title) for name, title in SECTIONS.items() if _has(name, view)]
    view["titles"] = SECTIONS
    view["shown"] = [name for name, _ in view["sections"]]
    return view


def _has(name: str, view: dict[str, Any]) -> bool:
    if name == "verdict":
        return bool(view["curve"] or view["evaluate"])
    if name == "data":
        return bool(view["data"]["facts"] or view["data"]["pictures"])
    if name == "reproduce":
        return bool(view["commands"] or view["settings"] or view["versions"])
    return bool(view[name])


def _curve(table: Table | None) -> dict[str, Any]:
    if table is None:
        return {}
    rows = []
    for row, (swatch, _) in zip(table.rows, curves.legend(table), strict=True):
        cells = [table.cell(row, labels) for labels in table.counts]
        rows.append({"swatch": swatch, "method": row.method, "cells": cells, "note": row.note})
    return {
        "over": _over(table),
        "wide": curves.label_curve(table),
        "narrow": curves.label_curve(table, narrow=True),
        "legend": curves.legend(table),
        "counts": ["all" if labels is None else facts.count(labels) for labels in table.counts],
        "rows": rows,
        "unit": f"{table.metric}, %" if table.percent else table.metric,
    }


def _over(table: Table) -> str:
    """Such as "over 5 seeds", or "over 3 to 5 seeds"."""
    seeds = sorted({point[2] for row in table.rows for point in row.points.values()} - {0})
    if not seeds:
        return "over seeds"
    return f"over {facts.plural(seeds[-1], 'seed')}" if len(seeds) == 1 else f"over {seeds[0]} to {seeds[-1]} seeds"


def _sweep(sweep: curves.Sweep | None) -> dict[str, Any]:
    if sweep is None:
        return {}
    return {
        "wide": curves.sweep_curve(sweep),
        "narrow": curves.sweep_curve(sweep, narrow=True),
        "legend": curves.sweep_legend(sweep),
        "words": f"{sweep.sentence()}.",
        "parameter": sweep.parameter,
    }


def _training(found: Contents) -> dict[str, Any]:
    series = training.read_series(found.log)
    loss = series.get("loss", [])
    small = training.panels(series)
    if len(loss) < 2 and not small:
        return {}
    drawn = [training.loss_plot(loss), training.loss_plot(loss, narrow=True)] if len(loss) > 1 else []
    floor = number(mapping(found.run.get("data")).get("unigram_nats"))
    words = [training.loss_words(loss), training.held_out_words(found.log, floor)]
    return {"loss": drawn, "panels": small, "words": " ".join(part for part in words if part)}


def _errors(found: Contents, pictures: list[Picture]) -> list[dict[str, Any]]:
    """The worst errors, with their thumbnails where they were drawn."""
    if pictures:
        return [facts.error_words({"name": each.title, **each.data}, each.uri) for each in pictures[:WORST]]
    return [facts.error_words(entry) for entry in objects(found.verdict.get("errors"))[:WORST]]
