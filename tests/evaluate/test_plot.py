"""Plots with axes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from withheld.evaluate import mixture_pictures
from withheld.evaluate.plot import named


class TwoClasses:
    """A mixture as its picture asks for it."""

    columns, components = 2, 2
    means = torch.zeros(0, 2)

    def posterior(self, rows):
        first = (rows[:, 0] > 0).double()
        return torch.stack([first, 1 - first], dim=1), None


def test_names_are_as_wide_as_there_is_room_and_no_formulas():
    assert named("cat", 2.4) == "cat"
    short = named("a very long name of a class, as exports of databases have them: 17 b", 2.4)
    assert len(short) < 45
    assert short.startswith("a very long")
    assert "…" in short
    assert short.endswith("17 b")
    assert named("$x^$", 2.4) == r"\$x^\$"


def test_a_long_class_name_leaves_the_plot_its_room(monkeypatch: pytest.MonkeyPatch):
    seen = []
    real = mixture_pictures.drawn
    monkeypatch.setattr(mixture_pictures, "drawn", lambda figure: (seen.append(figure), real(figure))[1])
    rows = np.random.default_rng(0).normal(size=(40, 2))
    long = "name of a class " * 20
    mixture_pictures._scatter(TwoClasses(), rows, [f"{long} $a^$", long], [f"{long} one", f"{long} $two^$"])
    (figure,) = seen
    (axes,) = figure.axes
    room = figure.bbox
    for text in (axes.xaxis.label, axes.yaxis.label, axes.get_legend()):
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= room.x1
        assert box.y1 <= room.y1
    assert axes.get_legend().get_window_extent().width < room.width / 2
