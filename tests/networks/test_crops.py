"""Trunks that see single patches, and the two runs that use them with other trunks and forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import withheld
from withheld.errors import InputError
from withheld.networks.exemplar import SeedClassifier
from withheld.networks.fusion import LateFusion
from withheld.networks.open import open_trunk
from withheld.types import Pair


def test_a_crop_as_large_as_the_image_is_the_image():
    trunk, _ = open_trunk("vit-nano", size=16, channels=3, patch=4)
    t = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(trunk.crops(t).pooled, trunk(t).pooled)


def test_a_vit_sees_a_crop_in_the_middle_as_the_image_without_the_rest():
    """The tokens and positions are those of the same patches of a whole image of which nothing else is visible."""
    trunk, _ = open_trunk("vit-nano", size=16, channels=3, patch=4)
    whole = torch.randn(3, 3, 16, 16)
    crop = whole[:, :, 4:12, 4:12]
    at = torch.tensor([5, 6, 9, 10]).expand(3, -1)
    patches = whole.reshape(3, 3, 4, 4, 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(3, 16, -1)
    wanted = trunk.eval().visible(patches.gather(1, at[..., None].expand(-1, -1, 48)), at)[:, -4:]
    found = trunk.crops(crop)
    torch.testing.assert_close(found.tokens, wanted)
    assert found.grid == (2, 2)


def test_in_training_every_block_of_positions_is_learned():
    trunk, _ = open_trunk("vit-nano", size=16, channels=3, patch=4)
    trunk.train()
    table = trunk.model.embeddings.position_embeddings
    torch.manual_seed(0)
    seen = torch.zeros(16, dtype=torch.bool)
    for _ in range(40):
        table.grad = None
        trunk.crops(torch.randn(2, 3, 8, 8)).pooled.square().sum().backward()
        seen |= table.grad[0, 1:].abs().sum(dim=-1) > 0
    assert seen.all()


def test_crops_that_do_not_fit_are_refused():
    trunk, _ = open_trunk("vit-nano", size=16, channels=3, patch=4)
    with pytest.raises(ValueError, match="do not fit"):
        trunk.crops(torch.randn(1, 3, 6, 6))


def test_a_convolutional_trunk_sees_crops_and_comes_back_from_its_folder(tmp_path):
    trunk, _ = open_trunk("regnet-nano", size=32, channels=3)
    t = torch.randn(2, 3, 8, 8)
    assert trunk.crops(t).pooled.shape == (2, 256)
    trunk.model.save_pretrained(tmp_path)
    again, trained = open_trunk(tmp_path, size=None, channels=3)
    assert trained
    assert again.size == 32
    torch.testing.assert_close(again.eval()(t).pooled, trunk.eval()(t).pooled)


def test_each_patch_is_seen_alone():
    torch.manual_seed(0)
    trunk, _ = open_trunk("regnet-nano", size=32, channels=3)
    network = LateFusion(trunk, 16, 8).eval()
    patches, pairs = torch.randn(1, 3, 3, 8, 8), torch.tensor([[[0, 1], [1, 0]]])
    before = network({"patches": patches, "pairs": pairs})
    other = patches.clone()
    other[:, 2] = 7.0  # nobody asks about it
    torch.testing.assert_close(network({"patches": other, "pairs": pairs}), before)
    assert not torch.allclose(before[0, 0], before[0, 1])


def test_a_softmax_has_an_output_for_every_seed():
    trunk, _ = open_trunk("regnet-nano", size=32, channels=3)
    network = SeedClassifier(trunk, seeds=3).fitted(Pair(None, torch.tensor([[0], [19]])))  # item 6 is the last
    assert network(torch.randn(2, 4, 3, 24, 24)).shape == (2, 4, 21)


@pytest.mark.parametrize(
    ("method", "settings"),
    [("exemplar", {"form": "triplet"}), ("exemplar", {"classes": 12, "seeds": 2}), ("relative_position", {})],
)
def test_runs_with_a_vit(tmp_path: Path, method, settings):
    photos = np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3)).astype(np.uint8)
    run = withheld.pretrain(
        method, photos, tmp_path / "run", encoder="vit-nano", steps=2, batch_size=4, settings=settings, pictures=False
    )
    assert run.settings["data"]["items"] == (6 if "classes" in settings else 16)
    assert run.encoder().transform(photos).shape == (16, 128)


def test_images_too_small_for_a_grid_are_refused_before_anything_is_written(tmp_path: Path):
    photos = np.zeros((8, 12, 12, 3), np.uint8)
    with pytest.raises(InputError, match=r"need 16.*--size"):
        withheld.pretrain("relative_position", photos, tmp_path / "run", steps=1)
    assert not (tmp_path / "run" / "run.json").exists()
