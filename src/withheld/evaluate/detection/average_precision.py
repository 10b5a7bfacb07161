"""Average precision of detections: VOC07's 11 points, the area, and COCO's through faster-coco-eval.

Matching is the devkit's: detections of a class from the surest down; each asks for the true box of its image that it overlaps
most; if by at least the threshold, it is right, unless a surer one has that box already; a difficult box makes it neither.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Form = Literal["area", "voc07", "coco"]


@dataclass(frozen=True)
class Truth:
    """The boxes of one image: (n, 4), (n,) classes from 0, (n,) bool."""

    boxes: NDArray[np.floating]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]


@dataclass(frozen=True)
class Guess:
    """The detections of one image, in the same units: (n, 4), (n,), (n,)."""

    boxes: NDArray[np.floating]
    labels: NDArray[np.int64]
    scores: NDArray[np.floating]


@dataclass(frozen=True)
class Curve:
    """Precision and recall after every detection of a class, the surest first; recall is nan where there is no such box."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    true: int


def curve(truths: Sequence[Truth], guesses: Sequence[Guess], label: int, least: float = 0.5) -> Curve:
    """The precision and recall of one class.

    Args:
        truths, guesses: one an image. label: the class. least: overlap.
    """
    rights, wrongs, scores, total = [], [], [], 0
    for truth, guess in zip(truths, guesses, strict=True):
        of = truth.labels == label
        total += int((of & ~truth.difficult).sum())
        mine = guess.labels == label
        order = np.argsort(-guess.scores[mine], kind="stable")
        right, wrong = _judged(guess.boxes[mine][order], truth.boxes[of], truth.difficult[of], least)
        rights.append(right)
        wrongs.append(wrong)
        scores.append(guess.scores[mine][order])
    order = np.argsort(-np.concatenate([np.zeros(0), *scores]), kind="stable")
    right = np.concatenate([np.zeros(0, bool), *rights])[order].cumsum()
    wrong = np.concatenate([np.zeros(0, bool), *wrongs])[order].cumsum()
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / total if total else np.full(len(right), np.nan)
        return Curve(right / np.maximum(1, right + wrong), recall, total)


def _judged(
    boxes: NDArray[np.floating], true: NDArray[np.floating], difficult: NDArray[np.bool_], least: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which detections of an image are right and which wrong; boxes come the surest first."""
    right, wrong = np.zeros(len(boxes), bool), np.ones(len(boxes), bool)
    if not len(true) or not len(boxes):
        return right, wrong
    shared = overlaps(boxes, true)
    of = shared.argmax(axis=1)
    hit = shared[np.arange(len(boxes)), of] >= least
    wrong[hit & difficult[of]] = False
    fair = np.flatnonzero(hit & ~difficult[of])
    _, first = np.unique(of[fair], return_index=True)  # the surest that asks for a box has it
    right[fair[first]], wrong[fair[first]] = True, False
    return right, wrong


def overlaps(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """Intersection over union of every pair, (n, m)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clip(0).prod(axis=-1)
    areas = [(box[:, 2:] - box[:, :2]).clip(0).prod(axis=-1) for box in (a, b)]
    union = areas[0][:, None] + areas[1][None] - both
    return both / np.maximum(union, np.finfo(np.float64).tiny)


def average_precision(of: Curve, form: Form = "area") -> float:
    """One number of a curve, 0 to 1; nan where the class has no box that counts.

    Args:
        form: "area" under the curve, precision made to never rise with recall (VOC from 2010); "voc07" is the mean of the best
            precision at recall 0, 0.1 ... 1 or beyond; "coco" that at 0, 0.01 ... 1.
    """
    if not of.true:
        return float("nan")
    best = np.maximum.accumulate(of.precision[::-1])[::-1]
    if form == "area":
        rise = np.diff(np.concatenate([[0.0], of.recall]))
        return float((rise * best).sum())
    points = np.linspace(0, 1, 11 if form == "voc07" else 101)
    at = np.searchsorted(of.recall, points - (1e-12 if form == "voc07" else 0), side="left")
    return float(np.concatenate([best, [0.0]])[np.minimum(at, len(best))].mean())


def score(truths: Sequence[Truth], guesses: Sequence[Guess], classes: Sequence[str]) -> dict[str, object]:
    """ "mAP@0.5", "mAP@0.5 (VOC07)" and by class "AP", "AP (VOC07)"; classes without a box that counts are left out of means.

    All in shares of 1.
    """
    curves = [curve(truths, guesses, label) for label in range(len(classes))]
    known = [at for at, of in enumerate(curves) if of.true]
    area = {classes[at]: average_precision(curves[at]) for at in known}
    points = {classes[at]: average_precision(curves[at], "voc07") for at in known}
    mean = lambda values: float(np.mean(list(values.values()))) if values else float("nan")  # noqa: E731
    return {"mAP@0.5": mean(area), "mAP@0.5 (VOC07)": mean(points), "AP": area, "AP (VOC07)": points}


def has_coco() -> bool:
    """Whether faster-coco-eval is installed."""
    return importlib.util.find_spec("faster_coco_eval") is not None


def coco(
    truths: Sequence[Truth], guesses: Sequence[Guess], classes: Sequence[str], sides: Sequence[tuple[int, int]]
) -> dict[str, float] | None:
    """COCO's "AP" over overlaps 0.50 to 0.95, "AP50" and "AP75", by faster-coco-eval; None where it is not installed.

    A difficult box is given as a crowd: COCO has no other word for "neither right nor wrong". It therefore excuses every detection
    that mostly lies inside it, which the devkit does not.

    Args:
        sides: (width, height) of every image.
    """
    if not has_coco():
        return None
    from faster_coco_eval import COCO, COCOeval_faster

    annotations: list[dict[str, object]] = []
    for image, truth in enumerate(truths, 1):
        for box, label, difficult in zip(truth.boxes, truth.labels, truth.difficult, strict=True):
            x0, y0, x1, y1 = (float(value) for value in box)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": int(label) + 1, "iscrowd": int(difficult),
                 "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
            )  # fmt: skip
    images = [{"id": at, "width": int(w), "height": int(h)} for at, (w, h) in enumerate(sides, 1)]
    categories = [{"id": at, "name": name} for at, name in enumerate(classes, 1)]
    rows = [
        {"image_id": image, "category_id": int(label) + 1, "score": float(sure),
         "bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]}
        for image, guess in enumerate(guesses, 1)
        for box, label, sure in zip(guess.boxes, guess.labels, guess.scores, strict=True)
    ]  # fmt: skip
    if not rows:
        return {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    truth_set = COCO({"images": images, "annotations": annotations, "categories": categories})
    judge = COCOeval_faster(truth_set, truth_set.loadRes(rows), iouType="bbox", print_function=lambda *_: None)
    judge.run()
    return {name: float(judge.stats[at]) for at, name in enumerate(("AP", "AP50", "AP75"))}
