"""On published photographs with boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from withheld.data.boxes import open_boxes
from withheld.evaluate.detection.average_precision import overlaps
from withheld.evaluate.detection.find import Detections
from withheld.evaluate.detection.proposals import SelectiveSearch
from withheld.evaluate.detection.regions import Regions, load_regions, shares
from withheld.evaluate.detection.trial import measured, recall_of_proposals


@pytest.fixture(scope="module")
def cells(shared_data: Path) -> Regions:
    """Four blood smears, the first of the test set."""
    from tiny_vit import tiny_encoder

    pytest.importorskip("cv2.ximgproc")
    data = open_boxes(shared_data / "bccd-voc")
    data.parts["test"] = data.parts["test"][:4]
    return load_regions(data, tiny_encoder(48, 3), 48, SelectiveSearch(), ("test",), lambda event: None)


def test_most_cells_are_proposed(cells: Regions) -> None:
    at = cells.at("test")
    assert len(at) == 4
    recall = recall_of_proposals(cells, at)
    hits = [(overlaps(shares(cells.annotations[i]), cells.proposals[i]).max(axis=1) >= 0.5) for i in at]
    assert recall == np.concatenate(hits).mean()
    assert recall > 0.8


def test_the_labels_themselves_score_one_and_shifted_ones_less(cells: Regions) -> None:
    pytest.importorskip("faster_coco_eval")
    at = cells.at("test")

    def found(shift: float) -> list[Detections]:
        return [
            Detections(shares(a) + np.float32(shift), a.labels, np.linspace(1, 0.5, len(a.labels), dtype=np.float32))
            for a in (cells.annotations[i] for i in at)
        ]

    perfect = measured(cells, at, found(0.0))
    assert perfect["mAP@0.5"] == 1
    assert perfect["COCO AP"] == pytest.approx(1, abs=1e-6)
    moved = measured(cells, at, found(0.04))
    assert moved["COCO AP75"] < 0.6
    assert moved["mAP@0.5"] < 1
