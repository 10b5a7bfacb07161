"""From an encoder and labelled items to a classifier that labels the rest."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from withheld.aloud import Listen, aloud
from withheld.data.classes import doubtful_classes
from withheld.data.few import TESTED, few_label_splits
from withheld.data.rows import take
from withheld.errors import InputError
from withheld.evaluate.classifier import Classifier as Classifier
from withheld.evaluate.classifier import predict as predict
from withheld.evaluate.classify import ItemClassifier, loop_of
from withheld.evaluate.features import as_encoder, features
from withheld.evaluate.few_label import LinearProbe, check_labelled
from withheld.evaluate.guesses import with_guesses
from withheld.evaluate.judged import Judged, judged
from withheld.evaluate.labelled import labels_of
from withheld.provenance import location_of
from withheld.types import UNKNOWN_LABEL
from withheld.wording import plural

DEFAULT_MINUTES = 10.0
EPOCHS, EPOCHS_GUESSED = 30.0, 5.0
FEWEST_STEPS, MOST_HELD_OUT, MOST_PROBED, FEW_TESTED = 100, 10_000, 5000, 100


@dataclass
class Known:
    """Labelled items, decoded.

    Attributes:
        items: (N, ...) as the encoder takes them. labels: (N,). classes: their names. parts: (N,) or None.
    """

    items: Any
    labels: np.ndarray
    classes: list[str]
    parts: np.ndarray | None

    def __len__(self) -> int:
        return len(self.labels)


def finetune(
    subject: Any, data: Any, out: str | Path, *, labels: bool | str | Path = True, unlabelled: Any = None,
    minutes: float | None = None, epochs: float | None = None, steps: int | None = None, seed: int = 0,
    device: str = "auto", listen: Listen | bool = True,
) -> Path:  # fmt: skip
    """Fine-tunes an encoder on all labelled items and writes a model folder.

    Its accuracy is measured on the test part of the data (or val and no test), or on a stratified tenth that is held
    out; it is told and kept in model.json.

    Args:
        subject: a run folder, an encoder folder, a transformers id or an `Encoder`.
        data: labelled: class folders, labels.csv, IDX, a table of texts with a column of labels, hub data,
            (items, labels), a table or Dataset in memory.
        out: the model folder to make.
        labels: True, or a csv with the columns file and label; of a table, its column of labels.
        unlabelled: items of the same kind, whose labels are guessed and learned from too (`guesses.with_guesses`).
        minutes, epochs, steps: how long, one of the three; by default 30 epochs, 5 with guesses, in at most 10 minutes.
        seed: of the held-out items, the order and the augmentation.
        device: "auto", "cpu", "cuda", "mps".
        listen: True shows progress on stderr; False is silent; a function is told what happens.

    Returns:
        The model folder.

    Raises:
        InputError: for the subject, the data, or a folder that is in use.
    """
    check_asked(Path(out), minutes=minutes, epochs=epochs, steps=steps)
    with aloud(listen) as hear:
        return _finetuned(subject, data, Path(out), labels, unlabelled, (minutes, epochs, steps), seed, device, hear)


def _finetuned(
    subject: Any, data: Any, out: Path, labels: bool | str | Path, unlabelled: Any,
    length: tuple[float | None, float | None, int | None], seed: int, device: str, listen: Listen,
) -> Path:  # fmt: skip
    encoder = as_encoder(subject, device)
    kind = judged(encoder)
    kind.pooled = True
    known = _labelled(data, labels, kind, listen)
    learn, test = held_out(known, seed)
    items, answers = take(known.items, learn), known.labels[learn]
    some = np.random.default_rng(seed).permutation(len(learn))[:MOST_PROBED]
    probe = LinearProbe(len(known.classes), seed).fit(features(encoder, items[some], listen=listen), answers[some])
    started = time.monotonic()
    guessed = 0
    if unlabelled is not None:
        items, answers, guessed = with_guesses(
            kind, items, answers, len(known.classes), known, unlabelled, seed, listen
        )
    torch.manual_seed(seed)
    loop = loop_of(
        kind.objective(encoder, len(known.classes)), kind.items(encoder, items, answers), kind.recipe(encoder, False),
        steps=1, seed=seed, device=encoder.device, probe=probe,
    )  # fmt: skip
    # people's labels are seen as often as without guesses
    usual = max(EPOCHS_GUESSED, EPOCHS * len(learn) / len(answers))
    loop.steps = _steps(loop, len(answers), *length, usual if guessed else EPOCHS)
    beside = f" and {guessed:,} guessed ones" if guessed else ""
    told = f"fine-tuning on {plural(len(learn), 'labelled item')}{beside}, {plural(loop.steps, 'step')}"
    listen({"kind": "note", "text": told})
    loop.run(None, lambda line: listen({"kind": "step", **line}))
    model = _classifier(loop, kind, known.classes)
    accuracy = _accuracy(model, known, test)
    model.settings = {
        "data": location_of(data)[:500], "labelled": len(learn), "guessed": guessed, "held_out": len(test),
        "accuracy": accuracy, "steps": loop.steps, "seed": seed, "seconds": round(time.monotonic() - started, 1),
        "encoder": encoder.name,
    }  # fmt: skip
    model.to(torch.device("cpu"))
    model.save(out)
    listen({"kind": "note", "text": _told(accuracy, test, known)})
    return out


def held_out(found: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions to learn from and to be tested on: the data's own test part, or val where it has no test, as in a verdict;
    else a stratified tenth.

    A class with fewer than 5 items gives none away, so that few labels are all learned from.

    Args:
        found: what has labels (N,) and parts, (N,) or None.
    """
    labels, parts = found.labels, found.parts
    known = labels != UNKNOWN_LABEL
    if parts is not None and any((known & (parts == n)).any() and (known & (parts != n)).any() for n in TESTED):
        split = few_label_splits(labels, parts, None, 1, MOST_HELD_OUT)[0]
        return split.train, split.test
    generator = np.random.default_rng([seed, 0xF1])
    learn, test = [], []
    for label in np.unique(labels[known]):
        mixed = generator.permutation(np.flatnonzero(labels == label))
        cut = max(1, len(mixed) // 10) if len(mixed) >= 5 else 0
        test.append(mixed[:cut])
        learn.append(mixed[cut:])
    return np.sort(np.concatenate(learn)), np.sort(np.concatenate(test))


def check_asked(out: Path, **lengths: float | None) -> None:
    """Says so where a model cannot be made as asked.

    Raises:
        InputError: more than one length, one that is not above 0, or an output that exists.
    """
    given = {name: value for name, value in lengths.items() if value is not None}
    if len(given) > 1:
        raise InputError(f"give one of minutes, epochs and steps, not {' and '.join(given)}")
    for name, value in given.items():
        if not value > 0:
            raise InputError(f"{name}={value} must be above 0")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out} exists and is not an empty folder: choose another")


