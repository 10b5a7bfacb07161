"""Every branch of the closing sentence."""

from __future__ import annotations

import re

import pytest

from withheld.evaluate.compare import AIDED, FLOOR, PRETRAINED, PUBLIC, RANDOM, SCRATCH, Row
from withheld.evaluate.sentence import (
    AUGMENTED_ROW,
    FINE_TUNED,
    M2_ROW,
    MIXTURE,
    MORE,
    NEIGHBORS,
    PROBE,
    RANDOM_ROW,
    SCRATCH_ROW,
    headline,
    outcome,
    sentence,
)
from withheld.evaluate.verdict import _remedy as remedy_of

KINDS = {
    AUGMENTED_ROW: SCRATCH, FINE_TUNED: PRETRAINED, PROBE: PRETRAINED, NEIGHBORS: PRETRAINED, SCRATCH_ROW: SCRATCH,
    RANDOM_ROW: RANDOM,
}  # fmt: skip
CLOSE = (-0.01, 0.0, 0.01)


def made(method: str, kind: str = "", jitter: tuple[float, ...] = CLOSE, **by_labels: float) -> Row:
    row = Row(method, kind or KINDS.get(method, FLOOR))
    for labels, value in by_labels.items():
        for seed, off in enumerate(jitter):
            row.add(int(labels[1:]), seed, [value + off * (1 + (method == SCRATCH_ROW))])
    return row


TUNED = made(FINE_TUNED, n1=0.4, n10=0.7, n100=0.9)
FROM_SCRATCH = made(SCRATCH_ROW, n1=0.2, n10=0.5, n100=0.9)
LOW = made("HOG", n1=0.2, n10=0.4, n100=0.6)
BELOW = made("someone/encoder (linear probe)", PUBLIC, n1=0.2, n10=0.4, n100=0.6)


def test_better_than_everything():
    text = sentence([TUNED, FROM_SCRATCH, LOW, BELOW])
    assert text == (
        "With 10 labels per class, pretraining is worth +20.0 points (95 % CI 17.5 to 22.5) over training from scratch "
        "at equal steps, as much as 3.2 times the labels."
    )
    assert outcome([TUNED, FROM_SCRATCH, LOW, BELOW]) == "better"


def test_much_over_a_scratch_that_knows_less_than_a_floor_is_not_all_that_is_said():
    """A verdict of few minutes trained from scratch for 15 steps: "+27.8 points over training from scratch", no word of HOG."""
    text = sentence([TUNED, made(SCRATCH_ROW, n10=0.12), made("HOG", n10=0.6), LOW])
    assert re.search(
        r"over training from scratch at equal steps.*; it is \+10\.0 points \(95 % CI .*\) ahead of HOG with", text
    )
    assert "ahead of" not in sentence([TUNED, FROM_SCRATCH, LOW])


def test_where_all_rows_only_guess_it_is_said():
    """ "use HOG" stood alone beside two rows of 37.5 % of two classes."""
    rows = [made(FINE_TUNED, n5=0.4), made(SCRATCH_ROW, n5=0.4), made("HOG", n5=0.45), BELOW]
    told = "; no row is certainly better than guessing (50 %): give more labels, or more --seeds"
    assert told in sentence(rows, classes=2)
    assert "use HOG" not in sentence(rows, classes=2)
    assert "use HOG" in sentence(rows, classes=10)
    assert (outcome(rows, classes=2), outcome(rows, classes=10), outcome(rows)) == ("unclear", "worse", "worse")
    alone = [made(FINE_TUNED, n5=0.4), made(SCRATCH_ROW, n5=0.4)]
    assert "train from scratch" not in sentence(alone, classes=2)
    assert ": train from scratch" in sentence(alone, classes=10)
    assert "guessing" not in sentence(rows, classes=10)
    assert "guessing" not in sentence([*rows, made("pixels", n5=0.8)], classes=2)
    assert "guessing" not in sentence(
        [made(FINE_TUNED, jitter=(0.0,), n5=0.4), made(SCRATCH_ROW, jitter=(0.0,), n5=0.4)], classes=2
    )


