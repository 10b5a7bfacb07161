"""Opening a language model by name: a preset, a transformers id, a local folder or config, a model or config in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, BertConfig, GPT2Config, OpenAIGPTConfig, PretrainedConfig, PreTrainedModel

from withheld.errors import InputError, nearest
from withheld.hub import hub_settings, why
from withheld.networks.beginning import settings_of
from withheld.networks.elmo import PUBLISHED_FILTERS, ElmoConfig
from withheld.networks.lstm import LstmConfig
from withheld.networks.open import encoder_folder, has_weights, read_config, with_weights
from withheld.networks.sentence import SentenceConfig
from withheld.networks.text import TextTrunk, fresh_text_trunk, language_class, language_settings
from withheld.networks.text import is_language as is_language
from withheld.networks.word_vectors import WordVectorsConfig


@dataclass(frozen=True)
class TextPreset:
    """A named architecture: `config(vocabulary, length)` is its transformers config, `length` the context it is meant for."""

    about: str
    config: Callable[[int, int], PretrainedConfig]
    length: int = 128


def bert(width: int, layers: int, about: str, dropout: float = 0.0) -> TextPreset:
    """The shape of a BERT; heads of 64, as published."""

    def config(vocabulary: int, length: int) -> PretrainedConfig:
        return BertConfig(
            vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=max(1, width // 64),
            intermediate_size=4 * width, max_position_embeddings=max(length, 512 if width >= 768 else length),
            hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
            **(settings_of(width) if width < 768 else {}),
        )  # fmt: skip

    return TextPreset(about, config, 512 if width >= 768 else 128)


def gpt2(width: int, layers: int, heads: int, length: int, about: str, dropout: float = 0.0) -> TextPreset:
    """The shape of a GPT-2; the small ones with what a CPU is fast at: the exact GELU, and no dropout of attention."""
    gelu = "gelu" if width < 768 else "gelu_pytorch_tanh"  # one kernel of what was published
    attention = dropout if width >= 384 else 0.0

    def config(vocabulary: int, length: int) -> PretrainedConfig:
        return GPT2Config(
            vocab_size=vocabulary, n_positions=length, n_embd=width, n_layer=layers, n_head=heads, resid_pdrop=dropout,
            embd_pdrop=dropout, attn_pdrop=attention, activation_function=gelu, bos_token_id=None, eos_token_id=None,
        )  # fmt: skip

    return TextPreset(about, config, length)


def gpt(width: int, layers: int, heads: int, length: int, about: str, dropout: float = 0.0) -> TextPreset:
    """The shape of the first GPT."""

    def config(vocabulary: int, length: int) -> PretrainedConfig:
        return OpenAIGPTConfig(
            vocab_size=vocabulary, n_positions=length, n_embd=width, n_layer=layers, n_head=heads, resid_pdrop=dropout,
            embd_pdrop=dropout, attn_pdrop=dropout,
            bos_token_id=None, eos_token_id=None,
        )  # fmt: skip

    return TextPreset(about, config, length)


def lstm(width: int, dropout: float, bound: float, length: int, about: str) -> TextPreset:
    """The shape of Zaremba's LSTMs."""
    return TextPreset(
        about,
        lambda vocabulary, _: LstmConfig(vocabulary, width, 2, dropout, bound),
        length,
    )


def sentence(latents: int, width: int, about: str) -> TextPreset:
    """The shape of a recognition network of sentences."""
    return TextPreset(about, lambda vocabulary, _: SentenceConfig(vocabulary, latents, width, width), 100)


def elmo(
    width: int, cell: int, filters: tuple[tuple[int, int], ...], about: str, *, dropout: float, highways: int, longest: int,
    length: int,
) -> TextPreset:  # fmt: skip
    """The shape of an ELMo; no filters: token inputs."""

    def config(vocabulary: int, _: int) -> PretrainedConfig:
        return ElmoConfig(vocabulary, width, cell, 2, filters, highways=highways, longest=longest, dropout=dropout)

    return TextPreset(about, config, length)


def word_vectors(width: int, length: int, about: str) -> TextPreset:
    """A table of token vectors."""
    return TextPreset(about, lambda vocabulary, _: WordVectorsConfig(vocabulary, width), length)


