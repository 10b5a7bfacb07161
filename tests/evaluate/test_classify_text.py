"""Texts and pairs in the form that each kind of encoder is fine-tuned on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from withheld.data.tokenizer import train_tokenizer
from withheld.evaluate.classify import class_probabilities, loop_of
from withheld.evaluate.classify_text import AskTextLabel, LabelledTexts, label_outputs, text_objective, text_recipe
from withheld.networks.text_open import open_text_trunk
from withheld.text_encoder import TextEncoder

FIRST = ["what a film", "a good film with good music and a long story", "no"]
SECOND = ["a film", "good music", "a bad story that is too long for anyone to follow"]
ENCODERS = {"bert-tiny": "wordpiece", "gpt-tiny": "bpe", "elmo-tiny": "wordpiece", "lstm-small": "word"}


def encoder_of(preset: str) -> TextEncoder:
    kind = ENCODERS[preset]
    tokenizer = train_tokenizer(kind, [*FIRST, *SECOND] * 20, 400, kind == "wordpiece", 64)
    return TextEncoder(open_text_trunk(preset, vocabulary=len(tokenizer), length=64)[0], tokenizer, preset).eval()


def shown(encoder: TextEncoder, row) -> str:
    return " ".join(encoder.tokenizer.convert_ids_to_tokens([int(i) for i in row])).replace("Ġ", "").replace("##", "")


def test_a_causal_model_reads_start_delimiter_and_extract_in_both_orders():
    encoder = encoder_of("gpt-tiny")
    items = LabelledTexts(encoder, FIRST, SECOND, both_orders=True)
    assert shown(encoder, items.rows[0]) == "<eos> what a film <sep> a film <eos>"
    assert shown(encoder, items.parts["turned"][0]) == "<eos> a film <sep> what a film <eos>"
    assert shown(encoder, LabelledTexts(encoder, FIRST).rows[0]) == "<eos> what a film <eos>"
    t = items.batch(np.arange(3), "cpu")
    assert t["turned"].shape == t["item"].shape


def test_an_elmo_reads_both_sentences_apart():
    encoder = encoder_of("elmo-tiny")
    items = LabelledTexts(encoder, FIRST, SECOND, np.array([0, 1, 1]))
    t = items.batch(np.array([2, 0]), "cpu")
    assert shown(encoder, t["item"][1][t["mask"][1]]) == "[CLS] what a film [SEP]"
    assert shown(encoder, t["second"][1][t["second_mask"][1]]) == "[CLS] a film [SEP]"
    assert t["label"].tolist() == [1, 0]
    assert items.lengths.tolist() == [
        max(len(a), len(b)) for a, b in zip(items.rows, items.parts["second"], strict=True)
    ]


def test_bert_reads_pairs_with_their_kinds():
    encoder = encoder_of("bert-tiny")
    t = LabelledTexts(encoder, FIRST, SECOND).batch(np.array([0]), "cpu")
    assert shown(encoder, t["item"][0]) == "[CLS] what a film [SEP] a film [SEP]"
    assert t["kind"][0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert "kind" not in LabelledTexts(encoder, FIRST).batch(np.array([0]), "cpu")


@pytest.mark.parametrize("preset", list(ENCODERS))
@pytest.mark.parametrize("pairs", [False, True], ids=["single", "pairs"])
def test_every_kind_learns_a_few_texts_by_heart(preset, pairs):
    encoder = encoder_of(preset)
    labels = np.array([0, 1, 1] * 4)
    items = LabelledTexts(encoder, FIRST * 4, SECOND * 4 if pairs else (), labels, both_orders=True)
    objective = text_objective(encoder, 2, pairs=pairs, scratch=True)
    recipe = text_recipe(encoder).change(base_learning_rate=0.06)
    torch.manual_seed(0)
    loop = loop_of(objective, items, recipe, steps=25)
    loop.run(None)
    out = label_outputs(objective, items)
    assert out.argmax(dim=1).tolist() == labels.tolist()
    alone = torch.cat([label_outputs(objective, LabelledTexts(encoder, [a], [b] if pairs else (), both_orders=True))
                       for a, b in zip(FIRST, SECOND, strict=True)])  # fmt: skip
    torch.testing.assert_close(out[:3], alone, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(class_probabilities(objective, items), out.softmax(dim=1).numpy(), atol=1e-5)


def test_so_many_words_of_a_text_are_asked_for_whatever_the_padding():
    item = torch.arange(60).view(2, 30)
    mask = torch.arange(30) < torch.tensor([[30], [6]])
    t = {"item": item, "mask": mask, "label": torch.zeros(2, dtype=torch.long)}
    torch.manual_seed(0)
    pair = AskTextLabel(8)(t)
    assert pair.x["asked"].sum(dim=1).tolist() == [8, 5]
    assert torch.equal(pair.y["words"][pair.x["asked"]], item[:, 1:][pair.x["asked"]])
    torch.manual_seed(0)
    wider = AskTextLabel(8)({"item": F.pad(item, (0, 9)), "mask": F.pad(mask, (0, 9)), "label": t["label"]})
    assert torch.equal(wider.x["asked"][:, :29], pair.x["asked"])
