"""What is learned from: regions with the class and the offset of their box, sampled and mirrored in batches."""

from __future__ import annotations

import numpy as np
import torch

from withheld.data.boxes import Annotation
from withheld.evaluate.detection.boxes import decode
from withheld.evaluate.detection.regions import (
    AskRegions,
    MirrorBoxes,
    RegionItems,
    Regions,
    matched,
    region_loss,
)


def one(boxes: list[list[float]], labels: list[int], difficult: list[bool] | None = None) -> Annotation:
    hard = np.array(difficult or [False] * len(labels), bool)
    return Annotation(np.array(boxes, np.float64).reshape(-1, 4), np.array(labels, np.int64), hard, 100, 50)


def test_a_region_is_of_the_box_it_overlaps_by_half() -> None:
    annotation = one([[10, 10, 30, 30], [60, 10, 90, 40]], [1, 0])
    proposals = np.array([[0.1, 0.2, 0.32, 0.6], [0.6, 0.2, 0.7, 0.8], [0.0, 0.0, 0.05, 0.1]], np.float32)
    found = matched(annotation, proposals)
    assert found.label.tolist() == [2, 1, 2, 0, 0]  # the boxes themselves, one that is near, two that are not
    torch.testing.assert_close(decode(found.box[2], found.offset[2]), torch.tensor([0.1, 0.2, 0.3, 0.6]))
    assert (found.offset[3:] == 0).all()


def test_what_overlaps_a_difficult_box_is_not_learned_from() -> None:
    annotation = one([[10, 10, 30, 30], [60, 10, 90, 40]], [1, 0], [False, True])
    found = matched(annotation, np.array([[0.6, 0.2, 0.9, 0.8], [0.4, 0.0, 0.5, 0.2]], np.float32))
    assert found.label.tolist() == [2, -1, 0]


def test_an_image_without_objects_is_background() -> None:
    found = matched(one([], []), np.array([[0.6, 0.2, 0.9, 0.8]], np.float32))
    assert found.label.tolist() == [0]


def batch(objects: int, background: int, padding: int) -> dict[str, torch.Tensor]:
    label = torch.tensor([[1] * objects + [0] * background + [-1] * padding] * 3)
    box = torch.arange(3 * label.shape[1] * 4).view(3, -1, 4).float()
    return {"item": torch.zeros(3, 1, 4, 4), "label": label, "box": box, "offset": box + 1000}


def test_a_quarter_of_the_sample_are_objects() -> None:
    torch.manual_seed(0)
    pair = AskRegions(count=16)(batch(30, 100, 7))
    label = pair.y["label"]
    assert label.shape == (3, 16)
    assert (label == 1).sum(dim=1).tolist() == [4, 4, 4]
    assert (label == 0).sum(dim=1).tolist() == [12, 12, 12]
    torch.testing.assert_close(pair.y["offset"], pair.x["box"] + 1000)  # each region keeps its own offset
    other = AskRegions(count=16)(batch(30, 100, 7))
    assert not torch.equal(pair.x["box"], other.x["box"])


def test_where_background_is_short_objects_fill_up_and_padding_comes_last() -> None:
    pair = AskRegions(count=16)(batch(9, 3, 20))
    assert (pair.y["label"] == 1).sum(dim=1).tolist() == [9, 9, 9]
    assert (pair.y["label"] == 0).sum(dim=1).tolist() == [3, 3, 3]
    assert (pair.y["label"] == -1).sum(dim=1).tolist() == [4, 4, 4]


def test_a_mirrored_image_has_mirrored_boxes_and_offsets() -> None:
    torch.manual_seed(1)
    item = torch.rand(32, 1, 4, 6)
    box = torch.tensor([0.1, 0.2, 0.4, 0.6]).expand(32, 1, 4)
    offset = torch.tensor([0.5, 0.3, 0.2, 0.1]).expand(32, 1, 4)
    t = MirrorBoxes()({"item": item, "box": box, "offset": offset, "label": torch.ones(32, 1)})
    turned = [at for at in range(32) if not torch.equal(t["item"][at], item[at])]
    assert 4 < len(turned) < 28
    for at in range(32):
        target = decode(box[at], offset[at])
        if at in turned:
            torch.testing.assert_close(t["item"][at], item[at].flip(-1))
            target = torch.stack([1 - target[:, 2], target[:, 1], 1 - target[:, 0], target[:, 3]], dim=1)
        torch.testing.assert_close(decode(t["box"][at], t["offset"][at]), target)


def test_the_loss_is_the_papers() -> None:
    """Fast R-CNN, equations 1 to 3, region by region."""
    torch.manual_seed(2)
    logits, offset = torch.randn(2, 5, 4), 2 * torch.randn(2, 5, 3, 4)
    label = torch.tensor([[0, 1, 2, -1, 3], [0, 0, 2, -1, -1]])
    wanted = torch.randn(2, 5, 4)
    kind, box, used = torch.zeros(()), torch.zeros(()), 0
    for b in range(2):
        for r in range(5):
            k = int(label[b, r])
            if k == -1:
                continue
            used += 1
            kind -= logits[b, r].log_softmax(dim=0)[k]
            for i in range(4 if k else 0):
                x = (offset[b, r, k - 1, i] - wanted[b, r, i]).abs()
                box += 0.5 * x**2 if x < 1 else x - 0.5
    terms = region_loss({"label": logits, "offset": offset}, {"label": label, "offset": wanted})
    torch.testing.assert_close(terms["class"], kind / used)
    torch.testing.assert_close(terms["box"], box / used)


def test_a_batch_pads_what_an_image_lacks(regions: Regions, encoder) -> None:
    items = RegionItems(regions, regions.at("train"), encoder, 64)
    t = items.batch(np.array([0, 1, 2]), "cpu")
    counts = [len(each.box) for each in items.found[:3]]
    assert t["box"].shape == (3, max(64, *counts), 4)
    for at, count in enumerate(counts):
        assert (t["label"][at, :count] >= 0).all()
        assert (t["label"][at, count:] == -1).all()
    mean, std = torch.tensor(encoder.mean).view(3, 1, 1), torch.tensor(encoder.std).view(3, 1, 1)
    wanted = (torch.from_numpy(np.array(regions.images[regions.at("train")[0]])).float() / 255 - mean) / std
    torch.testing.assert_close(t["item"][0], wanted)


def test_proposals_and_boxes_share_their_units(regions: Regions) -> None:
    """Every true box is among what its image is learned from, and its colored pixels lie inside."""
    for at in regions.at("train")[:3]:
        annotation = regions.annotations[at]
        image = torch.from_numpy(np.array(regions.images[at])).float()
        for box, label in zip(annotation.boxes / [96, 72, 96, 72], annotation.labels, strict=True):
            x0, y0, x1, y1 = (round(float(v) * 48) for v in box)
            red, _, blue = image[:, y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].mean(dim=(1, 2))
            assert (red > blue + 60) if regions.classes[label] == "red" else (blue > red + 60)
