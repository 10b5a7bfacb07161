"""The encoder of images.

Shapes: B batch, C channels, H W pixels, D width.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from withheld.data.scale import Scale
from withheld.encoder import Encoder
from withheld.errors import InputError
from withheld.modes import evaluating
from withheld.networks.image import ImageTrunk, fresh_trunk
from withheld.networks.open import encoder_folder, normalization_of, open_trunk, read_card
from withheld.resize import at_size
from withheld.types import Features, Split

LUMA = (0.299, 0.587, 0.114)


class ImageEncoder(Encoder):
    """Whole images in, features out: resizes, normalizes, applies what the split's `full` asks for, and runs the trunk.

    Also a scikit-learn transformer: `make_pipeline(encoder, LogisticRegression())`.

    Args:
        trunk: the backbone.
        mean, std: per channel, of pixels in 0..1.
        split: whose `full` says what the trunk sees of an item; None for all of it.
        name: what it is called in tables.
        flips: whether its training mirrored images, so that fine-tuning may too.
        scale: what becomes 0 and 1 where the images are not 8 bit; None takes the full range of their type.
        augment: how its training changed whole normalized images at random; None where it did not, or where that is not known.
    """

    modality = "image"

    def __init__(
        self, trunk: ImageTrunk, mean: Sequence[float], std: Sequence[float], split: Split | None = None,
        name: str = "encoder", flips: bool = True, scale: Scale | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(trunk, name)
        self.mean, self.std = [float(m) for m in mean], [float(s) for s in std]
        if len(self.mean) != trunk.channels or len(self.std) != trunk.channels:
            raise InputError(
                f"the encoder has {trunk.channels} channels, mean and std have {len(self.mean)} and {len(self.std)}"
            )
        self.split = split if split is not None and type(split).full is not Split.full else None
        self.flips, self.scale, self.augment = flips, scale, augment

    @property
    def size(self) -> int:
        """Side of the images the trunk sees, pixels."""
        return self.trunk.size

    @property
    def channels(self) -> int:
        """Channels of the images the trunk sees."""
        return self.trunk.channels

    def forward(self, images: Tensor, layers: bool = False) -> Features:
        """Features of whole images.

        Args:
            images: (B, C, H, W) of any size, uint8 or floats in 0..1.
            layers: also give the tokens of every layer.
        """
        return self.trunk(self.normalize(images), layers=layers)

    def normalize(self, images: Tensor) -> Tensor:
        """What the trunk gets: (B, C, size, size), channels matched, resized with antialiasing, normalized, `full` applied."""
        t = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        t = at_size(_match_channels(t, self.channels), self.size)
        shape = (1, self.channels, 1, 1)
        t = (t - t.new_tensor(self.mean).view(shape)) / t.new_tensor(self.std).view(shape)
        return t if self.split is None else self.split.full(t)

    @torch.no_grad()
    def transform(self, images: Any, batch_size: int = 256) -> np.ndarray:
        """Pooled features (n, D), float32.

        Args:
            images: a list of PIL images, paths or arrays (H, W[, C]); or one array or tensor (n, H, W), (n, H, W, C) or
                (n, C, H, W).
            batch_size: images at a time.
        """
        parts = [found.pooled.float().cpu().numpy() for found in self._seen(images, batch_size, layers=False)]
        return np.concatenate(parts) if parts else np.zeros((0, self.width), np.float32)

    @torch.no_grad()
    def transform_layers(self, images: Any, batch_size: int = 256) -> list[np.ndarray]:
        """Features (n, D) float32 of every block or stage, the first one first: means over the patches.

        Args:
            images: as for `transform`.
            batch_size: images at a time.
        """
        seen = self._seen(images, batch_size, layers=True)
        parts = [[one.float().cpu().numpy() for one in found.pooled_layers(self.trunk.depth)] for found in seen]
        return [np.concatenate(layer) for layer in zip(*parts, strict=True)]

    @torch.no_grad()
    def transform_patches(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """Features of every patch, or cell of the last map, (n, rows, columns, D), float32.

        Args:
            images: as for `transform`; resized to squares of `size` pixels, as ever.
            batch_size: images at a time.

        Raises:
            InputError: where the trunk's tokens lie on no grid.
        """
        parts = []
        for found in self._seen(images, batch_size, layers=False):
            if found.grid is None:
                raise InputError(f"{self.name}: the tokens of this network lie on no grid of patches")
            parts.append(found.tokens.float().cpu().numpy().reshape(len(found.tokens), *found.grid, -1))
        return np.concatenate(parts) if parts else np.zeros((0, 0, 0, self.width), np.float32)

    def _seen(self, images: Any, batch_size: int, layers: bool) -> Iterator[Features]:
        with evaluating(self):
            for batch in _batches(images, batch_size, self.size, self.channels, self.scale):
                yield self(torch.from_numpy(batch).to(self.device), layers)

    def fresh(self, seed: int) -> ImageEncoder:
        """The same architecture, untrained: for the from-scratch rows."""
        trunk = fresh_trunk(copy.deepcopy(self.trunk.config), seed, self.trunk.pooling).to(self.device)
        name = f"{self.name} untrained"
        return ImageEncoder(trunk, self.mean, self.std, self.split, name, self.flips, self.scale, self.augment)

    def write(self, folder: Path) -> None:
        """Weights, config and processor."""
        self.trunk.model.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(self._processor(), indent=1), encoding="utf-8")

    @classmethod
    def opened(cls, where: str | Path) -> ImageEncoder:
        """Opens a saved encoder, any transformers vision folder, or a transformers id.

        Raises:
            InputError: where there is none.
        """
        folder = encoder_folder(where)
        card = read_card(folder)
        trunk, _ = open_trunk(folder or where, size=None, channels=3)
        mean, std = normalization_of(where, trunk.channels)
        if not card:
            return cls(trunk, mean, std, name=Path(where).name if folder else str(where))
        return cls(
            trunk, mean, std, open_split(card["full"]), card["name"], card["flips"], Scale.from_json(card["scale"]),
            open_augment(card.get("augment")),
        )  # fmt: skip

    def card(self) -> dict[str, Any]:
        """Size, normalization, what the split's `full` asks for, how training changed images."""
        full = None if self.split is None else named_part(self.split)
        return {
            "size": self.size, "channels": self.channels, "mean": self.mean, "std": self.std,
            "pooling": self.trunk.pooling, "flips": self.flips, "full": full,
            "augment": None if self.augment is None else named_part(self.augment),
            "scale": self.scale.to_json() if self.scale else None,
            "full_in_words": " ".join((inspect.getdoc(type(self.split).full) or "").split()) if self.split else "everything",
            "how": "JPEG files decoded at the smallest of 1, 1/2, 1/4 and 1/8 of their size whose shorter side is not below size "
            "(Pillow's draft), turned upright (EXIF); where the shorter side is still 6 times size or more, reduced by the whole "
            "number of times that 3 times size goes into it (reduce); alpha over white; resized to size x size, 8 bit (resize, "
            "bilinear, which antialiases); scaled to 0..1, minus mean, over std, then `full`; "
            "features are the mean of the patch tokens (pooling mean) or the first token (cls)",
        }  # fmt: skip

    def _processor(self) -> dict[str, Any]:
        return {
            "image_processor_type": "ViTImageProcessor", "do_resize": True, "do_rescale": True, "do_normalize": True,
            "size": {"height": self.size, "width": self.size}, "resample": 2, "rescale_factor": 1 / 255,
            "image_mean": self.mean, "image_std": self.std,
        }  # fmt: skip


