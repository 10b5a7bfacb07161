"""Sentences as items: where they begin and end, how they are padded, in which order they come."""

from __future__ import annotations

import numpy as np
import pytest

from withheld.data.sentences import (
    Sentences,
    end_behind,
    how_parted,
    items_told,
    lines_are_sentences,
    lines_stand_alone,
    parted_by,
    sentences_of,
)
from withheld.data.text import open_texts
from withheld.data.tokenizer import train_tokenizer
from withheld.data.tokens import prepare_tokens
from withheld.errors import InputError
from withheld.learn.schedule import Order

TREEBANK = " mr. <unk> is chairman of the group \n he has n't said nov. N or later \n the dog sat \n" * 4
PROSE = 'It was late. Nobody\ncame, and Mr. Smith of the U.S. left. "Why?" he\nasked! J. Doe went on.\n\nA new day'


class TestWhere:
    def test_lines_are_sentences_in_treebank_files_and_not_in_prose(self):
        assert lines_are_sentences(TREEBANK.replace("nov. N or later", "later"))
        assert not lines_are_sentences(PROSE)
        assert sentences_of(TREEBANK, "lines")[:2] == [
            "mr. <unk> is chairman of the group",
            "he has n't said nov. N or later",
        ]

    def test_prose_is_parted_at_sentence_ends_and_paragraphs(self):
        assert sentences_of(PROSE) == [
            "It was late.", "Nobody came, and Mr. Smith of the U.S. left.", '"Why?" he asked!', "J. Doe went on.", "A new day",
        ]  # fmt: skip
        assert sentences_of("\u6674\u3002\u96e8\u3002") == ["\u6674\u3002", "\u96e8\u3002"]
        assert sentences_of("Great film.<br /><br />I liked it.") == ["Great film.", "I liked it."]

    def test_nothing_is_lost_but_white_space(self):
        assert "".join("".join(sentences_of(PROSE)).split()) == "".join(PROSE.split())
        assert sentences_of(" \n ") == []

    def test_an_unknown_way_is_named(self):
        with pytest.raises(InputError, match="did you mean 'lines'"):
            parted_by("line")


def tokens_of(texts, masked=False, how="auto"):
    tokenizer = train_tokenizer("wordpiece" if masked else "word", texts, 400, masked, 64)
    return prepare_tokens(open_texts(texts), tokenizer, parted=parted_by(how)), tokenizer


class TestItems:
    def test_framed_padded_and_counted(self):
        tokens, tokenizer = tokens_of(["a b c\nd e\n", "f\n\n"], how="lines")
        items = Sentences(tokens, 10, end_behind(tokenizer), tokenizer.pad_token_id)
        assert (len(items), items.lengths.tolist(), items.cut) == (3, [5, 4, 3], 0)
        assert tokens.kept.tolist() == [0, 0, 1]
        t = items.batch(np.array([2, 0]), "cpu")
        eos = tokenizer.eos_token_id
        assert t["mask"].tolist() == [[True] * 3 + [False] * 2, [True] * 5]
        assert t["item"][0].tolist()[:3] == [eos, tokenizer.convert_tokens_to_ids("f"), eos]
        assert t["item"][0].tolist()[3:] == [tokenizer.pad_token_id] * 2
        assert tokenizer.convert_ids_to_tokens(t["item"][1].tolist()) == ["<eos>", "a", "b", "c", "<eos>"]

    @pytest.mark.parametrize("masked", [False, True])
    def test_long_ones_are_cut_before_their_end(self, masked):
        tokens, tokenizer = tokens_of(["one two three four five six\nseven\n"], masked, "lines")
        items = Sentences(tokens, 4, end_behind(tokenizer), tokenizer.pad_token_id)
        shown = tokenizer.convert_ids_to_tokens(items.batch(np.array([0]), "cpu")["item"][0].tolist())
        assert items.cut == 1
        assert (shown[0], shown[-1], len(shown)) == (("[CLS]", "[SEP]", 4) if masked else ("<eos>", "<eos>", 4))

    def test_words_and_documents_are_counted(self):
        tokens, _ = tokens_of(["a b.", "c d. E ff. G"])
        assert len(tokens) == 4
        assert tokens.words.tolist() == [2, 2, 2, 1]


