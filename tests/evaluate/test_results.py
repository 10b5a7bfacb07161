"""results.jsonl, as everything that measures writes it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from withheld.errors import CannotWrite
from withheld.evaluate.results import add_results


def test_lines_are_added_in_their_order_and_what_is_no_number_is_null(tmp_path):
    path = tmp_path / "of" / "results.jsonl"
    add_results(path)
    assert path.read_text() == ""
    add_results(path, {"kind": "a", "value": math.nan, "by": {"x": [1.5, np.float64("inf")]}}, {"kind": "b"})
    add_results(path, {"kind": "c"})
    lines = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]
    assert lines == [{"kind": "a", "value": None, "by": {"x": [1.5, None]}}, {"kind": "b"}, {"kind": "c"}]


def test_where_results_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match=r"results\.jsonl"):
        add_results(tmp_path / "file" / "results.jsonl", {"kind": "a"})
    add_results(None, {"kind": "a"})
