"""Tables: rows of numbers, the features of a run, or the pixels of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from withheld.asked import Asked
from withheld.data.image import native_size
from withheld.data.label_columns import LABEL_COLUMNS
from withheld.data.prepared import prepare
from withheld.data.row_labels import label_column, row_labels
from withheld.data.sentences import parted_as, sentences_of
from withheld.data.source import digest, open_source
from withheld.data.vectors import VectorItems, Vectors, as_floats, is_table, open_vectors
from withheld.data.wanted import named_modality
from withheld.errors import InputError
from withheld.modalities.modality import Modality, Tell, count_numbers
from withheld.networks.evidence import ByEvidence, evidence_words
from withheld.networks.mixture import COMPONENTS
from withheld.provenance import location_of
from withheld.types import UNKNOWN_LABEL, Recipe
from withheld.wording import plural

SAMPLE = 20_000
DRAWN = 2_000
BLOCK = 1 << 16
NAMED = ("csv", "tsv", "parquet", "pq", "table")
"""Kinds of files whose columns have names."""
ROWS_A_COLUMN = 3
"""How many rows a component has to have for every column, to have a full covariance."""


class Tables(Modality):
    """Rows of numbers (N, D) for the models of `LatentModel`."""

    name = "table"
    table: Vectors
    test = False
    """Whether to read the test part of data that has one, and not the training part."""
    labels: np.ndarray | None = None
    classes: Sequence[str] = ()

    def __init__(self, data: Any, asked: Asked, device: torch.device, tell: Tell) -> None:
        """Apple's GPUs have no double precision, in which sums over all rows are."""
        super().__init__(data, asked, torch.device("cpu") if device.type == "mps" else device, tell)

    def open(self, method: str | None) -> Any:
        """Opens the rows; returns how many columns they have."""
        if self.asked.encoder != "auto":
            raise InputError(f"--encoder {self.asked.encoder}: {method} learns a table of numbers and has no encoder")
        self.table = self._open()
        self.fingerprint = self.table.fingerprint
        if method == "mixture" and self.asked.settings.get("kind") != "bernoulli":
            leave_out_constants(self.table)
        for note in self.table.notes:
            self.tell("note", text=note)
        if self.asked.labels is not None:
            self._label(self.asked.labels)
        self.uncounted = method == "mixture" and self.labels is None and "components" not in self.asked.settings
        self.wide = method == "mixture" and self._is_wide(self.asked.settings)
        if self.wide:
            self.tell(
                "note",
                text=f"covariance=diag: {plural(len(self.table), 'row is', 'rows are')} too few for full covariances of "
                f"{len(self.table.columns)} columns (--set covariance=full takes them all the same)",
            )
        return len(self.table.columns)

    def told(self) -> dict[str, Any]:
        """How many classes the labels have, and without labels as many components as the evidence is for; and no full covariances
        for fewer rows than those need, unless they were asked for."""
        count = {"classes": len(self.classes)} if self.classes else {"components": "auto"} if self.uncounted else {}
        return count | ({"covariance": "diag"} if self.wide else {})

    def _is_wide(self, settings: dict[str, Any]) -> bool:
        if "covariance" in settings or settings.get("kind", "gaussian") != "gaussian":
            return False
        components = settings.get("components", len(self.classes) or COMPONENTS)
        count = components if isinstance(components, int) else COMPONENTS
        return len(self.table) < ROWS_A_COLUMN * len(self.table.columns) * count

    def feed(self, recipe: Recipe) -> None:
        """The rows as they are; no labelled one is left out of the sample, as far as it is large enough."""
        self.items = VectorItems(self.table.values, self.labels)
        chosen = self._some(SAMPLE)
        if self.labels is not None:
            known = np.flatnonzero(self.labels != UNKNOWN_LABEL)
            if len(known) > SAMPLE:
                known = np.random.default_rng(self.asked.seed).choice(known, SAMPLE, replace=False)
            chosen = np.union1d(chosen, known)
        self.sample = self.items.batch(chosen, self.device)

    def examine(self, model: Any) -> None:
        """Every cell is one that the model can learn from; and what takes a while next is said."""
        model.names = self.table.columns
        for start in range(0, len(self.table), BLOCK):
            rows = torch.from_numpy(as_floats(np.asarray(self.table.values[start : start + BLOCK])))
            model.check(rows, lambda row, start=start: self.table.place(start + row))
        if isinstance(model, ByEvidence):
            self.tell("note", text="comparing numbers of components by their evidence (--set components=N takes N)")
            model.listen = lambda done, total: self.tell("components", done=done, total=total)

    def facts(self) -> dict[str, Any]:
        """Counts, columns, fingerprint."""
        return {
            "location": location_of(self.data), "kind": self.table.kind, "items": len(self.table),
            "skipped": len(self.skipped), "columns": self.table.columns, "shape": self.table.shape,
            "fingerprint": self.fingerprint, **self._label_facts(),
        }  # fmt: skip

    def _label_facts(self) -> dict[str, Any]:
        if self.labels is None:
            return {}
        return {"labelled": int((self.labels != UNKNOWN_LABEL).sum()), "classes": list(self.classes)}

    def check(self, model: Any) -> None:
        """Tells how many components were taken, and why."""
        if model.evidence:
            self.tell("note", text=evidence_words(model.evidence))

    def model_facts(self, model: Any) -> dict[str, Any]:
        """What the model is, as far as it has a name and a size."""
        chosen = {"evidence": list(model.evidence)} if model.evidence else {}
        return {"encoder": {"name": model.__class__.__name__, "parameters": count_numbers(model)}, **chosen}

    def draw(self, model: Any, title: str, out: Path) -> None:
        """Who belongs to which component."""
        from withheld.evaluate.mixture_pictures import draw_mixture

        at = self._some(DRAWN)
        rows = as_floats(np.asarray(self.table.values[at]))
        draw_mixture(model, rows, self.table.columns, out, image_shape=self.table.shape, classes=self.classes)

    @staticmethod
    def first(settings: dict[str, Any], folder: Path) -> tuple[Any, Any]:
        """How many columns there were."""
        return len(settings["data"]["columns"]), None

    def _some(self, count: int) -> np.ndarray:
        """Positions of some rows, spread over the table; the seed decides which."""
        many = len(self.table)
        return np.sort(np.random.default_rng(self.asked.seed).choice(many, min(many, count), replace=False))

    def _label(self, labels: Any) -> None:
        """Reads the labels of some rows; they belong to the data, and to its fingerprint."""
        self.labels, self.classes = row_labels(labels, self.table)
        self.fingerprint = digest([self.fingerprint, self.labels.tobytes(), *self.classes])
        known = int((self.labels != UNKNOWN_LABEL).sum())
        shown = ", ".join(self.classes[:8]) + (" ..." if len(self.classes) > 8 else "")
        self.tell(
            "note",
            text=f"{known:,} of {len(self.table):,} rows {'has a label' if known == 1 else 'have labels'}: {shown}",
        )

    def _open(self) -> Vectors:
        if isinstance(self.data, str) and self.data.startswith("run:"):
            return features_of_run(self.data, self.device, self.tell)
        if is_table(self.data) and not _holds_images(self.data):
            return open_vectors(self.data, label_column(self.asked.labels))
        return self._pixels()

    def _pixels(self) -> Vectors:
        """Images at their own size, every pixel a column."""
        if isinstance(self.data, str) and named_modality(self.data) in ("text", "video"):
            raise InputError(
                f"{self.data!r} holds no rows of numbers: give a .csv, .tsv, .npy, .npz or .parquet file, images, or run:RUN for "
                "the features of a run on texts or clips"
            )
        source = open_source(self.data)
        source = source.part("test" if self.test else "train") or source
        asked = self.asked.size
        size = max(native_size(source)) if asked == "auto" else int(asked)
        if size > 64 and asked == "auto":
            raise InputError(
                f"{self.data}: images of {size} pixels are {size * size:,} columns each. Say --size 32 to take them smaller, "
                "or learn features first: withheld pretrain mae, then --data run:RUN"
            )
        prepared = prepare(
            source, size, None, progress=lambda done, total: self.tell("prepare", done=done, total=total)
        )
        self.skipped = prepared.skipped
        self.tell_skipped(plural(len(source) + len(source.left_out), "image"))
        images = np.asarray(prepared.images)
        shape = (int(images.shape[1]), size, size)
        columns = [f"{c}:{y}:{x}" for c in range(shape[0]) for y in range(size) for x in range(size)]
        values = images.reshape(len(images), -1)
        where = str(location_of(self.data))
        return Vectors(where, "images", values, columns, prepared.fingerprint, [], shape, list(prepared.names))


