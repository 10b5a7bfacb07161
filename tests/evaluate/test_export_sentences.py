"""A folder that sentence-transformers opens gives the vectors that the encoder gives."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

from withheld.data.tokenizer import train_tokenizer
from withheld.errors import InputError
from withheld.evaluate.export import export
from withheld.networks.text_open import open_text_trunk
from withheld.text_encoder import TextEncoder

TEXTS = ["the sea was calm and old", "a house", "a bird sang over the green sea, and went"] * 20


def encoder_of(preset: str) -> TextEncoder:
    tokenizer = train_tokenizer("wordpiece" if preset != "gpt-tiny" else "bpe", TEXTS, 300, preset != "gpt-tiny", 32)
    trunk, _ = open_text_trunk(preset, vocabulary=len(tokenizer), length=32)
    return TextEncoder(trunk, tokenizer, preset)


def modules(folder) -> list[str]:
    listed = json.loads((folder / "modules.json").read_text())
    assert all((folder / module["path"]).is_dir() for module in listed)
    return [module["type"].rsplit(".", 1)[1] for module in listed]


def test_word_vectors(tmp_path):
    encoder = encoder_of("word-vectors")
    folder = export(encoder, tmp_path / "out", "sentence-transformers")
    assert modules(folder) == ["StaticEmbedding", "Normalize"]
    table = load_file(folder / "0_StaticEmbedding" / "model.safetensors")["embedding.weight"]
    tokenizer = Tokenizer.from_file(str(folder / "0_StaticEmbedding" / "tokenizer.json"))
    for text, told in zip(TEXTS[:3], encoder.transform(TEXTS[:3]), strict=True):
        naive = table[tokenizer.encode(text, add_special_tokens=False).ids].mean(axis=0)
        np.testing.assert_allclose(told, naive / np.linalg.norm(naive), rtol=1e-4, atol=1e-6)


def test_a_bert_with_mean_pooling(tmp_path):
    encoder = encoder_of("bert-tiny")
    folder = export(encoder, tmp_path / "out", "sentence-transformers")
    assert modules(folder) == ["Transformer", "Pooling"]
    assert json.loads((folder / "1_Pooling" / "config.json").read_text())["pooling_mode_mean_tokens"] is True
    assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == 32
    batch = AutoTokenizer.from_pretrained(folder)(TEXTS[:3], padding=True, return_tensors="pt")
    with torch.no_grad():
        tokens = AutoModel.from_pretrained(folder).eval()(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(2)
    np.testing.assert_allclose(((tokens * mask).sum(1) / mask.sum(1)).numpy(), encoder.transform(TEXTS[:3]), atol=1e-5)


@pytest.mark.parametrize("preset", ["word-vectors", "bert-tiny"])
def test_the_library_itself_opens_it(preset, tmp_path):
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    encoder = encoder_of(preset)
    folder = export(encoder, tmp_path / "out", "sentence-transformers")
    again = library.SentenceTransformer(str(folder), device="cpu", trust_remote_code=False)
    np.testing.assert_allclose(again.encode(TEXTS[:3]), encoder.transform(TEXTS[:3]), atol=1e-5)


def test_what_it_frames_otherwise_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"openai-gpt.*use --to hf"):
        export(encoder_of("gpt-tiny"), tmp_path / "out", "sentence-transformers")
    from withheld.image_encoder import ImageEncoder
    from withheld.networks.open import open_trunk

    image = ImageEncoder(open_trunk("conv-nano", size=16, channels=3)[0], [0.5] * 3, [0.25] * 3)
    with pytest.raises(InputError, match=r"for encoders of texts.*one of images"):
        export(image, tmp_path / "out", "sentence-transformers")
