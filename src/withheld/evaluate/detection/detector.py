"""A detector on disk and in use: MODEL/encoder/, MODEL/head.safetensors, MODEL/model.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from withheld.errors import InputError
from withheld.evaluate.detection.find import Detections, detect
from withheld.evaluate.detection.network import RegionClassifier, RegionFeatures, RegionMachines, Way
from withheld.evaluate.detection.proposals import SelectiveSearch
from withheld.evaluate.features import Listen
from withheld.image_encoder import ImageEncoder
from withheld.learn.checkpoint import replacing, write_json, writing

CARD, HEAD = "model.json", "head.safetensors"
KINDS = {"softmax": RegionClassifier, "svm": RegionMachines}


class Detector:
    """Finds objects in whole images.

    Args:
        encoder: how images are fed; its trunk is the network's.
        network: a `RegionClassifier` or `RegionMachines`.
        classes: names. side: that images are squashed to. search: how regions are proposed.
        settings: how it was made, kept in model.json.
    """

    def __init__(
        self, encoder: ImageEncoder, network: nn.Module, classes: Sequence[str], side: int, search: SelectiveSearch,
        settings: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.encoder, self.network, self.classes = encoder, network, list(classes)
        self.side, self.search, self.settings = side, search, dict(settings or {})

    @property
    def threshold(self) -> float:
        """The score from which a detection is shown: an even chance."""
        return 0.5

    def __call__(self, images: Any, proposals: Sequence[NDArray[np.float32]], listen: Listen) -> list[Detections]:
        """Detections in images (N, C, side, side) uint8 with their proposals."""
        device = next(self.network.parameters()).device
        return detect(self.network, self.encoder, images, proposals, listen, device)

    def save(self, folder: str | Path) -> Path:
        """Writes the model folder; model.json comes last, so a folder that has it is whole."""
        folder = Path(folder)
        features: RegionFeatures = self.network.features  # type: ignore[assignment]
        head = {
            name: value.detach().cpu().contiguous()
            for name, value in self.network.state_dict().items()
            if not name.startswith("features.")
        }
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CARD).unlink(missing_ok=True)
            tuned = ImageEncoder(
                features.trunk, self.encoder.mean, self.encoder.std, self.encoder.split, self.encoder.name,  # type: ignore[arg-type]
                self.encoder.flips, self.encoder.scale, self.encoder.augment,
            )  # fmt: skip
            tuned.save(folder / "encoder")
            with replacing(folder / HEAD) as aside:
                save_file(head, aside)
        kind = "softmax" if isinstance(self.network, RegionClassifier) else "svm"
        write_json(
            folder / CARD,
            {
                "format": 1, "kind": "detector", "classes": self.classes, "side": self.side, "head": kind,
                "regions": features.way, "bins": features.bins, "search": self.search.__dict__, "made": self.settings,
                "how": "images squashed to side x side; proposals by selective search; see the class RegionClassifier",
            },
        )  # fmt: skip
        return folder

    @classmethod
    def open(cls, where: str | Path) -> Detector:
        """Opens a model folder, or the detector that an evaluation left in a run folder.

        Raises:
            InputError: where it is none, or damaged.
        """
        folder = next((f for f in (Path(where), Path(where) / "detector") if _is_detector(f)), None)
        if folder is None:
            raise InputError(
                f"{where} holds no detector: make one with withheld finetune RUN --boxes DIR --out MODEL, and name MODEL"
            )
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            if not (folder / "encoder" / "config.json").is_file():
                raise ValueError("it has no encoder/config.json")
            encoder = ImageEncoder.open(folder / "encoder")
            way: Way = "warped" if card["regions"] == "warped" else "align"
            classes = [str(name) for name in card["classes"]]
            network: nn.Module
            if card["head"] == "softmax":
                network = RegionClassifier(encoder.trunk, len(classes), way, int(card["bins"]))
            else:
                network = RegionMachines(RegionFeatures(encoder.trunk, way, int(card["bins"])), len(classes))
            missing, extra = network.load_state_dict(load_file(folder / HEAD), strict=False)
            if extra or any(not name.startswith("features.") for name in missing):
                raise ValueError(f"the head does not fit: {[*missing, *extra][:3]}")
            search = SelectiveSearch(**{key: card["search"][key] for key in SelectiveSearch.__dataclass_fields__})
            return cls(encoder, network.eval(), classes, int(card["side"]), search, card.get("made"))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{folder} is damaged ({error!r}): make it again with withheld finetune") from None


def _is_detector(folder: Path) -> bool:
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(card, dict) and card.get("kind") == "detector"
