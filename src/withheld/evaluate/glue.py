"""GLUE: encoders fine-tuned on each task, each against the same network from scratch, and tf-idf, over seeds.

Shapes: N rows, K classes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from withheld.data.glue import TASKS, Examples, Sets, chosen_tasks, find_tasks, read_task
from withheld.data.source import digest
from withheld.errors import Diverged, InputError
from withheld.evaluate.classify import cross_entropy, loop_of
from withheld.evaluate.classify_text import LabelledTexts, label_outputs, text_objective, text_recipe
from withheld.evaluate.features import Listen, silent
from withheld.evaluate.glue_metrics import glue_metrics, sampled_items, write_submission
from withheld.evaluate.glue_table import DEV, GlueRow
from withheld.evaluate.language import language_model
from withheld.evaluate.results import add_results
from withheld.json_lines import read_lines
from withheld.objective import Objective
from withheld.provenance import command_line, commit_of_code
from withheld.text_encoder import TextEncoder

EPOCHS = 3.0
MOST = 128
"""Tokens of a row."""
Measured = tuple[dict[str, float], str]
"""Metrics by "part metric", and the guesses of the first part, as results.jsonl keeps them: a digit a row, or scores."""
Measure = Callable[[], Measured]
TFIDF, SCRATCH = "tf-idf", "from scratch"


@dataclass(frozen=True)
class HalfSquaredScore:
    """Squared error of a score in 0..5, scaled to 0..1: -log of a Gaussian, up to scale and constant."""

    def __call__(self, prediction: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(prediction.squeeze(1), y.float() / 5)


def glue(
    subject: Any, folder: str | Path, *, tasks: str | None = None, against: Sequence[Any] = (), seeds: int = 5,
    rows: int | None = None, epochs: float = EPOCHS, submit: str | Path | None = None, results: str | Path | None = None,
    device: str = "auto", listen: Listen = silent,
) -> list[GlueRow]:  # fmt: skip
    """Dev scores of fine-tuning, of the same networks from scratch, and of tf-idf with a linear model.

    Args:
        subject: a run on text, an encoder folder or a transformers id.
        folder: holds the folders of the tasks as published.
        tasks: "sst2,cola"; None takes those that are there.
        against: others like `subject`; each architecture has its own row from scratch.
        seeds: of heads, order and dropout. rows: of training at most, a seeded sample; None takes all.
        epochs: of fine-tuning. submit: a folder for the server's files, by the subject's first seed.
        results: a results.jsonl; what it holds already is not measured again.
        listen: is told what happens.

    Returns:
        Our rows of the table.

    Raises:
        InputError: for the subject, a task that is not there, or files that are wrong.
    """
    encoders = _named([language_model(one, device, words=False) for one in (subject, *against)])
    found = chosen_tasks(find_tasks(folder), tasks)
    first = next(iter(encoders))
    systems: dict[str, str] = {}
    for system, encoder in encoders.items():
        systems[system] = _print_of(encoder)
        built = _print_of(encoder, weights=False)
        if built not in systems.values():  # runs of one architecture share their twin
            systems[_from_scratch(system)] = built
    systems[TFIDF] = ""
    book = _Book(Path(results) if results else None, {"rows": rows, "epochs": epochs}, systems)
    table = {name: GlueRow(name, DEV, {}) for name in systems}
    for name, path in found.items():
        sets = read_task(path, TASKS[name])
        for note in sets.notes:
            listen({"kind": "note", "text": note})
        train, shown = _sampled(sets.parts["train"], rows), _print_of_rows(sets)
        if rows is not None and len(train) < len(sets.parts["train"]):
            listen({"kind": "note", "text": f"{sets.task.title}: {len(train):,} of {len(sets.parts['train']):,} rows"})
        guesses: dict[str, list[str]] = {}
        for system, row in table.items():
            for seed in range(1 if system == TFIDF else seeds):
                out = Path(submit) if submit and seed == 0 and system == first else None
                measure = _measure_of(system, encoders, sets, train, seed, epochs, out, listen)
                again = out is not None and not _answered(out, sets)
                values, guess = book.get(name, system, seed, shown, measure, again)
                _put(row, name, sets, values)
                guesses.setdefault(system, []).append(guess)
                told = ", ".join(f"{metric} {value:.1f}" for metric, value in values.items())
                listen({"kind": "note", "text": f"{sets.task.title}, {system}, seed {seed}: {told}"})
        pairs = list(zip(guesses[first], guesses[_from_scratch(first)], strict=True))
        label = sets.parts[sets.checked[0]].label
        if label is not None and all(a and b for a, b in pairs):  # older results do not say
            both = [(_untold(sets, a), _untold(sets, b)) for a, b in pairs]
            table[first].items[name] = sampled_items(sets.task, label, both)
    return list(table.values())


def _answered(folder: Path, sets: Sets) -> bool:
    """Whether the server's files of a task are there."""
    return all((folder / file).is_file() for part, file in sets.task.submission.items() if part in sets.parts)


def _from_scratch(system: str) -> str:
    return f"{system}, {SCRATCH}"


def _named(encoders: list[TextEncoder]) -> dict[str, TextEncoder]:
    """Encoders by name; where two have the same, the later ones are numbered."""
    found: dict[str, TextEncoder] = {}
    for encoder in encoders:
        number = sum(name == encoder.name or name.startswith(f"{encoder.name} (") for name in found)
        found[f"{encoder.name} ({number + 1})" if number else encoder.name] = encoder
    return found


