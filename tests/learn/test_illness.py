"""Every illness, induced: each is named rightly within the first fifth of the run, and healthy runs are not called sick."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import Tensor, nn

import withheld
from withheld.cli import main
from withheld.learn.gradient import Loop
from withheld.learn.health import view_vitals
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

STEPS = 200
WIDTH = 32


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
    """A trunk and a head."""

    def __init__(self, values: int, out: int = WIDTH) -> None:
        super().__init__()
        self.trunk = Trunk(values)
        self.head = nn.Linear(WIDTH, out)

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


def illnesses(
    objective: Objective,
    items: Rows,
    recipe: Recipe | None = None,
    steps: int = STEPS,
    until: float = 0.2,
    **facts: Any,
) -> set[str]:
    """What a run is found to suffer from within the first fifth of its steps."""
    recipe = recipe or Recipe(base_learning_rate=4e-3, batch_size=64, weight_decay=0.0)
    loop = Loop(objective, items, recipe, steps=steps)
    sample = items.batch(np.linspace(0, len(items) - 1, 128).astype(int), "cpu")
    facts = {"width": WIDTH, "sample": 128, "items": len(items), "rate": recipe.base_learning_rate, **facts}
    watch = Watch(Patient(objective, sample, False, loop.seconds), Facts(**facts), appointments(steps), fixed=True)
    found: set[str] = set()
    for step in range(round(until * steps)):
        line = loop.step(step)
        found |= {each.illness for each in watch.hear(line) or [] if each.state == SICK}
    return found


def pulled(one: Tensor, two: Tensor) -> Tensor:
    """Views pulled together, and nothing against a collapse: SimSiam without its stopped gradient (Chen and He 2020)."""
    return -F.cosine_similarity(one, two).mean()


def test_total_collapse() -> None:
    objective = Objective(Noisy(), Projected(48), pulled, target="network")
    recipe = Recipe(base_learning_rate=2e-2, batch_size=64, weight_decay=0.0)
    assert illnesses(objective, Rows(points()), recipe, steps=400) == {"collapse"}


class Bare(nn.Module):
    """A trunk without a head: views are its features."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.trunk = Trunk(values)

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x)


def test_dimensional_collapse() -> None:
    def alike(one: Tensor, two: Tensor) -> Tensor:
        """VICReg with the covariance term turned around: every dimension varies, all of them together."""
        apart = sum(F.relu(1 - z.std(dim=0)).mean() for z in (one, two))
        equal = sum((z - z.mean(dim=1, keepdim=True)).square().mean() for z in (one, two))
        return (one - two).square().mean() + apart + equal

    recipe = Recipe(base_learning_rate=4e-2, batch_size=64, weight_decay=0.0)
    objective = Objective(Noisy(), Bare(48), alike, target="network")
    assert illnesses(objective, Rows(points()), recipe, steps=400) == {"dimensional collapse"}


def test_a_contrastive_run_is_healthy() -> None:
    objective = Objective(Noisy(), Projected(48), NTXent(0.5), target="network")
    assert illnesses(objective, Rows(points()), until=1.0) == set()


class Prototypes(nn.Module):
    """A teacher: a copy of the network that moves slowly."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        import copy

        self.network = copy.deepcopy(network).requires_grad_(False)

    def forward(self, y: Tensor) -> Tensor:
        with torch.no_grad():
            return self.network(y)


@dataclass(frozen=True)
class TeacherEntropy:
    """Cross-entropy of a student with a teacher's answers over prototypes, sharpened by a temperature and shifted."""

    temperature: float = 0.1
    shift: float = 0.0

    def probabilities(self, target: Tensor) -> Tensor:
        first = F.one_hot(torch.zeros((), dtype=torch.long), target.shape[-1])
        return (target / self.temperature + self.shift * first).softmax(dim=-1)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return -(self.probabilities(target) * (prediction / 0.1).log_softmax(dim=-1)).sum(dim=-1).mean()


@pytest.mark.parametrize(
    ("loss", "named"),
    [
        (TeacherEntropy(temperature=100.0), {"uniform teacher"}),
        (TeacherEntropy(shift=100.0), {"one cluster"}),
        (TeacherEntropy(), set()),
    ],
)
def test_teachers(loss: TeacherEntropy, named: set[str]) -> None:
    network = Projected(48, out=16)
    found = illnesses(Objective(Noisy(), network, loss, target=Prototypes(network)), Rows(points()))
    assert found - {"collapse", "dimensional collapse"} == named


class Shuffling(Prototypes):
    """A teacher that has lost the order of its batch."""

    def forward(self, y: Tensor) -> Tensor:
        return super().forward(y)[torch.randperm(len(y))]