def test_what_was_not_compared_is_said():
    assert sentence([TUNED, FROM_SCRATCH, LOW]).endswith("3.2 times the labels; no public encoder was compared.")


def test_past_the_end_of_the_curve():
    better = made(FINE_TUNED, n1=0.4, n10=0.95, n100=0.96)
    assert "at equal steps, more than 10 times the labels" in sentence([better, FROM_SCRATCH])


def test_one_label_count_has_no_multiple():
    text = sentence([made(FINE_TUNED, n10=0.9), made(SCRATCH_ROW, n10=0.5), BELOW])
    assert "times the labels" not in text
    assert "+40.0 points" in text


def test_one_label_is_singular():
    assert sentence([made(FINE_TUNED, n1=0.9), made(SCRATCH_ROW, n1=0.5)]).startswith("With 1 label per class,")


def test_next_to_nothing_has_no_minus():
    text = sentence([made(FINE_TUNED, n10=0.49996), made(SCRATCH_ROW, n10=0.5), BELOW])
    assert "a difference of +0.0 points" in text
    assert "-0.0" not in text


def test_the_interval_touches_zero():
    text = sentence([made(FINE_TUNED, n10=0.505), made(SCRATCH_ROW, n10=0.5), BELOW])
    assert (
        "pretraining is not certainly better than training from scratch (50.5 % against 50.0 %, a difference of +0.5"
        in text
    )
    assert text.endswith("): train from scratch.")
    assert outcome([made(FINE_TUNED, n10=0.505), made(SCRATCH_ROW, n10=0.5)]) == "worse"


def test_augmentations_may_be_all_it_was():
    rows = [TUNED, FROM_SCRATCH, made(AUGMENTED_ROW, jitter=(-0.03, 0.0, 0.03), n10=0.69), BELOW]
    assert outcome(rows) == "worse"
    text = sentence(rows)
    assert (
        "not certainly better than training from scratch with the augmentations of the pretraining (70.0 % against 69.0 %"
        in text
    )
    assert "train from scratch with them; over training from scratch at equal steps it is worth +20.0 points" in text
    assert outcome([TUNED, FROM_SCRATCH, made(AUGMENTED_ROW, n10=0.5), BELOW]) == "better"
    assert outcome([TUNED, FROM_SCRATCH, made(AUGMENTED_ROW, n100=0.9), BELOW]) == "better", "not at the headline"


def test_a_linear_probe_that_is_better_than_from_scratch_is_not_sent_there():
    """Fine-tuning may lose what a frozen encoder knows (Kumar et al. 2022); then scratch is no advice."""
    rows = [made(FINE_TUNED, n10=0.6), made(SCRATCH_ROW, n10=0.6), made(PROBE, n10=0.8), made(RANDOM_ROW, n10=0.3)]
    text = sentence(rows)
    assert "fine-tuned, pretraining is not better than training from scratch (60.0 % against 60.0 %" in text
    assert "its linear probe is better than that by +20.0 points (95 % CI" in text
    assert "train from scratch" not in text
    rows[2] = made(PROBE, jitter=(-0.4, 0.0, 0.4), n10=0.62)
    assert "): train from scratch; no public" in sentence(rows[:3]), "the probe may be no better"


def test_worse_than_from_scratch():
    text = sentence([made(FINE_TUNED, n10=0.4), made(SCRATCH_ROW, n10=0.5)])
    assert "not better than training from scratch" in text
    assert "a difference of -10.0 points" in text


def test_a_floor_is_better():
    floor = made("raw pixels", n1=0.2, n10=0.8, n100=0.9)
    text = sentence([TUNED, FROM_SCRATCH, LOW, floor, BELOW])
    assert text.startswith(
        "With 10 labels per class, pretraining is not better than raw pixels with logistic regression "
        "(70.0 % against 80.0 %, a difference of -10.0 points, 95 % CI"
    )
    assert "): use raw pixels; over training from scratch at equal steps it is worth +20.0 points" in text
    assert outcome([TUNED, FROM_SCRATCH, floor]) == "worse"


