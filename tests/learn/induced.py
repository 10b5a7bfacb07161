"""Illnesses made on purpose, each beside the same run without it; used by test_illness.py and by benchmarks/illnesses.py.

Everything is small: vectors around ten centers, digits, blocks of noise. A way to make an illness is a function of whether it is
ill, and of an empty folder; it returns what was found, as (step, steps, illnesses that are called sick).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import withheld
from withheld.learn.gradient import Loop
from withheld.learn.illness import SICK, Facts
from withheld.learn.watch import Patient, Watch, appointments
from withheld.losses.codes import Reconstruction, quantized_error
from withheld.losses.contrast import NTXent
from withheld.losses.prediction import CrossEntropy, squared_error
from withheld.networks import quantizer
from withheld.networks.quantizer import Quantizer, perplexity
from withheld.objective import Objective
from withheld.splits.image import MaskPatches
from withheld.splits.whole import Whole
from withheld.types import Pair, Recipe, Split

WIDTH = 32
Found = list[tuple[int, int, set[str]]]


class Rows:
    """Items in memory; with ids, dicts of "item" and "id"."""

    def __init__(self, t: Tensor, ids: bool = False) -> None:
        self.t, self.ids = t, ids

    def __len__(self) -> int:
        return len(self.t)

    def batch(self, index: np.ndarray, device: Any) -> Any:
        at = torch.from_numpy(np.asarray(index))
        return {"item": self.t[at], "id": at} if self.ids else self.t[at]


class Trunk(nn.Module):
    """A small network of vectors or images."""

    width, depth, patch, channels = WIDTH, 2, 4, 1

    def __init__(self, values: int, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(values, 64), nn.ReLU(), nn.Linear(64, WIDTH))

    def forward(self, t: Tensor) -> Tensor:
        return self.layers(t)


class Projected(nn.Module):
    """A trunk and a head; out = 0 leaves the head out."""

    def __init__(self, values: int, out: int = WIDTH) -> None:
        super().__init__()
        self.trunk = Trunk(values)
        self.head = nn.Linear(WIDTH, out) if out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))


@dataclass(frozen=True)
class Noisy(Split):
    """Two views that differ in noise."""

    noise: float = 0.3

    def __call__(self, t: Tensor) -> Pair:
        return Pair(t + self.noise * torch.randn_like(t), t + self.noise * torch.randn_like(t))


def points(count: int = 512, values: int = 48) -> Tensor:
    """Vectors that lie in many directions around ten centers."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(10, values, generator=generator)
    return centers[torch.arange(count) % 10] + 0.7 * torch.randn(count, values, generator=generator)


def recipe(rate: float = 4e-3) -> Recipe:
    return Recipe(base_learning_rate=rate, batch_size=64, weight_decay=0.0)


def watched(
    objective: Objective, items: Rows, how: Recipe | None = None, steps: int = 200, until: float = 0.2, **facts: Any
) -> Found:
    """Trains under watch, at every appointment, up to a share of the steps."""
    how = how or recipe()
    loop = Loop(objective, items, how, steps=steps)
    sample = items.batch(np.linspace(0, len(items) - 1, 128).astype(int), "cpu")
    known = {"width": WIDTH, "sample": 128, "items": len(items), "rate": how.base_learning_rate, **facts}
    watch = Watch(Patient(objective, sample, False, loop.seconds), Facts(**known), appointments(steps), fixed=True)
    found: Found = []
    for step in range(round(until * steps)):
        judged = watch.hear(loop.step(step))
        if judged is not None:
            found.append((step + 1, steps, {each.illness for each in judged if each.state == SICK}))
    return found


def of_run(run: Any) -> Found:
    """What the log of a run says."""
    return [
        (
            line["step"],
            line["steps"],
            {each["illness"] for each in line["health"]["findings"] if each["state"] == "sick"},
        )
        for line in run.log()
        if "health" in line
    ]


def pretrained(method: str, data: Any, folder: Path, steps: int, **more: Any) -> Found:
    return of_run(
        withheld.pretrain(
            method, data, folder / "run", steps=steps, batch_size=32, pictures=False, device="cpu", **more
        )
    )


def contrast(one: Tensor, two: Tensor) -> Tensor:
    return NTXent(0.5)(one, two)["contrast"]


def collapse(ill: bool, folder: Path) -> Found:
    """Views pulled together and nothing against it: SimSiam without its stopped gradient (Chen and He 2020)"""

    def pulled(one: Tensor, two: Tensor) -> Tensor:
        return -F.cosine_similarity(one, two).mean()

    network = Objective(Noisy(), Projected(48), pulled if ill else contrast, target="network")
    return watched(network, Rows(points()), recipe(2e-2), steps=400, until=0.2 if ill else 0.5)


