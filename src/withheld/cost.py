"""What a run would cost on this machine: the plan of a dry run on a sample of the data, which times real steps."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAMPLE, SAMPLE_CLIPS = 1024, 32
MINUTES = 10.0


@dataclass(frozen=True)
class Cost:
    """Measured on this machine, with the default encoder.

    Attributes:
        plan: what the run would be, as run.json has it, of the sample.
        items: of the whole data.
        items_per_second: of training; decoding comes before and happens once.
        memory_bytes: the most this process (on a GPU: its tensors) has taken; None where the system does not tell.
    """

    plan: dict[str, Any]
    items: int
    items_per_second: float
    memory_bytes: int | None

    def minutes(self, epochs: float) -> float:
        """How long it takes to see every item so often."""
        return epochs * self.items / self.items_per_second / 60


def measure(method: str, data: Any, device: str = "auto") -> Cost:
    """Times the steps of a method on at most 1,024 items (32 clips) of the data; keeps nothing but their prepared images.

    Raises:
        InputError: for the method, the data or the device.
    """
    from withheld.data.sample import spaced
    from withheld.run import modality_of, pretrain

    unbounded = {"most_epochs": 0.0}  # else the steps would not tell the pace
    if modality_of(method) == "text":  # tokens are counted once and kept, so the whole text is the sample
        plan = pretrain(
            method, data, Path("unused"), minutes=MINUTES, device=device, dry_run=True, settings=unbounded, listen=False
        ).settings
        pace = plan["steps"] * plan["batch_size"] / (60 * MINUTES)
        return Cost(plan, plan["data"]["items"], pace, _memory(plan["device"]))
    source = _opened(method, data)
    train = source.part("train")
    source = source if train is None else train
    most = SAMPLE_CLIPS if modality_of(method) == "video" else SAMPLE
    few = spaced(len(source), most)
    given: dict[str, Any] = {"minutes": MINUTES, "device": device, "dry_run": True, "listen": False}
    plan = timed = pretrain(method, source.subset(few), Path("unused"), **given).settings
    if plan["recipe"]["most_epochs"]:
        timed = pretrain(method, source.subset(few), Path("unused"), settings=unbounded, **given).settings
    pace = timed["steps"] * timed["batch_size"] / (60 * MINUTES)
    return Cost(plan, len(source), pace, _memory(plan["device"]))


def _opened(method: str, data: Any) -> Any:
    from withheld.data.source import open_source
    from withheld.data.video import open_videos
    from withheld.run import modality_of

    return open_videos(data) if modality_of(method) == "video" else open_source(data)


def _memory(device: str) -> int | None:
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        return None
    most: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most) * (1 if sys.platform == "darwin" else 1024)
