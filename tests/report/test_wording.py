"""Numbers as people write them."""

from __future__ import annotations

from withheld.report.curves import label_curve
from withheld.report.scores import END_NAME, Row, Table
from withheld.report.svg import nice_ticks, text
from withheld.report.training import _told_apart
from withheld.wording import about, duration, per_class, percent, plain, plural, short_numbers


def test_an_interval_wider_than_all_there_is_says_no_more_than_that() -> None:
    assert percent(0.712, 0.013) == "71.2 ± 1.3"
    assert percent(0.559, 1.464) == "55.9 ± >100"
    assert percent(0.5, None) == percent(0.5, float("nan")) == "50.0"


def test_settings_are_shown_with_the_digits_that_matter() -> None:
    text = "View(scale=(0.25, 1.3333333333333333), mean=[0.49047892412173205], rate=1.23456e-05, size=32, version=1.2)"
    assert short_numbers(text) == "View(scale=(0.25, 1.333), mean=[0.4905], rate=1.23456e-05, size=32, version=1.2)"


def test_names_at_the_ends_of_lines_tell_rows_apart() -> None:
    long = "public: facebook/dinov2-small, linear probe"
    names = (long, "self-training with HOG + color histogram", "kNN")
    rows = [Row(name, "probe", points=dict.fromkeys((1.0, 10.0), (0.5, 0.1, 5))) for name in names]
    rows += [Row(f"{names[0]}, more", "probe", points={1.0: (0.5, 0.1, 5)})]
    table = Table(rows, [1.0, 10.0], "accuracy", True)
    told = [table.end_name(row) for row in rows]
    assert told[:2] == ["public: facebook/dinov2-small, linear p…", names[1]]
    assert told[2] == "kNN"
    assert told[3].endswith("…, at 1")
    assert len(set(told)) == 4
    assert max(map(len, told)) <= END_NAME


def test_ticks_of_what_hardly_changes_have_words_of_their_own() -> None:
    for low, high in (
        (6.46412, 6.46413),
        (0.0, 0.0),
        (-3.0, -3.0),
        (0.69314, 0.69315),
        (1234.56, 1234.57),
        (5.6, 4.2e3),
    ):
        for few in (2, 4):
            words = [plain(tick) for tick in nice_ticks(*_told_apart(low, high, few), few)]
            assert len(set(words)) == len(words), words


def test_one_is_singular() -> None:
    assert [per_class([1]), per_class([10]), per_class([1, 100])] == [
        "1 label per class", "10 labels per class", "1, 100 labels per class",
    ]  # fmt: skip
    assert [plural(number, "item is", "items are") for number in (0, 1, 1200)] == [
        "0 items are", "1 item is", "1,200 items are",
    ]  # fmt: skip


def test_what_is_measured_is_shown_with_three_digits() -> None:
    shown = [about(number, "epoch") for number in (0.004, 1.0, 0.9999, 12.34, 1234.5)]
    assert [duration(seconds) for seconds in (0.0, 1.04, 9.96, 42.4, 432)] == [
        "0 s",
        "1 s",
        "10 s",
        "42 s",
        "7 min 12 s",
    ]
    assert shown == ["0.004 epochs", "1 epoch", "1 epoch", "12.3 epochs", "1,234 epochs"]


def test_the_whole_name_stands_behind_one_that_is_cut() -> None:
    assert text(0, 0, "a long n…", whole="a long name <b>") == (
        '<text x="0" y="0">a long n…<title>a long name &lt;b&gt;</title></text>'
    )
    row = Row("public: facebook/dinov2-small, linear probe", "public", points={1.0: (0.5, 0.1, 5)})
    drawn = label_curve(Table([row], [1.0], "accuracy", True))
    assert "linear p…<title>public: facebook/dinov2-small, linear probe</title>" in drawn