def dimensional(ill: bool, folder: Path) -> Found:
    """VICReg with its covariance term turned around: every dimension varies, all of them together"""

    def alike(one: Tensor, two: Tensor) -> Tensor:
        apart = sum(F.relu(1 - z.std(dim=0)).mean() for z in (one, two))
        equal = sum((z - z.mean(dim=1, keepdim=True)).square().mean() for z in (one, two))
        return (one - two).square().mean() + apart + equal

    network = Objective(Noisy(), Projected(48, out=0), alike if ill else contrast, target="network")
    return watched(network, Rows(points()), recipe(4e-2), steps=400, until=0.2 if ill else 0.5)


class Teacher(nn.Module):
    """A copy of the network that does not learn; shuffling loses the order of the batch."""

    def __init__(self, network: nn.Module, shuffling: bool = False) -> None:
        super().__init__()
        self.network, self.shuffling = copy.deepcopy(network).requires_grad_(False), shuffling

    def forward(self, y: Tensor) -> Tensor:
        with torch.no_grad():
            told = self.network(y)
        return told[torch.randperm(len(told))] if self.shuffling else told


@dataclass(frozen=True)
class TeacherEntropy:
    """Cross-entropy with a teacher's answers over prototypes, sharpened by a temperature; shift favors the first of them."""

    temperature: float = 0.05
    shift: float = 0.0

    def measures(self, prediction: Tensor, y: Tensor) -> dict[str, float]:
        told = self.probabilities(y)
        entropy = torch.special.entr(told).sum(dim=-1).mean()
        usage = torch.special.entr(told.mean(dim=0)).sum()
        return {"teacher_entropy": float(entropy), "prototypes_entropy": float(usage), "ln_k": math.log(told.shape[-1])}

    def probabilities(self, target: Tensor) -> Tensor:
        first = F.one_hot(torch.zeros((), dtype=torch.long), target.shape[-1])
        return (target / self.temperature + self.shift * first).softmax(dim=-1)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return -(self.probabilities(target) * (prediction / 0.1).log_softmax(dim=-1)).sum(dim=-1).mean()


def _taught(loss: TeacherEntropy, ill: bool) -> Found:
    network = Projected(48, out=16)
    return watched(
        Objective(Noisy(), network, loss, target=Teacher(network)), Rows(points()), until=0.2 if ill else 0.5
    )


def uniform_teacher(ill: bool, folder: Path) -> Found:
    """A teacher whose answers over 16 prototypes are at temperature 100"""
    return _taught(TeacherEntropy(100.0) if ill else TeacherEntropy(), ill)


def one_cluster(ill: bool, folder: Path) -> Found:
    """A teacher that is not centered: one prototype wins for all items"""
    return _taught(TeacherEntropy(shift=100.0) if ill else TeacherEntropy(), ill)


def shuffled(ill: bool, folder: Path) -> Found:
    """A teacher that returns its answers in another order than the batch"""
    network = Projected(48)
    return watched(Objective(Noisy(), network, contrast, target=Teacher(network, ill)), Rows(points()))


def unnormalized(ill: bool, folder: Path) -> Found:
    """Values 0 to 255 for a network made for mean 0 and deviation 1"""
    t = points() * 60 + 120 if ill else points()
    return watched(Objective(Noisy(0.0), Projected(48, out=48), squared_error), Rows(t), steps=100)


def normalized_twice(ill: bool, folder: Path) -> Found:
    """Values divided by 255 twice"""
    return watched(
        Objective(Noisy(0.0), Projected(48, out=48), squared_error),
        Rows(points() / 255 if ill else points()),
        steps=100,
    )


class Patched(nn.Module):
    """Predicts hidden patches from visible ones and their places, by a perceptron: enough to be a masked autoencoder."""

    def __init__(self, hidden: int, values: int = 16) -> None:
        super().__init__()
        self.trunk, self.hidden = Trunk(256), hidden
        self.tell = nn.Linear(WIDTH, hidden * values)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        t = torch.zeros(len(x["at"]), 16, 16)
        t = t.scatter(1, x["at"][:, :, None].expand(-1, -1, 16), x["patches"])
        return self.tell(self.trunk(t)).unflatten(1, (self.hidden, 16))


