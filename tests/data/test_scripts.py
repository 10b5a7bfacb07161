"""Texts that are not English: recognized as texts, counted by characters where no spaces stand, with marks that are letters."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from withheld.auto import look
from withheld.data.scripts import WORD, is_ideograph, is_sentence, marks_are_letters
from withheld.data.tokenizer import train_tokenizer
from withheld.evaluate.text_floors import counted

JAPANESE = ["今日は天気がとても良いので公園を散歩しました。", "新しいパソコンを買いましたが電池の持ちが悪いです。"]


@pytest.mark.parametrize(
    "text", ["The quick brown_fox, 2 dogs; naïve ÉTÉ it's a x", "Это мой дом", "한국어 문장입니다"]
)
def test_words_of_scripts_with_spaces_are_those_of_scikit_learn(text):
    assert re.findall(WORD, text.lower()) == CountVectorizer().build_tokenizer()(text.lower())


def test_scripts_without_spaces_are_counted_by_characters_and_pairs():
    counter, counts = counted([*JAPANESE, "good 天気"])
    assert {"天", "天 気", "電 池", "good", "good 天"} <= set(counter.vocabulary_)
    assert counts[0, counter.vocabulary_["天 気"]] == counts[2, counter.vocabulary_["天 気"]] == 1


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("two words", True),
        ("今日は天気", True),
        ("สวัสดีครับ", True),
        ("word", False),
        ("12 34", False),
        ("天気", False),
        ("", False),
    ],
)
def test_what_a_sentence_is(text, is_one):
    assert is_sentence(text) is is_one


def test_check_and_auto_take_a_table_of_japanese_for_texts(tmp_path: Path):
    path = tmp_path / "ja.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [["text", "label"], *([text, "ab"[at % 2]] for at, text in enumerate(JAPANESE * 30))]
        )
    assert look(str(path)).modality == "text"


@pytest.mark.parametrize(
    ("text", "they_are"),
    [
        ("это мой дом и твой", True),
        ("สวัสดีครับ", True),
        ("नमस्ते दुनिया", True),
        ("が行く", True),
        ("voilà un été déjà passé", False),
        ("plain English", False),
        ("한국어 문장입니다", False),
    ],
)
def test_marks_that_are_letters(text, they_are):
    assert marks_are_letters(Counter(text)) is they_are


def test_word_pieces_keep_such_marks_and_take_accents_from_latin_letters():
    kept = train_tokenizer("wordpiece", JAPANESE * 3, 400, True, 64)
    assert kept.decode(kept("天気が")["input_ids"], skip_special_tokens=True) == "天 気 が"
    bare = train_tokenizer("wordpiece", ["voilà un été déjà passé"] * 3, 400, True, 64)
    assert bare("été")["input_ids"] == bare("ete")["input_ids"]


def test_word_pieces_know_more_ideographs_than_other_letters():
    signs = [chr(0x4E00 + at) for at in range(3000)]
    random = np.random.default_rng(0)
    texts = ["".join(random.permutation(signs)[:600]) + " and some words" for _ in range(40)]
    tokenizer = train_tokenizer("wordpiece", texts, 8192, True, 64)
    assert all(map(is_ideograph, signs))
    assert tokenizer.unk_token_id not in tokenizer("".join(signs))["input_ids"]
    assert len(tokenizer) < 3000 + 200
