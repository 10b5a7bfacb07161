"""What the road from data to a run folder asks of a modality; everything else about a run is the same for all."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch

from withheld.asked import Asked
from withheld.data.broken import Line, notes_of
from withheld.errors import InputError
from withheld.networks.adapters import adapt, own_numbers
from withheld.types import Recipe

Tell = Callable[..., None]


class Modality(ABC):
    """Items of one kind, opened and prepared for a run.

    Args:
        data: see `withheld.pretrain`.
        asked: what the caller asked for.
        device: where the model learns.
        tell: called with a kind and what happened.

    Attributes:
        items: what the loop asks for batches; set by `feed`.
        sample: a batch of items as the model sees them, for starts and vitals; set by `feed`.
        fingerprint: of the data and how it is prepared; set by `open`.
        skipped: {"file", "reason"} of what could not be used; set by `open`.
        asks: what the split wants to know of an item besides, see `withheld.Split`; set before `feed`.
        groups: (N,) which items belong together, such as windows of one clip, and are held out together; None where none do.
        stream: whether items are decoded as they are needed, and nothing is prepared on the disk; set before `open`.
        pretrained: whether the encoder was trained before; set by `open`.
        held_out: whether the sample is never learned from, so that its loss may be compared with the training's.
    """

    name: ClassVar[str]
    streams: ClassVar[bool] = False  # whether it can
    adapts: ClassVar[bool] = False  # whether its encoders take adapters
    items: Any
    sample: Any
    fingerprint: str
    groups: Any = None
    stream: bool = False
    held_out: bool = False
    asks: tuple[str, ...] = ()
    pretrained: bool = False

    def __init__(self, data: Any, asked: Asked, device: torch.device, tell: Tell) -> None:
        self.data, self.asked, self.device, self.tell = data, asked, device, tell
        self.skipped: list[Line] = []

    @abstractmethod
    def open(self, method: str | None) -> Any:
        """Opens and prepares the data; returns what a method's function takes first, such as a trunk.

        Args:
            method: its name; None where the caller brought an objective.
        """

    @abstractmethod
    def feed(self, recipe: Recipe) -> None:
        """Sets `items` and `sample`, as this recipe wants them."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What run.json says of the data: location, kind, items, and what is special to the modality."""

    def size_asked(self, least: int, what: str) -> int:
        """The size in numbers.

        Raises:
            InputError: where it is none, or below `least`.
        """
        try:
            number = int(self.asked.size)
        except (TypeError, ValueError):
            number = 0
        if number < least:
            raise InputError(f"--size {self.asked.size}: give {what}, {least} or more, or auto")
        return number

    def adapt(self, first: Any, rank: int) -> None:
        """Puts adapters into a trained encoder, which then learn in its place.

        Raises:
            InputError: where this modality has none, or this encoder.
        """
        if not self.adapts:
            raise InputError(
                f"lora={rank}: adapters are for encoders of images, texts and clips, a {self.name} run has none: leave it out"
            )
        if not self.pretrained:
            raise InputError(f"lora={rank}: adapters are for a trained encoder; name one with --encoder RUN")
        adapt(first, rank)
        learning = sum(p.numel() for p in first.parameters() if p.requires_grad)
        text = f"adapters learn in the encoder's place: {learning:,} numbers beside its {own_numbers(first):,}"
        self.tell("note", text=text)

    def told(self) -> dict[str, Any]:
        """Settings of the method that the data decide: how many classes the labels have."""
        return {}

    def tell_units(self, model: Any) -> None:
        """Tells the model's split in what units its items are, where it wants to know; after `feed`."""

    def examine(self, model: Any) -> None:
        """Says so where an item is none that this model can learn from.

        Raises:
            InputError: naming it, and the remedy.
        """

    def tell_skipped(self, of: str) -> None:
        """Says which items could not be used, and why; `of` is how many there are of what, such as "40 texts"."""
        for note in notes_of(self.skipped, of, "; skipped.jsonl of the run lists all"):
            self.tell("note", text=note)

    def met(self) -> list[Line]:
        """{"file", "reason"} of items of a stream that were asked for and could not be used, so far and by this process."""
        return []

    def copies(self) -> float | None:
        """How many near-copies an item has among the others, estimated on a sample; None where nobody knows."""
        return None

    def model_facts(self, model: Any) -> dict[str, Any]:
        """What else run.json says: the encoder and how it is fed."""
        network = getattr(model, "network", model)  # of an `Objective` the part with a name of its own
        return {"encoder": {"name": type(network).__name__, "parameters": count_numbers(model)}}

    def check(self, model: Any) -> None:
        """Says so where this model cannot be kept.

        Raises:
            InputError: with the remedy.
        """

    def keep(self, model: Any, title: str, out: Path) -> None:
        """Writes what others can use of the model so far, such as its encoder."""

    def draw(self, model: Any, title: str, out: Path) -> None:
        """Draws the pictures of the report."""

    @staticmethod
    @abstractmethod
    def first(settings: dict[str, Any], folder: Path) -> tuple[Any, Any]:
        """Of a finished run: what its method took first, and a batch to fit the parts' shapes on (None where none is needed).

        Args:
            settings: its run.json.
            folder: the run's.
        """


def modality_named(name: str) -> type[Modality]:
    """The class of a modality, such as "image".

    Raises:
        InputError: for one that runs are not made of.
    """
    try:
        module = importlib.import_module(f"withheld.modalities.{name}")
    except ModuleNotFoundError:
        raise InputError(
            f"a run folder cannot be made of a {name}: call it from Python, see: withheld methods"
        ) from None
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Modality) and getattr(value, "name", None) == name
    )


def count_numbers(model: Any) -> int:
    """How many numbers a model learns: parameters, or the buffers of a `LatentModel`."""
    learned = sum(p.numel() for p in model.parameters())
    return learned or sum(b.numel() for b in model.buffers() if b.is_floating_point())
