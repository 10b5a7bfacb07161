"""GLUE: an encoder fine-tuned on each task, against the same network from scratch and tf-idf, over seeds.

Shapes: N rows, K classes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from withheld.data.glue import TASKS, Examples, Sets, chosen_tasks, find_tasks, read_task
from withheld.errors import Diverged, InputError
from withheld.evaluate.classify import ItemClassifier, cross_entropy, loop_of
from withheld.evaluate.classify_text import AskTextLabel, text_recipe
from withheld.evaluate.features import Listen, silent
from withheld.evaluate.glue_metrics import glue_metrics, write_submission
from withheld.evaluate.glue_table import DEV, GlueRow
from withheld.evaluate.language import language_model
from withheld.learn.checkpoint import writing
from withheld.objective import Objective
from withheld.provenance import command_line, commit_of_code
from withheld.text_encoder import TextEncoder

EPOCHS = 3.0
MOST = 128
"""Tokens of a row."""
TFIDF, SCRATCH = "tf-idf", "from scratch"


@dataclass(frozen=True)
class HalfSquaredScore:
    """Squared error of a score in 0..5, scaled to 0..1: -log of a Gaussian, up to scale and constant."""

    def __call__(self, prediction: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(prediction.squeeze(1), y.float() / 5)


class Rows:
    """One or two texts a row, as the loop asks for them."""

    def __init__(self, encoder: TextEncoder, examples: Examples) -> None:
        self.pad = encoder.pad
        self.rows, self.kinds = encoder.pair_rows(examples.first, examples.second, MOST)
        self.label = examples.label

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: NDArray[np.int64], device: Any) -> dict[str, Tensor]:
        """ "item", "mask", "kind" (B, L) and "label" (B,)."""
        from withheld.data.tokens import padded

        t = padded([self.rows[i] for i in index], self.pad, device)
        t["kind"] = padded([self.kinds[i] for i in index], 0, device)["item"]
        if self.label is not None:
            t["label"] = torch.from_numpy(self.label[np.asarray(index)]).to(device)
        return t


def glue(
    subject: Any, folder: str | Path, *, tasks: str | None = None, seeds: int = 5, rows: int | None = None,
    epochs: float = EPOCHS, submit: str | Path | None = None, results: str | Path | None = None, device: str = "auto",
    listen: Listen = silent,
) -> list[GlueRow]:  # fmt: skip
    """Dev scores of fine-tuning, of the same network from scratch, and of tf-idf with a linear model.

    Args:
        subject: a run on text, an encoder folder or a transformers id.
        folder: holds the folders of the tasks as published.
        tasks: "sst2,cola"; None takes those that are there.
        seeds: of heads, order and dropout. rows: of training at most, a seeded sample; None takes all.
        epochs: of fine-tuning. submit: a folder for the server's files, by the first seed.
        results: a results.jsonl; what it holds already is not measured again.
        listen: is told what happens.

    Returns:
        Our rows of the table.

    Raises:
        InputError: for the subject, a task that is not there, or files that are wrong.
    """
    encoder = language_model(subject, device)
    found = chosen_tasks(find_tasks(folder), tasks)
    book = _Book(Path(results) if results else None, {"rows": rows, "epochs": epochs, "encoder": encoder.name})
    table = {name: GlueRow(name, DEV, {}) for name in (encoder.name, SCRATCH, TFIDF)}
    for name, path in found.items():
        sets = read_task(path, TASKS[name])
        for note in sets.notes:
            listen({"kind": "note", "text": note})
        train = _sampled(sets.parts["train"], rows)
        if rows is not None and len(train) < len(sets.parts["train"]):
            listen({"kind": "note", "text": f"{sets.task.title}: {len(train):,} of {len(sets.parts['train']):,} rows"})
        for system, row in table.items():
            many = 1 if system == TFIDF else seeds
            for seed in range(many):
                measure = _measure_of(system, encoder, sets, train, seed, epochs, submit, listen)
                values = book.get(name, system, seed, measure)
                _put(row, name, sets, values)
                told = ", ".join(f"{metric} {value:.1f}" for metric, value in values.items())
                listen({"kind": "note", "text": f"{sets.task.title}, {system}, seed {seed}: {told}"})
    return list(table.values())


def _measure_of(
    system: str, encoder: TextEncoder, sets: Sets, train: Examples, seed: int, epochs: float, submit: Any, listen: Listen
) -> Callable[[], dict[str, float]]:  # fmt: skip
    if system == TFIDF:
        return lambda: _tfidf(sets, train)
    start = encoder if system != SCRATCH else encoder.fresh(seed)
    out = Path(submit) if submit and seed == 0 and system != SCRATCH else None
    return lambda: fine_tuned(start, sets, train, seed, epochs, out, listen)


def fine_tuned(
    encoder: TextEncoder, sets: Sets, train: Examples, seed: int, epochs: float, submit: Path | None, listen: Listen
) -> dict[str, float]:
    """Metrics by "part metric" of one fine-tuning; the learning rate is the encoder's width's, nothing is chosen on dev."""
    torch.manual_seed(seed)
    classes = len(sets.task.classes)
    loss: Any = cross_entropy if classes else HalfSquaredScore()
    objective = Objective(AskTextLabel(), ItemClassifier(encoder.copy().trunk, max(1, classes)), loss)
    items = Rows(encoder, train)
    recipe = text_recipe(encoder)
    steps = max(1, round(epochs * len(items) / recipe.batch_size))
    loop = loop_of(objective, items, recipe, steps=steps, seed=seed, device=encoder.device)
    try:
        loop.run(None, lambda line: listen({"kind": "step", **line}))
    except Diverged:
        listen({"kind": "note", "text": f"{sets.task.title}, seed {seed}: diverged, measured as it was then"})
    tested = [name for name in sets.task.submission if name in sets.parts] if submit else []
    guesses = {part: _guess(objective, Rows(encoder, sets.parts[part]), classes) for part in [*sets.checked, *tested]}
    if submit and tested:
        write_submission(submit, sets, {part: guesses[part] for part in tested})
    return _metrics(sets, guesses)


@torch.no_grad()
def _guess(objective: Objective, items: Rows, classes: int) -> NDArray[Any]:
    objective.eval()
    device = next(objective.parameters()).device
    order = np.argsort([len(row) for row in items.rows], kind="stable")
    found = np.zeros(len(items))
    for first in range(0, len(order), 128):
        index = order[first : first + 128]
        split: Any = objective.split
        out = objective.network(split.seen_of(items.batch(index, device))).float()
        found[index] = (out.argmax(dim=1) if classes else 5 * out.squeeze(1)).cpu().numpy()
    return found.astype(np.int64) if classes else found


def _tfidf(sets: Sets, train: Examples) -> dict[str, float]:
    """Words and pairs of words with logistic or ridge regression; of pairs, also what both texts share."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge

    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2, max_features=50_000)
    vectorizer.fit([*train.first, *train.second])

    def seen(examples: Examples) -> Any:
        first = vectorizer.transform(examples.first)
        if not examples.second:
            return first
        second = vectorizer.transform(examples.second)
        shared = first.multiply(second)
        return hstack([first, second, shared, shared.sum(axis=1)]).tocsr()

    classes = sets.task.classes
    model: Any = LogisticRegression(C=10, max_iter=300) if classes else Ridge(1.0)
    model.fit(seen(train), train.label)
    return _metrics(sets, {part: model.predict(seen(sets.parts[part])) for part in sets.checked})


