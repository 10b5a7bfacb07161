"""Images: squashed to a square, decoded once, normalized per channel; an `Encoder` is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from withheld import distributed
from withheld.data.decode import look
from withheld.data.duplicates import copies_each, grouped, near_duplicates
from withheld.data.frames import folders_among, like_clips
from withheld.data.image import ImageItems, native_size
from withheld.data.prepared import Prepared, prepare
from withheld.data.rows import Streamed, spread_over
from withheld.data.sample import spaced
from withheld.data.source import Source, open_source
from withheld.data.wanted import UNREAD, clips_beside, unread_beside
from withheld.data.windows import HELD_BYTES, Windows
from withheld.errors import InputError
from withheld.image_encoder import ImageEncoder, normalization_of
from withheld.modalities.modality import Modality
from withheld.networks.adapters import adapt, merged, own_numbers
from withheld.networks.open import PRESETS, open_trunk
from withheld.provenance import location_of
from withheld.resize import at_size
from withheld.run import constant, default_encoder
from withheld.splits.views import RandomResizedCrop
from withheld.types import Recipe
from withheld.wording import plural, size

SAMPLE = 256
COMPARED = 2048
"""Images among which near-duplicates are looked for."""


class Images(Modality):
    """Folders, archives, IDX, tables and arrays of images."""

    name = "image"
    streams = True
    adapts = True
    prepared: Prepared
    mean: list[float]
    std: list[float]
    size: int

    def open(self, method: str | None) -> Any:
        """Decodes every image once; returns the trunk."""
        source = open_source(self.data, stream=self.stream)
        train = source.part("train")
        self.source: Source = train if train is not None and len(train) else source
        if len(self.source) == 0:
            raise InputError(f"{self.data}: no items")
        self.encoder_name, self.pretrained = "", False
        self.own = method is None
        usual = 224 if self.device.type == "cuda" else 96
        self.side = constant(method, "SIDE", usual) if method else usual  # of photographs
        if method is None:
            return self._prepare(self._size(), None)
        return self._trunk(method)

    def feed(self, recipe: Recipe) -> None:
        """Normalized images; a recipe of likelihoods gets pixels in 0..1."""
        if not recipe.normalize:
            self.mean, self.std = [0.0] * len(self.mean), [1.0] * len(self.std)
        windows = self.windows
        if windows is None:
            chosen, trial = self._parted(recipe)
        else:
            chosen, (windows, trial) = None, self._parted_windows(recipe, windows)
        self.items = ImageItems(
            self.prepared, self.mean, self.std, ids="id" in self.asks, chosen=chosen, windows=windows
        )
        if self.held_out:
            apart = ImageItems(self.prepared, self.mean, self.std, chosen=trial)
            batch: Any = apart.batch(spaced(len(apart), SAMPLE), self.device)
        else:
            some = spaced(len(self.items), SAMPLE) if windows is None else windows.spread(SAMPLE)
            batch = self.items.batch(some, self.device)
        self.sample = {**batch, "item": at_size(batch["item"], self.size)} if self.asks else at_size(batch, self.size)

    def _parted(self, recipe: Recipe) -> tuple[Any, Any]:
        """Rows that are learned from (None for all), and rows that never are: a fixed batch for vitals, where enough are left.

        Where an item's number is its class, no item can be left out.
        """
        count = len(self.prepared)
        if recipe.most_items:
            return spaced(count, recipe.most_items), None
        self.held_out = count >= SAMPLE * 4 and not self.asks
        if not self.held_out:
            return None, None
        trial = spaced(count, min(SAMPLE, count // 50))
        return np.setdiff1d(np.arange(count), trial), trial

    def _parted_windows(self, recipe: Recipe, windows: Windows) -> tuple[Windows, Any]:
        """The same of a stream: the first rows of some windows are set aside, since a list of all others would be too long."""
        if recipe.most_items:
            raise InputError(
                f"{self.data} is a stream, and this method learns from {recipe.most_items:,} items that it sees again and again: "
                "give it a folder of so many, or a cache that is large enough (WITHHELD_CACHE)"
            )
        trial, rest = windows.apart(min(SAMPLE, windows.count // 50))
        self.held_out = windows.count >= SAMPLE * 4 and len(trial) > 0 and not self.asks
        return (rest, trial) if self.held_out else (windows, None)

    @property
    def windows(self) -> Windows | None:
        """Of the rows, where they are decoded as they are needed, window by window."""
        images = self.prepared.images
        return images.windows if isinstance(images, Streamed) else None

    def met(self) -> list[dict[str, str]]:
        """Broken items of a stream are known when they are asked for."""
        images, names = self.prepared.images, self.prepared.names
        found = images.skipped.items() if isinstance(images, Streamed) else ()
        return [{"file": names[row], "reason": why} for row, why in found]

    def copies(self) -> float | None:
        """Near-duplicates of a sample, found by hashes, scaled to all."""
        count = len(self.prepared)
        if count < 2 or self.windows is not None:
            return None  # a sample of a stream is of few windows, and says nothing about copies in others
        some = np.sort(np.random.default_rng(0).permutation(count)[:COMPARED])
        pairs = near_duplicates(np.asarray(self.prepared.images[some]))
        return copies_each(grouped(pairs, len(some)), count)

    def tell_units(self, model: Any) -> None:
        """Mean and deviation; where the split makes use of them itself, it is given bytes."""
        model.split = model.split.in_units(self.mean, self.std)
        self.items.as_bytes = model.split.takes_bytes and model.change is None

    def facts(self) -> dict[str, Any]:
        """Counts, sizes, scale, fingerprint."""
        return {
            "location": location_of(self.data), "kind": self.source.kind, "items": len(self.items),
            "streamed": isinstance(self.prepared.images, Streamed),
            "held_out": len(self.prepared) - len(self.items) if self.held_out else 0,
            "skipped": len(self.prepared.skipped), "size": self.size, "stored": int(self.prepared.images.shape[-1]),
            "channels": int(self.prepared.images.shape[1]),
            "scale": self.prepared.scale.to_json() if self.prepared.scale else None, "fingerprint": self.fingerprint,
        }  # fmt: skip

    def model_facts(self, model: Any) -> dict[str, Any]:
        """The trunk, mean and deviation."""
        trunk = model.trunk
        encoder = {
            "name": self.encoder_name or type(trunk).__name__, "pretrained": self.pretrained,
            "parameters": own_numbers(trunk), "width": trunk.width, "depth": trunk.depth,
            "patch": trunk.patch,
        }  # fmt: skip
        return {"encoder": encoder, "mean": self.mean, "std": self.std}

    def check(self, model: Any) -> None:
        """The network must name its trunk."""
        if model.trunk is None:
            raise InputError(
                "the network has no attribute `trunk`: it names the part that is kept as the encoder, e.g. withheld.Predictor"
            )

    def keep(self, model: Any, title: str, out: Path) -> None:
        """The encoder."""
        self._encoder(model, title).save(out / "encoder")

    def draw(self, model: Any, title: str, out: Path) -> None:
        """Samples, what is hidden, neighbors, features, a map."""
        from withheld.evaluate.pictures import draw_run

        images, names = spread_over(self.prepared.images, self.prepared.names)
        draw_run(model, self._encoder(model, title), images, names, out)

    @staticmethod
    def first(settings: dict[str, Any], folder: Path) -> tuple[Any, Any]:
        """The trained trunk and a blank batch."""
        encoder = ImageEncoder.opened(folder / "encoder")
        if settings["recipe"].get("lora"):
            adapt(encoder.trunk, settings["recipe"]["lora"])
        return encoder.trunk, torch.zeros(2, encoder.channels, encoder.size, encoder.size)

    def _encoder(self, model: Any, title: str) -> ImageEncoder:
        flips = any(getattr(part, "flip", False) for part in (model.change, model.split.augment))
        name = f"{title} {self.encoder_name or type(model.trunk).__name__}"
        return ImageEncoder(
            merged(model.trunk), self.mean, self.std, model.split, name, flips, self.prepared.scale, augment_of(model)
        )

    def _trunk(self, method: str) -> Any:
        name = self.asked.encoder
        if name == "auto":
            name = default_encoder(method) or ("vit-small" if self.device.type == "cuda" else "vit-nano")
        self.encoder_name = str(name) if isinstance(name, (str, Path)) else type(name).__name__
        seed = self.asked.seed
        if isinstance(name, str) and name in PRESETS:
            self._prepare(self._size(), None)
            return open_trunk(name, size=self.size, channels=self.prepared.images.shape[1], seed=seed)[0]
        asked = None if self.asked.size == "auto" else int(self.asked.size)
        trunk, self.pretrained = open_trunk(name, size=asked, channels=3, seed=seed)
        self._prepare(trunk.size, trunk.channels)
        if self.pretrained:
            self.mean, self.std = normalization_of(name, trunk.channels)
        return trunk

    def _size(self) -> int:
        if self.asked.size != "auto":
            return self.size_asked(8, "the side of the images in pixels")
        native = max(native_size(self.source))
        if native <= 64:
            return -(-native // 4) * 4
        return int(self.side)

    def _prepare(self, size: int, channels: int | None) -> None:
        """Decodes once; photographs are kept a third larger than they are seen, so that crops stay sharp."""
        self.size = size
        stored = size if size <= 64 or self.own else size * 4 // 3
        if distributed.rank() != 0:
            distributed.barrier()
        self.prepared = prepare(
            self.source,
            stored,
            channels,
            progress=lambda done, total: self.tell("prepare", done=done, total=total),
            stream=self.stream,
        )
        if distributed.rank() == 0:
            distributed.barrier()
        self._tell_stream()
        self.mean, self.std = list(self.prepared.mean), list(self.prepared.std)
        self.fingerprint, self.skipped = self.prepared.fingerprint, self.prepared.skipped
        self.tell_skipped(plural(len(self.source) + len(self.source.left_out), "image"))
        for beside in (unread_beside(self.source.unread, UNREAD), clips_beside(self.source.unread)):
            if beside:
                self.tell("note", text=beside)
        decoded = self.source.kind in ("folder", "tar", "zip") and not isinstance(self.prepared.images, Streamed)
        if decoded and (clips := folders_among(self.prepared.names, self.prepared.images, self._sizes)):
            self.tell("note", text=like_clips(clips))
        scale = self.prepared.scale
        if scale is not None:
            self.tell("note", text=f"images of more than 8 bits a pixel: {scale.words()}")

    def _sizes(self, rows: list[int]) -> list[tuple[int, int]]:
        """Height and width of images as they lie there; (0, 0) of what can no more be read."""
        found = [(0, 0)] * len(rows)
        for place, raw in self.source.raw(np.asarray(self.prepared.kept)[rows]):
            with contextlib.suppress(Exception):  # a damaged file raises anything
                seen = look(raw)
                found[place] = seen.height, seen.width
        return found

    def _tell_stream(self) -> None:
        images = self.prepared.images
        if not isinstance(images, Streamed):
            return
        if images.windows is None:
            why = "read one by one" if self.stream else "too large for the prepared cache, and read one by one"
            self.tell("note", text=f"items are decoded as they are needed: {why}")
            return
        self.tell(
            "note",
            text=f"items are decoded as they are needed, from {len(images.windows):,} windows of "
            f"{size(images.windows.bytes_each)} on average; at most {HELD_BYTES / 1e6:.0f} MB of them are held in memory",
        )


def augment_of(model: Any) -> Callable[[Tensor], Tensor] | None:
    """How an objective changes whole images in training: its views, or its crop; None where it does neither."""
    return model.split.augment or (model.change if isinstance(model.change, RandomResizedCrop) else None)
