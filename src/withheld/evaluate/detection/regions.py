"""Images with regions, as the loop takes them, and the objective of Fast R-CNN: (x, y) = (image and regions, classes and offsets).

Shapes: B images, P regions of an image with padding, R sampled ones, C channels, S side, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from withheld.data.boxes import Annotation, BoxData
from withheld.data.image import ImageItems
from withheld.data.prepared import prepare
from withheld.evaluate.detection.boxes import encode, overlap
from withheld.evaluate.detection.proposals import SelectiveSearch, propose
from withheld.evaluate.features import Listen, preparing
from withheld.image_encoder import ImageEncoder
from withheld.types import Pair, Split, Terms

BACKGROUND, PADDING = 0, -1
SURE = 0.5
"""A region whose overlap with a box is at least this is of its class (Girshick 2015)."""


@dataclass
class Regions:
    """Images with boxes at one side, each with its boxes and proposals.

    Attributes:
        images: (N, C, S, S) uint8, those that could be read.
        names: of the files. annotations: one an image.
        proposals: (R, 4) shares of the sides, one array an image.
        part: of every image, "train", "val" or "test".
        classes: names. problems: {"file", "reason"} of images that could not be read.
    """

    images: Any
    names: list[str]
    annotations: list[Annotation]
    proposals: list[NDArray[np.float32]]
    part: NDArray[np.str_]
    classes: list[str]
    problems: list[dict[str, str]]

    def at(self, *parts: str) -> NDArray[np.int64]:
        """Positions of the images of some parts."""
        return np.flatnonzero(np.isin(self.part, parts))


def load_regions(
    data: BoxData, encoder: ImageEncoder, side: int, search: SelectiveSearch, parts: Sequence[str], listen: Listen
) -> Regions:
    """Decodes the images of some parts once, into the prepared cache, and proposes regions."""
    part = np.full(len(data), "", dtype="U5")
    for name in parts:
        part[data.parts[name]] = name
    wanted = np.flatnonzero(part != "")
    prepared = prepare(
        data.source.subset(wanted), side, encoder.channels, scale=encoder.scale, progress=preparing(listen)
    )
    problems = list(prepared.skipped)
    kept = wanted[prepared.kept]
    found = propose([data.path(int(at)) for at in kept], search, listen)
    good = [place for place, regions in enumerate(found) if not isinstance(regions, str)]
    problems += [
        {"file": prepared.names[place], "reason": regions}
        for place, regions in enumerate(found)
        if isinstance(regions, str)
    ]
    prepared = prepared.subset(good)
    return Regions(
        prepared.images, list(prepared.names), [data.annotations[int(kept[place])] for place in good],
        [found[place] for place in good], part[kept[good]], data.classes, problems,  # type: ignore[misc]
    )  # fmt: skip


@dataclass(frozen=True)
class Matched:
    """Regions of one image set against its boxes: (P, 4) boxes, (P,) labels (0 background, -1 not used), (P, 4) offsets."""

    box: Tensor
    label: Tensor
    offset: Tensor


def shares(annotation: Annotation) -> NDArray[np.float32]:
    """The boxes as shares of the image's sides."""
    sides = [annotation.width, annotation.height, annotation.width, annotation.height]
    return (annotation.boxes / sides).astype(np.float32)


def matched(annotation: Annotation, proposals: NDArray[np.float32]) -> Matched:
    """The true boxes and the proposals, each with the class and the offset of the box it overlaps most, if by half.

    What overlaps a difficult box is not learned from, neither as an object nor as background.
    """
    true = torch.from_numpy(shares(annotation))
    easy = torch.from_numpy(~annotation.difficult)
    box = torch.cat([true[easy], torch.from_numpy(proposals)])
    if not len(true):
        return Matched(box, torch.zeros(len(box), dtype=torch.long), torch.zeros_like(box))
    best, of = overlap(box, true).max(dim=1)
    label = torch.where(best >= SURE, torch.from_numpy(annotation.labels)[of] + 1, BACKGROUND)
    label = torch.where((best >= SURE) & ~easy[of], PADDING, label)
    return Matched(box, label, torch.where((label > 0).unsqueeze(1), encode(box, true[of]), 0.0))


