"""The encoder of clips.

Shapes: B batch, T frames, C channels, H W pixels, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from withheld.data.work import reason_of
from withheld.encoder import Encoder
from withheld.errors import InputError
from withheld.image_encoder import named_part, normalization_of, open_split
from withheld.modes import evaluating
from withheld.networks.open import IMAGES, encoder_folder, read_card
from withheld.networks.video import VideoTrunk, fresh_video_trunk, open_video_trunk
from withheld.resize import at_size
from withheld.types import Features, Split

VIEWS = 3
"""Windows of a clip, spread evenly, whose features are averaged."""
AT_ONCE = 16


class VideoEncoder(Encoder):
    """Whole clips in, features out: takes windows, resizes, normalizes, runs the trunk and averages over windows.

    Args:
        trunk: the backbone.
        mean, std: per channel, of pixels in 0..1.
        rate: frames a second that it was trained on; 0 for those of the clips as they are.
        split: whose `full` says what the trunk sees of a clip; None for all of it.
        name: what it is called in tables.
    """

    modality = "video"

    def __init__(
        self, trunk: VideoTrunk, mean: Sequence[float], std: Sequence[float], rate: float = 0.0,
        split: Split | None = None, name: str = "encoder",
    ) -> None:  # fmt: skip
        super().__init__(trunk, name)
        self.mean, self.std, self.rate = [float(m) for m in mean], [float(s) for s in std], float(rate)
        self.split = split if split is not None and type(split).full is not Split.full else None

    @property
    def size(self) -> int:
        """Side of the frames the trunk sees, pixels."""
        return self.trunk.size

    @property
    def frames(self) -> int:
        """T, the frames the trunk sees at once."""
        return self.trunk.frames

    def forward(self, clips: Tensor, layers: bool = False) -> Features:
        """Features of windows.

        Args:
            clips: (B, T, C, H, W) of any size, uint8 or floats in 0..1; T is `frames` for models of whole clips.
            layers: also give the tokens of every layer.
        """
        return self.trunk(self.normalize(clips), layers=layers)

    def normalize(self, clips: Tensor) -> Tensor:
        """What the trunk gets: (B, T, C, size, size), resized, normalized, `full` applied."""
        t = clips.float() / 255 if clips.dtype == torch.uint8 else clips.float()
        t = at_size(t.flatten(0, 1), self.size).unflatten(0, t.shape[:2])
        shape = (1, 1, len(self.mean), 1, 1)
        t = (t - t.new_tensor(self.mean).view(shape)) / t.new_tensor(self.std).view(shape)
        return t if self.split is None else self.split.full(t)

    def windows(self, count: int, rate: float) -> np.ndarray:
        """(V, T) numbers of the frames of `VIEWS` windows of a clip of `count` frames at `rate` a second; short clips repeat."""
        stride = max(1.0, rate / self.rate) if self.rate > 0 else 1.0
        span = int(np.ceil((self.frames - 1) * stride)) + 1
        first = np.unique(np.linspace(0, max(0, count - span), VIEWS).round().astype(int))
        steps = np.floor(np.arange(self.frames) * stride + 1e-6).astype(int)
        return np.minimum(first[:, None] + steps[None], count - 1)

    @torch.no_grad()
    def transform(self, clips: Any, batch_size: int = AT_ONCE) -> np.ndarray:
        """Pooled features (n, D), float32, one vector a clip.

        Args:
            clips: a list of paths of video files, of arrays (T, H, W, C) or (T, C, H, W) uint8, or of decoded `Clip`s.
            batch_size: windows at a time.
        """
        found = list(self._seen(clips, batch_size, layers=False))
        if not found:
            return np.zeros((0, self.width), np.float32)
        return _averaged(np.concatenate([one.pooled.float().cpu().numpy() for one, _ in found]), found)

    @torch.no_grad()
    def transform_layers(self, clips: Any, batch_size: int = AT_ONCE) -> list[np.ndarray]:
        """Features (n, D) float32 of every block or stage, the first one first: means over tokens and time.

        Args:
            clips: as for `transform`.
            batch_size: windows at a time.
        """
        found = list(self._seen(clips, batch_size, layers=True))
        parts = [
            [one.float().cpu().numpy() for one in features.pooled_layers(self.trunk.depth)] for features, _ in found
        ]
        return [_averaged(np.concatenate(layer), found) for layer in zip(*parts, strict=True)]

    def _seen(self, clips: Any, batch_size: int, layers: bool) -> Iterator[tuple[Features, list[int]]]:
        """Features of windows, and which clip each is of."""
        if isinstance(clips, str | Path):
            raise InputError(f"give a list of clips, not one: [{str(clips)!r}]; of a folder: withheld embed, or glob")
        with evaluating(self):
            for number, clip in enumerate(clips):
                frames, rate = _opened(clip, self.size)
                windows = torch.from_numpy(np.ascontiguousarray(frames[self.windows(len(frames), rate)])).to(
                    self.device
                )
                for some in windows.split(batch_size):
                    yield self(some, layers), [number] * len(some)

    def fresh(self, seed: int) -> VideoEncoder:
        """The same architecture, untrained: for the from-scratch rows."""
        trunk = fresh_video_trunk(self.trunk.config, seed, self.frames, self.trunk.pooling).to(self.device)
        return VideoEncoder(trunk, self.mean, self.std, self.rate, self.split, f"{self.name} untrained")

    def write(self, folder: Path) -> None:
        """Weights and config."""
        self.trunk.model.save_pretrained(folder)

    def card(self) -> dict[str, Any]:
        """Size, frames, their rate, normalization, what the split's `full` asks for."""
        full = None if self.split is None else named_part(self.split)
        return {
            "size": self.size, "frames": self.frames,
            "rate": self.rate, "mean": self.mean, "std": self.std, "pooling": self.trunk.pooling, "full": full,
            "channels": self.trunk.channels, "flips": False, "scale": None,
            "how": "frames scaled to 0..1, resized to size x size (bilinear, antialiased), minus mean, over std, then `full`; "
            "(batch, frames, 3, size, size), `frames` of them at `rate` a second (0: as they are); models of images see "
            "frame by frame; features are the mean over tokens and time",
        }  # fmt: skip

    @classmethod
    def opened(cls, where: str | Path) -> VideoEncoder:
        """Opens a saved encoder, or a transformers folder of a model of clips.

        Raises:
            InputError: where there is none, or its card is damaged.
        """
        folder = encoder_folder(where)
        if folder is None:
            raise InputError(
                f"{where}: no encoder of clips in this folder (looked for config.json and encoder/config.json)"
            )
        card = read_card(folder, (*IMAGES, "frames", "rate"))
        if not card:
            trunk, _ = open_video_trunk(folder, size=None, frames=16)
            return cls(trunk, *normalization_of(folder, trunk.channels), name=folder.name)
        trunk, _ = open_video_trunk(folder, size=None, frames=card["frames"])
        if trunk.image is not None:
            trunk.image.pooling = card["pooling"]
        return cls(trunk, card["mean"], card["std"], card["rate"], open_split(card["full"]), card["name"])