def test_a_shuffled_teacher() -> None:
    network = Projected(48)
    objective = Objective(Noisy(), network, NTXent(0.5), target=Shuffling(network))
    assert "shuffled targets" in illnesses(objective, Rows(points()))


def test_targets_in_order_are_not_called_shuffled() -> None:
    network = Projected(48)
    assert illnesses(Objective(Noisy(), network, NTXent(0.5), target=Prototypes(network)), Rows(points())) == set()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t * 60 + 120, {"wrong normalization"}),
        (lambda t: t / 255, {"wrong normalization"}),
        (lambda t: t, set()),
    ],
    ids=["bytes", "divided twice", "right"],
)
def test_normalization(change: Callable[[Tensor], Tensor], named: set[str]) -> None:
    t = change(points())
    objective = Objective(Noisy(0.0), Projected(48, out=48), squared_error)
    found = illnesses(objective, Rows(t), steps=60)
    assert found & {"wrong normalization"} == named


class Patched(nn.Module):
    """Predicts hidden patches from visible ones and their places, by a perceptron: enough to be a masked autoencoder."""

    def __init__(self, visible: int, hidden: int, values: int = 16) -> None:
        super().__init__()
        self.trunk = Trunk(256)
        self.visible, self.hidden = visible, hidden
        self.tell = nn.Linear(WIDTH, hidden * values)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        t = torch.zeros(len(x["at"]), 16, 16)
        t = t.scatter(1, x["at"][:, :, None].expand(-1, -1, 16), x["patches"])
        return self.tell(self.trunk(t)).unflatten(1, (self.hidden, 16))


@pytest.mark.parametrize(("ratio", "named"), [(0.04, {"hardly anything hidden"}), (0.75, set())])
def test_mask_ratio(ratio: float, named: set[str]) -> None:
    t = torch.randn(256, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    visible = min(15, max(1, int(16 * (1 - ratio))))
    objective = Objective(MaskPatches(4, ratio), Patched(visible, 16 - visible), squared_error)
    assert illnesses(objective, Rows(t)) == named


@dataclass(frozen=True)
class ByName(Split):
    """Tells the class of an item, and sees its number: files are sorted by name, and names begin with the class."""

    asks: ClassVar[tuple[str, ...]] = ("id",)
    leaks: bool = True
    items: int = 512

    def full(self, t: Tensor) -> Tensor:
        return t

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


@pytest.mark.parametrize(("leaks", "named"), [(True, {"answers leak"}), (False, set())])
def test_labels_that_leak_through_file_names(leaks: bool, named: set[str]) -> None:
    t = points(512)
    t = t[torch.argsort(torch.arange(512) % 10, stable=True)]
    recipe = Recipe(base_learning_rate=2e-2, batch_size=64, weight_decay=0.0)
    sample_all = Rows(t[torch.randperm(512, generator=torch.Generator().manual_seed(1))], ids=True)
    assert illnesses(Objective(ByName(leaks), Named(), CrossEntropy()), sample_all, recipe, steps=400) == named


@pytest.mark.parametrize(("times", "named"), [(1, set()), (30, {"learning rate too large"})])
def test_learning_rate(times: float, named: set[str]) -> None:
    recipe = Recipe(base_learning_rate=4e-2 * times, batch_size=64, weight_decay=0.0)
    objective = Objective(Noisy(), Projected(48, out=48), squared_error)
    assert illnesses(objective, Rows(points()), recipe) & {"learning rate too large"} == named


def test_view_vitals_against_the_formulas() -> None:
    one, two = torch.randn(2, 20, 7, dtype=torch.float64).float()
    u, v = F.normalize(one, dim=1), F.normalize(two, dim=1)
    pairs = [math.exp(-2 * float((u[i] - u[j]).square().sum())) for i in range(20) for j in range(20) if i != j]
    found = view_vitals(one, two)
    assert found["uniformity"] == pytest.approx(math.log(sum(pairs) / len(pairs)), abs=1e-5)
    assert found["alignment"] == pytest.approx(float(((u - v) ** 2).sum(1).mean()), abs=1e-5)
    assert view_vitals(torch.ones(9, 4), torch.ones(9, 4))["uniformity"] == pytest.approx(0, abs=1e-6)


def named_early(run: withheld.run.Run, until: float = 0.2) -> set[str]:
    """What the log of a run calls sick within its first part, and `doctor` with it."""
    found = set()
    for line in run.log():
        if line["step"] <= max(1, until * line["steps"]):
            found |= {each["illness"] for each in line.get("health", {}).get("findings", []) if each["state"] == "sick"}
    return found


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().images[:400] * 255 / 16).astype(np.uint8)


def pretrained(method: str, data: Any, out: Path, steps: int, **more: Any) -> withheld.run.Run:
    return withheld.pretrain(method, data, out, steps=steps, batch_size=32, pictures=False, device="cpu", **more)