class RegionItems:
    """What the loop asks for batches: {"item", "box", "label", "offset"}, regions padded to the most of the batch.

    Args:
        regions: the images. at: positions of those to use. encoder: its normalization. least: regions an image is padded to.
    """

    def __init__(self, regions: Regions, at: NDArray[np.int64], encoder: ImageEncoder, least: int) -> None:
        self.at, self.least = at, least
        self.images = ImageItems(regions.images, encoder.mean, encoder.std)
        self.found = [matched(regions.annotations[i], regions.proposals[i]) for i in at]

    def __len__(self) -> int:
        return len(self.at)

    def batch(self, index: NDArray[np.int64], device: torch.device | str) -> dict[str, Tensor]:
        """The images of these numbers with all their regions."""
        some = [self.found[int(i)] for i in index]
        most = max(self.least, *(len(each.box) for each in some))
        item = self.images.batch(self.at[index], device)
        assert isinstance(item, Tensor)  # noqa: S101 - for the type checker: no labels were given
        return {
            "item": item,
            "box": torch.stack([F.pad(each.box, (0, 0, 0, most - len(each.box)), value=0.5) for each in some]).to(
                device
            ),
            "label": torch.stack([F.pad(each.label, (0, most - len(each.label)), value=PADDING) for each in some]).to(
                device
            ),
            "offset": torch.stack([F.pad(each.offset, (0, 0, 0, most - len(each.offset))) for each in some]).to(device),
        }


@dataclass(frozen=True)
class AskRegions(Split):
    """What is in which region: (x, y) = (image and a sample of its regions, their classes and offsets).

    Attributes:
        count: regions of an image.
        share: of them with an object, at most.
        seen: what the encoder sees of an item, the `full` of the split it was trained with; None for all of it.
    """

    asks = ("label",)
    count: int = 64
    share: float = 0.25
    seen: Callable[[Tensor], Tensor] | None = None

    def __call__(self, t: Mapping[str, Tensor]) -> Pair:
        label_BP = t["label"]
        order_BP = torch.rand(label_BP.shape, device=label_BP.device)
        object_BP = label_BP > 0
        rank_BP = torch.where(object_BP, order_BP, 2.0).argsort(dim=1).argsort(dim=1)
        # objects up to their share first, then background, then objects beyond it, padding last
        order_BP = order_BP + torch.where(object_BP & (rank_BP < int(self.share * self.count)), 3.0, 0.0)
        order_BP = order_BP + torch.where(label_BP == BACKGROUND, 2.0, 0.0) - torch.where(label_BP == PADDING, 2.0, 0.0)
        at_BR = order_BP.topk(self.count, dim=1).indices
        pick = at_BR.unsqueeze(-1).expand(-1, -1, 4)
        x = {"item": self.seen_of(t["item"]), "box": t["box"].gather(1, pick)}
        return Pair(x, {"label": label_BP.gather(1, at_BR), "offset": t["offset"].gather(1, pick)})

    def seen_of(self, item: Tensor) -> Tensor:
        """What the network sees of images."""
        return item if self.seen is None else self.seen(item)


@dataclass(frozen=True)
class MirrorBoxes:
    """Mirrors every second image with its regions and offsets."""

    def __call__(self, t: Mapping[str, Tensor]) -> dict[str, Tensor]:
        mirror = torch.rand(len(t["item"]), device=t["item"].device) < 0.5
        box, offset = t["box"], t["offset"]
        turned = torch.stack([1 - box[..., 2], box[..., 1], 1 - box[..., 0], box[..., 3]], dim=-1)
        across = offset * offset.new_tensor([-1.0, 1, 1, 1])
        three = mirror.view(-1, 1, 1)
        return {
            **t,
            "item": torch.where(mirror.view(-1, 1, 1, 1), t["item"].flip(-1), t["item"]),
            "box": torch.where(three, turned, box),
            "offset": torch.where(three, across, offset),
        }


def region_loss(prediction: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> Terms:
    """-log of the categorical p(class | region), and the smooth absolute error of the offsets of the true class, which is
    -log of a Huber density; both over the number of regions (Girshick 2015).
    """
    label = y["label"]
    used = (label != PADDING).sum().clamp(min=1)
    kind = F.cross_entropy(prediction["label"].flatten(0, 1), label.flatten(), ignore_index=PADDING, reduction="sum")
    mine = (label - 1).clamp(min=0)[..., None, None].expand(-1, -1, 1, 4)
    offset = prediction["offset"].gather(2, mine).squeeze(2)
    miss = F.smooth_l1_loss(offset, y["offset"], reduction="none").sum(dim=-1)
    return {"class": kind / used, "box": (miss * (label > 0)).sum() / used}