def _metrics(sets: Sets, guesses: dict[str, NDArray[Any]]) -> dict[str, float]:
    found = {}
    for part in sets.checked:
        label = sets.parts[part].label
        if label is None:
            raise InputError(f"{sets.task.title}: the {part} file has no labels to compare with")
        for metric, value in glue_metrics(sets.task, guesses[part], label).items():
            found[f"{part} {metric}"] = value
    return found


def _put(row: GlueRow, name: str, sets: Sets, values: dict[str, float]) -> None:
    metric = sets.task.metrics[0]
    first, *second = sets.checked
    row.values.setdefault(name, []).append(values[f"{first} {metric}"])
    if second:
        row.second.setdefault(name, []).append(values[f"{second[0]} {metric}"])


def _sampled(examples: Examples, most: int | None) -> Examples:
    if most is None or most >= len(examples):
        return examples
    return examples.subset(np.sort(np.random.default_rng(0).permutation(len(examples))[:most]))


class _Book:
    """Every number as it is measured; a table that was stopped goes on where it was."""

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.known: dict[str, dict[str, float]] = {}
        if path is not None and path.is_file():
            for text in path.read_text(encoding="utf-8").splitlines():
                line = json.loads(text) if text.startswith("{") else {}
                if line.get("kind") == "glue" and line.get("settings") == settings:
                    self.known[self._key(line["task"], line["system"], line["seed"])] = line["values"]

    def get(self, task: str, system: str, seed: int, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """A number that is there, or a new one."""
        key = self._key(task, system, seed)
        if key not in self.known:
            begun = time.monotonic()
            self.known[key] = measure()
            line = {
                "kind": "glue", "task": task, "system": system, "seed": seed, "values": self.known[key],
                "settings": self.settings, "seconds": round(time.monotonic() - begun, 1), "commit": commit_of_code(),
                "command": command_line(),
            }  # fmt: skip
            if self.path is not None:
                with writing(self.path), self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
        return self.known[key]

    @staticmethod
    def _key(task: str, system: str, seed: int) -> str:
        return f"{task}|{system}|{seed}"
