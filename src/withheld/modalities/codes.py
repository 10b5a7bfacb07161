"""Codes: what a vq_vae2 run makes of its images, read by `--data run:RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from withheld.data.broken import notes_of
from withheld.data.prepared import Prepared, prepare
from withheld.data.scale import Scale
from withheld.data.source import digest, open_source
from withheld.errors import InputError
from withheld.learn.schedule import seed_everything
from withheld.modalities.modality import Modality
from withheld.networks.code_prior import CodeShape, CodeTrunk
from withheld.networks.vq_vae2 import VectorQuantizedAutoencoder
from withheld.run import Run, open_run
from withheld.types import Recipe
from withheld.wording import plural

SAMPLE = 256


class CodeItems:
    """What the loop asks for batches of code sequences (B, L) int64."""

    def __init__(self, codes: np.ndarray) -> None:
        self.codes = codes

    def __len__(self) -> int:
        return len(self.codes)

    def batch(self, index: np.ndarray, device: Any) -> torch.Tensor:
        """Codes of these items on a device."""
        return torch.from_numpy(self.codes[index].astype(np.int64)).to(device)


class Codes(Modality):
    """The top and then the bottom codes of every training image of a vq_vae2 run."""

    name = "codes"
    sequences: np.ndarray

    def open(self, method: str | None) -> Any:
        """Encodes the images of the run; returns an untrained trunk for its codes."""
        if not (isinstance(self.data, str) and self.data.startswith("run:")):
            raise InputError(
                f"--data {self.data}: {method} learns the codes of a run; give --data run:RUN of a vq_vae2 run"
            )
        run = open_run(self.data[4:])
        network = quantizing(run).to(self.device)
        images = images_of(run, None, "train", self.tell)
        self.shape = CodeShape(*network.grids, network.book_size)
        self.sequences = sequences_of(run, network, images, self.device)
        self.fingerprint = digest([images.fingerprint, self.sequences.tobytes()])
        seed_everything(self.asked.seed)
        return CodeTrunk(self.shape)

    def feed(self, recipe: Recipe) -> None:
        """The sequences."""
        self.items = CodeItems(self.sequences)
        self.sample = self.items.batch(np.arange(min(len(self.items), SAMPLE)), self.device)

    def facts(self) -> dict[str, Any]:
        """Counts and shapes."""
        return {
            "location": self.data, "kind": "codes", "items": len(self.sequences), "skipped": 0,
            "length": self.shape.length, "codes": self.shape.to_json(), "fingerprint": self.fingerprint,
        }  # fmt: skip

    def draw(self, model: Any, title: str, out: Path) -> None:
        """Images drawn from both stages."""
        from withheld.evaluate.latent_pictures import draw_drawn

        draw_drawn(decoded(open_run(self.data[4:]), model.network, 60), out)

    @staticmethod
    def first(settings: dict[str, Any], folder: Path) -> tuple[Any, Any]:
        """An untrained trunk of the same shape."""
        return CodeTrunk(CodeShape(**settings["data"]["codes"])), None


def quantizing(run: Run) -> VectorQuantizedAutoencoder:
    """The network of a vq_vae2 run.

    Raises:
        InputError: for another run.
    """
    network = run.objective().network if run.settings["method"] == "vq_vae2" else None
    if not isinstance(network, VectorQuantizedAutoencoder):
        raise InputError(f"{run.folder}: a run of {run.settings['title']} has no codes; give a run of vq_vae2")
    return network.eval()


def images_of(run: Run, data: Any, part: str, tell: Any = None) -> Prepared:
    """The images that a run learned from, or others, as it takes them."""
    facts = run.settings["data"]
    source = open_source(facts["location"] if data is None else data)
    source = source.part(part) or source
    progress = None if tell is None else lambda done, total: tell("prepare", done=done, total=total)
    prepared = prepare(
        source, facts["size"], facts["channels"], progress=progress, scale=Scale.from_json(facts.get("scale"))
    )
    if tell is not None and data is not None:  # of the run's own it was said when it learned from them
        for note in notes_of(prepared.skipped, plural(len(source) + len(source.left_out), "image")):
            tell("note", text=note)
    return prepared


@torch.no_grad()
def sequences_of(run: Run, network: VectorQuantizedAutoencoder, images: Prepared, device: Any) -> np.ndarray:
    """(N, L) uint16 codes of images, top then bottom, row by row."""
    parts = []
    for first in range(0, len(images), 256):
        top, bottom = network.codes(as_fed(run, images.images[first : first + 256]).to(device))
        parts.append(
            torch.cat([top.flatten(1), bottom.flatten(1)], dim=1).to(torch.int32).cpu().numpy().astype(np.uint16)
        )
    return np.concatenate(parts)


def as_fed(run: Run, images: Any) -> torch.Tensor:
    """uint8 images (B, C, H, W) as the run's network takes them."""
    t = torch.from_numpy(np.array(images)).float() / 255
    shape = (1, -1, 1, 1)
    return (t - torch.tensor(run.settings["mean"]).view(shape)) / torch.tensor(run.settings["std"]).view(shape)


@torch.no_grad()
def decoded(run: Run, prior: Any, count: int, temperature: float = 1.0) -> torch.Tensor:
    """(count, C, H, W) images within 0..1, drawn from the prior and decoded by the vq_vae2 run."""
    network, shape = quantizing(run), prior.shape
    codes = prior.draw(count, temperature).cpu()
    top = codes[:, : shape.tops].view(count, shape.top, shape.top)
    bottom = codes[:, shape.tops :].view(count, shape.bottom, shape.bottom)
    out = network.decode_codes(top, bottom)
    view = (1, -1, 1, 1)
    return (out * torch.tensor(run.settings["std"]).view(view) + torch.tensor(run.settings["mean"]).view(view)).clamp(
        0, 1
    )