def leave_out_constants(table: Vectors) -> None:
    """Leaves out the named columns of a file whose known cells are all equal, with a note: no Gaussian has a density there.

    Arrays, pixels and features stay whole: their columns are places, and are matched by place later.
    """
    if table.kind not in NAMED or not len(table):
        return
    low = np.fmin.reduce(table.values, axis=0)  # NaN is passed over, and nothing is copied
    same = (low == np.fmax.reduce(table.values, axis=0)) & (len(table) > 1)
    if not same.any() or same.all():
        return
    for at in np.flatnonzero(same):
        table.notes.append(f"column {table.columns[at]!r} is constant ({low[at]:g}) and was left out")
    table.values = table.values[:, ~same]
    table.columns = [name for name, left in zip(table.columns, same, strict=True) if not left]


def features_of_run(data: str, device: torch.device, tell: Any) -> Vectors:
    """`run:RUN`: the features of the items that a run learned from, by its encoder; of a run of sentences, one a sentence.

    Raises:
        InputError: where RUN is no run, keeps no encoder, or its data is gone.
    """
    from withheld.evaluate.kept import kept_features
    from withheld.run import open_run

    run = open_run(data[4:])
    encoder = run.encoder().to(device).eval()
    names, items, fingerprint = _learned_from(run.settings["data"]["location"], encoder, tell)
    what, how = plural(len(names), "item"), parted_as(run.settings)
    if how is not None and how != "documents":
        texts = what.replace("item", "text")
        names, items = _sentences(names, items, how)
        what = f"{plural(len(names), 'passage' if how == 'passages' else 'sentence')} of {texts}, as it learned them,"
        fingerprint = digest([fingerprint, "sentences", how])
    tell("note", text=f"features of {what} by {encoder.name}")
    values = kept_features(encoder, items, lambda event: tell(**event))
    weights = digest([p.detach().cpu().numpy().tobytes() for p in encoder.parameters()])
    columns = [f"feature{i}" for i in range(values.shape[1])]
    return Vectors(data, "features", values, columns, digest([fingerprint, weights]), names=names)