def test_a_floor_that_cannot_be_told_apart_is_named_too():
    near = made("HOG", jitter=(0.1, -0.1, 0.0), n10=0.69)
    assert "not certainly better than HOG with logistic regression" in sentence([TUNED, FROM_SCRATCH, near])


def test_of_several_the_best_is_named():
    rows = [TUNED, FROM_SCRATCH, made("HOG", n10=0.75), made("raw pixels", n10=0.8), made("a/b", PUBLIC, n10=0.9)]
    text = sentence(rows)
    assert "not better than a/b (" in text
    assert "use a/b;" in text


def test_no_gain_at_all_and_a_floor_is_better():
    text = sentence([made(FINE_TUNED, n10=0.5), made(SCRATCH_ROW, n10=0.5), made("HOG", n10=0.8)])
    assert "use HOG; over training from scratch at equal steps it shows no gain either (+0.0 points" in text


def test_random_features_as_good_is_said_without_advice_to_use_them():
    text = sentence([TUNED, FROM_SCRATCH, made(RANDOM_ROW, n10=0.72)])
    assert "not better than the same network frozen at random" in text
    assert "it needs more data or a longer run" in text


def test_a_method_that_a_longer_run_does_not_help_says_what_does():
    """An untrained patch dictionary is nearly as good, and "more data or a longer run" was advised."""
    rows = [TUNED, FROM_SCRATCH, made(RANDOM_ROW, n10=0.72)]
    assert remedy_of("simclr") == remedy_of(None) == MORE
    text = sentence(rows, remedy=remedy_of("patch_dictionary"))
    assert "it needs more data or a longer run" not in text
    assert "another method (simclr, with more minutes) or more labels may" in text
    alone = sentence([made(PROBE, n10=0.5), made(RANDOM_ROW, n10=0.5)], remedy=remedy_of("patch_dictionary"))
    assert "nothing useful here yet" not in alone
    assert "or more labels may" in alone


def test_the_better_of_fine_tuned_and_linear_probe_meets_the_rivals():
    probe, floor = made(PROBE, n10=0.85), made("HOG", n10=0.75)
    text = sentence([TUNED, FROM_SCRATCH, probe, floor, BELOW])
    assert re.search(
        r"over training from scratch at equal steps, as much as 3\.2 times the labels; its linear probe does better still; its "
        r"linear probe is \+10\.0 points \(.*\) ahead of HOG with logistic regression, which does better than training from "
        r"scratch\.$",
        text,
    )
    assert sentence([TUNED, FROM_SCRATCH, probe, LOW, BELOW]).endswith("its linear probe does better still.")
    text = sentence([TUNED, FROM_SCRATCH, probe, made("HOG", n10=0.9), BELOW])
    assert "(85.0 % with a linear probe against 90.0 %" in text


def test_fine_tuning_left_out():
    rows = [made(PROBE, n1=0.5, n10=0.7), made(RANDOM_ROW, n1=0.3, n10=0.4), LOW, BELOW]
    text = sentence(rows)
    assert "worth +30.0 points" in text
    assert re.search(
        r"over the same network frozen at random, and \+\d+\.\d points \(.*\) over HOG with logistic", text
    )
    assert "at equal steps" not in text
    assert "times the labels" not in text


def test_fine_tuning_left_out_and_no_better_than_random():
    text = sentence([made(PROBE, n10=0.4), made(RANDOM_ROW, n10=0.4)])
    assert "not better than the same network frozen at random" in text


def test_only_frozen_rows_of_something_without_a_network():
    text = sentence([made(PROBE, n10=0.7), made(NEIGHBORS, n10=0.6), LOW])
    assert "worth +30.0 points" in text
    assert "over HOG with logistic regression, the best of what it was compared with" in text
    text = sentence([made(PROBE, n10=0.4), made("HOG", n10=0.5)])
    assert "use HOG." in text.replace("; no public encoder was compared", "")


