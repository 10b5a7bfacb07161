"""Continuing from a trained encoder of images: new heads learn first, the trunk slowly, and nothing that it knew is lost."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

import withheld
from withheld.data.image import ImageItems
from withheld.data.source import open_source
from withheld.errors import InputError
from withheld.evaluate.few_label import nearest_neighbors
from withheld.learn.gradient import Loop
from withheld.networks.open import open_trunk
from withheld.networks.video import open_video_trunk
from withheld.run import load_method
from withheld.types import Moment, Recipe


def pictures(count: int = 32) -> np.ndarray:
    return (np.random.default_rng(0).random((count, 16, 16, 3)) * 255).astype(np.uint8)


def test_the_trunk_rests_then_wakes_then_learns_slowly():
    recipe = Recipe(rest=0.2)
    assert [recipe.awake(Moment(step, 100)) for step in (0, 19, 30, 40, 99)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert Recipe().awake(Moment(0, 100)) == 1
    torch.manual_seed(0)
    trunk, _ = open_trunk("resnet-nano", size=16, channels=3)
    objective, recipe = load_method("vicreg")(trunk)
    recipe = recipe.change(batch_size=8, rest=0.4, trunk_rate=0.1)
    items = ImageItems(pictures().transpose(0, 3, 1, 2), [0.5] * 3, [0.3] * 3)
    loop = Loop(objective, items, recipe, steps=5)
    objective.train()
    first = [p.detach().clone() for p in trunk.parameters()]
    heads = [p.detach().clone() for p in objective.network.project.parameters()]
    loop.step(0)
    loop.step(1)
    assert all(torch.equal(a, b) for a, b in zip(first, trunk.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(heads, objective.network.project.parameters(), strict=True))
    loop.step(3)
    assert not all(torch.equal(a, b) for a, b in zip(first, trunk.parameters(), strict=True))
    rates = {group["rests"]: group["lr"] for group in loop.optimizer.param_groups}
    assert rates[True] < 0.11 * rates[False]


def test_a_run_that_continues_says_how(tmp_path):
    start = withheld.pretrain(
        "simclr", pictures(), tmp_path / "start", steps=2, batch_size=8, pictures=False, device="cpu"
    )
    heard: list[dict] = []
    withheld.pretrain(
        "byol", pictures(), tmp_path / "more", encoder=str(start.folder), steps=3, batch_size=8, pictures=False, device="cpu",
        listen=heard.append,
    )  # fmt: skip
    (note,) = [event["text"] for event in heard if event["kind"] == "note" and "continues" in event["text"]]
    assert "stands still for the first 10%" in note
    kept = json.loads((tmp_path / "more" / "run.json").read_text())
    assert kept["recipe"]["rest"] == 0.1
    assert kept["encoder"]["pretrained"] is True
    before, after = start.encoder(), withheld.load_encoder(tmp_path / "more")
    one, two = (torch.cat([p.detach().flatten() for p in each.trunk.parameters()]) for each in (before, after))
    assert 0 < float((one - two).norm()) < 0.05 * float(one.norm())
    with pytest.raises(InputError, match="rest"):
        withheld.pretrain(
            "byol",
            pictures(),
            tmp_path / "other",
            encoder=str(start.folder),
            steps=3,
            settings={"rest": 0.9},
            device="cpu",
        )


def neighbors_accuracy(run, data: str) -> float:
    """Share of 1000 held-out items whose nearest neighbors among 2000 others have their label."""
    source = open_source(data, labels=True).part("test")
    items = [source.read(i) for i in range(3000)]
    labels = np.array([source.labels[i] for i in range(3000)])
    classes, numbers = np.unique(labels, return_inverse=True)
    features = run.encoder().transform(items)
    found = nearest_neighbors(features[:2000], numbers[:2000], features[2000:], len(classes))
    return float((found.argmax(axis=1) == numbers[2000:]).mean())


@pytest.mark.slow
def test_continued_pretraining_keeps_what_the_neighbors_knew(shared_data, tmp_path):
    data = str(shared_data / "fashion-mnist")
    settings = {"steps": 30, "batch_size": 128, "pictures": False, "device": "cpu"}
    start = withheld.pretrain("simclr", data, tmp_path / "start", **settings)
    more = withheld.pretrain("vicreg", data, tmp_path / "more", encoder=str(start.folder), seed=1, **settings)
    before, after = neighbors_accuracy(start, data), neighbors_accuracy(more, data)
    assert before > 0.7
    assert after > before - 2 * (before * (1 - before) / 1000) ** 0.5


def test_adapters_need_peft_and_a_trained_encoder(tmp_path, monkeypatch):
    settings = {"steps": 2, "batch_size": 8, "pictures": False, "device": "cpu", "settings": {"lora": 4}}
    with pytest.raises(InputError, match="--encoder RUN"):
        withheld.pretrain("simclr", pictures(), tmp_path / "a", **settings)
    start = withheld.pretrain("simclr", pictures(), tmp_path / "s", **{**settings, "settings": {}})
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"withheld\[lora\]"):
        withheld.pretrain("simclr", pictures(), tmp_path / "b", encoder=str(start.folder), **settings)


def test_adapters_learn_in_the_trunks_place_and_are_merged(tmp_path):
    pytest.importorskip("peft")
    settings = {"batch_size": 8, "pictures": False, "device": "cpu"}
    start = withheld.pretrain("simclr", pictures(), tmp_path / "start", steps=2, **settings)
    more = withheld.pretrain(
        "byol",
        pictures(),
        tmp_path / "more",
        encoder=str(start.folder),
        steps=4,
        settings={"lora": 4, "rest": 0.0},
        **settings,
    )
    objective = more.objective()
    learned = [name for name, p in objective.trunk.named_parameters() if p.requires_grad]
    assert learned
    assert all("lora_" in name for name in learned)
    before, after = start.encoder().trunk.state_dict(), more.encoder().trunk.state_dict()
    assert before.keys() == after.keys()  # it opens without peft
    kernels = [name for name in before if ".layers." in name and before[name].ndim == 4]
    assert all(np.linalg.matrix_rank((after[n] - before[n]).flatten(1).numpy(), tol=1e-6) <= 4 * 9 for n in kernels)
    assert any(not torch.equal(after[n], before[n]) for n in kernels)
    t = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(
        more.encoder().trunk.eval()(t).pooled, objective.trunk.eval()(t).pooled, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(("method", "encoder"), [("videomae", "videomae-nano"), ("frame_order", "vit-nano")])
def test_adapters_of_clips(method, encoder, tmp_path):
    pytest.importorskip("peft")
    clips = list((np.random.default_rng(0).random((4, 40, 16, 16, 3)) * 255).astype(np.uint8))
    settings = {"batch_size": 4, "pictures": False, "device": "cpu", "size": 16, "steps": 2}
    start = withheld.pretrain(method, clips, tmp_path / "start", encoder=encoder, **settings)
    given = {"encoder": str(start.folder), "settings": {"lora": 2, "rest": 0.0}}
    more = withheld.pretrain(method, clips, tmp_path / "more", **given, **settings)
    before, after = (run.encoder().trunk.state_dict() for run in (start, more))
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert moved
    assert all(np.linalg.matrix_rank((after[n] - before[n]).numpy(), tol=1e-6) <= 2 for n in moved)
    learned = [name for name, p in more.objective().trunk.named_parameters() if p.requires_grad]
    assert learned
    assert all(".lora_" in name for name in learned)


@pytest.mark.parametrize(
    ("method", "given", "said"),
    [
        ("mae", {"encoder": "conv-nano"}, "mae hides patches, and this encoder has none"),
        ("simclr", {"encoder": "words"}, "is an encoder of texts: here one of images or clips is needed"),
        ("distill", {"settings": {"teacher": "words"}}, "is an encoder of texts"),
        ("mae", {"encoder": "clips"}, "is a model of clips, which sees no single images"),
        ("distill", {"settings": {"teacher": "clips"}}, "is a model of clips"),
        ("videomae", {"encoder": "conv-nano"}, "needs a model of clips, such as --encoder videomae-nano"),
    ],
)
def test_an_encoder_of_another_kind_is_named(method, given, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=32)
    BertModel(config).save_pretrained("words")
    (tmp_path / "words" / "withheld.json").write_text(
        json.dumps({"format": 1, "modality": "text", "name": "w", "most": 64})
    )
    open_video_trunk("videomae-nano", size=16, frames=4)[0].model.save_pretrained("clips")
    frames = (np.random.default_rng(0).random((2, 4, 16, 16, 3)) * 255).astype(np.uint8)
    data = list(frames) if method == "videomae" else pictures()
    with pytest.raises(InputError, match=said):
        withheld.pretrain(method, data, "run", steps=1, batch_size=8, device="cpu", **given)