def _learned_from(location: str, encoder: Any, tell: Any) -> tuple[list[str], Any, str]:
    """Names and decoded items of what a run of images, texts or clips learned from; and their fingerprint."""
    from withheld.evaluate.judged import judged

    if encoder.modality != "image":
        kind = judged(encoder)
        whole = kind.open(location)
        part = whole.part("train") or whole
        items, kept = kind.decode(part, lambda event: tell(**event))
        return [part.names[int(i)] for i in kept], items, part.fingerprint
    source = open_source(location)
    prepared = prepare(
        source.part("train") or source, encoder.size, encoder.channels, scale=encoder.scale,
        progress=lambda done, total: tell("prepare", done=done, total=total),
    )  # fmt: skip
    return list(prepared.names), prepared.images, prepared.fingerprint


def _sentences(names: Sequence[str], texts: Sequence[str], how: str) -> tuple[list[str], Any]:
    """Sentences of texts, named such as "notes.txt:17", counted from 0."""
    named, found = [], []
    for name, text in zip(names, texts, strict=True):
        parts = sentences_of(text, how)
        named += [f"{name}:{i}" for i in range(len(parts))] if len(parts) > 1 else [name] * len(parts)
        found += parts
    return named, np.array([*found, None], dtype=object)[:-1]


def _holds_images(data: Any) -> bool:
    """A .npy of more than two axes, and a Parquet file whose only content is pictures."""
    if not isinstance(data, str | os.PathLike):
        return len(getattr(data, "shape", ())) > 2
    path = Path(data)
    if not path.is_file():
        return False
    if path.suffix.lower() == ".npy":
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False).ndim > 2
        except (ValueError, OSError):
            return False
    if path.suffix.lower() in (".parquet", ".pq"):
        import pyarrow as pa
        import pyarrow.parquet as reader
        import pyarrow.types as kinds

        try:
            schema = reader.read_schema(path)
        except (pa.ArrowException, OSError, ValueError):
            return False
        return not any(_is_numbers(field, kinds) for field in schema)
    return False


def _is_numbers(field: Any, kinds: Any) -> bool:
    if kinds.is_list(field.type) or kinds.is_fixed_size_list(field.type) or kinds.is_large_list(field.type):
        return True
    return field.name.lower() not in LABEL_COLUMNS and (kinds.is_integer(field.type) or kinds.is_floating(field.type))
