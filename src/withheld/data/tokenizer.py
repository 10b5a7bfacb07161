"""Tokenizers: trained on the user's own text by the `tokenizers` library, or opened from a transformers folder or id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from withheld.data.scripts import is_ideograph, marks_are_letters
from withheld.errors import InputError, nearest
from withheld.hub import hub_settings, why

KINDS = ("wordpiece", "bpe", "word", "character")
MASKED = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
CAUSAL = {"pad": "<pad>", "unk": "<unk>", "eos": "<eos>", "sep": "<sep>", "mask": "<mask>"}
PIECE = 50_000
"""Characters that are tokenized at a time: one line of 50 MB is nothing a tokenizer should see whole."""
SMALLEST = 300
ALPHABET = 1000
"""Characters that word pieces begin from; ideographs, which are words, are counted by themselves."""


def pieces(document: str) -> Iterator[str]:
    """A document in parts of about `PIECE` characters, cut before white space where there is any."""
    start = 0
    while len(document) - start > PIECE:
        stop = start + PIECE
        cut = max(document.rfind(" ", start + PIECE // 2, stop), document.rfind("\n", start + PIECE // 2, stop))
        stop = cut if cut > start else stop
        yield document[start:stop]
        start = stop
    yield document[start:]


def train_tokenizer(kind: str, texts: Iterable[str], vocabulary: int, masked: bool, length: int) -> Any:
    """A transformers fast tokenizer, trained on texts.

    Args:
        kind: "wordpiece" (Schuster and Nakajima 2012; lower case), byte-level "bpe" (Radford et al. 2019), "word" (split
            at white space; a line ends in <eos>, as in the Penn Treebank sets), "character".
        texts: the documents.
        vocabulary: tokens at most, the special ones among them.
        masked: whether its special tokens are BERT's, or those of a causal model.
        length: of the longest sequence, in tokens.

    Raises:
        InputError: for an unknown kind, or a vocabulary that is too small.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    if kind not in KINDS:
        raise InputError(f"tokenizer={kind}: {nearest(kind, KINDS)}; there are {', '.join(KINDS)}")
    if vocabulary < SMALLEST and kind in ("wordpiece", "bpe"):
        raise InputError(f"vocabulary={vocabulary}: {kind} needs {SMALLEST} or more; take tokenizer=character")
    special = MASKED if masked else CAUSAL
    if kind == "word":
        tokenizer = _words(texts, vocabulary, special)
    elif kind == "wordpiece":
        tokenizer = _word_pieces(list(texts), vocabulary, special)
    else:
        model, trainer = _parts(kind, vocabulary, special)
        tokenizer = Tokenizer(model)
        _dress(tokenizer, kind)
        tokenizer.train_from_iterator((piece for text in texts for piece in pieces(text)), trainer)
    if masked:
        _frame(tokenizer, special)
    named = {f"{name}_token": token for name, token in special.items()}
    if not masked:
        named["bos_token"] = special["eos"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=length, clean_up_tokenization_spaces=False, **named
    )


def _word_pieces(texts: list[str], vocabulary: int, special: dict[str, str]) -> Any:
    """WordPiece; the same texts give the same tokens in every process.

    The trainer numbers continuing characters (##a) in the order of a hash table that is another in every process, and
    breaks ties between merges by these numbers. Named before it starts, they are numbered by us.
    """
    from tokenizers import Tokenizer, models, trainers

    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    tokenizer = Tokenizer(models.WordPiece(unk_token=special["unk"], max_input_chars_per_word=100))
    marks = marks_are_letters(counts)
    _dress(tokenizer, "wordpiece", marks)
    usual = sorted(counts, key=lambda c: (-counts[c], c))
    whole = [c for c in usual if is_ideograph(c)][: vocabulary // 2]  # words already: nothing continues with them
    usual = [c for c in usual if not is_ideograph(c)][:ALPHABET]
    alphabet = sorted({c for raw in usual for c in tokenizer.normalizer.normalize_str(raw) if not c.isspace()})
    named = [*special.values(), *(f"##{c}" for c in alphabet), *sorted(whole)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=named, limit_alphabet=ALPHABET + len(whole), show_progress=False
    )
    tokenizer.train_from_iterator((piece for text in texts for piece in pieces(text)), trainer)
    table = tokenizer.get_vocab()
    plain = Tokenizer(models.WordPiece(table, unk_token=special["unk"], max_input_chars_per_word=100))
    _dress(plain, "wordpiece", marks)
    plain.add_special_tokens(list(special.values()))
    return plain


def _parts(kind: str, vocabulary: int, special: dict[str, str]) -> tuple[Any, Any]:
    from tokenizers import models, pre_tokenizers, trainers

    tokens = list(special.values())
    if kind == "bpe":
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=tokens, initial_alphabet=alphabet, show_progress=False
        )
        return models.BPE(), trainer
    trainer = trainers.WordLevelTrainer(vocab_size=vocabulary, special_tokens=tokens, show_progress=False)
    return models.WordLevel(unk_token=special["unk"]), trainer


