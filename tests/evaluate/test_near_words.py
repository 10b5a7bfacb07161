"""Words near each other, of vectors whose neighbors are known."""

from __future__ import annotations

import json

import numpy as np
import torch

from withheld.data.tokenizer import train_tokenizer
from withheld.evaluate.near_words import LEAST, NEAR, SHOWN, draw_near_words, near_words
from withheld.networks.text_open import open_text_trunk
from withheld.text_encoder import TextEncoder

KINDS = ("sea", "hill", "town", "bird")
LETTERS = "abcdefghijklmnopqrst"


def test_words_of_a_kind_are_near_each_other(tmp_path):
    words = [f"{kind}{letter}" for kind in KINDS for letter in LETTERS]
    tokenizer = train_tokenizer("word", [" ".join(words)] * 3, 200, True, 32)
    trunk, _ = open_text_trunk("word-vectors", vocabulary=len(tokenizer), length=32)
    encoder = TextEncoder(trunk, tokenizer)
    random = np.random.default_rng(0)
    centers = np.linalg.qr(random.normal(size=(256, 4)))[0].T
    counts = np.zeros(len(tokenizer))
    with torch.no_grad():
        for word in words:
            row = tokenizer.convert_tokens_to_ids(word)
            vector = centers[KINDS.index(word[:-1])] + 0.01 * random.normal(size=256)
            trunk.model.embeddings.weight[row] = torch.from_numpy(vector).float()
            counts[row] = LEAST
    found = near_words(encoder, counts)
    assert len(found) == SHOWN
    assert {word[:-1] for word in list(found)[:4]} == set(KINDS), "each as unlike the others as can be"
    for word, near in found.items():
        assert len(near) == NEAR
        assert {other[:-1] for other in near} == {word[:-1]}
        assert word not in near
    draw_near_words(encoder, counts, tmp_path)
    table = json.loads((tmp_path / "pictures" / "near_words.json").read_text())
    assert [row[0] for row in table["rows"]] == list(found)
    counts[:] = LEAST - 1  # words that stand in few texts are near to anything
    assert near_words(encoder, counts) == {}