def _averaged(values_WD: np.ndarray, found: list[tuple[Features, list[int]]]) -> np.ndarray:
    """(n, D): the mean over the windows of every clip."""
    owner = np.concatenate([numbers for _, numbers in found])
    sums = np.zeros((owner.max() + 1, values_WD.shape[1]), np.float32)
    np.add.at(sums, owner, values_WD)
    return sums / np.bincount(owner)[:, None]


def _opened(clip: Any, size: int) -> tuple[np.ndarray, float]:
    """Frames (T, 3, H, W) uint8 and how many a second."""
    from withheld.data.clip import ASSUMED_RATE, Clip, decode_clip

    if isinstance(clip, Clip):
        return clip.frames, clip.rate
    if (
        isinstance(clip, np.ndarray)
        and clip.ndim == 4
        and clip.dtype == np.uint8
        and clip.shape[1] == 3 < clip.shape[3]
    ):
        return clip, ASSUMED_RATE
    if not isinstance(clip, str | Path):
        found = decode_clip(np.asarray(clip), size)
        return found.frames, found.rate
    try:
        found = decode_clip(Path(clip), size)
    except Exception as error:  # damaged files raise anything
        raise InputError(f"{clip}: {reason_of(error)}; get it again, or leave it out") from error
    return found.frames, found.rate
