"""From an encoder and boxes to a detector, and from images to their boxes."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from withheld.data.boxes import open_boxes
from withheld.data.image import to_array
from withheld.data.item_names import as_cell
from withheld.data.rows import take
from withheld.data.source import open_source
from withheld.errors import InputError
from withheld.evaluate.detection.detector import Detector
from withheld.evaluate.detection.draw import boxes_on, rgb
from withheld.evaluate.detection.find import Detections, detect
from withheld.evaluate.detection.learn import fast_rcnn
from withheld.evaluate.detection.machines import fit_machines
from withheld.evaluate.detection.network import Way, side_for
from withheld.evaluate.detection.plan import steps_for
from withheld.evaluate.detection.proposals import SelectiveSearch, propose
from withheld.evaluate.detection.regions import Regions, load_regions
from withheld.evaluate.detection.trial import Head, Pipeline, measured
from withheld.evaluate.features import Listen, as_image_encoder, printable_name, silent
from withheld.evaluate.finetune import check_asked
from withheld.image_encoder import ImageEncoder
from withheld.learn.checkpoint import replacing
from withheld.learn.gradient import Interrupted
from withheld.run import pick_device
from withheld.wording import plural

DEFAULT_MINUTES = 10.0


def finetune_detector(
    subject: Any, boxes: str | Path, out: str | Path, *, minutes: float | None = None, epochs: float | None = None,
    steps: int | None = None, seed: int = 0, head: Head = "softmax", way: Way = "align", side: int | None = None,
    device: str = "auto", listen: Listen = silent,
) -> Path:  # fmt: skip
    """Makes a detector of an encoder and the train and val images of a folder of boxes, and writes a model folder.

    Its mAP@0.5 on the test images is told to `listen` and kept in model.json; where there is no test, val is tested and train alone
    is learned from.

    Args:
        subject: a run folder, an encoder folder, a transformers id or an `ImageEncoder`.
        boxes: see `withheld.data.boxes.open_boxes`. out: the model folder to make.
        minutes, epochs, steps: how long, one of the three; by default 40 times the root of the images in steps, at most 10 minutes.
        seed: of the heads, the order and the sampled regions.
        head: "softmax" trains Fast R-CNN end to end, "svm" fits R-CNN's machines to the encoder as it is, which takes no steps.
        way, side: see `Pipeline`.

    Raises:
        InputError: for the subject, the data, or a folder that is in use.
    """
    out = Path(out)
    check_asked(out, minutes=minutes, epochs=epochs, steps=steps)
    place = pick_device(device)
    encoder = as_image_encoder(subject, place)
    data = open_boxes(boxes)
    for line in data.problems[:10]:
        listen({"kind": "note", "text": f"{line['file']}: {line['reason']}"})
    for note in data.notes:
        listen({"kind": "note", "text": note})
    pipeline = Pipeline(side or side_for(encoder), way)
    fed, search = pipeline.fed(encoder), SelectiveSearch()
    regions = load_regions(data, fed, pipeline.side, search, ("train", "val", "test"), listen)
    learn = regions.at("train", "val") if data.test_part == "test" else regions.at("train")
    test = regions.at(data.test_part)
    if not len(learn):
        raise InputError(f"{data.location}: there are no images to learn from: name some in its train set")
    started = time.monotonic()
    task = _Task(fed, regions, learn, way, seed, torch.device(place), listen)
    if head == "svm":
        network, taken = task.machines(), 0
    else:
        network, taken = task.end_to_end(out, minutes, epochs, steps)
    proposals = [regions.proposals[i] for i in test]
    images = take(regions.images, test)
    found = detect(network, fed, images, proposals, listen, torch.device(place)) if len(test) else []
    scores = measured(regions, test, found) if len(test) else {}
    made = {
        "data": data.location, "learned": len(learn), "tested": len(test), "scores": scores, "steps": taken, "seed": seed,
        "seconds": round(time.monotonic() - started, 1), "encoder": encoder.name,
    }  # fmt: skip
    Detector(fed, network, regions.classes, pipeline.side, search, made).save(out)
    listen({"kind": "note", "text": _told(scores, len(test), data.test_part)})
    return out


@dataclass(frozen=True)
class _Task:
    """What a detector is made of."""

    encoder: ImageEncoder
    regions: Regions
    learn: NDArray[np.int64]
    way: Way
    seed: int
    device: torch.device
    listen: Listen

    def machines(self) -> nn.Module:
        """R-CNN's."""
        self.listen({"kind": "note", "text": f"fitting machines to {plural(len(self.learn), 'image')}"})
        return fit_machines(
            self.encoder, self.regions, self.learn, way=self.way, seed=self.seed, device=self.device, listen=self.listen
        )

    def end_to_end(
        self, out: Path, minutes: float | None, epochs: float | None, steps: int | None
    ) -> tuple[nn.Module, int]:
        """Fast R-CNN, and the steps it took."""
        loop = fast_rcnn(
            self.encoder,
            self.regions,
            self.learn,
            way=self.way,
            steps=1,
            seed=self.seed,
            scratch=False,
            device=self.device,
        )
        loop.steps = _steps(loop, len(self.learn), minutes, epochs, steps)
        self.listen(
            {"kind": "note", "text": f"training on {plural(len(self.learn), 'image')}, {plural(loop.steps, 'step')}"}
        )
        try:
            loop.run(None, lambda line: self.listen({"kind": "step", **line}))
        except Interrupted as error:
            error.args = (f"stopped at step {error.step} of {loop.steps}: nothing was written to {out}",)
            raise
        return loop.objective.network, loop.steps


