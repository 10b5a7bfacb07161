"""What is left out when time is short, and in which order."""

from __future__ import annotations

import pytest

from withheld.evaluate.plan import LEAST_SHARE, Pace, make_plan

WANTED = {1: 100, 10: 100, 100: 400}
PACE = Pace({1: 0.01, 10: 0.02, 100: 0.05}, item=0.001)
ALL = 2 * 5 * (1 + 2 + 20) + 2 * 5 * 3 * 2


def test_all_of_it_fits():
    plan = make_plan(WANTED, 5, 2000, PACE, ALL + 1)
    assert (plan.steps, plan.seeds, plan.test, plan.left_out) == (WANTED, 5, 2000, [])
    assert plan.seconds == pytest.approx(ALL)


def test_first_the_steps_are_fewer_and_equal_for_both_rows():
    plan = make_plan(WANTED, 5, 2000, PACE, 0.75 * ALL)
    assert plan.seeds == 5
    assert all(LEAST_SHARE * WANTED[count] <= steps < WANTED[count] for count, steps in plan.steps.items())
    assert "of the steps" in plan.left_out[0]
    assert plan.seconds <= 0.75 * ALL


def test_then_fewer_items_are_tested():
    slow = Pace(PACE.step, item=0.01)
    plan = make_plan(WANTED, 5, 2000, slow, 450)
    assert (plan.seeds, plan.test) == (5, 1000)
    assert any("1000 of 2000 test items" in text for text in plan.left_out)


def test_then_seeds_go_down_to_three():
    plan = make_plan(WANTED, 5, 2000, PACE, 0.4 * ALL)
    assert plan.seeds == 3
    assert set(plan.steps) == set(WANTED)
    assert '"fine-tuned" and "from scratch" beyond 3 of 5 seeds, for time' in plan.left_out


def test_then_label_counts_the_largest_first_and_the_headline_last():
    kept = []
    for seconds in (80, 20, 10):
        plan = make_plan(WANTED, 5, 2000, PACE, seconds)
        kept.append(sorted(plan.steps))
    assert kept == [[1, 10, 100], [1, 10], [10]]
    assert any("at 1, 100 labels per class" in text for text in plan.left_out)


@pytest.mark.parametrize("seconds", [0.5, 0, -30])
def test_then_both_rows(seconds):
    plan = make_plan(WANTED, 5, 2000, PACE, seconds)
    assert plan.steps == {}
    assert "3 seeds at 10 labels per class alone need" in plan.left_out[0]
    assert "give more --minutes" in plan.left_out[0]


@pytest.mark.parametrize("seconds", range(1, 300, 7))
def test_what_is_planned_fits(seconds):
    plan = make_plan(WANTED, 5, 2000, PACE, seconds)
    assert plan.seconds <= seconds


def test_two_seeds_are_not_made_three():
    assert make_plan(WANTED, 2, 100, PACE, 1e6).seeds == 2


THREE = Pace(PACE.step, PACE.item, augmented={1: 0.02, 10: 0.03, 100: 0.06})
THIRD = {1: 5 * (2 + 2), 10: 5 * (3 + 2), 100: 5 * (24 + 2)}


def test_the_third_row_is_at_every_count_where_all_fits():
    plan = make_plan(WANTED, 5, 2000, THREE, ALL + sum(THIRD.values()) + 1)
    assert (plan.steps, plan.augmented, plan.left_out) == (WANTED, (1, 10, 100), [])
    assert plan.seconds == pytest.approx(ALL + sum(THIRD.values()))
    assert plan.runs == 3 * sum(WANTED.values())


def test_else_it_is_at_the_headline_only_and_costs_the_others_nothing():
    plan = make_plan(WANTED, 5, 2000, THREE, ALL + THIRD[10] + 1)
    assert (plan.steps, plan.augmented) == (WANTED, (10,))
    assert plan.left_out == ['"from scratch, augmented" at 1, 100 labels per class, for time']
    assert plan.seconds == pytest.approx(ALL + THIRD[10])
    assert plan.runs == 2 * sum(WANTED.values()) + WANTED[10]


def test_one_label_is_named_as_one():
    wanted, pace = {1: 10, 10: 100}, Pace({1: 0.01, 10: 0.02}, 0, augmented={1: 0.02, 10: 0.03})
    plan = make_plan(wanted, 5, 0, pace, 5 * (10 * 0.01 + 100 * 0.02) * 2 + 5 * 100 * 0.03 + 0.1)
    assert plan.left_out == ['"from scratch, augmented" at 1 label per class, for time']


def test_it_goes_before_the_rows_it_is_compared_with():
    counts = [make_plan({10: 100}, 3, 0, Pace({10: 0.01}, 0, augmented={10: 0.02}), s) for s in (12, 1.5, 1)]
    assert [plan.augmented for plan in counts] == [(10,), (), ()]
    assert [bool(plan.steps) for plan in counts] == [True, True, True]
    assert '"from scratch, augmented", for time' in counts[1].left_out
    assert make_plan(WANTED, 5, 2000, PACE, ALL).left_out == []


@pytest.mark.parametrize("seconds", range(1, 500, 7))
def test_what_is_planned_with_it_fits(seconds):
    plan = make_plan(WANTED, 5, 2000, THREE, seconds)
    assert plan.seconds <= seconds
