"""Words on pictures."""

from __future__ import annotations

import pytest

from withheld.evaluate.canvas import fitted, font
from withheld.evaluate.thumbnails import caption


def test_words_that_do_not_fit_lose_what_tells_least() -> None:
    name, title = "holiday/2019/IMG_0042.jpg", "TwoViews(view=View(size=96, scale=(0.25, 1.0), aspect=(0.75, 1.333)))"
    for words, end in ((name, 0.7), (title, 0.0)):
        short = fitted(words, 120, 12, end)
        assert font(12).getlength(short) <= 120 < font(12).getlength(words)
        first, _, last = short.partition("…")
        assert words.startswith(first)
        assert words.endswith(last)
        assert abs(len(last) - end * len(first + last)) <= 0.5
    assert fitted("short", 120, 12) == "short"


def test_the_number_in_a_caption_stays_whole() -> None:
    said = caption("0.806  holiday/2019/\xd6sterreich 139.jpeg", 112)
    assert said.startswith("0.806  h")
    assert said.endswith("39.jpeg")
    assert font(11).getlength(said) <= 112
    assert caption("query", 112) == "query"


@pytest.mark.parametrize("words", ["one.png", "a", "a long name of a file.png"])
@pytest.mark.parametrize("width", [-5.0, 3.0, 30.0])
def test_words_fit_where_there_is_hardly_any_room(words, width):
    short = fitted(words, width, 11)
    assert short == "…" or font(11).getlength(short) <= width