def _steps(loop: Any, images: int, minutes: float | None, epochs: float | None, steps: int | None) -> int:
    if steps is not None:
        return steps
    if epochs is not None:
        return max(1, round(epochs * images / loop.recipe.batch_size))
    affordable = max(1, int((minutes or DEFAULT_MINUTES) * 60 / loop.seconds_per_step(2, 0.5)))
    return affordable if minutes is not None else min(steps_for(images), affordable)


def _told(scores: dict[str, Any], tested: int, part: str) -> str:
    if not scores:
        return "mAP@0.5: not measured, there are no test images"
    classes = ", ".join(f"{name} {100 * value:.1f}" for name, value in scores["AP"].items())
    return f"mAP@0.5: {100 * scores['mAP@0.5']:.1f} % on {plural(tested, 'image')} of {part} ({classes})"


def detect_files(
    model: str | Path | Detector,
    data: Any,
    *,
    least: float | None = None,
    device: str = "auto",
    listen: Listen = silent,
) -> Iterator[tuple[str, Path, Detections, Detector]]:
    """Name, file, detections (of at least a score) and the detector of every image; broken ones are told and passed over.

    Args:
        model: a model folder, or a run whose evaluation left a detector. data: an image or a folder of images.
        least: score from which a detection counts; None takes the detector's own.

    Raises:
        InputError: for the model, or data that is neither an image nor a folder.
    """
    detector = model if isinstance(model, Detector) else Detector.open(model)
    detector.network.to(pick_device(device)).eval()
    source = open_source(data)
    root = getattr(source.store, "root", None)
    if root is None:
        raise InputError(
            f"{source.location}: give an image or a folder of images; archives and tables are not opened here"
        )
    bad = [f"{line['file']}: {line['reason']}" for line in source.left_out]
    for first in range(0, len(source), 8):
        names = source.names[first : first + 8]
        images, kept = [], []
        for name in names:
            try:
                images.append(_image(root / name, detector))
                kept.append(name)
            except Exception as error:  # damaged files raise anything
                bad.append(f"{name}: cannot be read ({error})")
        proposals = propose([root / name for name in kept], detector.search, silent)
        good = [at for at, regions in enumerate(proposals) if not isinstance(regions, str)]
        if good:
            found = detector(np.stack([images[at] for at in good]), [proposals[at] for at in good], silent)  # type: ignore[misc]
            for at, one in zip(good, found, strict=True):
                yield kept[at], root / kept[at], one.above(detector.threshold if least is None else least), detector
        listen({"kind": "detect", "done": min(first + 8, len(source)), "total": len(source)})
    for line in bad:
        listen({"kind": "note", "text": f"left out: {line}"})


def _image(path: Path, detector: Detector) -> NDArray[np.uint8]:
    from withheld.data.decode import decode

    image = decode(path, detector.side)
    return to_array(image, detector.side, detector.encoder.channels, detector.encoder.scale)


def rows_of(name: str, path: Path, found: Detections, classes: list[str]) -> list[dict[str, Any]]:
    """Detections as rows of a table: file, class, score and the box in VOC's pixels (from 1, both ends in)."""
    from withheld.data.decode import look

    seen = look(path)
    sides = np.array([seen.width, seen.height, seen.width, seen.height])
    rows = []
    for box, label, score in zip(found.boxes * sides, found.labels, found.scores, strict=True):
        x0, y0, x1, y1 = (round(float(value), 1) for value in box)
        rows.append(
            {"file": printable_name(name), "class": classes[int(label)], "score": round(float(score), 4),
             "xmin": x0 + 1, "ymin": y0 + 1, "xmax": x1, "ymax": y1}
        )  # fmt: skip
    return rows


def write_boxes(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes rows as .csv or .json, in one step.

    Raises:
        CannotWrite: for the file.
    """
    with replacing(path) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        if path.suffix == ".json":
            json.dump(rows, file, indent=1)
        else:
            table = csv.DictWriter(file, ["file", "class", "score", "xmin", "ymin", "xmax", "ymax"])
            table.writeheader()
            table.writerows({**row, "file": as_cell(row["file"]), "class": as_cell(row["class"])} for row in rows)


def draw_file(path: Path, found: Detections, classes: list[str], out: Path) -> None:
    """Writes an image with its boxes.

    Raises:
        CannotWrite: for the file.
    """
    picture = boxes_on(rgb(path), found, classes)
    with replacing(out) as aside:
        picture.save(aside)
