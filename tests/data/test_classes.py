"""Labels that are perhaps not meant as they stand."""

from __future__ import annotations

from PIL import Image

from withheld.data.classes import doubtful_classes
from withheld.evaluate.labelled import open_labelled


def test_classes_that_differ_in_case_or_spaces_are_said():
    (told,) = doubtful_classes(["Cat", "cat", "dog", "grey  cat", "grey cat"])
    assert "'Cat' and 'cat'; 'grey  cat' and 'grey cat'" in told


def test_several_labels_in_a_cell_are_said():
    (told,) = doubtful_classes(["comedy", "drama", "drama|comedy", "drama, war", "war"])
    assert "2 classes look like several labels at once (such as 'drama|comedy')" in told
    (lists,) = doubtful_classes(["['a', 'b']", "['a']", "['b']"])
    assert "1 class looks" in lists


def test_names_with_commas_and_plain_classes_are_left_in_peace():
    assert doubtful_classes(["Korea, North", "Korea, South", "Congo, The", "Oslo"]) == []
    assert doubtful_classes([str(i) for i in range(10)]) == []


def test_whoever_judges_is_told(tmp_path):
    for i in range(12):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
    rows = [f"{i}.png,{('cat', 'Cat', 'dog')[i % 3]}" for i in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
    assert any("'Cat' and 'cat'" in note for note in open_labelled(tmp_path, True, [1], 2).notes)
