"""From an image and regions to features, classes and boxes: R-CNN's warped regions, or Fast R-CNN's map of the image.

Shapes: B images, R regions, C channels, S side, D width, H W grid, n bins, F = D n n features, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withheld.errors import InputError
from withheld.evaluate.detection.boxes import roi_align
from withheld.image_encoder import ImageEncoder
from withheld.networks.image import ImageTrunk
from withheld.networks.open import resize_positions
from withheld.types import Features

Way = Literal["align", "warped"]
COARSEST = 16
"""Pixels of the image to one place of the map, at most, where the trunk has such a stage (VGG's in Fast R-CNN)."""
CONTEXT = 16 / 195
"""Of a region's side, added on each: R-CNN's 16 of 227 pixels."""
CHUNK = 256
"""Warped regions through the trunk at once, outside of training."""
BINS, HIDDEN = 4, 256


def side_for(encoder: ImageEncoder) -> int:
    """The side that images are squashed to: twice what the encoder was trained at, since objects are parts of an image."""
    return 2 * encoder.size


def at_side(encoder: ImageEncoder, side: int) -> ImageEncoder:
    """A copy that takes images of another side: a ViT's positions are interpolated, convolutions take any.

    Raises:
        InputError: where the trunk takes no other size, with what to do instead.
    """
    copy = encoder.copy()
    if side == encoder.size:
        return copy
    resize_positions(copy.trunk.model, side)
    copy.trunk.config.image_size = copy.trunk.size = side
    try:
        map_of(copy.trunk)
    except (RuntimeError, ValueError) as error:
        first = (str(error).splitlines() or ["?"])[0]
        raise InputError(
            f"{encoder.name} takes images of {encoder.size}x{encoder.size} only ({first}): use --regions warped, or --side "
            f"{encoder.size}"
        ) from None
    return copy


class MapOf(NamedTuple):
    """Where a trunk's map is taken from: the layer (None: the last tokens), its places along a side, its width D."""

    layer: int | None
    side: int
    width: int


def map_of(trunk: ImageTrunk) -> MapOf:
    """The last layer, unless it is coarser than `COARSEST`: then the deepest that is not (a ResNet's third stage).

    Raises:
        InputError: where the trunk's tokens have no grid.
    """
    found = _probed(trunk)
    if found.grid is None or len(found.grid) != 2:
        raise InputError("this encoder has no map of the image: use --regions warped")
    last = MapOf(None, found.grid[0], found.tokens.shape[-1])
    if trunk.size / last.side <= COARSEST:
        return last
    fine = [last]
    for at, tokens in enumerate(found.layers or ()):
        side = math.isqrt(tokens.shape[1])
        if at and side > last.side and side**2 == tokens.shape[1] and trunk.size / side <= COARSEST:
            fine.append(MapOf(at, side, tokens.shape[-1]))
    return fine[-1]


@torch.no_grad()
def _probed(trunk: ImageTrunk) -> Features:
    """Features of an empty image, with every layer; nothing is changed, no statistics of batches either."""
    modes = [(module, module.training) for module in trunk.modules()]
    trunk.eval()
    try:
        device = next(trunk.parameters()).device
        return trunk(torch.zeros(1, trunk.channels, trunk.size, trunk.size, device=device), layers=True)
    finally:
        for module, mode in modes:
            module.training = mode


class RegionFeatures(nn.Module):
    """Features (B, R, F) of regions, by one of two ways.

    Args:
        trunk: of an encoder; for "align" of the side of the images.
        way: "align" runs the trunk once an image and takes every region from its map (Girshick 2015, with RoIAlign instead of
            rounding); "warped" cuts every region out with a little context, brings it to the trunk's size and runs the trunk on
            it (Girshick et al. 2014).
        bins: n, places along each side of a region that are kept.
    """

    def __init__(self, trunk: ImageTrunk, way: Way = "align", bins: int = BINS) -> None:
        super().__init__()
        self.trunk, self.way, self.bins = trunk, way, bins
        self.map = map_of(trunk) if way == "align" else MapOf(None, 0, trunk.width)
        self.width = bins * bins * self.map.width

    def forward(self, image_BCSS: Tensor, box_BR4: Tensor) -> Tensor:
        """Features (B, R, F).

        Args:
            image_BCSS: as the trunk takes them. box_BR4: shares of the sides, 0 to 1.
        """
        if self.way == "align":
            return roi_align(self._map(image_BCSS), box_BR4, self.bins).flatten(2)
        return self._warped(image_BCSS, box_BR4)

    def _map(self, image_BCSS: Tensor) -> Tensor:
        layer = self.map.layer
        found = self.trunk(image_BCSS, layers=layer is not None)
        tokens = found.tokens if layer is None else found.layers[layer]
        return tokens.transpose(1, 2).unflatten(2, (self.map.side, -1))

    def _warped(self, image_BCSS: Tensor, box_BR4: Tensor) -> Tensor:
        low, high = box_BR4[..., :2], box_BR4[..., 2:]
        wide = CONTEXT * (high - low)
        box = torch.cat([low - wide, high + wide], dim=-1).clamp(0, 1)
        B, R = box.shape[:2]
        step = R if self.training else max(1, CHUNK // B)
        parts = []
        for part in box.split(step, dim=1):
            crops = roi_align(image_BCSS, part, self.trunk.size).flatten(0, 1)
            found = self.trunk(crops)
            if found.grid is None:
                kept = found.pooled[:, :, None, None].expand(-1, -1, self.bins, self.bins)
            else:
                kept = F.adaptive_avg_pool2d(found.tokens.transpose(1, 2).unflatten(2, found.grid), self.bins)
            parts.append(kept.flatten(1).unflatten(0, (B, -1)))
        return torch.cat(parts, dim=1)


class RegionClassifier(nn.Module):
    """Fast R-CNN: regions to logits over K classes and background, and box offsets of every class, trained end to end.

    Args:
        trunk: see `RegionFeatures`. classes: K. way, bins: see there. hidden: width of the layer before the two heads.
    """

    def __init__(
        self, trunk: ImageTrunk, classes: int, way: Way = "align", bins: int = BINS, hidden: int = HIDDEN
    ) -> None:
        super().__init__()
        self.features = RegionFeatures(trunk, way, bins)
        self.hidden = nn.Sequential(
            nn.LayerNorm(self.features.width), nn.Linear(self.features.width, hidden), nn.GELU()
        )
        self.label = nn.Linear(hidden, classes + 1)
        self.offset = nn.Linear(hidden, 4 * classes)
        for head, spread in ((self.label, 0.01), (self.offset, 0.001)):
            nn.init.normal_(head.weight, std=spread)
            nn.init.zeros_(head.bias)

    @property
    def trunk(self) -> ImageTrunk:
        """What is kept as the encoder."""
        return self.features.trunk

    def forward(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{"label": (B, R, 1 + K) logits, background first, "offset": (B, R, K, 4)} of x = {"item", "box"}."""
        hidden = self.hidden(self.features(x["item"], x["box"]))
        return {"label": self.label(hidden), "offset": self.offset(hidden).unflatten(-1, (-1, 4))}

    def scores(self, x: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Probabilities (B, R, K) of the classes and offsets (B, R, K, 4)."""
        found = self(x)
        return found["label"].float().softmax(dim=-1)[..., 1:], found["offset"].float()


class RegionMachines(nn.Module):
    """R-CNN: features of a trunk that stays as it is, a linear support vector machine and a box regression for every class.

    Args:
        features: of regions. classes: K.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    offset_weight: Tensor
    offset_bias: Tensor

    def __init__(self, features: RegionFeatures, classes: int) -> None:
        super().__init__()
        self.features = features
        width = features.width
        for name, shape in (
            ("mean", (width,)), ("scale", ()), ("weight", (classes, width)), ("bias", (classes,)),
            ("offset_weight", (classes, 4, width)), ("offset_bias", (classes, 4)),
        ):  # fmt: skip
            self.register_buffer(name, torch.zeros(shape))

    @property
    def trunk(self) -> ImageTrunk:
        """What the features come from."""
        return self.features.trunk

    def scaled(self, features_BRF: Tensor) -> Tensor:
        """Features as the machines take them."""
        return (features_BRF.float() - self.mean) * self.scale

    def scores(self, x: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Margins brought to 0..1 (B, R, K), a half where a machine cannot tell, and offsets (B, R, K, 4)."""
        features = self.scaled(self.features(x["item"], x["box"]))
        margin = features @ self.weight.T + self.bias
        offset = torch.einsum("brf,kof->brko", features, self.offset_weight) + self.offset_bias
        return torch.sigmoid(2 * margin), offset
