"""Selective search: boxes inside the image, the same every time, computed once."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from withheld.data.boxes import BoxData
from withheld.errors import InputError
from withheld.evaluate.detection import proposals
from withheld.evaluate.detection.average_precision import overlaps
from withheld.evaluate.detection.proposals import SelectiveSearch, propose
from withheld.evaluate.detection.regions import shares


def test_objects_on_plain_ground_are_proposed(voc: BoxData) -> None:
    pytest.importorskip("cv2.ximgproc")
    found = propose([voc.path(at) for at in range(6)], SelectiveSearch(), lambda event: None)
    best = [overlaps(shares(voc.annotations[at]), np.asarray(each)).max(axis=1) for at, each in enumerate(found)]
    assert np.concatenate(best).min() > 0.7
    for each in found:
        assert not isinstance(each, str)
        assert (each >= 0).all()
        assert (each <= 1).all()
        assert (each[:, 2:] > each[:, :2]).all()


def test_the_same_image_gives_the_same_regions_and_no_more_than_asked() -> None:
    pytest.importorskip("cv2.ximgproc")
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)
    few = SelectiveSearch(most=20)
    first = few(pixels)
    SelectiveSearch()(pixels[::2])  # moves the state of C's rand(), by which OpenCV orders its regions
    np.testing.assert_array_equal(first, few(pixels))
    assert len(first) == 20
    all_of_them = {tuple(row) for row in SelectiveSearch(most=10_000)(pixels).tolist()}
    assert all(tuple(row) in all_of_them for row in first.tolist())


def test_they_are_computed_once(voc: BoxData, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2.ximgproc")
    search, paths = SelectiveSearch(side=64), [voc.path(at) for at in range(3)]
    first = propose(paths, search, lambda event: None)
    monkeypatch.setattr(proposals.SelectiveSearch, "__call__", lambda *_: pytest.fail("computed again"))
    told: list[dict] = []
    again = propose(paths[::-1], search, told.append)
    for one, other in zip(first, again[::-1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert told[-1] == {"kind": "proposals", "done": 3, "total": 3}


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    pytest.importorskip("cv2.ximgproc")
    (tmp_path / "a.png").write_bytes(b"no image")
    found = propose([tmp_path / "a.png", tmp_path / "none.png"], SelectiveSearch(), lambda event: None)
    assert all(isinstance(each, str) and "cannot be read" in each for each in found)


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2.ximgproc", None)
    with pytest.raises(InputError, match=r'pip install "withheld\[detection\]"'):
        propose([], SelectiveSearch(), lambda event: None)
