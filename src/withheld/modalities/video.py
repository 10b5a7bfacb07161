"""Clips: decoded once, cut into windows in which something moves; an `Encoder` of clips is kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from withheld import distributed
from withheld.data.broken import SHOWN
from withheld.data.clips import (
    ClipItems,
    PreparedClips,
    find_windows,
    moving,
    need_windows,
    prepare_clips,
    same_clips,
)
from withheld.data.duplicates import copies_each
from withheld.data.moving import HELD, LEARN, MovingClips, MovingItems, is_moving, open_moving, scale_of
from withheld.data.sample import spaced
from withheld.data.stream_clips import StreamedFrames
from withheld.data.video import open_videos
from withheld.data.wanted import UNREAD_CLIPS, unread_beside
from withheld.errors import InputError
from withheld.modalities.modality import Modality
from withheld.networks.adapters import adapt, merged, own_numbers
from withheld.networks.video import open_video_trunk
from withheld.provenance import location_of
from withheld.run import constant, default_encoder
from withheld.types import Recipe
from withheld.video_encoder import VideoEncoder
from withheld.wording import plural

SAMPLE = 64
COMPARED = 1000
"""Clips of which copies are looked for."""
SIDE = {"cpu": 64, "cuda": 112}
HELD_OUT, LEAST_CLIPS = 0.1, 10
"""Share of the clips that is never learned from, where there are so many."""


class Videos(Modality):
    """Video files and folders of frames."""

    name = "video"
    adapts = True
    part: str = "train"
    """Of the data, where it has parts."""
    clips: PreparedClips
    made: MovingClips | None = None
    trial: Any
    every: Any
    mean: list[float] | None = None
    std: list[float] | None = None

    def open(self, method: str | None) -> Any:
        """Decodes every clip once; returns the trunk.

        Args:
            method: its file may say FRAMES, RATE (frames a second, 0 for the clips' own), MOTION (share of the windows), SIZE.
        """
        if not is_moving(self.data):
            source = open_videos(self.data)
            named = source.part(self.part)
            self.source = named if named is not None and len(named) else source
        settings = self.asked.settings
        self.frames = int(settings.get("frames", constant(str(method), "FRAMES", 8)))
        self.rate = float(settings.get("rate", constant(str(method), "RATE", 0.0)))
        self.share = float(settings.get("motion", constant(str(method), "MOTION", 1.0)))
        self.held_share = float(settings.get("held_out", HELD_OUT))
        if self.frames < 2 or self.rate < 0 or not 0 < self.share <= 1 or not 0 <= self.held_share < 1:
            raise InputError(
                f"frames={self.frames}, rate={self.rate:g}, motion={self.share:g}, held_out={self.held_share:g}: frames are 2 "
                "or more, rate is 0 (as the clips are) or frames a second, motion the share of the windows that is kept, above "
                "0 up to 1, held_out the share of the clips that is never learned from, below 1"
            )
        name = self.asked.encoder
        if name == "auto":
            name = default_encoder(str(method), self.device.type) or "vit-nano"
        self.encoder_name = str(name)
        trunk, self.pretrained = open_video_trunk(
            name, size=self._size(str(method)), frames=self.frames, seed=self.asked.seed
        )  # fmt: skip
        self.frames, self.size = trunk.frames, trunk.size
        if is_moving(self.data):
            self.made = open_moving(self.data, self.size, self.frames, self.rate)
            self.fingerprint = self.made.fingerprint
        else:
            self._prepare()
        return trunk

    def feed(self, recipe: Recipe) -> None:
        """Windows of most clips to learn from, of the others to check with.

        `every` is all of them where no clip of theirs was learned from, else those to check with.
        """
        if self.mean is None or self.std is None:
            seen = self.clips if self.made is None else self.made
            self.mean, self.std = scale_of(seen) if recipe.normalize else ([0.0] * 3, [1.0] * 3)
        if self.made is None:
            self._feed_windows(self.mean, self.std)
        else:
            self.items, self.trial = (MovingItems(self.made, part, self.mean, self.std) for part in (LEARN, HELD))
            self.held_out, self.every = True, self.trial
        self.groups = self.items.owners(np.arange(len(self.items)))
        self.sample = self.trial.batch(spaced(len(self.trial), SAMPLE), self.device)

    def _feed_windows(self, mean: list[float], std: list[float]) -> None:
        found = find_windows(self.clips, self.frames, self.rate)
        need_windows(found, self.clips, self.frames, self.rate)
        self._tell_of(found.short)
        kept = moving(found, self.share)
        if not len(kept):
            raise InputError(f"{self.data}: nothing moves in these clips: no two frames differ. Give clips with motion")
        if len(kept) < len(found):
            still = f"{len(found) - len(kept):,} of {len(found):,} windows are left out: little moves in them"
            self.tell("note", text=still)
        held = np.zeros(len(self.clips), bool)
        usable = np.unique(kept.clip)
        self.used = len(usable)
        if len(usable) >= LEAST_CLIPS:
            order = np.random.default_rng(0).permutation(usable)
            held[order[: max(1, round(self.held_share * len(usable))) if self.held_share else 0]] = True
        learn, check = kept.subset(np.flatnonzero(~held[kept.clip])), kept.subset(np.flatnonzero(held[kept.clip]))
        self.held_out = bool(len(check))
        self.items = ClipItems(self.clips, learn, self.frames, mean, std)
        self.trial = ClipItems(self.clips, check, self.frames, mean, std) if self.held_out else self.items
        self.every = ClipItems(self.clips, kept, self.frames, mean, std)

    def copies(self) -> float | None:
        """Clips that are there frame for frame several times, of a sample."""
        if self.made is not None or isinstance(self.clips.images, StreamedFrames):
            return None
        some = np.sort(np.random.default_rng(0).permutation(len(self.clips))[:COMPARED])
        return copies_each(same_clips(self.clips, some), len(self.clips))

    def facts(self) -> dict[str, Any]:
        """Counts, sizes, windows, fingerprint."""
        kind, clips = (self.source.kind, self.used) if self.made is None else (self.made.kind, len(self.items))
        return {
            "location": location_of(self.data), "kind": kind, "items": len(self.items),
            "clips": clips, "skipped": len(self.skipped), "size": self.size, "frames": self.frames,
            "rate": self.rate, "motion": self.share, "held_out": len(self.trial) if self.held_out else 0,
            "fingerprint": self.fingerprint,
        }  # fmt: skip

    def model_facts(self, model: Any) -> dict[str, Any]:
        """The trunk, mean and deviation."""
        trunk = model.trunk
        encoder = {
            "name": self.encoder_name, "pretrained": self.pretrained, "width": trunk.width, "depth": trunk.depth,
            "parameters": own_numbers(trunk), "patch": trunk.patch,
        }  # fmt: skip
        return {"encoder": encoder, "mean": self.mean, "std": self.std}

    def keep(self, model: Any, title: str, out: Path) -> None:
        """The encoder."""
        self._encoder(model, title).save(out / "encoder")

    def draw(self, model: Any, title: str, out: Path) -> None:
        """Clips, what is hidden of them and what is told."""
        from withheld.evaluate.video_pictures import draw_clips

        draw_clips(model, self._encoder(model, title), self.trial, out)

    @staticmethod
    def first(settings: dict[str, Any], folder: Path) -> tuple[Any, Any]:
        """The trained trunk and a batch of a ramp, which has colors and motion."""
        import torch

        trunk = VideoEncoder.opened(folder / "encoder").trunk
        if settings["recipe"].get("lora"):
            adapt(trunk, settings["recipe"]["lora"])
        shape = (2, settings["data"]["frames"], trunk.channels, trunk.size, trunk.size)
        return trunk, torch.linspace(0, 1, math.prod(shape)).view(shape)

    def _encoder(self, model: Any, title: str) -> VideoEncoder:
        mean, std = self.mean or [0.0] * 3, self.std or [1.0] * 3
        return VideoEncoder(merged(model.trunk), mean, std, self.rate, model.split, f"{title} {self.encoder_name}")

    def _size(self, method: str) -> int:
        if self.asked.size == "auto":
            return constant(method, "SIZE", SIDE.get(self.device.type, 64))
        return self.size_asked(16, "the side of the frames in pixels")

    def _prepare(self) -> None:
        if distributed.rank() != 0:
            distributed.barrier()
        self.clips = prepare_clips(
            self.source, self.size, progress=lambda done, total: self.tell("prepare", done=done, total=total)
        )
        if distributed.rank() == 0:
            distributed.barrier()
        self.fingerprint, self.skipped = self.clips.fingerprint, list(self.clips.skipped)
        if isinstance(self.clips.images, StreamedFrames):
            self.tell(
                "note",
                text="too large for the prepared cache: clips are decoded whenever they are asked for, which is slow",
            )
        if beside := unread_beside(self.source.unread, UNREAD_CLIPS):
            self.tell("note", text=beside)
        self.tell_skipped(plural(len(self.source) + len(self.source.left_out), "clip"))

    def _tell_of(self, short: list[str]) -> None:
        rate = f" at {self.rate:g} a second" if self.rate else ""
        self.skipped += [{"file": name, "reason": f"is shorter than {self.frames} frames{rate}"} for name in short]
        if short:
            shown = ", ".join(map(repr, short[:SHOWN])) + " ..." * (len(short) > SHOWN)
            are = f"{len(short)} of {len(self.clips)} clips {'is' if len(short) == 1 else 'are'}"
            self.tell("note", text=f"{are} shorter than {self.frames} frames{rate} and left out: {shown}")
