"""One train-and-test: an encoder, some training images, a seed; detections of the tested images and their scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from withheld.data.rows import take
from withheld.errors import Diverged
from withheld.evaluate.detection.average_precision import Guess, Truth, coco, score
from withheld.evaluate.detection.find import Detections, detect
from withheld.evaluate.detection.learn import fast_rcnn
from withheld.evaluate.detection.machines import fit_machines
from withheld.evaluate.detection.network import Way, at_side
from withheld.evaluate.detection.regions import Regions
from withheld.evaluate.features import Listen
from withheld.image_encoder import ImageEncoder

Head = Literal["softmax", "svm"]


@dataclass(frozen=True)
class Pipeline:
    """The switches that all rows share.

    Attributes:
        side: that images are squashed to. way: "align" or "warped", see `RegionFeatures`.
    """

    side: int
    way: Way = "align"

    def fed(self, encoder: ImageEncoder) -> ImageEncoder:
        """An encoder as the regions need it: of the side of the images, or for warped regions its own."""
        return at_side(encoder, self.side) if self.way == "align" else encoder.copy()


@dataclass
class Trial:
    """What a train-and-test gave: the network, detections of the tested images, {"mAP@0.5", "AP", ...}, notes."""

    network: nn.Module
    found: list[Detections]
    scores: dict[str, Any]
    seconds: float
    note: str = ""


def run_trial(
    encoder: ImageEncoder, regions: Regions, learn: NDArray[np.int64], test: NDArray[np.int64], pipeline: Pipeline, *,
    head: Head, steps: int, seed: int, scratch: bool, device: torch.device, listen: Listen,
) -> Trial:  # fmt: skip
    """Trains on some images and tests on others.

    Args:
        encoder: fed as `Pipeline.fed` says. head: "softmax" is Fast R-CNN trained end to end, "svm" R-CNN's machines on the encoder
            as it is. steps: of "softmax". scratch: see `fast_rcnn`.
    """
    begun, note = time.monotonic(), ""
    network: nn.Module
    if head == "svm":
        network = fit_machines(encoder, regions, learn, way=pipeline.way, seed=seed, device=device, listen=listen)
    else:
        loop = fast_rcnn(
            encoder, regions, learn, way=pipeline.way, steps=steps, seed=seed, scratch=scratch, device=device
        )
        try:
            loop.run(None, lambda line: listen({"kind": "step", **line}))
        except Diverged:
            note = "diverged, measured as it was then"
        network = loop.objective.network
    found = detect(network, encoder, take(regions.images, test), [regions.proposals[i] for i in test], listen, device)
    return Trial(network, found, measured(regions, test, found), time.monotonic() - begun, note)


def measured(regions: Regions, at: NDArray[np.int64], found: Sequence[Detections]) -> dict[str, Any]:
    """Every score of some images' detections, in pixels of the original images."""
    annotations = [regions.annotations[int(i)] for i in at]
    truths = [Truth(each.boxes, each.labels, each.difficult) for each in annotations]
    sides = [(each.width, each.height) for each in annotations]
    guesses = [
        Guess(one.boxes.astype(np.float64) * [*wide, *wide], one.labels, one.scores)
        for one, wide in zip(found, sides, strict=True)
    ]
    scores = score(truths, guesses, regions.classes)
    of_coco = coco(truths, guesses, regions.classes, sides)
    if of_coco is not None:
        scores |= {f"COCO {name}": value for name, value in of_coco.items()}
    return scores


def recall_of_proposals(regions: Regions, at: NDArray[np.int64]) -> float:
    """The share of true boxes that some proposal overlaps by half: no pipeline on these proposals finds more by itself."""
    from withheld.evaluate.detection.average_precision import overlaps
    from withheld.evaluate.detection.regions import shares

    hits, total = 0, 0
    for i in at:
        true = shares(regions.annotations[int(i)])
        total += len(true)
        if len(true) and len(regions.proposals[int(i)]):
            hits += int((overlaps(true, regions.proposals[int(i)]).max(axis=1) >= 0.5).sum())
    return hits / total if total else float("nan")