def _labelled(data: Any, labels: bool | str | Path, kind: Judged, listen: Listen) -> Known:
    source = kind.open(data, labels)
    source = source.subset(np.flatnonzero(labels_of(source) != UNKNOWN_LABEL))
    for remark in source.notes + doubtful_classes(source.classes):
        listen({"kind": "note", "text": remark})
    items, kept = kind.decode(source, listen)
    known = Known(items, labels_of(source)[kept], source.classes, None if source.parts is None else source.parts[kept])
    check_labelled(np.zeros((len(known), 1)), known.labels)
    if len(known) > 20 and len(np.unique(known.labels)) > len(known) / 2:
        raise InputError(
            f"{source.location}: {plural(len(np.unique(known.labels)), 'different label')} on {plural(len(known), 'item')}: this "
            "is a name or a number and no class; name another column or csv with --labels"
        )
    return known


def _steps(
    loop: Any, items: int, minutes: float | None, epochs: float | None, steps: int | None, usual: float = EPOCHS
) -> int:
    if steps is not None:
        return steps
    wanted = max(FEWEST_STEPS if epochs is None else 1, round((epochs or usual) * items / loop.recipe.batch_size))
    if epochs is not None:
        return wanted
    affordable = max(1, int((minutes or DEFAULT_MINUTES) * 60 / loop.seconds_per_step(2, 0.5)))
    return affordable if minutes is not None else min(wanted, affordable)


def _accuracy(model: Classifier, known: Known, test: np.ndarray) -> float | None:
    if not len(test):
        return None
    names, _ = model.of_encoded(features(model.encoder, take(known.items, test)))
    return float((names == np.array(known.classes)[known.labels[test]]).mean())


def _classifier(loop: Any, kind: Judged, classes: list[str]) -> Classifier:
    network: ItemClassifier = loop.objective.network
    tuned = kind.tuned(network.trunk, f"{kind.encoder.name} fine-tuned")
    head = (network.mean, network.scale, network.head.weight.data, network.head.bias.data)
    return Classifier(tuned, *head, classes).to(kind.encoder.device).eval()


def _told(accuracy: float | None, test: np.ndarray, known: Known) -> str:
    if accuracy is None:
        return "accuracy: not measured, there are too few labelled items to hold any out"
    part = next((n for n in TESTED if known.parts is not None and (known.parts[test] == n).all()), None)
    where = f"items of the {part} part" if part else "labelled items that were held out"
    few = (
        f"; by which items these are it moves by up to {100 / np.sqrt(len(test)):.0f} points"
        if len(test) < FEW_TESTED
        else ""
    )
    return f"accuracy: {100 * accuracy:.1f} % of {len(test)} {where}{few}"