SMALL_FILTERS = ((1, 16), (2, 32), (3, 64), (4, 64), (5, 64))
TEXT_PRESETS = {
    "bert-tiny": bert(128, 2, "2 layers of 128 (Turc et al. 2019), for minutes on a CPU"),
    "bert-mini": bert(256, 4, "4 layers of 256 (Turc et al. 2019), for an hour on a CPU"),
    "bert-small": bert(512, 4, "4 layers of 512 (Turc et al. 2019)"),
    "bert-medium": bert(512, 8, "8 layers of 512 (Turc et al. 2019), for a GPU"),
    "bert-base": bert(768, 12, "110 M parameters (Devlin et al. 2018), for a GPU", 0.1),
    "bert-large": bert(1024, 24, "340 M parameters (Devlin et al. 2018), for a large GPU", 0.1),
    "gpt-tiny": gpt(128, 2, 2, 128, "2 layers of 128 in the first GPT's form, for minutes on a CPU"),
    "gpt": gpt(768, 12, 12, 512, "117 M parameters (Radford et al. 2018), for a GPU", 0.1),
    "gpt2-nano": gpt2(128, 4, 4, 64, "4 layers of 128, context 64: nanoGPT's setting for a CPU"),
    "gpt2-word": gpt2(240, 3, 4, 128, "3 layers of 240: with 10,000 words as large as lstm-small", 0.1),
    "gpt2-micro": gpt2(192, 2, 3, 128, "2 layers of 192, for minutes on a CPU"),
    "gpt2-mini": gpt2(384, 6, 6, 256, "6 layers of 384, context 256: nanoGPT's setting for a GPU", 0.2),
    "gpt2-small": gpt2(768, 12, 12, 1024, "124 M parameters (Radford et al. 2019), for a GPU", 0.1),
    "lstm-small": lstm(200, 0.0, 0.1, 20, "2 layers of 200 (Zaremba et al. 2014)"),
    "lstm-medium": lstm(650, 0.5, 0.05, 35, "2 layers of 650 (Zaremba et al. 2014)"),
    "lstm-vae": sentence(32, 256, "an LSTM of 256 and 32 latents (Bowman et al. 2015), for sentence_vae"),
    "lstm-large": lstm(1500, 0.65, 0.04, 35, "2 layers of 1,500 (Zaremba et al. 2014), for a GPU"),
    "elmo-tiny": elmo(
        256,
        128,
        SMALL_FILTERS,
        "2 layers of 128 in each direction over characters, for minutes on a CPU",
        dropout=0.0,
        highways=1,
        longest=20,
        length=64,
    ),
    "elmo-tiny-tokens": elmo(
        256, 128, (), "the same with a table of tokens", dropout=0.0, highways=0, longest=20, length=64
    ),
    "word-vectors": word_vectors(
        256, 512, "a vector of 256 for every token, whose mean is the text, for seconds on a CPU"
    ),
    "elmo": elmo(
        1024,
        4096,
        PUBLISHED_FILTERS,
        "93.6 M parameters and the softmax (Peters et al. 2018), for a GPU",
        dropout=0.1,
        highways=2,
        longest=50,
        length=128,
    ),
}


def open_text_trunk(
    encoder: str | Path | PretrainedConfig | PreTrainedModel,
    *,
    vocabulary: int | None,
    length: int | None,
    seed: int = 0,
) -> tuple[TextTrunk, bool]:
    """A trunk, and whether it comes with trained weights.

    Args:
        encoder: see the module.
        vocabulary: of the tokenizer, for presets and untrained configs.
        length: tokens of context, for presets.

    Raises:
        InputError: for an unknown name, or a folder that holds no language model.
    """
    if isinstance(encoder, PreTrainedModel):
        return TextTrunk(encoder), True
    if isinstance(encoder, PretrainedConfig):
        return fresh_text_trunk(_sized(encoder, vocabulary), seed), False
    name = str(encoder)
    if name in TEXT_PRESETS:
        preset = TEXT_PRESETS[name]
        return fresh_text_trunk(preset.config(vocabulary or 30_522, length or preset.length), seed), False
    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        return fresh_text_trunk(_sized(read_config(path), vocabulary), seed), False
    if path.is_dir():
        folder = encoder_folder(path)
        if folder is None:
            raise InputError(f"{path}: no encoder in this folder (looked for config.json and encoder/config.json)")
        config = read_config(folder / "config.json")
        if not has_weights(folder):
            return fresh_text_trunk(_sized(config, vocabulary), seed), False
        return TextTrunk(_with_weights(str(folder), config)), True
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **hub_settings(name))
        return TextTrunk(_with_weights(name, config)), True
    except (OSError, ValueError) as error:
        raise InputError(
            f"encoder {name!r} is no preset ({nearest(name, TEXT_PRESETS)}), no folder here, and transformers could not "
            f"open it: {why(error)}"
        ) from None


def own_tokenizer(encoder: Any) -> str | None:
    """Where the tokenizer of an encoder lies: its folder or id; None where it brings none (presets, bare configs)."""
    if not isinstance(encoder, (str, Path)) or str(encoder) in TEXT_PRESETS or str(encoder).endswith(".json"):
        return None
    folder = encoder_folder(encoder)
    if folder is not None:
        return str(folder) if any(folder.glob("tokenizer*")) or any(folder.glob("vocab*")) else None
    return str(encoder)


def learned_from_labels(encoder: Any) -> bool:
    """Whether an encoder is known to have been trained with labels: a model folder of `finetune`, or a transformers classifier."""
    folder = encoder_folder(encoder) if isinstance(encoder, (str, Path)) else None
    if folder is None:
        return False
    if any((place / "model.json").is_file() for place in (folder, folder.parent)):
        return True
    kinds = getattr(read_config(folder / "config.json"), "architectures", None) or []
    return any(kind.endswith(("Classification", "QuestionAnswering", "MultipleChoice")) for kind in kinds)


def _with_weights(where: str, config: PretrainedConfig) -> PreTrainedModel:
    return with_weights(language_class(config), where, config, language_settings(config))


def _sized(config: PretrainedConfig, vocabulary: int | None) -> PretrainedConfig:
    if vocabulary is not None:
        config.vocab_size = vocabulary
    return config