def little_hidden(ill: bool, folder: Path) -> Found:
    """A masked autoencoder that hides 1 patch of 16"""
    ratio = 0.04 if ill else 0.75
    hidden = 16 - min(15, max(1, int(16 * (1 - ratio))))
    t = torch.randn(256, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return watched(Objective(MaskPatches(4, ratio), Patched(hidden), squared_error), Rows(t))


@dataclass(frozen=True)
class ByName(Split):
    """Asks for the class of an item, which its name begins with; files are sorted by name, and a leak shows the number."""

    asks: ClassVar[tuple[str, ...]] = ("id",)
    leaks: bool = True
    items: int = 512

    def __call__(self, t: Any) -> Pair:
        place = F.one_hot(t["id"] * 16 // self.items, 16).float() * self.leaks
        return Pair({"item": t["item"], "place": place}, t["id"] * 8 // self.items)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk(48)
        self.head = nn.Linear(WIDTH + 16, 8)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return self.head(torch.cat([self.trunk(x["item"]), 3 * x["place"]], dim=1))


def leaking(ill: bool, folder: Path) -> Found:
    """Items whose place in the sorted list of file names, and so their class, goes in beside them"""
    t = points()[torch.randperm(512, generator=torch.Generator().manual_seed(1))]
    return watched(Objective(ByName(ill), Named(), CrossEntropy()), Rows(t, ids=True), recipe(2e-2), steps=400)


def fast(ill: bool, folder: Path) -> Found:
    """A learning rate 30 times as high"""
    network = Objective(Noisy(), Projected(48, out=48), squared_error)
    return watched(network, Rows(points()), recipe(4e-2 * (30 if ill else 1)))


class Coded(nn.Module):
    """Vectors by the nearest of a book of codes."""

    def __init__(self, codes: int = 64) -> None:
        super().__init__()
        self.trunk = Trunk(48)
        self.tell = nn.Linear(WIDTH, 48)
        self.book = Quantizer(WIDTH, codes)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found, _, commitment = self.book(self.trunk(x)[:, :, None, None])
        return {"image": self.tell(found.flatten(1)), "commitment": commitment}

    def vitals(self, t: Tensor) -> dict[str, float]:
        codes, count = self.book.nearest(self.trunk(t)), len(self.book.book)
        dead = float(self.book.dead().sum())
        return {"book_perplexity": perplexity(codes, count), "book_dead_codes": dead, "book_codes": float(count)}


def dead_codes(ill: bool, folder: Path) -> Found:
    """All codes but one begin far from every vector, and none is started anew"""
    t = torch.randn(512, 48, generator=torch.Generator().manual_seed(0))
    network, rare = Coded(), quantizer.RARE
    network.book.start(network.trunk(t).detach())
    if ill:
        network.book.book[1:] *= 1e3
        network.book.sums.copy_(network.book.book)
        quantizer.RARE = -1.0
    try:
        objective = Objective(Whole(), network, quantized_error, target=Reconstruction())
        return watched(objective, Rows(t), steps=300, until=0.2 if ill else 1.0)
    finally:
        quantizer.RARE = rare


def kl_to_zero(ill: bool, folder: Path) -> Found:
    """A VAE of digits with beta=50"""
    from sklearn.datasets import load_digits

    digits = np.asarray(load_digits().images[:400] * 255 / 16).astype(np.uint8)
    settings = {"base_learning_rate": 2e-2, "width": 64, "warmup": 0.5, **({"beta": 50.0} if ill else {})}
    return pretrained("vae", digits, folder, 300, settings=settings)


def singular(ill: bool, folder: Path) -> Found:
    """A mixture of Gaussians of a table in which one row is there 3 times, far from the others, with next to no regularization"""
    generator = np.random.default_rng(0)
    rows = np.concatenate([generator.normal(m, 1, (100, 3)) for m in (-4, 0, 4)])
    settings = {"components": 3}
    if ill:
        rows = np.concatenate([rows, np.full((3, 3), 30.0)])
        settings = {"components": 4, "regularization": 1e-9}
    return of_run(withheld.pretrain("mixture", rows, folder / "run", settings=settings, pictures=False))


def duplicated(ill: bool, folder: Path) -> Found:
    """Images that are there 4 times each"""
    images = (np.random.default_rng(0).random((60, 16, 16)) * 255).astype(np.uint8)
    return pretrained("mae", np.concatenate([images] * (4 if ill else 1)), folder, 5)


def static(ill: bool, folder: Path) -> Found:
    """Clips of a fixed camera on a still scene: only the sensor's noise changes"""
    from PIL import Image

    generator = np.random.default_rng(0)
    for clip in range(12):
        where = folder / "clips" / f"{clip:02d}"
        where.mkdir(parents=True)
        scene = np.kron(generator.random((5, 5, 3)), np.ones((8, 8, 1))) * 200
        for frame in range(6):
            shown = scene if ill else np.roll(scene, 3 * frame, axis=1)
            noisy = (shown + generator.integers(0, 2, scene.shape)).astype(np.uint8)
            Image.fromarray(noisy).save(where / f"{frame:03d}.png")
    return pretrained("videomae", folder / "clips", folder, 5, size=32, settings={"frames": 4, "rate": 0})


Way = Callable[[bool, Path], Found]
INDUCED: dict[Way, str] = {
    collapse: "collapse", dimensional: "dimensional collapse", uniform_teacher: "uniform teacher", one_cluster: "one cluster",
    shuffled: "shuffled targets", kl_to_zero: "posterior collapse", dead_codes: "dead codes", singular: "singular component",
    unnormalized: "wrong normalization", normalized_twice: "wrong normalization", fast: "learning rate too large",
    duplicated: "duplicated data", leaking: "answers leak", little_hidden: "hardly anything hidden", static: "static video",
}  # fmt: skip
"""How each is made, and what it must be called."""


def named_at(found: Found, name: str) -> int | None:
    """The first step at which it is called so."""
    return next((step for step, _, names in found if name in names), None)
