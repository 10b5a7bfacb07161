"""A fine-tuned classifier on disk and in use: MODEL/encoder/, MODEL/head.safetensors, MODEL/model.json.

Shapes: N images, C channels, D features, K classes.
"""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from withheld.data.item_names import as_cell
from withheld.encoder import Encoder
from withheld.errors import InputError
from withheld.evaluate.features import Listen, features, items_of, silent
from withheld.learn.checkpoint import replacing, write_json, writing
from withheld.run import pick_device

CARD, HEAD = "model.json", "head.safetensors"


class Classifier(nn.Module):
    """Labels whole items: an encoder and a linear head on its standardized features.

    Args:
        encoder: fine-tuned.
        mean, scale: (D,) of the pooled features. weight: (K, D). bias: (K,).
        classes: names, in the order of the head.
        settings: how it was made, kept in model.json.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self, encoder: Encoder, mean: Tensor, scale: Tensor, weight: Tensor, bias: Tensor, classes: list[str],
        settings: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if weight.shape != (len(classes), encoder.width) or bias.shape != (len(classes),):
            raise InputError(
                f"the head is {tuple(weight.shape)}, for {len(classes)} classes of {encoder.width} features it must be "
                f"{(len(classes), encoder.width)}"
            )
        self.encoder = encoder
        for name, value in (("mean", mean), ("scale", scale), ("weight", weight), ("bias", bias)):
            self.register_buffer(name, value.detach().float())
        self.classes = list(classes)
        self.settings = dict(settings or {})

    def forward(self, items: Any) -> Tensor:
        """Probabilities (N, K) of whole items, as the encoder takes them: images (N, C, H, W), or texts."""
        return self.of_features(self.encoder(items).pooled)

    def of_features(self, features_ND: Tensor) -> Tensor:
        """Probabilities (N, K) of pooled features."""
        return torch.softmax(((features_ND - self.mean) / self.scale) @ self.weight.T + self.bias, dim=-1)

    def predict(self, items: Any) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
        """The likeliest class of every item, and the probabilities (N, K).

        Args:
            items: whatever the encoder's `transform` takes.
        """
        return self.of_encoded(self.encoder.transform(items))

    def of_encoded(self, features_ND: NDArray[np.float32]) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
        """The same of items that were encoded already: pooled features (N, D)."""
        with torch.no_grad():
            pooled = torch.from_numpy(features_ND).to(self.mean.device)
            probabilities = self.of_features(pooled).cpu().numpy()
        return np.array(self.classes)[probabilities.argmax(axis=1)], probabilities

    def save(self, folder: str | Path) -> Path:
        """Writes the model folder; model.json comes last, so a folder that has it is whole."""
        folder = Path(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CARD).unlink(missing_ok=True)
            self.encoder.save(folder / "encoder")
            head = {name: getattr(self, name).cpu().contiguous() for name in ("mean", "scale", "weight", "bias")}
            with replacing(folder / HEAD) as aside:
                save_file(head, aside)
        how = "softmax(((pooled - mean) / scale) @ weight.T + bias) of the encoder's pooled features"
        write_json(folder / CARD, {"format": 1, "classes": self.classes, "how": how, "made": self.settings})
        return folder

    @classmethod
    def open(cls, folder: str | Path) -> Classifier:
        """Opens a model folder.

        Raises:
            InputError: where it is none, or damaged.
        """
        folder = Path(folder)
        if not (folder / CARD).is_file():
            hint = "it is a run; make a model of it" if (folder / "run.json").is_file() else "make one"
            raise InputError(
                f"{folder} is no model (no {CARD} in it): {hint} with withheld finetune RUN --data LABELLED --out MODEL"
            )
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            if card.get("kind") == "detector":
                raise InputError(f"{folder} finds objects: withheld detect {shlex.quote(str(folder))} IMAGES -o OUT")
            head = load_file(folder / HEAD)
            return cls(
                Encoder.open(folder / "encoder"), head["mean"], head["scale"], head["weight"], head["bias"],
                [str(name) for name in card["classes"]], card.get("made"),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{folder} is damaged ({error!r}): make it again with withheld finetune") from None


def predict(
    model: str | Path | Classifier, data: Any, output: str | Path, *, device: str = "auto", listen: Listen = silent
) -> int:
    """Labels every item of some data into a csv with the columns file, label and probability; a row of a table of texts is
    file:row.

    A run of mixture or mean_field may stand for the model: then every row gets its class or component (see `predict_groups`).

    A cell that a spreadsheet would take for a formula gets a ' in front.

    Returns:
        How many items were labelled.

    Raises:
        InputError: for the model or the data. CannotWrite: for the csv.
    """
    from withheld.evaluate.groups import is_groups, predict_groups

    if is_groups(model):
        return predict_groups(model, data, output, listen)  # type: ignore[arg-type]
    classifier = model if isinstance(model, Classifier) else Classifier.open(model)
    classifier.to(pick_device(device)).eval()
    names, items = items_of(data, classifier.encoder, listen)
    labels, probabilities = classifier.of_encoded(features(classifier.encoder, items, listen=listen))
    write_labels(Path(output), names, list(labels), probabilities.max(axis=1))
    return len(labels)


def write_labels(
    path: Path, names: list[str], labels: list[str], probability_N: NDArray[np.floating],
    header: tuple[str, str, str] = ("file", "label", "probability"),
) -> None:  # fmt: skip
    """Writes the csv that `predict` describes, in one step."""
    with replacing(path) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        for name, label, probability in zip(names, labels, probability_N, strict=True):
            table.writerow([as_cell(name), as_cell(label), f"{probability:.4f}"])