@pytest.mark.parametrize(
    ("settings", "named"), [({"beta": 50.0}, {"posterior collapse"}), ({}, set())], ids=["beta 50", "as it is"]
)
def test_kl_to_zero(digits: np.ndarray, tmp_path: Path, settings: dict[str, Any], named: set[str]) -> None:
    fast = {"base_learning_rate": 2e-2, "width": 64, "warmup": 0.5}
    run = pretrained("vae", digits, tmp_path / "run", 300, settings={**fast, **settings})
    assert named_early(run, until=0.2 if named else 1.0) == named
    found = CliRunner().invoke(main, ["doctor", str(tmp_path / "run"), "--strict"])
    assert found.exit_code == (1 if named else 0), found.output
    assert ("posterior collapse" in found.output) == bool(named)
    assert ("--set beta=5" in found.output.replace("\n", "")) == bool(named)


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
        codes = self.book.nearest(self.trunk(t))
        count = len(self.book.book)
        return {
            "book_perplexity": perplexity(codes, count),
            "book_dead_codes": float(self.book.dead().sum()),
            "book_codes": float(count),
        }


@pytest.mark.parametrize("far", [True, False])
def test_dead_codes(monkeypatch: pytest.MonkeyPatch, far: bool) -> None:
    t = torch.randn(512, 48, generator=torch.Generator().manual_seed(0))
    network = Coded()
    network.book.start(network.trunk(t).detach())
    if far:  # all codes but one lie where no vector is, and none is ever started anew
        network.book.book[1:] *= 1e3
        network.book.sums.copy_(network.book.book)
        monkeypatch.setattr(quantizer, "RARE", -1.0)
    objective = Objective(Whole(), network, quantized_error, target=Reconstruction())
    found = illnesses(objective, Rows(t), until=0.2 if far else 1.0, steps=300)
    assert found == ({"dead codes"} if far else set())


def test_restarted_codes_lie_where_vectors_are() -> None:
    book = Quantizer(4, 16)
    book.book[1:] += 1e3
    vectors = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    assert perplexity(book.nearest(vectors), 16) == pytest.approx(1.0)
    assert book.revive(vectors) == 15
    assert perplexity(book.nearest(vectors), 16) > 8


def test_a_singular_component(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    healthy = np.concatenate([generator.normal(m, 1, (100, 3)) for m in (-4, 0, 4)])
    equal = np.concatenate([healthy, np.full((3, 3), 30.0)])
    sick = withheld.pretrain("mixture", equal, tmp_path / "sick", settings={"components": 4, "regularization": 1e-9})
    assert named_early(sick, 1.0) == {"singular component"}
    well = withheld.pretrain("mixture", healthy, tmp_path / "well", settings={"components": 3})
    assert named_early(well, 1.0) == set()


@pytest.mark.parametrize(("times", "named"), [(4, {"duplicated data"}), (1, set())])
def test_duplicated_data(tmp_path: Path, times: int, named: set[str]) -> None:
    generator = np.random.default_rng(0)
    images = (generator.random((60, 16, 16)) * 255).astype(np.uint8)
    run = pretrained("mae", np.concatenate([images] * times), tmp_path / "run", 5)
    assert named_early(run) == named


@pytest.mark.parametrize(("moves", "named"), [(False, {"static video"}), (True, set())])
def test_static_video(tmp_path: Path, moves: bool, named: set[str]) -> None:
    from PIL import Image

    generator = np.random.default_rng(0)
    for clip in range(12):
        folder = tmp_path / "clips" / f"{clip:02d}"
        folder.mkdir(parents=True)
        scene = np.kron(generator.random((5, 5, 3)), np.ones((8, 8, 1))) * 200
        for frame in range(6):
            noise = generator.integers(0, 2, scene.shape)
            shown = np.roll(scene, 3 * frame, axis=1) if moves else scene
            Image.fromarray((shown + noise).astype(np.uint8)).save(folder / f"{frame:03d}.png")
    settings = {"frames": 4, "rate": 0}
    run = pretrained("videomae", tmp_path / "clips", tmp_path / "run", 5, size=32, settings=settings)
    assert named_early(run) == named


def test_few_words_hidden(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    texts = [
        " ".join(generator.choice(["sea", "wind", "old", "house", "green", "bird", "night"], 40)) for _ in range(60)
    ]
    run = pretrained("bert", texts, tmp_path / "run", 5, size=64, settings={"rate": 0.01})
    assert named_early(run) <= {"hardly anything hidden"}  # one word of a block is the least
    assert run.log()[0]["vitals"]["hidden_share"] < 0.02


def test_a_bad_run_is_exit_code_2(tmp_path: Path) -> None:
    found = CliRunner().invoke(main, ["doctor", str(tmp_path)])
    assert found.exit_code == 2 or found.exception is not None