def test_nothing_to_compare_with():
    assert "nothing was measured that linear probe could be compared with" in sentence([made(PROBE, n10=0.7)])
    assert outcome([made(PROBE, n10=0.7)]) == "unclear"


def test_nothing_measured():
    assert sentence([LOW]).startswith("No verdict:")
    assert outcome([LOW]) == "unclear"


def test_one_seed_claims_nothing():
    rows = [made(FINE_TUNED, jitter=(0.0,), n10=0.9), made(SCRATCH_ROW, jitter=(0.0,), n10=0.5)]
    text = sentence(rows)
    assert "+40.0 points (one seed, no interval)" in text
    assert "too few seeds to tell" in text
    assert outcome(rows) == "unclear"


def test_one_seed_with_a_floor_claims_nothing_either():
    rows = [
        made(FINE_TUNED, jitter=(0.0,), n10=0.9), made(SCRATCH_ROW, jitter=(0.0,), n10=0.5),
        made("HOG", jitter=(0.0,), n10=0.4),
    ]  # fmt: skip
    assert "too few seeds to tell" in sentence(rows)
    assert outcome(rows) == "unclear"


@pytest.mark.parametrize(("counts", "expected"), [((1, 10, 100), 10), ((1, 5), 1), ((1, 5, 25), 5), ((3,), 3)])
def test_the_headline_is_decided_in_advance(counts, expected):
    assert headline(counts) == expected


def test_the_headline_moves_to_what_both_rows_have():
    tuned, scratch = made(FINE_TUNED, n1=0.5, n10=0.8), made(SCRATCH_ROW, n1=0.2)
    assert sentence([tuned, scratch]).startswith("With 1 label per class")


def test_a_row_that_uses_unlabelled_items_is_named_where_it_is_certainly_better():
    mixture, m2 = made(MIXTURE, PRETRAINED, n1=0.4, n10=0.8, n100=0.9), made(M2_ROW, PRETRAINED, n10=0.85)
    text = sentence([TUNED, FROM_SCRATCH, LOW, BELOW, mixture, m2])
    assert f"; {M2_ROW}, which learns from unlabelled items too, does better still (+15.0 points" in text
    assert text.startswith(sentence([TUNED, FROM_SCRATCH, LOW, BELOW])[:-1])
    assert outcome([TUNED, FROM_SCRATCH, LOW, BELOW, mixture, m2]) == "better"


def test_a_row_that_uses_unlabelled_items_is_no_rival_and_not_named_where_it_is_not_better():
    worse = made(MIXTURE, PRETRAINED, n1=0.4, n10=0.6, n100=0.9)
    assert sentence([TUNED, FROM_SCRATCH, LOW, BELOW, worse]) == sentence([TUNED, FROM_SCRATCH, LOW, BELOW])


def test_a_floor_that_learns_from_unlabelled_items_is_set_against_rows_that_do():
    rows = [
        made(FINE_TUNED, PRETRAINED, n10=0.7), made(SCRATCH_ROW, SCRATCH, n10=0.5), made("HOG", FLOOR, n10=0.6),
        made("self-training with HOG", PRETRAINED, n10=0.8),
    ]  # fmt: skip
    alone = sentence(rows)
    assert "self-training with HOG, which learns from unlabelled items too, does better still" in alone
    assert "any pretraining" not in alone
    worse, alike, better = (made("self-training on HOG", AIDED, n10=at) for at in (0.75, 0.8, 0.9))
    assert sentence([*rows, worse]) == alone
    assert "self-training on HOG does it as well without any pretraining (80.0 % against 80.0 %" in sentence(
        [*rows, alike]
    )
    assert "self-training on HOG does it better without any pretraining (90.0 % against 80.0 %" in sentence(
        [*rows, better]
    )
    assert "self-training on HOG does it better without any pretraining" in sentence([*rows[:3], better])
    assert "self-training" not in sentence([*rows[:3], made("self-training on HOG", AIDED, n10=0.7)])
    assert outcome([*rows, better]) == outcome(rows)  # what it is worth over scratch and floors is another question
