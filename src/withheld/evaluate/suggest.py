"""Which items to label first, written as a labels.csv to fill in and a sheet to look at."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from withheld.data.item_names import as_cell
from withheld.data.labels import label_sheet, read_label_words
from withheld.data.layout import find_layout
from withheld.data.source import Source
from withheld.errors import InputError, nearest
from withheld.evaluate.choose import WAYS, unit_features
from withheld.evaluate.features import Listen, as_encoder, silent
from withheld.evaluate.judged import judged
from withheld.evaluate.pool import MOST, Pool, kept_of, looked_at, open_pool, twins
from withheld.evaluate.thumbnails import LARGE, Shown, draw_sheet, first_words, shown
from withheld.learn.checkpoint import replacing
from withheld.wording import plural

MOST_DRAWN = 400
"""Items on the sheets; the csv has all."""

FEW_TEXTS = 50
OPINIONS = (
    "these texts differ in their subjects. Where labels are something else, such as opinions, ten random texts taught more than "
    "ten of these (66.7 and 54.7 % of film reviews told; fifty taught as much): then --how random"
)
"""Measured with `benchmarks/suggest.py`, docs/gallery.md."""


@dataclass
class Suggestion:
    """Items to label.

    Attributes:
        names: of the items, the first to label first.
        sheet: them as a sheet shows them, at most `MOST_DRAWN`. picture: the same as one PNG.
        known: labels there are already, by name.
        texts: the first words of texts, else "".
        doubles: how many items nearly equal another one and were passed over.
        notes: what there is to know.
    """

    names: list[str]
    sheet: list[Shown]
    picture: bytes
    known: dict[str, str]
    texts: list[str]
    doubles: int
    notes: list[str] = field(default_factory=list)


def suggest(
    subject: Any, data: Any, n: int = 100, *, how: str = "typical", labels: str | Path | None = None,
    most: int = MOST, seed: int = 0, device: str = "auto", listen: Listen = silent,
) -> Suggestion:  # fmt: skip
    """Chooses items that are worth a label, by the features of a run.

    Items that nearly equal another one, or one that is labelled, are passed over, and so are those of a test part.

    Args:
        subject: a run folder, an encoder folder, a transformers id or an `Encoder`.
        data: unlabelled items, as `withheld.pretrain` takes them; labels in it are not looked at.
        n: how many.
        how: "typical" (TypiClust), "coverage" (ProbCover) or "random", see `withheld.evaluate.choose`.
        labels: a csv of the labels there are already; more are suggested beside these.
        most: items that are looked at, a seeded sample of more.
        seed: of sample and clusters.
        device: "auto", "cpu", "cuda", "mps".
        listen: is told what happens.

    Raises:
        InputError: for the subject, the data, the csv or the settings.
    """
    if n < 1:
        raise InputError(f"-n {n}: ask for at least 1 item")
    if how not in WAYS:
        raise InputError(f"--how {how}: {nearest(how, WAYS)}")
    encoder = as_encoder(subject, device)
    source = judged(encoder).open(data)
    if len(source) < 2:
        more = (
            ": a .txt file is one text; lines to be labelled go into a .csv or .jsonl, one a row"
            if encoder.modality == "text"
            else ""
        )
        raise InputError(f"{data} holds {len(source)} item, and there is nothing to choose among{more}")
    notes: list[str] = []
    words = _known(labels, source, notes)
    for note in notes:
        listen({"kind": "note", "text": note})
    known_at = np.array([i for i, word in enumerate(words) if word], np.int64)
    if len(known_at) == len(source):
        raise InputError(
            f"all {len(source):,} items of {source.location} have a label in {labels} already: nothing is left to suggest"
        )
    pool = open_pool(encoder, source, listen, most=max(most, n + len(known_at)), tested=False, wanted=known_at)
    listen({"kind": "note", "text": f"choosing {min(n, len(pool.at)):,} of {len(pool.at):,} items"})
    places, doubles = _chosen(pool, known_at, n, how, seed)
    if not len(places):
        raise InputError(f"all that has no label yet nearly equals what {labels} labels: nothing is left to suggest")
    found = _shown(pool, places, {source.names[i]: words[i] for i in known_at}, doubles, how)
    if encoder.modality == "text" and how == "typical" and n + len(known_at) < FEW_TEXTS:
        found.notes.append(OPINIONS)
    if len(places) < n:
        found.notes.append(
            f"there {'is' if len(places) == 1 else 'are'} only {len(places)} item{'s' * (len(places) != 1)} left to suggest"
        )
    return found


def _known(labels: str | Path | None, source: Source, notes: list[str]) -> list[str]:
    """The word of every item that has a label already, "" of the others."""
    if labels is None:
        return [""] * len(source)
    path, column = label_sheet(labels)
    layout = find_layout(source.names) if source.kind in ("folder", "tar", "zip") else None
    return read_label_words(path.read_bytes(), path.name, source.names, layout, notes, column)


def _chosen(
    pool: Pool, known_at: np.ndarray[Any, Any], n: int, how: str, seed: int
) -> tuple[np.ndarray[Any, Any], int]:
    """Places in the pool, and how many were passed over as near-duplicates."""
    known = np.isin(pool.at, known_at)
    order = np.argsort(~known, kind="stable")  # of equal items a labelled one is kept
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    pairs = np.sort(rank[twins(pool)], axis=1)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    keep = kept_of(pairs, len(order))[rank] | known
    left = np.flatnonzero(keep)
    places = WAYS[how](unit_features(pool.values[left]), n, np.flatnonzero(known[left]), seed)
    return left[places], int((~keep).sum())


def _shown(pool: Pool, places: np.ndarray, known: dict[str, str], doubles: int, how: str) -> Suggestion:
    names = [pool.name(at) for at in places]
    items = [pool.item(at) for at in places]
    drawn = looked_at(pool.source, pool.at[places[:MOST_DRAWN]], items[:MOST_DRAWN], LARGE)
    some = list(zip(names[:MOST_DRAWN], drawn, strict=True))
    sheet = [shown(name, f"{i + 1}", item) for i, (name, item) in enumerate(some)]
    title = f"{plural(len(names), 'item')} to label first ({how})"
    picture = draw_sheet(title, [(f"{i + 1}  {name}", item) for i, (name, item) in enumerate(some)])
    texts = [first_words(item) if isinstance(item, str) else "" for item in items]
    notes = list(pool.notes)
    if doubles:
        many = plural(doubles, "item nearly equals another one and was", "items nearly equal another one and were")
        notes.append(f"{many} passed over")
    if len(names) > MOST_DRAWN:
        notes.append(f"the sheets show the first {MOST_DRAWN}")
    return Suggestion(names, sheet, picture, known, texts, doubles, notes)


def write_labels_csv(path: Path, found: Suggestion) -> Path:
    """Writes the csv to fill in: labels there are already, then a row with an empty label for every suggested item.

    Raises:
        CannotWrite: for the file.
    """
    texts = any(found.texts)
    with replacing(path) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", *(["words"] if texts else [])])
        table.writerows([as_cell(name), as_cell(word), *([""] if texts else [])] for name, word in found.known.items())
        rows = zip(found.names, found.texts, strict=True)
        table.writerows([as_cell(name), "", *([as_cell(text)] if texts else [])] for name, text in rows)
    return path