def _print_of(encoder: TextEncoder, weights: bool = True) -> str:
    """Tells encoders apart that have the same name: by their weights, or by how they are built."""
    model = encoder.trunk.model
    parts: list[Any] = [model.config.to_dict(), encoder.tokenizer.backend_tokenizer.to_str()]
    if weights:
        parts += [hashlib.sha256(part.cpu().contiguous().view(torch.uint8).numpy()).hexdigest()
                  for part in model.state_dict().values()]  # fmt: skip
    return digest(parts)[:16]


def _print_of_rows(sets: Sets) -> str:
    """Tells files of the same task apart: by what is learned from and compared with."""
    parts: list[Any] = []
    for name in ("train", *sets.checked):
        examples = sets.parts[name]
        label = [] if examples.label is None else examples.label.tolist()
        parts += [name, *examples.first, *examples.second, *label]
    return digest(parts)[:16]


def _measure_of(
    system: str, encoders: dict[str, TextEncoder], sets: Sets, train: Examples, seed: int, epochs: float,
    submit: Path | None, listen: Listen,
) -> Measure:  # fmt: skip
    if system == TFIDF:
        return lambda: _tfidf(sets, train)
    if system in encoders:
        return lambda: fine_tuned(encoders[system], sets, train, seed, epochs, submit, listen)
    twin = next(encoder for name, encoder in encoders.items() if _from_scratch(name) == system)
    return lambda: fine_tuned(twin.fresh(seed), sets, train, seed, epochs, submit, listen, scratch=True)


def fine_tuned(
    encoder: TextEncoder, sets: Sets, train: Examples, seed: int, epochs: float, submit: Path | None, listen: Listen,
    *, scratch: bool = False,
) -> Measured:  # fmt: skip
    """Metrics and guesses of one fine-tuning; the learning rate is the encoder's width's, nothing is chosen on dev."""
    torch.manual_seed(seed)
    classes = len(sets.task.classes)
    loss: Any = cross_entropy if classes else HalfSquaredScore()
    objective = text_objective(encoder, max(1, classes), loss=loss, pairs=sets.task.pair, scratch=scratch)
    items = _items(encoder, sets, train)
    recipe = text_recipe(encoder)
    steps = max(1, round(epochs * len(items) / recipe.batch_size))
    loop = loop_of(objective, items, recipe, steps=steps, seed=seed, device=encoder.device)
    try:
        loop.run(None, lambda line: listen({"kind": "step", **line}))
    except Diverged:
        listen({"kind": "note", "text": f"{sets.task.title}, seed {seed}: diverged, measured as it was then"})
    tested = [name for name in sets.task.submission if name in sets.parts] if submit else []
    guesses = {part: _guess(objective, encoder, sets, part) for part in [*sets.checked, *tested]}
    if submit and tested:
        write_submission(submit, sets, {part: guesses[part] for part in tested})
    return _metrics(sets, guesses), _told(sets, guesses)


def _items(encoder: TextEncoder, sets: Sets, examples: Examples) -> LabelledTexts:
    both = sets.task.symmetric
    return LabelledTexts(encoder, examples.first, examples.second, examples.label, both_orders=both, most=MOST)


def _guess(objective: Objective, encoder: TextEncoder, sets: Sets, part: str) -> NDArray[Any]:
    out = label_outputs(objective, _items(encoder, sets, sets.parts[part]))
    return np.asarray(out.argmax(dim=1) if sets.task.classes else 5 * out.squeeze(1))


def _tfidf(sets: Sets, train: Examples) -> Measured:
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
    guesses = {part: model.predict(seen(sets.parts[part])) for part in sets.checked}
    return _metrics(sets, guesses), _told(sets, guesses)


def _told(sets: Sets, guesses: dict[str, NDArray[Any]]) -> str:
    first = guesses[sets.checked[0]]
    return "".join(map(str, first.astype(int))) if sets.task.classes else " ".join(f"{value:.2f}" for value in first)


def _untold(sets: Sets, text: str) -> NDArray[Any]:
    return np.array(list(text), np.int64) if sets.task.classes else np.array(text.split(), np.float64)


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

    def __init__(self, path: Path | None, settings: dict[str, Any], systems: dict[str, str]) -> None:
        self.path, self.settings, self.systems = path, settings, systems
        self.known: dict[tuple[str, str | None], Measured] = {}
        for line in [] if path is None else read_lines(path):
            if line.get("kind") == "glue" and line.get("settings") == self._settings(line["system"]):
                key = self._key(line["task"], line["system"], line["seed"]), line.get("data")
                self.known[key] = line["values"], line.get("guesses", "")

    def get(self, task: str, system: str, seed: int, data: str, measure: Measure, again: bool = False) -> Measured:
        """A number that is there, or a new one; `again` measures in any case, for what else that does.

        Older lines do not say of which files they are: they are taken to be of these.
        """
        plain = self._key(task, system, seed)
        key = (plain, None) if (plain, data) not in self.known and (plain, None) in self.known else (plain, data)
        if key not in self.known or again:
            begun = time.monotonic()
            self.known[key] = values, guesses = measure()
            line = {
                "kind": "glue", "task": task, "system": system, "seed": seed, "data": data, "values": values, "guesses": guesses,
                "settings": self._settings(system), "seconds": round(time.monotonic() - begun, 1), "commit": commit_of_code(),
                "command": command_line(),
            }  # fmt: skip
            add_results(self.path, line)
        return self.known[key]

    def _settings(self, system: str) -> dict[str, Any]:
        return {**self.settings, "encoder": self.systems.get(system)}

    @staticmethod
    def _key(task: str, system: str, seed: int) -> str:
        return f"{task}|{system}|{seed}"
