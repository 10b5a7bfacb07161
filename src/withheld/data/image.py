"""One image to a fixed-size array, and batches of them on a device.

Axes in comments: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from withheld.data.decode import Decoded, Look, as_hwc, look
from withheld.data.scale import Scale, rescaled, to_block, with_channels
from withheld.data.wanted import instead
from withheld.errors import InputError
from withheld.wording import plural

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from withheld.data.source import Source
    from withheld.data.windows import Windows


def to_array(image: Decoded, size: int, channels: int, scale: Scale | None = None) -> np.ndarray:
    """One image as (channels, size, size) uint8: upright, alpha over white, squashed to a square, antialiased.

    Args:
        image: a PIL image of any mode, or an array (H, W[, C]).
        size: height and width in pixels.
        channels: 1 makes it grey; 3 makes grey ones gray in three channels; others must be what the image has.
        scale: what becomes 0 and 255 where the data is not 8 bit; None takes the full range of its type.

    Raises:
        ValueError: where the image has other channels.
    """
    if isinstance(image, np.ndarray):
        return to_block(as_hwc(image)[None], size, channels, scale)[0]
    if image.mode in ("I", "F", "I;16", "I;16B", "I;16L", "I;16N"):
        return to_block(np.asarray(image)[None, :, :, None], size, channels, scale)[0]
    if channels not in (1, 3):
        raise ValueError(f"has {len(image.getbands())} channels where {channels} are wanted")
    plain = _plain(_nearer(image, size), "L" if channels == 1 else "RGB")
    if plain.size != (size, size):
        plain = plain.resize((size, size), Image.Resampling.BILINEAR)
    array = np.asarray(plain)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def to_color(image: Decoded, scale: Scale | None = None) -> np.ndarray:
    """One image at its own size as (3, H, W) uint8: alpha over white, grey in three channels.

    Raises:
        ValueError: where it has neither one nor three channels.
    """
    if isinstance(image, Image.Image) and image.mode not in ("I", "F", "I;16", "I;16B", "I;16L", "I;16N"):
        return np.ascontiguousarray(np.asarray(_plain(image, "RGB")).transpose(2, 0, 1))
    array = as_hwc(image if isinstance(image, np.ndarray) else np.asarray(image)[:, :, None])
    values = np.clip(np.rint(rescaled(array, scale)), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(with_channels(values.transpose(2, 0, 1)[None], 3)[0])


def _nearer(image: Image.Image, size: int) -> Image.Image:
    """A very large image at a fraction of its size, still three times what is wanted: converting it needs memory."""
    factor = min(image.size) // (3 * size)
    if factor < 2 or image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK") or "transparency" in image.info:
        return image
    return image.reduce(factor)


def _plain(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    if image.mode in ("LAB", "HSV", "CMYK"):
        image = image.convert("RGB")  # Pillow has no direct way from these to grey
    return image.convert(mode)


def heads(source: Source, sample: int = 64) -> list[Look]:
    """What the heads of a sample of the images tell; those that cannot be read are left out.

    Raises:
        InputError: where none of the sample can be read.
    """
    from withheld.data.work import reason_of

    seen, first = [], ""
    for position, raw in source.raw(source.spread(sample)):
        try:
            seen.append(look(raw))
        except Exception as error:  # a damaged file raises anything; it is counted when the data is prepared
            first = first or f"{source.names[position]!r} {reason_of(error)}"
    if not seen:
        raise InputError(
            f"none of the images looked at in {source.location} can be read; the first: {first}"
            f"{instead(source.unread) or '; check the files'}"
        )
    return seen


def native_size(source: Source, sample: int = 64) -> tuple[int, int]:
    """The median (height, width) of a sample of the images, read from their heads.

    Raises:
        InputError: where none of the sample can be read.
    """
    return typical_size(heads(source, sample))


def typical_size(seen: Sequence[Look]) -> tuple[int, int]:
    """The median (height, width)."""
    height, width = np.median([(each.height, each.width) for each in seen], axis=0)
    return int(height), int(width)


class ImageItems:
    """What the training loop asks for batches.

    Args:
        prepared: a `Prepared`, or its images (N, C, H, W) uint8.
        mean: a channel, of pixels in 0..1.
        std: a channel, of pixels in 0..1.
        labels: (N,) int64; batches are then dicts with "item" and "label".
        ids: whether batches are dicts with "item" and "id", the number of the item among these.
        chosen: (n,) rows of the images that are the items; None takes all.
        windows: the items, where images are read window by window; the number of an item is then its row.

    Attributes:
        as_bytes: whether batches are the bytes as they are stored, for a split that normalizes them itself.
    """

    def __init__(
        self,
        prepared: Any,
        mean: Sequence[float],
        std: Sequence[float],
        labels: np.ndarray | None = None,
        ids: bool = False,
        chosen: np.ndarray | None = None,
        windows: Windows | None = None,
    ) -> None:
        images = getattr(prepared, "images", prepared)
        # indexing a memmap makes memmaps, slowly; the plain view of it shares the file
        self.images: Any = np.asarray(images) if isinstance(images, np.ndarray) else images
        self.labels = None if labels is None else np.asarray(labels, np.int64)
        if self.labels is not None and len(self.labels) != len(self.images):
            raise ValueError(f"{plural(len(self.labels), 'label')} for {plural(len(self.images), 'image')}")
        self.ids, self.chosen, self.read_in = ids, chosen, windows
        self.as_bytes = False
        self.mean = list(mean)
        self.std = list(std)
        mean_, std_ = (np.asarray(values, np.float64).reshape(1, -1, 1, 1) for values in (mean, std))
        self._factor = (1 / (255 * std_)).astype(np.float32)
        self._shift = (mean_ / std_).astype(np.float32)
        self._shifts = bool(self._shift.any())
        self._ready: dict[str, tuple[Tensor, ...]] = {}

    def __len__(self) -> int:
        if self.read_in is not None:
            return self.read_in.count
        return len(self.images) if self.chosen is None else len(self.chosen)

    def expect(self, index: np.ndarray) -> None:
        """Reads ahead what these items of a stream lie in, which are asked for next, in this order."""
        if self.read_in is not None:
            self.images.expect(index)

    def rest(self) -> None:
        """Ends reading ahead."""
        if self.read_in is not None:
            self.images.rest()

    def batch(self, index: np.ndarray, device: torch.device | str) -> Tensor | Mapping[str, Tensor]:
        """Normalized float32 images (B, C, H, W) on a device, or bytes; with labels {"item": ..., "label": (B,) int64}.

        Args:
            index: (B,) positions of items.
            device: where the batch is wanted; bytes travel, floats are made there.
        """
        import torch

        index = np.asarray(index)
        rows = index if self.chosen is None else self.chosen[index]
        pixels = np.ascontiguousarray(self.images[rows])
        item = torch.from_numpy(pixels).to(device) if self.as_bytes else self._normalized(pixels, torch.device(device))
        more = {}
        if self.labels is not None:
            more["label"] = torch.from_numpy(self.labels[rows]).to(device)
        if self.ids:
            more["id"] = torch.from_numpy(index.astype(np.int64)).to(device)
        return {"item": item, **more} if more else item

    def _normalized(self, pixels: np.ndarray, device: torch.device) -> Tensor:
        import torch

        if device.type == "cpu":
            # the same arithmetic as below; torch's threads would wait for each other longer than this takes
            values = np.multiply(pixels, self._factor, dtype=np.float32)
            return torch.from_numpy(np.subtract(values, self._shift, out=values) if self._shifts else values)
        if str(device) not in self._ready:
            self._ready[str(device)] = tuple(torch.from_numpy(c).to(device) for c in (self._factor, self._shift))
        factor, shift = self._ready[str(device)]
        return torch.from_numpy(pixels).to(device).to(torch.float32).mul_(factor).sub_(shift)
