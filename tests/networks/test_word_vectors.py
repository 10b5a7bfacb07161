"""A table of token vectors: what it says of a text, and that transformers opens it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from safetensors.torch import load_file
from transformers import AutoModel

import withheld
from withheld.cli import main
from withheld.errors import InputError
from withheld.evaluate.export import export
from withheld.methods.same_text import same_text
from withheld.modalities.table import features_of_run
from withheld.narrator import _shape_words
from withheld.networks.text import Special, TextTrunk
from withheld.networks.text_open import open_text_trunk
from withheld.text_encoder import TextEncoder


class Tokenizer:
    pad_token_id, cls_token_id, sep_token_id, mask_token_id, unk_token_id = 0, 2, 3, 4, 1
    all_special_ids: ClassVar = [0, 1, 2, 3, 4]


def trunk_of(encoder: str = "word-vectors", length: int = 16) -> TextTrunk:
    trunk, learned = open_text_trunk(encoder, vocabulary=50, length=length)
    assert not learned
    trunk._special = Special(0, 2, 3, 4, (0, 1, 2, 3, 4))
    return trunk


def texts(lengths: tuple[int, ...] = (12, 7, 9, 3)) -> dict[str, torch.Tensor]:
    item = torch.randint(5, 50, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    item[:, 0] = 2
    return {"item": item.masked_fill(~mask, 0), "mask": mask}


class TestTrunk:
    def test_a_text_is_where_the_mean_of_its_tokens_points(self):
        trunk, t = trunk_of(), texts()
        table = trunk.model.embeddings.weight.detach().numpy()
        for row, (ids, real) in enumerate(zip(t["item"].numpy(), t["mask"].numpy(), strict=True)):
            naive = np.mean([table[i] for i in ids[real]], axis=0)
            naive /= np.sqrt((naive**2).sum())
            np.testing.assert_allclose(trunk(t).pooled[row].detach(), naive, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(trunk.vector(t)[row].detach(), naive, rtol=1e-5, atol=1e-7)

    def test_the_short_way_has_the_same_gradient(self):
        gradients = []
        for way in ("vector", "forward"):
            trunk, t = trunk_of(), texts()
            found = trunk.vector(t) if way == "vector" else trunk(t).pooled
            (found * torch.arange(256)).sum().backward()
            gradients.append(trunk.model.embeddings.weight.grad)
        torch.testing.assert_close(*gradients)

    def test_a_text_without_words_is_nothing_and_not_nan(self):
        t = texts()
        t["mask"][1] = False
        assert trunk_of().vector(t)[1].abs().max() == 0
        assert torch.isfinite(trunk_of()(t).pooled).all()

    def test_texts_of_any_length_are_seen_whole(self):
        trunk = trunk_of()
        long = {"item": torch.full((1, 5000), 7), "mask": torch.ones(1, 5000, dtype=torch.bool)}
        torch.testing.assert_close(trunk(long).pooled[0], F.normalize(trunk.model.embeddings.weight[7], dim=0))

    def test_what_is_no_text_moves_nothing(self):
        trunk, t = trunk_of(), texts()
        trunk.know(Tokenizer())
        framed = {"item": F.pad(t["item"], (0, 1), value=3), "mask": F.pad(t["mask"], (0, 1), value=True)}
        torch.testing.assert_close(trunk(framed).pooled, trunk(t).pooled)
        bare = {"item": t["item"][:, 1:], "mask": t["mask"][:, 1:]}  # without [CLS]
        torch.testing.assert_close(trunk(bare).pooled, trunk(t).pooled)

    @pytest.mark.parametrize("way", ["vector", "forward"])
    def test_what_is_no_text_never_learns_and_a_text_of_it_breaks_no_gradient(self, way):
        trunk, t = trunk_of(), texts()
        trunk.know(Tokenizer())
        t["item"][1] = torch.tensor([2, 1, 3, *[0] * 9])  # [CLS] [UNK] [SEP]: no word that is known
        found = trunk.vector(t) if way == "vector" else trunk(t).pooled
        (found * torch.arange(256)).sum().backward()
        moved = trunk.model.embeddings.weight.grad.abs().amax(dim=1)
        assert moved[:5].max() == 0  # else opened again a fine-tuned model would say something else
        assert 0 < moved.max() < 1e5

    def test_transformers_opens_it(self, tmp_path):
        trunk = trunk_of()
        trunk.model.save_pretrained(tmp_path)
        again = AutoModel.from_pretrained(tmp_path, trust_remote_code=False)
        t = texts()
        assert torch.equal(again(t["item"]).last_hidden_state, trunk(t).tokens)


class TestSameText:
    def test_the_loss_is_that_of_simclr_on_the_two_parts(self):
        objective, _ = same_text(trunk_of(), temperature=0.3)
        t = texts()
        torch.manual_seed(1)
        ours = float(objective(t)["contrast"].detach())
        torch.manual_seed(1)
        pair = objective.split(t)
        views = torch.cat([objective.network(pair.x), objective.network(pair.y)])
        cosines = F.cosine_similarity(views[:, None], views[None], dim=2).detach() / 0.3
        naive = 0.0
        for i in range(8):
            others = [j for j in range(8) if j != i]
            naive -= float(cosines[i, (i + 4) % 8] - torch.logsumexp(cosines[i, others], 0)) / 8
        assert ours == pytest.approx(naive, rel=1e-5)

    def test_no_special_token_learns(self):
        trunk = trunk_of()
        objective, _ = same_text(trunk)
        objective.total(objective(texts()), None).backward()
        moved = trunk.model.embeddings.weight.grad.abs().sum(dim=1)
        assert moved[:5].max() == 0
        assert moved[5:].max() > 0

    def test_it_also_takes_a_language_model(self):
        objective, recipe = same_text(trunk_of("bert-tiny"))
        loss = objective(texts())["contrast"]
        loss.backward()
        assert torch.isfinite(loss)
        assert recipe.base_learning_rate < same_text(trunk_of())[1].base_learning_rate

    @pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"share": 0.0}, {"share": 1.0}, {"cut": 1.5}])
    def test_settings_that_teach_nothing(self, wrong):
        with pytest.raises(InputError, match=next(iter(wrong))):
            same_text(trunk_of(), **wrong)


@pytest.mark.parametrize("method", ["bert", "gpt", "tsdae", "elmo"])
@pytest.mark.parametrize(("encoder", "home"), [("word-vectors", "same_text"), ("lstm-vae", "sentence_vae")])
def test_methods_that_tell_words_say_that_it_cannot(method, encoder, home, tmp_path):
    rows = [f"{who} went to the {place} again and again ." for who in "abcdefgh" for place in ("sea", "house", "hill")]
    with pytest.raises(InputError, match=f"--encoder {encoder} tells no words.*{home}"):
        withheld.pretrain(method, rows, tmp_path / "run", encoder=encoder, steps=1, size=8)


class TestRun:
    """Of passages of two kinds, and what the verbs make of it."""

    @pytest.fixture(scope="class")
    def reviews(self, tmp_path_factory) -> Path:
        words = {"good": "a wonderful bright film with great fun", "bad": "one dull grey story of no joy"}
        path = tmp_path_factory.mktemp("data") / "reviews.csv"
        rows = [
            f"{text} {' '.join(f'w{i % 7}x{k}' for k in range(9))},{kind}"
            for i in range(60)
            for kind, text in words.items()
        ]
        path.write_text("\n".join(["text,label", *rows, "☃☃ ☃,good"]), encoding="utf-8")
        return path

    @pytest.fixture(scope="class")
    def run(self, reviews, tmp_path_factory) -> withheld.Run:
        out = tmp_path_factory.mktemp("runs") / "same"
        return withheld.pretrain("same_text", reviews, out, steps=5, batch_size=16, pictures=False)

    def test_a_fine_tuned_model_says_the_same_when_opened_again(self, run, reviews, tmp_path):
        withheld.finetune(run.folder, reviews, tmp_path / "model", steps=20)
        encoder = TextEncoder.opened(tmp_path / "model" / "encoder")  # which silences what is no text
        kept = load_file(tmp_path / "model" / "encoder" / "model.safetensors")["embeddings.weight"]
        assert not torch.equal(kept, run.encoder().trunk.model.embeddings.weight)
        assert torch.equal(kept, encoder.trunk.model.embeddings.weight)

    @pytest.mark.parametrize("with_run", [False, True])
    def test_show_draws_the_words_that_each_part_has(self, run, reviews, tmp_path, with_run):
        drawn = tmp_path / "a.png"
        trained = ["--run", run.folder] if with_run else []
        done = CliRunner().invoke(
            main, list(map(str, ["show", "same_text", reviews, "--items", 2, "-o", drawn, *trained]))
        )
        assert done.exit_code == 0, done.output
        lines = [line for line in done.stdout.splitlines() if " w" in line]
        assert len(lines) == 2  # two texts, one each
        assert all("[" in line and "=]" not in line for line in lines)
        assert drawn.stat().st_size > 1000

    def test_transformers_opens_what_is_exported(self, run, tmp_path):
        folder = export(run.folder, tmp_path / "hf", "hf")
        model = AutoModel.from_pretrained(folder, trust_remote_code=False)
        assert torch.equal(model.embeddings.weight, run.encoder().trunk.model.embeddings.weight)

    def test_its_features_are_those_of_passages(self, tmp_path):
        folder = tmp_path / "books"
        folder.mkdir()
        for name in "ab":
            (folder / f"{name}.txt").write_text(" ".join(f"He was {name} and {i % 50} went home." for i in range(200)))
        run = withheld.pretrain("same_text", folder, tmp_path / "run", steps=2, batch_size=4, pictures=False)
        facts = run.settings["data"]
        heard = []
        found = features_of_run(f"run:{run.folder}", torch.device("cpu"), lambda kind, **event: heard.append(event))
        assert len(found.values) == facts["items"] + facts["held_out"] < 20
        assert any("passages of 2 texts" in event.get("text", "") for event in heard)

    def test_onnx_says_the_same(self, run, tmp_path):
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(export(run.folder, tmp_path / "a.onnx", "onnx"))
        t = {
            "input_ids": np.array([[2, 9, 8, 3, 0], [2, 7, 9, 6, 3]]),
            "attention_mask": np.array([[1] * 4 + [0], [1] * 5]),
        }
        item, mask = torch.from_numpy(t["input_ids"]), torch.from_numpy(t["attention_mask"]).bool()
        expected = run.encoder()({"item": item, "mask": mask}).pooled.detach()
        np.testing.assert_allclose(session.run(["pooled"], t)[0], expected, atol=1e-5)

    def test_one_that_is_gone_on_with_sees_whole_passages_too(self, run, reviews, tmp_path):
        more = withheld.pretrain("same_text", reviews, tmp_path / "run", encoder=run.folder, steps=1, pictures=False)
        assert more.settings["data"]["length"] == run.settings["data"]["length"] == 512
        assert "one passage each, 512 tokens at most" in _shape_words(more.settings["data"])

    def test_simcse_needs_dropout(self, run, reviews, tmp_path):
        with pytest.raises(InputError, match="simcse needs dropout"):
            withheld.pretrain("simcse", reviews, tmp_path / "run", encoder=run.folder, steps=1)
