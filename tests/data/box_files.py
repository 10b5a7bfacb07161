"""Writes boxes that were read in the layouts of YOLO and COCO."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from withheld.data.boxes import BoxData


def parts_of(data: BoxData) -> dict[str, list[int]]:
    """Positions by part, those that have any."""
    return {part: at.tolist() for part, at in data.parts.items() if len(at)}


def shares_of(data: BoxData, at: int) -> list[tuple[int, tuple[float, ...]]]:
    """The class numbers of an image and its boxes as YOLO has them."""
    one = data.annotations[at]
    return [
        (int(label), ((x0 + x1) / 2 / one.width, (y0 + y1) / 2 / one.height, (x1 - x0) / one.width, (y1 - y0) / one.height))
        for (x0, y0, x1, y1), label in zip(one.boxes.tolist(), one.labels, strict=True)
    ]  # fmt: skip


def as_yolo(data: BoxData, root: Path, pattern: str = "{kind}/{part}", digits: int = 10) -> Path:
    """images/train, labels/train ...; pattern "{part}/{kind}" is Roboflow's. Returns the data.yaml, which is written last."""
    lines = []
    for part, some in parts_of(data).items():
        images, labels = (root / pattern.format(kind=kind, part=part) for kind in ("images", "labels"))
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for at in some:
            shutil.copy(data.path(at), images)
            text = "".join(
                f"{label} {' '.join(f'{v:.{digits}f}' for v in box)}\n" for label, box in shares_of(data, at)
            )
            (labels / f"{data.path(at).stem}.txt").write_text(text)
        lines.append(f"{part}: {pattern.format(kind='images', part=part)}")
    config = root / "data.yaml"
    config.write_text("\n".join([*lines, f"nc: {len(data.classes)}", f"names: {json.dumps(data.classes)}"]) + "\n")
    return config


def coco_of(data: BoxData, some: list[int], first: int = 7) -> dict[str, Any]:
    """Some images as COCO has them, category ids beginning at `first` and in steps of three."""
    rows = []
    for at in some:
        one = data.annotations[at]
        for (x0, y0, x1, y1), label, hard in zip(one.boxes.tolist(), one.labels, one.difficult, strict=True):
            rows.append(
                {"id": len(rows) + 1, "image_id": at + 100, "category_id": first + 3 * int(label), "iscrowd": int(hard),
                 "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
            )  # fmt: skip
    images = [
        {"id": at + 100, "file_name": data.path(at).name, "width": one.width, "height": one.height}
        for at, one in ((at, data.annotations[at]) for at in some)
    ]
    categories = [{"id": first + 3 * at, "name": name} for at, name in enumerate(data.classes)]
    return {"info": {}, "images": images, "annotations": rows, "categories": categories}


def as_coco(data: BoxData, root: Path, roboflow: bool = False) -> Path:
    """train2017/, val2017/ and annotations/instances_train2017.json; or Roboflow's train/_annotations.coco.json."""
    for part, some in parts_of(data).items():
        folder = root / (("valid" if part == "val" else part) if roboflow else f"{part}2017")
        folder.mkdir(parents=True)
        for at in some:
            shutil.copy(data.path(at), folder)
        path = folder / "_annotations.coco.json" if roboflow else root / "annotations" / f"instances_{part}2017.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(coco_of(data, some)))
    return root
