"""Pictures of words that DejaVu has no letters for: another font where one is installed, and lines that fit."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest

from withheld.evaluate import fonts
from withheld.evaluate.canvas import fitted, wrapped, written

STIX = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "STIXGeneral.ttf"
LETTERS = "ℊℊ"  # a script g, which STIX has and DejaVu has not


@pytest.fixture
def stix(monkeypatch):
    fonts.other_font.cache_clear()
    monkeypatch.setattr(fonts, "installed", lambda: (STIX,))
    yield
    fonts.other_font.cache_clear()


def test_words_without_letters_in_dejavu_are_written_in_another_font(stix):
    assert ord(LETTERS[0]) not in fonts.letters_of(Path(fonts.font(12).path))
    assert Path(fonts.font(12, words=f"plain and {LETTERS}").path) == STIX
    assert Path(fonts.font(12, words="plain, naïve and Привет").path).name == "DejaVuSans.ttf"
    assert not np.array_equal(written(LETTERS), written("\u0fffb"))


def test_where_none_is_installed_it_stays_as_it_is(monkeypatch):
    fonts.other_font.cache_clear()
    monkeypatch.setattr(fonts, "installed", tuple)
    assert Path(fonts.font(12, words="天気").path).name == "DejaVuSans.ttf"
    assert fitted("天気", 500, 12) == "天気"
    fonts.other_font.cache_clear()


def test_lines_fit_and_keep_every_letter():
    letters = fonts.font(13)
    words = "some words and averyveryverylongwordthatfitsnoline then 今日は天気がとても良いので公園を散歩しました"
    lines = wrapped(words, 120, letters)
    assert len(lines) > 4
    assert all(letters.getlength(line) <= 120 for line in lines)
    assert "".join(lines).replace(" ", "") == words.replace(" ", "")
    assert wrapped("", 120, letters) == [""]


def test_known_names_are_found():
    for name in ("NotoSansCJK-Regular", "msyh", "YuGothM", "Hiragino Sans GB", "wqy-zenhei", "NotoSansThai-Regular"):
        assert fonts.KNOWN.search(name.replace("-", " "))
    assert not fonts.KNOWN.search("DejaVuSans")