def _match_channels(t: Tensor, channels: int) -> Tensor:
    have = t.shape[1]
    if have == channels:
        return t
    if have == 1:
        return t.expand(-1, channels, -1, -1)
    if have == 3 and channels == 1:
        return (t * t.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    raise InputError(f"images have {have} channels, the encoder was trained on {channels}")


def _batches(images: Any, batch_size: int, size: int, channels: int, scale: Scale | None) -> Any:
    from withheld.data.decode import channels_first
    from withheld.data.image import to_array
    from withheld.data.objects import plain

    if isinstance(images, str | Path):
        raise InputError(f"give a list of images, not one: [{str(images)!r}]; of a folder: withheld embed, or glob")
    if hasattr(images, "mode") and hasattr(images, "getbands"):
        raise InputError("give a list of images, not one: [image]")
    images = plain(images)
    is_array = isinstance(images, np.ndarray)
    ready = (
        is_array
        and images.ndim == 4
        and images.dtype == np.uint8
        and images.shape[1] in (1, channels)
        and images.shape[3] > 4
    )
    if is_array and images.ndim not in (3, 4):
        raise InputError(f"images of shape {images.shape}: give (n, H, W), (n, H, W, C) or a list of images")
    if is_array and images.ndim == 4 and not ready and channels_first(images.shape):
        images = images.transpose(0, 2, 3, 1)
    for first in range(0, len(images), batch_size):
        part = images[first : first + batch_size]
        yield (
            np.ascontiguousarray(part)
            if ready
            else np.stack([to_array(_opened(image, size, channels), size, channels, scale) for image in part])
        )


def _opened(image: Any, size: int, channels: int) -> Any:
    """A file is decoded as preparing decodes it: a JPEG near the size wanted."""
    from withheld.data.objects import plain

    if not isinstance(image, (str, Path)):
        image = plain(image)
        if not isinstance(image, np.ndarray) and not hasattr(image, "mode"):
            raise InputError(f"an image is {type(image).__name__}: give paths, PIL images or NumPy arrays (H, W[, C])")
        return image
    from withheld.data.source import open_source

    return open_source(image).read(0, size, channels == 1)


def open_split(full: dict[str, Any] | None) -> Split | None:
    """A split named by a card: only classes of withheld.splits are looked up."""
    found = None if full is None else _opened_part(full)
    if found is not None and not isinstance(found, Split):
        raise InputError(f"{full['class']!r} is no split")  # type: ignore[index]
    return found


def open_augment(named: dict[str, Any] | None) -> Callable[[Tensor], Tensor] | None:
    """What a card says of how training changed images: only classes of withheld.splits are looked up."""
    return None if named is None else _opened_part(named)


def named_part(part: Any) -> dict[str, Any]:
    """A dataclass of withheld.splits as a card names it."""
    return {"class": f"{type(part).__module__}:{type(part).__name__}", "settings": dataclasses.asdict(part)}


def _opened_part(named: dict[str, Any]) -> Any:
    module, _, name = named["class"].partition(":")
    if not module.startswith("withheld.splits."):
        raise InputError(f"{named['class']!r} is no split of this library; the encoder's card is not to be trusted")
    kind = getattr(importlib.import_module(module), name, None)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == module):
        raise InputError(f"{named['class']!r} is no split")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in named["settings"].items()})
