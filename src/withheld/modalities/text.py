"""Texts: tokenized once, packed into blocks without padding or, where the method asks, parted into sentences.

A method's file says ITEMS = "sentences" where its items are sentences. A `TextEncoder` is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from withheld import distributed
from withheld.data.broken import Line
from withheld.data.duplicates import copies_each
from withheld.data.sample import spaced
from withheld.data.sentences import alone, how_parted, notes_on, parted_by
from withheld.data.source import digest
from withheld.data.text import open_texts
from withheld.data.text_corpus import open_corpus
from withheld.data.tokenizer import KINDS, continues, open_tokenizer
from withheld.data.tokens import Blocks, Tokens, prepare_tokens, without_end
from withheld.errors import InputError, nearest
from withheld.modalities.modality import Modality
from withheld.modalities.text_streams import check_stream, open_stream
from withheld.modalities.text_tokenizer import VOCABULARY, lent_tokenizer, trained_tokenizer
from withheld.networks.adapters import adapt, merged, own_numbers
from withheld.networks.sentence_vae import SentenceAutoencoder
from withheld.networks.text import TextTrunk
from withheld.networks.text_open import TEXT_PRESETS, learned_from_labels, open_text_trunk, own_tokenizer
from withheld.networks.word_vectors import WordVectors
from withheld.provenance import location_of
from withheld.run import constant, default_encoder
from withheld.text_encoder import TextEncoder
from withheld.types import Recipe
from withheld.wording import plural

SAMPLE = 64
COMPARED = 20_000
"""Texts among which repeated ones are looked for."""
HELD_OUT = 0.01


class Texts(Modality):
    """Folders, files, tables and lists of texts."""

    name = "text"
    streams = True
    adapts = True
    held_out = True
    trunk: TextTrunk
    source: Any
    items: Any
    trial: Any
    learned: Tokens

    def open(self, method: str | None) -> Any:
        """Tokenizes every document once; returns the trunk."""
        assert method is not None  # noqa: S101 - objectives of one's own bring images so far
        self.method, self.settings = method, self.asked.settings
        self.by_sentence = constant(method, "ITEMS", "blocks") == "sentences"
        if self.stream:
            check_stream(method, self.settings)
        self.source = open_corpus(self.data) if self.stream else open_texts(self.data)
        if len(self.source) == 0:
            raise InputError(f"{self.data}: no texts")
        name = self.asked.encoder
        if name == "auto":
            name = default_encoder(method, self.device.type)
        self.encoder_name = str(name) if isinstance(name, (str, Path)) else type(name).__name__
        if distributed.rank() != 0:
            distributed.barrier()
        self.length = self._length(name)
        self.tokenizer = self._tokenizer(name)
        tell = lambda done, total: self.tell("prepare", done=done, total=total)  # noqa: E731
        self.how = how = how_parted(self.settings, self.source, constant(method, "SENTENCES", "auto"))
        if not self.by_sentence and "sentences" in self.settings:
            raise InputError(f"sentences={how}: {method} learns from blocks of text, not from sentences; leave it out")
        parted = parted_by(how) if self.by_sentence else None
        if not self.stream:
            self.tokens = prepare_tokens(self.source, self.tokenizer, tell, parted=parted)
            self.fingerprint = digest([self.tokens.fingerprint, self.length, str(self.settings.get("held_out"))])
            self.skipped = self.tokens.skipped
            self.tell_skipped(plural(len(self.source) + len(self.source.left_out), "text"))
        if distributed.rank() == 0:
            distributed.barrier()
        asked = not self.by_sentence or "sentences" in self.settings
        for note in notes_on(self.source, None if self.stream else self.tokens, "" if asked else how):
            self.tell("note", text=note)
        self.trunk, self.pretrained = open_text_trunk(
            name, vocabulary=len(self.tokenizer), length=self.length, seed=self.asked.seed
        )
        if self.trunk.vocabulary < len(self.tokenizer):
            raise InputError(
                f"--encoder {self.encoder_name} knows {self.trunk.vocabulary:,} tokens, the tokenizer has "
                f"{len(self.tokenizer):,}: leave out --set tokenizer"
            )
        if self.trunk.wordless and constant(method, "TELLS_WORDS", True) and not constant(method, "FROM_Z", False):
            home = "sentence_vae" if self.trunk.recognition else "same_text"
            raise InputError(
                f"--encoder {self.encoder_name} tells no words, which {method} asks it for: leave --encoder out, or use {home}"
            )
        if not self.pretrained:
            for role in ("bos_token_id", "eos_token_id"):
                setattr(self.trunk.config, role, getattr(self.tokenizer, role))
        self.length = min(self.length, self.trunk.length)
        self.trunk.know(self.tokenizer)
        if self.stream:
            overlap = int(self.trunk.causal)
            self.items = open_stream(
                self.source, self.tokenizer, self.length + overlap, overlap, self._goes_on(), self.tell
            )
            self.fingerprint = self.items.fingerprint
            self.skipped = [*self.source.left_out, *self.met()]
            self.tell_skipped("the texts looked at")
        if constant(method, "CONTINUES", False):
            self._advise(name)
        return self.trunk

    def met(self) -> list[Line]:
        """Broken texts of a stream are known when their window is asked for."""
        return [{"file": name, "reason": why} for name, why in self.items.skipped.items()] if self.stream else []

    def _advise(self, encoder: Any) -> None:
        """Says so where a method that continues from a language model is given another start."""
        if not self.pretrained:
            text = (
                f"{self.method} continues from a language model, and this one is untrained: first withheld pretrain bert "
                f"--data {self.data} --out RUN, then {self.method} with --encoder RUN/encoder"
            )
            self.tell("note", text=text)
        elif learned_from_labels(encoder):
            text = (
                f"{encoder} was trained with labels, and {self.method} after that unlearns what they taught: continue from "
                "the language model, and fine-tune last"
            )
            self.tell("note", text=text)

    def feed(self, recipe: Recipe) -> None:
        """Blocks to learn from, and a few that are never learned from."""
        if self.by_sentence:
            self._sentences()
        else:
            self._packed(recipe)
        self.sample = self.trial.batch(spaced(len(self.trial), SAMPLE), self.device)

    def _packed(self, recipe: Recipe) -> None:
        self.learned = self.items.plan.sample if self.stream else self.tokens.part("train") or self.tokens
        if not self.pretrained:
            self.trunk.begin_at(self._counts())
        if self.stream:
            self.trial = self.blocks(self.items.plan.trial)
        else:
            self._blocks(self.learned, self.tokens.part("val") if self.learned is not self.tokens else None, recipe)

    def _sentences(self) -> None:
        """One sentence an item; those to check with are of the part "val", or every so manyth one."""
        kind = self.tokens.parts if self.tokens.parts is not None else np.full(len(self.tokens), "")
        learn = kind == "train"
        check = (kind == "val") & learn.any()
        if not learn.any():
            learn = np.ones(len(kind), bool)
        if not check.any():
            every = max(2, min(round(1 / self._held_out()), int(learn.sum()) // 2))
            check = learn & (learn.cumsum() % every == 0)
            learn = learn & ~check
        if not learn.any() or not check.any():
            raise InputError(
                f"{self.data}: {len(self.tokens):,} sentence(s), too few to learn from and to check with; give more text"
            )
        self.learned, checked = self.tokens.subset(learn), self.tokens.subset(check)
        self.items, self.trial = (alone(part, self.length, self.tokenizer) for part in (self.learned, checked))
        if self.items.cut:
            self.tell(
                "note",
                text=f"{self.items.cut:,} of {len(self.items):,} sentences are longer than {self.length} tokens and are cut "
                "there; --size takes longer ones",
            )

    def copies(self) -> float | None:
        """Texts (or sentences) that are there word for word several times, of a sample."""
        if self.stream:
            return None  # a sample of a few windows says nothing about copies in others
        count = len(self.learned)
        ends = np.asarray(self.learned.starts)
        if count < 100:
            return None
        ids = np.asarray(self.learned.ids)
        number: dict[bytes, int] = {}
        # at random: of texts that come twice, even steps would meet both each time, or never
        at = np.sort(np.random.default_rng(0).permutation(count)[:COMPARED]).tolist()
        some = (ids[ends[i] : ends[i + 1]].tobytes() for i in at)
        return copies_each(np.array([number.setdefault(text, len(number)) for text in some]), count)

    def adapt(self, first: Any, rank: int) -> None:
        """Of a trained transformer."""
        if first.wordless or first.recurrent or first.bidirectional:
            raise InputError(
                f"lora={rank}: adapters stand beside the linear maps of a transformer, and {first.config.model_type} is none: "
                "leave lora out, then all of it learns"
            )
        super().adapt(first, rank)

    def facts(self) -> dict[str, Any]:
        """Counts, tokens, what a model knows that only counts tokens."""
        texts, tokens = len(np.unique(self.learned.kept)), int(self.learned.starts[-1])
        if self.stream:
            texts, tokens = self.items.plan.texts, self.items.plan.tokens
        return {
            "location": location_of(self.data), "kind": self.source.kind, "items": len(self.items),
            "streamed": self.stream, "documents": texts, "unit": "block",
            "skipped": len(self.skipped), "tokens": tokens,
            "length": self.length, "vocabulary": len(self.tokenizer), "tokenizer": self.tokenizer_name,
            **({"unigram_nats": round(self.unigram, 4)} if constant(self.method, "TELLS_WORDS", True) else {}),
            "held_out": len(self.trial), "fingerprint": self.fingerprint,
            **({"unit": "sentence", "sentences": self.how} if self.by_sentence else {}),
        }  # fmt: skip

    def model_facts(self, model: Any) -> dict[str, Any]:
        """The trunk."""
        trunk = model.trunk
        return {
            "encoder": {
                "name": self.encoder_name, "pretrained": self.pretrained, "width": trunk.width, "depth": trunk.depth,
                "parameters": own_numbers(trunk),
            }
        }  # fmt: skip

    def keep(self, model: Any, title: str, out: Path) -> None:
        """The encoder with its tokenizer."""
        self._encoder(model, title).save(out / "encoder")

    def draw(self, model: Any, title: str, out: Path) -> None:
        """Words as the model sees them, where blocks were learned from; sentences told from z."""
        if isinstance(model.network, SentenceAutoencoder):
            from withheld.evaluate.latent_text import draw_sentences

            draw_sentences(model.network, self._encoder(model, title), self.trial, out)
        if isinstance(self.trunk.base, WordVectors):
            from withheld.evaluate.near_words import draw_near_words

            draw_near_words(self._encoder(model, title), self._counts(), out)
        if self.by_sentence or not constant(self.method, "TELLS_WORDS", True):
            return
        from withheld.evaluate.words import draw_words

        draw_words(model, self._encoder(model, title), self.trial, out)

    @staticmethod
    def first(settings: dict[str, Any], folder: Path) -> tuple[Any, Any]:
        """The trained trunk."""
        encoder = TextEncoder.opened(folder / "encoder")
        if settings["recipe"].get("lora"):
            adapt(encoder.trunk, settings["recipe"]["lora"])
        return encoder.trunk, None

    @property
    def unigram(self) -> float:
        """Nats a token of a model that knows only how often each occurs, of the tokens that are asked for."""
        counts = self._counts()
        share = counts[counts > 0] / counts.sum()
        return float(-(share * np.log(share)).sum())

    def _counts(self) -> NDArray[np.float64]:
        """(V,) how often each token is there to be asked for."""
        found = np.bincount(np.asarray(self.learned.ids).astype(np.int64), minlength=self.trunk.vocabulary)
        if not self.trunk.causal:
            found[list(self.trunk.special.all)] = 0  # never hidden
        return found.astype(np.float64)

    def _encoder(self, model: Any, title: str) -> TextEncoder:
        return TextEncoder(merged(model.trunk), self.tokenizer, f"{title} {self.encoder_name}").to(self.device)  # type: ignore[no-any-return]

    def _length(self, encoder: Any) -> int:
        if self.asked.size != "auto":
            return self.size_asked(4, "the tokens of a block")
        preset = TEXT_PRESETS.get(str(encoder))
        return preset.length if preset else int(constant(str(self.method), "LENGTH", 128))

    def _tokenizer(self, encoder: Any) -> Any:
        """The encoder's own, that of another encoder whose tokens are read, or one that is trained on these texts."""
        where = own_tokenizer(encoder)
        lender = constant(self.method, "TOKENIZER_OF", "")
        if lender:
            self.tokenizer_name, found = lent_tokenizer(lender, self.settings, where)
            return found
        kind = self.settings.get("tokenizer")
        if where is not None and kind is None:
            self.tokenizer_name = f"of {where}"
            return open_tokenizer(where)
        if kind is not None and Path(str(kind)).is_dir():
            self.tokenizer_name = f"of {kind}"
            return open_tokenizer(str(kind))
        kind = str(kind or constant(self.method, "TOKENIZER", "bpe"))
        if kind not in KINDS:
            raise InputError(
                f"--set tokenizer={kind}: {nearest(kind, KINDS)}; give {', '.join(KINDS)}, or a folder with a tokenizer"
            )
        self.tokenizer_name = kind
        usual = constant(self.method, "VOCABULARY", VOCABULARY.get(kind, (8192, 8192))[self.device.type == "cuda"])
        asked = self.settings.get("vocabulary")
        count = usual if asked is None else int(asked)
        masked = constant(self.method, "TOKENIZER", "bpe") == "wordpiece"
        made = trained_tokenizer(self.source, self.stream, kind, count, masked, self.length, self.tell)
        if asked is not None and len(made) < count and kind != "character":
            raise InputError(
                f"vocabulary={count}: the text supports {len(made):,} tokens of kind {kind}; ask for fewer, or give more text"
            )
        return made

    def _blocks(self, learn: Tokens, check: Tokens | None, recipe: Recipe) -> None:
        streams = int(self.asked.batch_size or recipe.batch_size) if recipe.order == "streams" else 0
        if check is None:
            learn, check = without_end(learn, self._held_out(), self.length + 1)
            self.learned = learn
        self.items = self.blocks(learn, streams)
        self.trial = self.blocks(check)

    def blocks(self, tokens: Tokens, streams: int = 0) -> Blocks:
        """Tokens as the network takes them."""
        overlap = int(self.trunk.causal)
        return Blocks(tokens, self.length + overlap, overlap, self._goes_on(), streams)

    def _goes_on(self) -> NDArray[np.bool_] | None:
        """(V,) whether a token goes on with the word before it; None where the tokenizer does not say so."""
        found = np.array(continues(self.tokenizer), bool)
        return found if found.any() else None

    def _held_out(self) -> float:
        share = float(self.settings.get("held_out", HELD_OUT))
        if not 0 < share < 1:
            raise InputError(f"held_out={share}: the share of the text that is never learned from, between 0 and 1")
        return share
