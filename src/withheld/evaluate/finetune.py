"""From an encoder and labelled items to a classifier that labels the rest."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from withheld.data.few import few_label_splits
from withheld.data.image import ImageItems
from withheld.data.prepared import Prepared, prepare
from withheld.data.source import open_source
from withheld.errors import InputError
from withheld.evaluate.classifier import Classifier as Classifier
from withheld.evaluate.classifier import predict as predict
from withheld.evaluate.classify import FINE_TUNE, ItemClassifier, class_probabilities, classifier_loop
from withheld.evaluate.features import Listen, as_image_encoder, features, silent
from withheld.evaluate.few_label import LinearProbe, check_labelled
from withheld.image_encoder import ImageEncoder
from withheld.types import UNKNOWN_LABEL

DEFAULT_MINUTES = 10.0
EPOCHS = 30.0
FEWEST_STEPS, MOST_HELD_OUT, MOST_PROBED = 100, 10_000, 5000


def finetune(
    subject: Any, data: Any, out: str | Path, *, labels: bool | str | Path = True, minutes: float | None = None,
    epochs: float | None = None, steps: int | None = None, seed: int = 0, device: str = "auto", listen: Listen = silent,
) -> Path:  # fmt: skip
    """Fine-tunes an encoder on all labelled items and writes a model folder.

    Its accuracy is measured on the test part of the data, or on a stratified tenth that is held out; it is told to
    `listen` and kept in model.json.

    Args:
        subject: a run folder, an encoder folder, a transformers id or an `ImageEncoder`.
        data: labelled: class folders, labels.csv, IDX, hub data, arrays.
        out: the model folder to make.
        labels: True, or a csv with the columns file and label.
        minutes, epochs, steps: how long, one of the three; by default 30 epochs, in at most 10 minutes.
        seed: of the held-out items, the order and the augmentation.
        device: "auto", "cpu", "cuda", "mps".
        listen: is told what happens.

    Returns:
        The model folder.

    Raises:
        InputError: for the subject, the data, or a folder that is in use.
    """
    out = Path(out)
    _check(out, minutes=minutes, epochs=epochs, steps=steps)
    encoder = as_image_encoder(subject, device)
    prepared = _labelled(data, labels, encoder, listen)
    learn, test = held_out(prepared, seed)
    images, known = prepared.subset(learn).images, prepared.labels[learn]  # type: ignore[index]
    some = np.random.default_rng(seed).permutation(len(learn))[:MOST_PROBED]
    probe = LinearProbe(len(prepared.classes), seed).fit(features(encoder, images[some], listen=listen), known[some])
    started = time.monotonic()
    loop = classifier_loop(
        encoder, images, known, len(prepared.classes), FINE_TUNE, steps=1, seed=seed, device=encoder.device, probe=probe
    )
    loop.steps = _steps(loop, len(learn), minutes, epochs, steps)
    listen({"kind": "note", "text": f"fine-tuning on {len(learn)} labelled items, {loop.steps} steps"})
    loop.run(None, lambda line: listen({"kind": "step", **line}))
    accuracy = _accuracy(loop, encoder, prepared, test)
    model = _classifier(loop, encoder, prepared.classes)
    model.settings = {
        "data": str(data)[:500], "labelled": len(learn), "held_out": len(test), "accuracy": accuracy,
        "steps": loop.steps, "seed": seed, "seconds": round(time.monotonic() - started, 1), "encoder": encoder.name,
    }  # fmt: skip
    model.save(out)
    listen({"kind": "note", "text": _told(accuracy, len(test), prepared)})
    return out


def held_out(prepared: Prepared, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions to learn from and to be tested on: the data's own test part, else a stratified tenth.

    A class with fewer than 5 items gives none away, so that few labels are all learned from.
    """
    labels, parts = prepared.labels, prepared.parts
    assert labels is not None  # noqa: S101 - `_labelled` has seen to it
    known = labels != UNKNOWN_LABEL
    if parts is not None and (known & (parts == "test")).any() and (known & (parts != "test")).any():
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


def _check(out: Path, **lengths: float | None) -> None:
    given = {name: value for name, value in lengths.items() if value is not None}
    if len(given) > 1:
        raise InputError(f"give one of minutes, epochs and steps, not {' and '.join(given)}")
    for name, value in given.items():
        if not value > 0:
            raise InputError(f"{name}={value} must be above 0")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out} exists and is not an empty folder: choose another")


def _labelled(data: Any, labels: bool | str | Path, encoder: ImageEncoder, listen: Listen) -> Prepared:
    source = open_source(data, labels=labels)
    if source.labels is None or not (source.labels != UNKNOWN_LABEL).any():
        raise InputError(
            f"{source.location} has no labels: put the files into a folder per class, or name a csv (file,label) "
            "with --labels"
        )
    source = source.subset(np.flatnonzero(source.labels != UNKNOWN_LABEL))
    tell = lambda done, total: listen({"kind": "prepare", "done": done, "total": total})  # noqa: E731
    prepared = prepare(source, encoder.size, encoder.channels, scale=encoder.scale, progress=tell)
    assert prepared.labels is not None  # noqa: S101 - the source has labels
    check_labelled(np.zeros((len(prepared), 1)), prepared.labels)
    return prepared


def _steps(loop: Any, items: int, minutes: float | None, epochs: float | None, steps: int | None) -> int:
    if steps is not None:
        return steps
    wanted = max(FEWEST_STEPS if epochs is None else 1, round((epochs or EPOCHS) * items / loop.recipe.batch_size))
    if epochs is not None:
        return wanted
    affordable = max(1, int((minutes or DEFAULT_MINUTES) * 60 / loop.seconds_per_step(2, 0.5)))
    return affordable if minutes is not None else min(wanted, affordable)


def _accuracy(loop: Any, encoder: ImageEncoder, prepared: Prepared, test: np.ndarray) -> float | None:
    if not len(test):
        return None
    items = ImageItems(prepared.subset(test), encoder.mean, encoder.std)
    guess = class_probabilities(loop.objective, items).argmax(axis=1)
    return float((guess == prepared.labels[test]).mean())  # type: ignore[index]


def _classifier(loop: Any, encoder: ImageEncoder, classes: list[str]) -> Classifier:
    network: ItemClassifier = loop.objective.network
    name = f"{encoder.name} fine-tuned"
    trunk = network.trunk
    tuned = ImageEncoder(trunk, encoder.mean, encoder.std, encoder.split, name, encoder.flips, encoder.scale)
    weight, bias = network.head.weight.data, network.head.bias.data
    return Classifier(tuned, network.mean, network.scale, weight, bias, classes).to(torch.device("cpu")).eval()


def _told(accuracy: float | None, test: int, prepared: Prepared) -> str:
    if accuracy is None:
        return "accuracy: not measured, there are too few labelled items to hold any out"
    from_part = prepared.parts is not None and (prepared.parts == "test").any()
    where = "items of the test part" if from_part else "labelled items that were held out"
    return f"accuracy: {100 * accuracy:.1f} % of {test} {where}"