class TestOrder:
    def test_every_item_comes_once_an_epoch_in_batches_of_like_length(self):
        lengths = np.random.default_rng(0).integers(3, 80, 1003)
        order = Order(1003, 16, 1, lengths)
        seen = np.concatenate([order.step(step) for step in range(1003)])
        for epoch in range(16):
            assert sorted(seen[epoch * 1003 : (epoch + 1) * 1003].tolist()) == list(range(1003))
        padded = lambda order: sum(16 * lengths[order.step(s)].max() for s in range(300))  # noqa: E731
        real = sum(lengths[order.step(s)].sum() for s in range(300))
        assert padded(order) < 1.12 * real < padded(Order(1003, 16, 1))
        assert np.array_equal(Order(1003, 16, 1, lengths).step(700), order.step(700))

    def test_the_first_batches_are_not_all_short(self):
        lengths = np.arange(4000)
        means = [lengths[Order(4000, 8, 0, lengths).step(s)].mean() for s in range(40)]
        assert np.abs(np.diff(means)).mean() > 500


def test_a_document_may_be_one_item():
    assert sentences_of("  One. Two.\n\nThree. ", "documents") == ["One. Two.\n\nThree."]
    assert sentences_of(" \n ", "documents") == []


def test_passages_are_parts_of_like_length_and_nothing_is_lost():
    text = " ".join(f"word{i}" for i in range(2000))
    found = sentences_of(text, "passages")
    assert " ".join(found) == text
    lengths = [len(part) for part in found]
    assert max(lengths) < 1.1 * min(lengths)
    assert 1200 < np.mean(lengths) < 1800
    assert sentences_of(" a short one. And more. ", "passages") == ["a short one. And more."]
    assert "".join(sentences_of("\u6587" * 4000, "passages")) == "\u6587" * 4000  # no space to cut at
    assert sentences_of(" \n", "passages") == []


def short_texts(count: int) -> list[str]:
    random = np.random.default_rng(0)
    return [" ".join(["The", *random.choice(["old", "song", "of", "rain"], 7)]) + ".!?"[i % 3] for i in range(count)]


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("\n".join(short_texts(200)), True),
        ("\n".join([*short_texts(200), *["and so on"] * 10]), True),
        ("\n".join(short_texts(20)), False),  # a page may be so
        ("\n\n".join(short_texts(200)), False),  # paragraphs
        ("\n".join("and one morning the old man\nwent down to the sea. He saw" for _ in range(100)), False),  # a book
        ("\n".join(f"{a} {b}" for a, b in zip(short_texts(200), short_texts(200), strict=True)), False),
        ("\n".join(line[:-1] for line in short_texts(200)), False),  # verses
        ("\n".join(400 * "long " + line for line in short_texts(200)), False),
    ],
)
def test_lines_stand_alone_where_nearly_each_is_a_short_sentence(text, alone):
    assert lines_stand_alone(text) == alone


def test_a_single_file_of_short_texts_is_taken_line_by_line_unless_asked(tmp_path):
    (tmp_path / "lines.txt").write_text("\n".join(short_texts(200)))
    source = open_texts(tmp_path / "lines.txt")
    assert how_parted({}, source, "passages") == "lines"
    assert how_parted({}, source, "auto") == "auto"
    assert how_parted({"sentences": "passages"}, source, "passages") == "passages"
    assert "200 lines of about 8 words; passages" in items_told(source, 200, "lines")
    (tmp_path / "second.txt").write_text("One more.")
    assert how_parted({}, open_texts(tmp_path), "passages") == "passages"
    assert how_parted({}, open_texts(["\n".join(short_texts(200))]), "passages") == "passages"
