"""Any part from any other, for text, images and video."""

from __future__ import annotations

import pytest
import torch

from withheld.errors import InputError
from withheld.splits.part import PARTS, PredictPart

BATCHES = {
    "text": torch.arange(1, 49).view(3, 16),
    "images": torch.randn(3, 2, 8, 8),
    "video": torch.randn(3, 16, 1, 8, 8),
}
AXES = {"text": {"time"}, "images": {"height", "width"}, "video": {"time", "height", "width"}}
KNOWN = [(kind, part) for kind, axes in AXES.items() for part, (axis, _, _) in PARTS.items() if axis in axes]


@pytest.mark.parametrize(("kind", "part"), KNOWN)
def test_a_part_is_hidden_and_merges_back(kind, part):
    t = BATCHES[kind]
    split = PredictPart(part=part)
    pair = split(t)
    assert pair.x.shape == t.shape
    assert 0 < pair.y.numel() < t.numel()
    assert (pair.x == 0).sum() >= pair.y.numel()
    assert torch.equal(split.merge(pair), t)


@pytest.mark.parametrize("kind", BATCHES)
def test_an_occluded_box_moves_and_merges_back(kind):
    t = BATCHES[kind]
    split = PredictPart(part="occluded", box=0.5)
    torch.manual_seed(0)
    pair = split(t)
    assert torch.equal(split.merge(pair), t)
    starts = [name for name in pair.x if name != "item"]
    assert starts
    assert any(len(pair.x[name].unique()) > 1 for name in starts)
    assert torch.equal((pair.x["item"] == 0).flatten(1).sum(1), torch.full((3,), pair.y[0].numel()))


def test_the_names_mean_what_they_say():
    image, clip = BATCHES["images"], BATCHES["video"]
    assert torch.equal(PredictPart("top")(image).y, image[..., :4, :])
    assert torch.equal(PredictPart("right")(image).y, image[..., 4:])
    assert torch.equal(PredictPart("future")(clip).y, clip[:, 8:])
    assert torch.equal(PredictPart("past")(BATCHES["text"]).y, BATCHES["text"][:, :8])
    recent = PredictPart("future", given="recent")(clip).x
    assert torch.equal(recent[:, 6:8], clip[:, 6:8])
    assert not recent[:, :6].any()
    assert not recent[:, 8:].any()
    present = PredictPart("past", given="present")(clip).x
    assert torch.equal(present[:, 8:10], clip[:, 8:10])
    assert not present[:, :8].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"part": "rihgt"}, "did you mean 'right'"),
        ({"part": "right", "given": "lfet"}, "did you mean 'left'"),
        ({"part": "left", "given": "left"}, "nothing would be left"),
        ({"part": "future", "given": "present"}, "nothing would be left"),
        ({"part": "occluded", "box": 1.0}, "outside"),
    ],
)
def test_parts_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        PredictPart(**settings)


def test_a_part_the_items_do_not_have_is_named():
    with pytest.raises(InputError, match="time"):
        PredictPart("future")(BATCHES["images"])
    with pytest.raises(InputError, match="text"):
        PredictPart("top")(BATCHES["text"])