def _words(texts: Iterable[str], vocabulary: int, special: dict[str, str]) -> Any:
    """Whole words; the special ones may stand in the text, as <unk> does in the Penn Treebank set."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.split())
    for token in special.values():
        counts.pop(token, None)
    ordered = sorted(counts, key=lambda word: (-counts[word], word))[: vocabulary - len(special)]
    table = {token: i for i, token in enumerate([*special.values(), *ordered])}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token=special["unk"]))
    end = special.get("eos", special["sep"])
    tokenizer.normalizer = normalizers.Replace("\n", f" {end} ")
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    plain = [token for token in special.values() if token != end]
    tokenizer.add_special_tokens([*plain, AddedToken(end, normalized=True, special=True)])
    return tokenizer


def _dress(tokenizer: Any, kind: str, marks: bool = False) -> None:
    """Normalizer, pre-tokenizer and decoder of a kind; with `marks`, word pieces keep accents."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    if kind == "wordpiece":
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False if marks else None)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
    elif kind == "bpe":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        tokenizer.decoder = decoders.Fuse()


def _frame(tokenizer: Any, special: dict[str, str]) -> None:
    """[CLS] a [SEP] and [CLS] a [SEP] b [SEP], where a text is tokenized by itself."""
    from tokenizers import processors

    ids = [(special[name], tokenizer.token_to_id(special[name])) for name in ("cls", "sep")]
    cls, sep = special["cls"], special["sep"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B:1 {sep}:1", special_tokens=ids
    )


def open_tokenizer(where: str | Path) -> Any:
    """The tokenizer of a folder or transformers id; no code of others is run.

    Raises:
        InputError: where there is none.
    """
    from transformers import AutoTokenizer

    folder = Path(where)
    if folder.is_dir() and not any(folder.glob("*token*")) and not any(folder.glob("vocab*")):
        raise InputError(
            f"{where}: there is no tokenizer in this folder (tokenizer.json, or vocab.txt): copy there the one that the "
            "encoder was trained with"
        )
    try:
        found = AutoTokenizer.from_pretrained(str(where), use_fast=True, trust_remote_code=False, **hub_settings(where))
    except Exception as error:  # the hub, files and parsers each raise their own
        raise InputError(f"{where}: transformers could not open a tokenizer there: {why(error)}") from None
    if getattr(found, "backend_tokenizer", None) is None:
        raise InputError(f"{where}: its tokenizer has no fast form: save it as tokenizer.json with transformers first")
    return found


def continues(tokenizer: Any) -> list[bool]:
    """(V,) whether a token goes on with the word before it."""
    words = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = set(tokenizer.all_special_tokens)
    style = _style(words)
    if style == "##":
        return [str(word).startswith("##") for word in words]
    if style in ("Ġ", "▁"):
        return [word is not None and not str(word).startswith(style) and word not in special for word in words]
    return [False] * len(words)


def _style(words: list[Any]) -> str:
    counts = {mark: sum(1 for word in words if word and str(word).startswith(mark)) for mark in ("##", "Ġ", "▁")}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] > 0.02 * len(words) else ""


def start_of(tokenizer: Any) -> list[int]:
    """What stands before every document: [CLS] for BERT's kin, <eos> for causal models."""
    for name in ("cls_token_id", "bos_token_id", "eos_token_id"):
        if getattr(tokenizer, name, None) is not None:
            return [int(getattr(tokenizer, name))]
    return []


def end_of(tokenizer: Any) -> list[int]:
    """What stands after every document: [SEP] for BERT's kin, nothing for causal models, whose next start says it."""
    if getattr(tokenizer, "cls_token_id", None) is not None and getattr(tokenizer, "sep_token_id", None) is not None:
        return [int(tokenizer.sep_token_id)]
    return []


def encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Token numbers of texts without special tokens, whatever their length."""
    return [found.ids for found in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)]
