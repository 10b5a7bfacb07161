"""finetune, predict, show and export of texts."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from withheld.data.text import open_texts
from withheld.data.tokenizer import train_tokenizer
from withheld.data.tokens import Blocks, prepare_tokens
from withheld.errors import InputError
from withheld.evaluate.classifier import Classifier, predict
from withheld.evaluate.export import export
from withheld.evaluate.export_text import _write_tokenizer, tokenizer_folder
from withheld.evaluate.finetune import finetune
from withheld.evaluate.word_sheet import COVER, HIDDEN, color_of, draw_texts, rows_of
from withheld.evaluate.words import speaker, words_of
from withheld.losses.prediction import TokenCrossEntropy
from withheld.networks.text_open import open_text_trunk
from withheld.networks.words import MaskedWords, NextWord
from withheld.objective import Objective
from withheld.splits.text import MaskWords, NextToken
from withheld.text_encoder import TextEncoder

GOOD = ["what a wonderful bright film", "great fun and lovely music", "a warm and happy story", "bright lovely acting"]
BAD = ["what a dull grey film", "no fun and awful noise", "a cold and sad story", "dull awful acting"]
SEEN = [f"{line} number {i}" for i in range(12) for line in [*GOOD, *BAD]]


def encoder_of(preset: str = "bert-tiny", length: int = 32) -> TextEncoder:
    causal = preset.startswith(("gpt", "lstm"))
    tokenizer = train_tokenizer("bpe" if causal else "wordpiece", SEEN, 400, not causal, length)
    trunk, _ = open_text_trunk(preset, vocabulary=len(tokenizer), length=length)
    return TextEncoder(trunk, tokenizer, preset)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "stars", "review"])
        for i in range(80):
            line = (GOOD if i % 2 else BAD)[i // 2 % 4]
            table.writerow([i, "good" if i % 2 else "bad", f"{line}, {line} {i}"])
    return path


@pytest.fixture(scope="module")
def model(reviews, tmp_path_factory):
    heard: list[dict] = []
    out = tmp_path_factory.mktemp("models") / "reviews"
    finetune(encoder_of(), reviews, out, labels="stars", steps=15, listen=heard.append)
    return out, heard


class TestFinetune:
    def test_it_learns_and_tells_its_accuracy(self, model):
        out, heard = model
        made = json.loads((out / "model.json").read_text())["made"]
        assert made["held_out"] == 8
        assert made["accuracy"] >= 0.75
        assert any("of 8 labelled items that were held out" in event.get("text", "") for event in heard)
        told = Classifier.open(out).predict(["a great lovely film", "an awful dull story"])[0].tolist()
        assert set(told) <= {"good", "bad"}

    def test_what_it_knows_is_in_the_folder(self, model):
        out, _ = model
        again = Classifier.open(out)
        head = load_file(out / "head.safetensors")
        pooled = again.encoder.transform(SEEN[:5])
        logits = ((pooled - head["mean"].numpy()) / head["scale"].numpy()) @ head["weight"].numpy().T + head[
            "bias"
        ].numpy()
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(again.predict(SEEN[:5])[1], expected, atol=1e-5)

    @pytest.mark.parametrize(("labels", "said"), [("stras", "stars"), ("id", "different labels")])
    def test_wrong_labels(self, reviews, tmp_path, labels, said):
        with pytest.raises(InputError, match=said):
            finetune(encoder_of(), reviews, tmp_path / "m", labels=labels, steps=1)

    def test_no_labels(self, tmp_path):
        (tmp_path / "r.csv").write_text("id,text\n1,a great film\n2,an awful film\n")
        with pytest.raises(InputError, match="name it with --labels COLUMN"):
            finetune(encoder_of(), tmp_path / "r.csv", tmp_path / "m", steps=1)


class TestPredict:
    def test_rows_of_a_table(self, model, reviews, tmp_path):
        out = tmp_path / "labels.csv"
        assert predict(model[0], f"{reviews}:review", out) == 80
        rows = list(csv.DictReader(out.open()))
        assert rows[0]["file"] == "reviews.csv:1"
        assert {row["label"] for row in rows} == {"good", "bad"}
        assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)

    def test_files_of_a_folder_broken_ones_said(self, model, tmp_path):
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.txt").write_text("a lovely great film")
        (tmp_path / "in" / "b.txt").write_bytes(b"\0\1\2" * 50)
        heard: list[dict] = []
        assert predict(model[0], tmp_path / "in", tmp_path / "o.csv", listen=heard.append) == 1
        assert [row["file"] for row in csv.DictReader((tmp_path / "o.csv").open())] == ["a.txt"]
        assert any(
            "1 of 2 texts could not be read and was left out: 'b.txt' (" in event.get("text", "") for event in heard
        )

    def test_nothing_to_read(self, model, tmp_path):
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "b.txt").write_bytes(b"\0\1\2" * 50)
        with pytest.raises(InputError, match="none of its texts"):
            predict(model[0], tmp_path / "in", tmp_path / "o.csv")

    def test_a_column_that_is_not_there(self, model, reviews, tmp_path):
        with pytest.raises(InputError, match="no column 'body'"):
            predict(model[0], f"{reviews}:body", tmp_path / "o.csv")


class TestExport:
    def test_hf_opens_with_head_and_tokenizer(self, model, tmp_path):
        export(model[0], tmp_path / "hf", "hf")
        again = AutoModelForMaskedLM.from_pretrained(tmp_path / "hf")
        encoder = Classifier.open(model[0]).encoder
        for name, value in encoder.trunk.model.named_parameters():
            assert torch.equal(value, dict(again.named_parameters())[name])
        told = AutoTokenizer.from_pretrained(tmp_path / "hf")("a lovely film")["input_ids"]
        assert told == encoder.rows(["a lovely film"])[0].tolist()

    @pytest.mark.slow
    @pytest.mark.parametrize("preset", ["bert-tiny", "gpt2-micro"])
    def test_onnx_gives_the_same_features(self, preset, tmp_path):
        onnxruntime = pytest.importorskip("onnxruntime")
        onnx = pytest.importorskip("onnx")
        encoder = encoder_of(preset)
        out = export(encoder, tmp_path / "e.onnx", "onnx")
        assert {entry.domain: entry.version for entry in onnx.load(out).opset_import}[""] == 18
        card = json.loads((tokenizer_folder(out) / "withheld.json").read_text())
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder(out))
        texts = ["a lovely film", "dull", "what a wonderful bright film it is"]
        rows = [
            [*card["start"], *tokenizer(text, add_special_tokens=False)["input_ids"], *card["end"]] for text in texts
        ]
        item = np.full((3, max(map(len, rows))), card["pad"], np.int64)
        mask = np.zeros_like(item)
        for i, row in enumerate(rows):
            item[i, : len(row)], mask[i, : len(row)] = row, 1
        found = onnxruntime.InferenceSession(str(out)).run(["pooled"], {"input_ids": item, "attention_mask": mask})[0]
        np.testing.assert_allclose(found, encoder.transform(texts), atol=1e-4)

    @pytest.mark.parametrize("preset", ["bert-tiny", "gpt2-micro"])
    def test_the_tokenizer_beside_the_file_frames_texts_by_itself(self, preset, tmp_path):
        encoder = encoder_of(preset)
        _write_tokenizer(encoder, tmp_path / "e.onnx")
        told = AutoTokenizer.from_pretrained(tmp_path / "e-tokenizer")("a lovely film")["input_ids"]
        assert told == encoder.rows(["a lovely film"])[0].tolist()

    def test_what_has_no_onnx_form_is_said(self, tmp_path):
        pytest.importorskip("onnxruntime")
        with pytest.raises(InputError, match="use --to hf"):
            export(encoder_of("lstm-small", 20), tmp_path / "e.onnx", "onnx")
        assert not list(tmp_path.iterdir())


class TestShow:
    @pytest.fixture
    def blocks(self):
        encoder = encoder_of()
        return encoder, Blocks(prepare_tokens(open_texts(SEEN), encoder.tokenizer), 16)

    def test_hidden_words_and_what_was_told(self, blocks):
        encoder, items = blocks
        special = encoder.trunk.special
        split = MaskWords(special.mask, encoder.trunk.vocabulary, special.all, 0.3)
        objective = Objective(split, MaskedWords(encoder.trunk.eval()), TokenCrossEntropy())
        t = items.batch(np.arange(3), "cpu")
        spoken = speaker(encoder.tokenizer)
        masked, texts = words_of(objective, t, spoken, seed=3)
        assert masked
        torch.manual_seed(3)
        pair = split(t)
        for text, item, asked, seen in zip(texts, t["item"], pair.x["asked"], pair.x["item"], strict=True):
            assert [token["text"] for token in text] == [spoken(int(n)) for n in item]
            assert [token["asked"] for token in text] == asked.tolist()
            assert [token["shown"] for token in text] == [spoken(int(n)) for n in seen]
            assert all((token["p"] is not None) == token["asked"] for token in text)
        _, quiet = words_of(objective, t, spoken, seed=3, predict=False)
        assert all(token["p"] is None for text in quiet for token in text)

    @torch.no_grad()
    def test_next_words_have_the_models_own_probability(self):
        encoder = encoder_of("gpt2-micro")
        objective = Objective(NextToken(), NextWord(encoder.trunk.eval()), TokenCrossEntropy())
        item = torch.tensor([encoder.rows(["a lovely film"])[0].tolist()])
        masked, texts = words_of(objective, {"item": item}, speaker(encoder.tokenizer))
        log_p = encoder.trunk.model(input_ids=item).logits.log_softmax(dim=2)
        expected = [float(log_p[0, i, item[0, i + 1]].exp()) for i in range(item.shape[1] - 1)]
        assert not masked
        assert [token["p"] for token in texts[0]] == pytest.approx(expected, abs=1e-4)

    def test_rows_and_picture(self, tmp_path):
        tokens = [
            {"text": "a", "asked": False, "shown": "a", "p": None},
            {"text": " film", "asked": True, "shown": " [MASK]", "p": 0.25, "guess": " story"},
        ]
        rows = dict(rows_of(tokens, True))
        assert rows["x"] == [("a", None), (" [MASK]", HIDDEN)]
        assert rows["y"] == [("a", COVER), (" film", HIDDEN)]
        assert rows["prediction"] == [("a", None), (" story", color_of(0.25))]
        picture = Image.open(draw_texts("title", [tokens], True, tmp_path / "x.png")).convert("RGB")
        colors = {color for _, color in picture.getcolors(1 << 24)}
        assert {HIDDEN, COVER, color_of(0.25)} <= colors

    def test_an_objective_that_asks_for_something_else(self, blocks):
        encoder, items = blocks
        objective = Objective(lambda t: (t, {"z": t["item"]}), torch.nn.Identity(), TokenCrossEntropy())
        with pytest.raises(InputError, match="asks for no tokens"):
            words_of(objective, items.batch(np.arange(2), "cpu"), speaker(encoder.tokenizer))


class TestDamage:
    def test_a_folder_without_its_tokenizer(self, tmp_path):
        encoder_of().save(tmp_path / "e")
        for file in (tmp_path / "e").glob("*token*"):
            file.unlink()
        with pytest.raises(InputError, match="no tokenizer in this folder"):
            TextEncoder.opened(tmp_path / "e")

    def test_a_tokenizer_of_something_else(self, tmp_path):
        encoder_of().save(tmp_path / "e")
        train_tokenizer("word", [f"w{i}" for i in range(900)], 900, True, 32).save_pretrained(tmp_path / "e")
        with pytest.raises(InputError, match="do not belong together"):
            TextEncoder.opened(tmp_path / "e")

    def test_a_tokenizer_that_cannot_be_read(self, tmp_path):
        encoder_of().save(tmp_path / "e")
        (tmp_path / "e" / "tokenizer.json").write_text("{")
        with pytest.raises(InputError, match="could not open a tokenizer"):
            TextEncoder.opened(tmp_path / "e")
