"""Boxes on photographs."""

from __future__ import annotations

import numpy as np
from PIL import Image

from withheld.evaluate.detection.draw import boxes_on, color_of
from withheld.evaluate.detection.find import Detections


def test_a_long_class_name_leaves_the_photograph_its_room():
    found = Detections(np.array([[0.1, 0.5, 0.9, 0.9]]), np.array([0]), np.array([0.5]))
    drawn = np.asarray(boxes_on(Image.new("RGB", (240, 120), "white"), found, ["a class of a very long name " * 5]))
    above = (drawn[45:58] == color_of(0)).all(axis=2)  # where the name stands
    assert above.any()
    assert above.any(axis=0).sum() < 0.7 * 240
