"""Handing an encoder of texts to other software: a transformers folder, or one ONNX file with its tokenizer beside it.

Shapes: B batch, L tokens, D features, K classes.
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from withheld.encoder import Encoder
from withheld.errors import InputError, WithheldError
from withheld.evaluate.classifier import Classifier
from withheld.evaluate.onnx_file import OPSET, compare_onnx, quiet
from withheld.learn.checkpoint import replacing, write_json
from withheld.networks.text import BLOCKWISE
from withheld.networks.word_vectors import WordVectors
from withheld.text_encoder import TextEncoder

CHECKED = ((1, 1.0), (3, 0.6), (2, 0.3))
"""Batches an export is checked on: how many texts, and their tokens as a share of the context."""
MOST_CHECKED = 256
FAMILIES = "BERT, RoBERTa, DistilBERT, ELECTRA, GPT-2 and their kin"


def written(encoder: Encoder, classifier: Classifier | None, out: Path, kind: Any) -> Any:
    """Writes a transformers folder, and opens it again with a class of transformers.

    Raises:
        WithheldError: its weights are not those that were written.
    """
    if classifier is not None:
        classifier.save(out)
        for file in (out / "encoder").iterdir():
            shutil.copyfile(file, out / file.name)
    else:
        encoder.save(out)
    with quiet():
        again = kind.from_pretrained(out, trust_remote_code=False, use_safetensors=True).eval()
    kept = dict(again.named_parameters())
    for name, value in encoder.trunk.model.named_parameters():
        if name not in kept or not torch.equal(value, kept[name]):
            raise WithheldError(f"{out}: {name} is not what was written; check the disk and export again")
    return again


def text_to_hf(encoder: TextEncoder, classifier: Classifier | None, out: Path) -> Path:
    """A folder for `AutoTokenizer` and `AutoModelForMaskedLM` or `AutoModelForCausalLM`; `AutoModel` of what tells no words."""
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

    kind = AutoModelForCausalLM if encoder.trunk.causal else AutoModelForMaskedLM
    if encoder.trunk.wordless:
        kind = AutoModel
    written(encoder, classifier, out, kind)
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(out, trust_remote_code=False)
    text = "it is what it was"
    if tokenizer(text)["input_ids"] != encoder.tokenizer(text)["input_ids"]:
        raise WithheldError(f"{out}: its tokenizer answers otherwise than the one that was written")
    return out


def text_to_sentence_transformers(encoder: TextEncoder, classifier: Classifier | None, out: Path) -> Path:
    """A folder that `SentenceTransformer` opens, without withheld: word vectors as its StaticEmbedding, others with mean pooling.

    Raises:
        InputError: for a model that tells labels, or an architecture that sentence-transformers frames otherwise.
    """
    trunk = encoder.trunk
    if classifier is not None:
        raise InputError(
            "sentence-transformers tells vectors and no labels: export the run it was made from, or use --to hf"
        )
    if isinstance(trunk.base, WordVectors):
        static = out / "0_StaticEmbedding"
        for folder in (static, out / "1_Normalize"):
            folder.mkdir(parents=True, exist_ok=True)
        encoder.tokenizer.backend_tokenizer.save(str(static / "tokenizer.json"))
        save_file(
            {"embedding.weight": trunk.base.embeddings.weight.detach().contiguous()}, static / "model.safetensors"
        )
        modules = {"0_StaticEmbedding": "StaticEmbedding", "1_Normalize": "Normalize"}
    elif trunk.causal or trunk.bidirectional or trunk.wordless or not encoder.end:
        raise InputError(
            f"{encoder.name}: a {trunk.config.model_type} is not opened by sentence-transformers: use --to hf"
        )
    else:
        text_to_hf(encoder, None, out)
        write_json(out / "sentence_bert_config.json", {"max_seq_length": encoder.length, "do_lower_case": False})
        (out / "1_Pooling").mkdir(exist_ok=True)
        pooling = {
            "word_embedding_dimension": encoder.width,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_cls_token": False,
        }
        write_json(out / "1_Pooling" / "config.json", pooling)
        modules = {"": "Transformer", "1_Pooling": "Pooling"}
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules.items())
    ]
    (out / "modules.json").write_text(json.dumps(listed, indent=1), encoding="utf-8")
    return out


class _Whole(nn.Module):
    """Tokens and mask in, features out, with nothing that depends on the values of the mask."""

    def __init__(self, encoder: TextEncoder, classifier: Classifier | None) -> None:
        super().__init__()
        self.base, self.causal, self.classifier = encoder.trunk.base, encoder.trunk.causal, classifier
        self.pool = encoder.trunk.pool

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        real = attention_mask.bool()
        L = input_ids.shape[1]
        seen = real[:, None, None, :].expand(-1, 1, L, -1)
        if self.causal:
            place = torch.arange(L, device=input_ids.device)
            seen = (seen & (place[:, None] >= place[None, :])) | (place[:, None] == place[None, :])
        settings = {"use_cache": False} if self.causal else {}
        tokens = self.base(input_ids=input_ids, attention_mask=seen, **settings).last_hidden_state
        pooled = self.pool(tokens, real)
        if self.classifier is None:
            return pooled, tokens
        return pooled, tokens, self.classifier.of_features(pooled)


def text_to_onnx(encoder: TextEncoder, classifier: Classifier | None, out: Path) -> Path:
    """One file, int64 `input_ids` and `attention_mask` (B, L) in, and beside it a folder with the tokenizer.

    Raises:
        InputError: for an architecture that has no such form.
    """
    if encoder.trunk.recurrent or encoder.trunk.config.model_type in BLOCKWISE:
        raise InputError(
            f"{encoder.name}: a {encoder.trunk.config.model_type} is not written to ONNX ({FAMILIES} are): use --to hf"
        )
    network = _Whole(encoder, classifier).eval()
    names = ["pooled", "tokens"] + (["probabilities"] if classifier is not None else [])
    length = min(MOST_CHECKED, encoder.length)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", min=2, max=encoder.length)}
    kept = encoder.trunk.config._attn_implementation
    with replacing(out) as aside:
        try:
            encoder.trunk.model.set_attn_implementation("sdpa")
            with quiet(), torch.no_grad():
                torch.onnx.export(
                    network, _batch(encoder, 3, length - 1), aside, dynamo=True, opset_version=OPSET,
                    input_names=["input_ids", "attention_mask"], output_names=names,
                    dynamic_shapes={"input_ids": sizes, "attention_mask": sizes}, external_data=False, verbose=False,
                )  # fmt: skip
        finally:
            encoder.trunk.model.set_attn_implementation(kept)
        _check(aside, encoder, classifier, out, length)
        _write_tokenizer(encoder, out)
    return out


def tokenizer_folder(out: Path) -> Path:
    """Where the tokenizer of an ONNX file lies."""
    return out.with_name(f"{out.stem}-tokenizer")


def _write_tokenizer(encoder: TextEncoder, out: Path) -> None:
    folder = tokenizer_folder(out)
    _framing(encoder).save_pretrained(folder)
    write_json(
        folder / "withheld.json",
        {
            "start": encoder.start, "end": encoder.end, "pad": encoder.pad, "length": encoder.length,
            "how": "tokenize without special tokens, cut to length, put start before and end after, fill with pad where "
            "attention_mask is 0; longer texts are seen in windows of length tokens, and pooled over all of their tokens",
        },
    )  # fmt: skip


def _framing(encoder: TextEncoder) -> Any:
    """The tokenizer, which puts start and end around a text by itself, as the encoder was fed: causal models had that done."""
    from tokenizers.processors import TemplateProcessing

    text = "it is what it was"
    if encoder.tokenizer(text)["input_ids"] == encoder.rows([text])[0].tolist():
        return encoder.tokenizer
    framing = copy.deepcopy(encoder.tokenizer)
    first, last = (framing.convert_ids_to_tokens(ids) for ids in (encoder.start, encoder.end))
    known = [*zip(first, encoder.start, strict=True), *zip(last, encoder.end, strict=True)]
    framing.backend_tokenizer.post_processor = TemplateProcessing(
        single=" ".join([*first, "$A", *last]), special_tokens=known
    )
    return framing


def _check(path: Path, encoder: TextEncoder, classifier: Classifier | None, out: Path, length: int) -> None:
    for count, share in CHECKED:
        item, mask = _batch(encoder, count, max(2, int(share * length)))
        with torch.no_grad():
            found = encoder({"item": item, "mask": mask.bool()})
            expected = [found.pooled, found.tokens]
            if classifier is not None:
                expected.append(classifier.of_features(found.pooled))
        real = mask.bool()
        given = {"input_ids": item.numpy(), "attention_mask": mask.numpy()}
        compare_onnx(path, given, expected, out, {1: real.numpy()})


def _batch(encoder: TextEncoder, count: int, length: int) -> tuple[Tensor, Tensor]:
    """Tokens, and a mask under which all texts but the first are shorter."""
    random = np.random.default_rng(0)
    item = random.integers(0, encoder.trunk.vocabulary, (count, length))
    sizes = [length, *random.integers(1, length + 1, count - 1)]
    mask = (np.arange(length)[None, :] < np.array(sizes)[:, None]).astype(np.int64)
    return torch.from_numpy(np.where(mask == 1, item, encoder.pad)), torch.from_numpy(mask)
