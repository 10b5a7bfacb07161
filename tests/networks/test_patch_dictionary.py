"""A dictionary of patches against the formulas written out; its whitening, its atoms against k-means, a run end to end."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from transformers import AutoModel

import withheld
import withheld.architectures
from gain_shape import best_atoms
from withheld import distributed
from withheld.cli.demo_data import photograph
from withheld.cli.show import of_method
from withheld.errors import InputError
from withheld.learn.gradient import train
from withheld.methods.patch_dictionary import patch_dictionary
from withheld.narrator import plan
from withheld.networks.open import open_trunk
from withheld.networks.patch_dictionary import FEW, FLAT, LIKER, SHARE, SMOOTH, DictionaryLearner, PatchDictionary
from withheld.splits.scattered import Scattered


def images(count: int = 6, channels: int = 3, size: int = 16, seed: int = 1) -> torch.Tensor:
    """Smooth noise, some of it flat."""
    coarse = torch.randn(count, channels, size // 2, size // 2, generator=torch.Generator().manual_seed(seed))
    t = F.interpolate(coarse, size=(size, size), mode="bilinear")
    t[:, :, : size // 4] = 0.3
    return t


def begun(channels: int = 3, size: int = 16) -> PatchDictionary:
    """A dictionary that has seen images, and has mean and deviation of features that are not those it begins with."""
    torch.manual_seed(0)
    trunk, _ = open_trunk("patch-dictionary", size=size, channels=channels)
    objective, _ = patch_dictionary(trunk)
    objective.fit_parts(images(8, channels, size, seed=2))
    model = trunk.model
    model.standard.running_mean.uniform_(0.1, 0.5)
    model.standard.running_var.uniform_(0.5, 2.0)
    return model.eval()


def written_out(model: PatchDictionary, image_CHW: np.ndarray) -> np.ndarray:
    """The features of one image, place by place, region by region."""
    config = model.config
    side, stride, R, K = config.kernel_size, config.stride, config.regions, config.atoms
    atoms = model.atoms.detach().double().numpy()
    atoms = atoms / np.sqrt((atoms**2).sum(axis=1, keepdims=True))
    center, whitening = model.center.double().numpy(), model.whitening.double().numpy()
    h, w = ((n - side) // stride + 1 for n in image_CHW.shape[1:])
    answers = np.zeros((h, w, K))
    for row in range(h):
        for column in range(w):
            patch = image_CHW[:, row * stride : row * stride + side, column * stride : column * stride + side].ravel()
            even = (patch - patch.mean()) / np.sqrt(patch.var() + FLAT)
            alike = atoms @ ((even - center) @ whitening)
            alike = (alike - alike.mean()) / np.sqrt(alike.var() + 1e-5)
            answers[row, column] = np.maximum(alike - LIKER, 0)
    features = np.zeros((K, R, R))
    for r in range(R):
        for c in range(R):  # floor and ceiling, as adaptive pools have it
            rows = slice(r * h // R, -(-(r + 1) * h // R))
            columns = slice(c * w // R, -(-(c + 1) * w // R))
            features[:, r, c] = np.sqrt(np.maximum(answers[rows, columns].mean(axis=(0, 1)), 1e-12))
    mean, variance = model.standard.running_mean.double().numpy(), model.standard.running_var.double().numpy()
    by_region = features.reshape(K, R * R).T.ravel()
    return (by_region - mean) / np.sqrt(variance + 1e-4)


@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 16), (1, 44), (3, 44)])
def test_features_are_the_formula_written_out(channels, size):
    model, t = begun(channels, size), images(2, channels, size)
    assert (model.config.kernel_size, model.config.stride) == ((6, 1) if size == 16 else (8, 2))
    with torch.no_grad():
        found = model(pixel_values=t).last_hidden_state
    assert found.shape == (2, 128 * 16, 1, 1)
    naive = np.stack([written_out(model, image.double().numpy()) for image in t])
    assert naive.std() > 0.1
    np.testing.assert_allclose(found[:, :, 0, 0].numpy(), naive, atol=2e-4)


def test_the_whitening_brings_every_variance_l_to_l_over_l_and_smooth():
    model = begun()
    patches = Scattered(6)(images(8, seed=2)).y
    some = F.unfold(patches, 6, stride=6).transpose(1, 2).flatten(0, 1)
    torch.nn.init.eye_(model.whitening)
    model.begin(some)
    even = (some - some.mean(dim=1, keepdim=True)) / (some.var(dim=1, correction=0, keepdim=True) + FLAT).sqrt()
    before = np.linalg.eigvalsh(np.cov(even.double().numpy().T)).clip(0)
    whitened = model.whitened(some).double().numpy()
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(whitened.T)), before / (before + SMOOTH), atol=1e-4)
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-5)
    torch.testing.assert_close(model.pixels(model.whitened(some)), even, atol=1e-4, rtol=0)
    nearest = torch.cdist(model.atoms, model.whitened(some)).amin(dim=1)
    assert nearest.max() < 0.05  # atoms begin at patches


def test_one_that_has_begun_goes_on_as_it_is():
    model = begun()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    model.begin(torch.randn(99, 108))
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


class OnlyOnTheCpu(TorchFunctionMode):
    """As an Apple GPU, which has neither doubles nor eigenvectors: notes what was asked of tensors that were not brought back."""

    def __init__(self) -> None:
        super().__init__()
        self.brought: list[torch.Tensor] = []
        self.asked: list[str] = []

    def __torch_function__(self, function, types, given=(), named=None):
        if function is torch.Tensor.double and not any(given[0] is one for one in self.brought):
            self.asked.append("double")
        found = function(*given, **(named or {}))
        if function is torch.Tensor.cpu:
            self.brought.append(found)
        return found


def test_an_apple_gpu_is_asked_for_nothing_that_it_has_not():
    model = begun()
    torch.nn.init.eye_(model.whitening)
    with OnlyOnTheCpu() as mode:
        model.begin(torch.randn(99, 108))
    assert mode.brought
    assert mode.asked == []


class Crops:
    """Squares of photographs, normalized, as the loop asks for items."""

    def __init__(self, count: int, side: int) -> None:
        random = np.random.default_rng(0)
        photographs = [photograph(name) for name in ("coffee.png", "rocket.jpg", "astronaut.png", "chelsea.png")]
        crops = []
        for at in range(count):
            whole = photographs[at % len(photographs)]
            row, column = (random.integers(0, length - side + 1) for length in whole.shape[:2])
            crops.append(whole[row : row + side, column : column + side])
        t = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
        self.t = (t - t.mean(dim=(0, 2, 3), keepdim=True)) / t.std(dim=(0, 2, 3), keepdim=True)

    def __len__(self) -> int:
        return len(self.t)

    def batch(self, index, device):
        return self.t[torch.from_numpy(index)].to(device)


def test_300_steps_tell_patches_as_well_as_k_means():
    crops = Crops(256, 16)
    torch.manual_seed(0)
    trunk, _ = open_trunk("patch-dictionary", size=16, channels=3)
    objective, recipe = patch_dictionary(trunk)
    objective.fit_parts(crops.t)
    model = trunk.model
    torch.manual_seed(1)
    seen, unseen = (
        model.whitened(F.unfold(Scattered(6)(crops.t).y, 6, stride=6).transpose(1, 2).flatten(0, 1)).detach()
        for _ in range(2)
    )
    start = model.units.detach().numpy()
    atoms, _ = best_atoms(seen.numpy(), start)
    at_start, k_means = (best_atoms(unseen.numpy(), some, rounds=0)[1] for some in (start, atoms))
    train(objective, crops, recipe.change(batch_size=64), steps=300)  # as many as 256 images get
    found = best_atoms(unseen.numpy(), model.units.detach().numpy(), rounds=0)[1]
    told = objective.network.eval()._told(unseen)
    assert (unseen - told).square().mean().item() == pytest.approx(found, rel=1e-5)
    assert k_means < 0.97 * at_start
    assert found < 1.03 * k_means


def test_features_keep_the_mean_and_variance_of_images_from_the_first_steps_on():
    """A running mean that begins at 0 would still be more than half of what it began with."""
    trunk, _ = open_trunk("patch-dictionary", size=16, channels=3)
    objective, recipe = patch_dictionary(trunk)
    crops = Crops(200, 16)
    objective.fit_parts(crops.t)
    train(objective, crops, recipe.change(batch_size=32), steps=40)
    assert trunk.model.standard.momentum == pytest.approx(1 / 40)
    with torch.no_grad():
        features = trunk.eval()(crops.t).pooled
    assert abs(features.mean(dim=0)).mean() < 0.1
    assert features.std(dim=0).mean() == pytest.approx(1, abs=0.1)
    trunk.model.standard.num_batches_tracked.fill_(1000)
    trunk.train()(crops.t)
    assert trunk.model.standard.momentum == SHARE


@pytest.mark.parametrize("each", [16, 32, 128])
def test_two_processes_look_at_the_same_whole_images_as_one(each, monkeypatch):
    trunk, _ = open_trunk("patch-dictionary", size=16, channels=1)
    learner = patch_dictionary(trunk)[0].network.train()
    t, seen = images(each, 1), []
    monkeypatch.setattr(PatchDictionary, "forward", lambda self, pixel_values: seen.append(pixel_values))
    for ranks in (1, 2, 4):
        monkeypatch.setattr(distributed, "world", lambda ranks=ranks: ranks)
        for part in t.chunk(ranks):
            learner({"patches": part[:, :, :12, :12], "item": part})
    assert len(seen[0]) == FEW
    assert torch.equal(seen[0], torch.cat(seen[1:3]))
    assert torch.equal(seen[0], torch.cat(seen[3:]))


def test_a_single_image_tells_no_deviation():
    trunk, _ = open_trunk("patch-dictionary", size=16, channels=3)
    objective, _ = patch_dictionary(trunk)
    objective.fit_parts(images())
    with pytest.raises(InputError, match="--batch-size of 2 or more"):
        objective.train()(images(1))
    assert torch.isfinite(objective.eval()(images(1))["loss"])


def test_kept_and_opened_by_transformers_it_gives_equal_features(tmp_path):
    model, t = begun(), images()
    model.save_pretrained(tmp_path)
    opened = AutoModel.from_pretrained(tmp_path, trust_remote_code=False).eval()
    assert isinstance(opened, PatchDictionary)
    assert torch.equal(opened(pixel_values=t).last_hidden_state, model(pixel_values=t).last_hidden_state)
    hidden = opened(pixel_values=t, output_hidden_states=True).hidden_states
    assert len(hidden) == 1


def test_another_encoder_is_refused_with_the_remedy():
    trunk, _ = open_trunk("vit-nano", size=16, channels=3)
    with pytest.raises(InputError, match="leave --encoder at auto, or give patch-dictionary, or a run of it"):
        patch_dictionary(trunk)


def test_images_smaller_than_a_patch_are_refused_before_the_run_begins(tmp_path):
    np.save(tmp_path / "tiny.npy", np.zeros((40, 4, 4), np.uint8))
    with pytest.raises(InputError, match=r"images of 4 pixels are smaller than a patch of 6: .*--size 8"):
        withheld.pretrain("patch_dictionary", tmp_path / "tiny.npy", tmp_path / "run", steps=2)
    assert not (tmp_path / "run" / "run.json").exists()


def test_vitals_tell_whether_atoms_differ():
    torch.manual_seed(0)
    trunk, _ = open_trunk("patch-dictionary", size=16, channels=3)
    objective, _ = patch_dictionary(trunk)
    t = images(800)
    objective.fit_parts(t[:200])
    learner: DictionaryLearner = objective.network
    found = learner.vitals(t)
    assert set(found) == {"atoms_perplexity", "atoms_dead_codes", "atoms_codes"}
    assert found["atoms_codes"] == 128
    assert found["atoms_perplexity"] > 40
    times = np.bincount(learner.nearest(trunk.model.whitened(learner._patches(t[:, :, :12, :12]))), minlength=128)
    assert np.array_equal(learner.times(t), times)
    share = times[times > 0] / times.sum()
    assert found["atoms_perplexity"] == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    with torch.no_grad():
        trunk.model.atoms.copy_(trunk.model.atoms[:1].expand(128, -1))
    alone = learner.vitals(t)
    assert alone["atoms_perplexity"] == pytest.approx(1)
    assert alone["atoms_dead_codes"] == 127
    assert learner.vitals(t[:8])["atoms_dead_codes"] == 0  # of few patches nothing is said


def test_a_run_end_to_end(tmp_path):
    pixels = ((Crops(150, 16).t.permute(0, 2, 3, 1) * 50 + 128).clamp(0, 255)).byte().numpy()
    np.save(tmp_path / "photographs.npy", pixels)
    run = withheld.pretrain("patch_dictionary", tmp_path / "photographs.npy", tmp_path / "run", steps=8, device="cpu")
    features = run.encoder().transform(pixels)
    assert features.shape == (150, 16 * 128)
    assert np.isfinite(features).all()
    assert abs(features.mean(axis=0)).mean() < 0.25
    assert features.std(axis=0).mean() == pytest.approx(1, abs=0.15)
    drawn = json.loads((tmp_path / "run" / "pictures" / "index.json").read_text())
    sections = [entry["section"] for entry in drawn]
    assert sections.count("atoms") == 1
    assert "patches" not in sections  # an image is one place
    atoms = next(entry for entry in drawn if entry["section"] == "atoms")
    assert (tmp_path / "run" / "pictures" / atoms["file"]).stat().st_size > 0
    assert atoms["file"] == "atoms-00.png"
    split = run.objective().split
    assert split == Scattered(6, 6, 16)


def test_photographs_are_told_at_the_size_that_the_encoder_sees(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 80, 80), dtype=np.uint8)
    np.save(tmp_path / "large.npy", pixels)
    made = tmp_path / "run"
    run = withheld.pretrain("patch_dictionary", tmp_path / "large.npy", made, steps=2, size=72, pictures=False)
    assert (run.settings["data"]["size"], run.settings["data"]["stored"]) == (72, 96)
    t = torch.randn(2, 1, 96, 96)
    assert run.objective().split(t).x["item"].shape == (2, 1, 72, 72)
    other = withheld.pretrain("patch_dictionary", tmp_path / "large.npy", tmp_path / "auto", steps=2, pictures=False)
    assert other.settings["data"]["size"] == 64  # of photographs, its own


def test_few_images_are_enough_and_nothing_else_is_advised():
    settings = {
        "method": "patch_dictionary", "title": "patch_dictionary", "modality": "image", "steps": 9, "batch_size": 8,
        "data": {"items": 150, "channels": 3, "size": 64, "held_out": 0}, "device": "cpu",
        "encoder": {"name": "patch-dictionary", "pretrained": False, "parameters": 24576},
    }  # fmt: skip
    assert "too few images" not in plan(settings)
    assert "too few images" in plan({**settings, "method": "mae"})


def test_show_draws_what_a_method_with_an_encoder_of_its_own_hides(tmp_path):
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (9, 80, 80, 3), dtype=np.uint8))
    split, drawn, *_ = of_method("patch_dictionary", {}, str(tmp_path / "images.npy"), 4, "auto", 0)
    assert split == Scattered(8, 6, 64)
    assert drawn.shape == (4, 3, 64, 64)


def test_check_times_its_steps_and_not_how_few_are_enough(tmp_path):
    from withheld.cost import MINUTES, measure

    np.save(tmp_path / "few.npy", np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8))
    cost = measure("patch_dictionary", tmp_path / "few.npy")
    assert cost.plan["steps"] == 500
    assert cost.items_per_second > 2 * 500 * cost.plan["batch_size"] / (60 * MINUTES)
