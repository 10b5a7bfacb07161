"""Average precision against hand-made cases, the devkit's loop and faster-coco-eval."""

from __future__ import annotations

import numpy as np
import pytest

from withheld.evaluate.detection.average_precision import (
    Curve,
    Guess,
    Truth,
    average_precision,
    coco,
    curve,
    overlaps,
    score,
)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float64).reshape(-1, 4)


def truth(*rows: tuple[float, float, float, float], difficult: tuple[int, ...] = ()) -> Truth:
    hard = np.array([at in difficult for at in range(len(rows))], bool)
    return Truth(boxes(*rows), np.zeros(len(rows), np.int64), hard)


def guess(rows: list[tuple[float, float, float, float]], scores: list[float]) -> Guess:
    return Guess(boxes(*rows), np.zeros(len(rows), np.int64), np.array(scores))


A, B, FAR = (0.0, 0.0, 10.0, 10.0), (20.0, 20.0, 40.0, 40.0), (60.0, 60.0, 70.0, 70.0)


def test_all_found_and_nothing_else_is_one() -> None:
    found = curve([truth(A, B)], [guess([A, B], [0.9, 0.8])], 0)
    for form in ("area", "voc07", "coco"):
        assert average_precision(found, form) == pytest.approx(1)  # type: ignore[arg-type]


def test_a_surer_mistake_costs() -> None:
    found = curve([truth(A, B)], [guess([FAR, A, B], [0.9, 0.8, 0.7])], 0)
    np.testing.assert_allclose(found.precision, [0, 1 / 2, 2 / 3])
    np.testing.assert_allclose(found.recall, [0, 0.5, 1])
    assert average_precision(found) == pytest.approx(2 / 3)  # precision never rises with recall: 2/3 everywhere
    assert average_precision(found, "voc07") == pytest.approx(2 / 3)


def test_half_found_by_area_and_by_eleven_points() -> None:
    found = curve([truth(A, B)], [guess([A], [0.9])], 0)
    assert average_precision(found) == pytest.approx(0.5)
    assert average_precision(found, "voc07") == pytest.approx(6 / 11)  # recall 0, 0.1 ... 0.5
    assert average_precision(found, "coco") == pytest.approx(51 / 101)


def test_the_second_detection_of_a_box_is_wrong() -> None:
    found = curve([truth(A)], [guess([A, A], [0.8, 0.9])], 0)
    np.testing.assert_allclose(found.precision, [1, 1 / 2])


def test_a_difficult_box_is_neither_right_nor_wrong() -> None:
    hard = truth(A, B, difficult=(1,))
    assert curve([hard], [guess([A, B, B], [0.9, 0.8, 0.7])], 0).true == 1
    assert average_precision(curve([hard], [guess([A, B, B], [0.9, 0.99, 0.98])], 0)) == 1
    assert average_precision(curve([hard], [guess([B], [0.99])], 0)) == 0


def test_a_class_nobody_labelled_is_left_out_of_the_mean() -> None:
    found = score([truth(A)], [guess([A], [0.9])], ["cell", "ghost"])
    assert found["mAP@0.5"] == 1
    assert list(found["AP"]) == ["cell"]  # type: ignore[call-overload]
    assert np.isnan(average_precision(Curve(np.zeros(0), np.zeros(0), 0)))


def test_no_detections_at_all() -> None:
    found = score([truth(A)], [guess([], [])], ["cell"])
    assert found["mAP@0.5"] == 0
    assert coco([truth(A)], [guess([], [])], ["cell"], [(100, 100)]) == {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}


def test_the_overlap_is_the_devkits_with_pixels_counted_from_one() -> None:
    """VOC's box 1..10 by 1..10 is 100 pixels, read as 0 to 10; the devkit adds 1 to every side."""
    a, b = np.array([1, 1, 10, 10]), np.array([6, 1, 15, 10])
    both = (min(a[2], b[2]) - max(a[0], b[0]) + 1) * 10
    devkit = both / (100 + 100 - both)
    read = [boxes((box[0] - 1, box[1] - 1, box[2], box[3])) for box in (a, b)]
    assert overlaps(*read)[0, 0] == pytest.approx(devkit)


def random_set(seed: int, images: int = 12, crowded: bool = False) -> tuple[list[Truth], list[Guess]]:
    """Boxes and detections with noise; true boxes of one image overlap by less than a half unless crowded."""
    random = np.random.default_rng(seed)
    truths, guesses = [], []
    for _ in range(images):
        cells = random.permutation(16)[: random.integers(0, 7)]
        corner = np.stack([cells % 4, cells // 4], axis=1) * (10.0 if crowded else 30.0)
        side = random.uniform(14, 26, (len(cells), 2))
        true = np.concatenate([corner, corner + side], axis=1).reshape(-1, 4)
        near = true[random.integers(0, len(true), 9)] if len(true) else np.zeros((0, 4))
        far = random.uniform(0, 90, (4, 2))
        found = np.concatenate([near + random.normal(0, 3, near.shape), np.concatenate([far, far + 20], axis=1)])
        truths.append(Truth(true, random.integers(0, 2, len(true)), random.random(len(true)) < 0.2))
        guesses.append(Guess(found, random.integers(0, 2, len(found)), random.random(len(found))))
    return truths, guesses


def devkit_curve(truths: list[Truth], guesses: list[Guess], label: int, least: float) -> tuple[np.ndarray, np.ndarray]:
    """VOCevaldet as its MATLAB reads: one loop over all detections, the surest first."""
    rows = [
        (s, i, b)
        for i, g in enumerate(guesses)
        for b, k, s in zip(g.boxes, g.labels, g.scores, strict=True)
        if k == label
    ]
    taken = [np.zeros(len(t.boxes), bool) for t in truths]
    total = sum(int(((t.labels == label) & ~t.difficult).sum()) for t in truths)
    right, wrong = [], []
    for _, i, box in sorted(rows, key=lambda row: -row[0]):
        best, of = -np.inf, -1
        for j, true in enumerate(truths[i].boxes):
            if truths[i].labels[j] == label:
                shared = overlaps(box[None], true[None])[0, 0]
                if shared > best:
                    best, of = shared, j
        hit = best >= least
        fair = hit and not truths[i].difficult[of]
        right.append(fair and not taken[i][of])
        wrong.append((not hit) or (fair and bool(taken[i][of])))
        if fair:
            taken[i][of] = True
    right_, wrong_ = np.cumsum(right), np.cumsum(wrong)
    return right_ / np.maximum(1, right_ + wrong_), right_ / max(1, total)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("crowded", [False, True])
def test_the_curve_is_the_devkits(seed: int, crowded: bool) -> None:
    truths, guesses = random_set(seed, crowded=crowded)
    for label in (0, 1):
        for least in (0.3, 0.5, 0.75):
            found = curve(truths, guesses, label, least)
            precision, recall = devkit_curve(truths, guesses, label, least)
            np.testing.assert_allclose(found.precision, precision)
            np.testing.assert_allclose(found.recall, recall)


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_faster_coco_evals(seed: int) -> None:
    """The same number at its interpolation of 101 points. The two ways of matching differ only where a detection overlaps two true
    boxes by half, which does not happen here; the area is what 101 points approach, within one of them."""
    pytest.importorskip("faster_coco_eval")
    truths, guesses = random_set(seed)
    truths = [Truth(t.boxes, t.labels, np.zeros(len(t.labels), bool)) for t in truths]
    found = coco(truths, guesses, ["a", "b"], [(200, 200)] * len(truths))
    assert found is not None
    for name, least in (("AP50", 0.5), ("AP75", 0.75)):
        curves = [curve(truths, guesses, label, least) for label in (0, 1)]
        assert np.mean([average_precision(c, "coco") for c in curves]) == pytest.approx(found[name], abs=1e-9)
        assert np.mean([average_precision(c) for c in curves]) == pytest.approx(found[name], abs=0.011)
    steps = np.linspace(0.5, 0.95, 10)
    mean = np.mean([average_precision(curve(truths, guesses, k, t), "coco") for k in (0, 1) for t in steps])
    assert mean == pytest.approx(found["AP"], abs=1e-9)
