"""VOC folders as they come: right, broken, without image sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from voc_files import annotation, make_voc, rectangles

from withheld.data.boxes import BoxData, open_boxes
from withheld.errors import InputError


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return make_voc(tmp_path / "VOC2007")


def reasons(data: BoxData) -> str:
    return "\n".join(f"{line['file']}: {line['reason']}" for line in data.problems)


def rewrite(root: Path, name: str, text: str) -> None:
    (root / "Annotations" / f"{name}.xml").write_text(text)


def test_a_folder_in_voc_layout(voc: Path) -> None:
    data = open_boxes(voc)
    assert len(data) == 12
    assert data.classes == ["blue", "red"]
    assert {name: len(at) for name, at in data.parts.items()} == {"train": 6, "val": 2, "test": 4}
    assert not data.problems
    assert not data.notes
    _, objects = rectangles(0)
    name, (x0, y0, x1, y1) = objects[0]
    first = data.annotations[0]
    assert data.source.names[0] == "JPEGImages/im000.png"
    np.testing.assert_array_equal(first.boxes[0], [x0 - 1, y0 - 1, x1, y1])  # pixels from 1, both ends in
    assert data.classes[first.labels[0]] == name
    assert data.path(0).is_file()


def test_the_folder_above_does_too(voc: Path) -> None:
    assert open_boxes(voc.parent).fingerprint == open_boxes(voc).fingerprint
    make_voc(voc.parent / "VOC2012")
    with pytest.raises(InputError, match=r"holds 2 sets .*VOC2007.*give one"):
        open_boxes(voc.parent)


def test_no_image_sets_is_a_seeded_split_and_said(voc: Path) -> None:
    for path in (voc / "ImageSets" / "Main").iterdir():
        path.unlink()
    data, again = open_boxes(voc), open_boxes(voc)
    assert {name: len(at) for name, at in data.parts.items()} == {"train": 8, "val": 2, "test": 2}
    assert "70/15/15" in data.notes[0]
    assert all((data.parts[name] == again.parts[name]).all() for name in data.parts)
    assert len(np.unique(np.concatenate(list(data.parts.values())))) == 12


def test_images_with_xml_beside_them(tmp_path: Path) -> None:
    for at in range(8):
        image, objects = rectangles(at)
        image.save(tmp_path / f"{at}.jpg")
        (tmp_path / f"{at}.xml").write_text(annotation(*image.size, objects))
    data = open_boxes(tmp_path)
    assert len(data) == 8
    assert "70/15/15" in data.notes[0]


def test_folders_named_train_and_test_are_honored(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        (tmp_path / part).mkdir()
        for at in range(3):
            image, objects = rectangles(at)
            image.save(tmp_path / part / f"{at}.jpg")
            (tmp_path / part / f"{at}.xml").write_text(annotation(*image.size, objects))
    data = open_boxes(tmp_path)
    assert {name: len(at) for name, at in data.parts.items()} == {"train": 3, "val": 3, "test": 3}
    assert not data.notes


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ([("red", (5, 5, 5, 9))], "object 1 has a box without area, (5, 5, 5, 9)"),
        ([("red", (200, 5, 220, 9))], "object 1 has a box outside of the image of 96x72"),
        ([("red", (-30, 5, 20, 9))], "object 1 reaches over the border of 96x72, (-30, 5, 20, 9): it was clipped"),
        ([("", (5, 5, 20, 9))], "object 1 has no class: give it a <name>"),
        ([("red", (5, float("nan"), 20, 9))], "give finite numbers"),
        ([("blue", (40, 40, 60, 60))], "object 2 has a box of 'blue' that is there already: remove one of the two"),
    ],
)
def test_a_bad_box_is_named_and_the_rest_goes_on(voc: Path, objects: list, said: str) -> None:
    rewrite(voc, "im001", annotation(96, 72, [*objects, ("blue", (40, 40, 60, 60))]))
    data = open_boxes(voc)
    assert len(data) == 12
    assert f"Annotations/im001.xml: {said}" in reasons(data) or said in reasons(data)
    assert "im001.xml" in reasons(data)
    found = data.annotations[1]
    assert found.boxes[-1].tolist() == [39, 39, 60, 60]
    assert len(found.boxes) == (2 if "clipped" in said else 1)
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [96, 72, 96, 72]).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<annotation><object>", "is no whole XML"),
        ("", "is no whole XML"),
        ("<html></html>", "is no VOC annotation: its root is <html>"),
        (annotation(640, 480, [("red", (1, 1, 9, 9))]), "was made of an image of 640x480, the image is 96x72"),
    ],
)
def test_a_broken_annotation_is_named_and_the_rest_goes_on(voc: Path, text: str, said: str) -> None:
    rewrite(voc, "im001", text)
    data = open_boxes(voc)
    assert len(data) == 11
    assert f"Annotations/im001.xml: {said}" in reasons(data)
    assert "1 image without a usable annotation is left out" in data.notes


def test_entities_are_never_expanded(voc: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("red")
    rewrite(
        voc, "im001",
        f'<!DOCTYPE annotation [<!ENTITY x SYSTEM "file://{secret}">]><annotation><object><name>&x;</name></object></annotation>',
    )  # fmt: skip
    bomb = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "boom"}">' for n in range(20))
    rewrite(voc, "im002", f"<!DOCTYPE annotation [{bomb}]><annotation><object><name>&a19;</name></object></annotation>")
    data = open_boxes(voc)
    assert len(data) == 10
    assert reasons(data).count("declares a document type") == 2


def test_missing_and_surplus_files_are_named(voc: Path) -> None:
    (voc / "JPEGImages" / "im000.png").unlink()
    (voc / "JPEGImages" / "im003.png").write_bytes(b"\x89PNG broken")
    with (voc / "ImageSets" / "Main" / "test.txt").open("a") as file:
        file.write("ghost\n")
    data = open_boxes(voc)
    told = reasons(data)
    assert "Annotations/im000.xml: has no image of this name: add the image, or remove the file" in told
    assert "ImageSets/Main/test.txt: line 5 names 'ghost', and there is no such image" in told
    assert "JPEGImages/im003.png: cannot be read" in told
    assert len(data) == 10
    assert len(data.parts["train"]) == 4


def test_an_image_that_is_learned_from_and_tested_is_tested_only(voc: Path) -> None:
    with (voc / "ImageSets" / "Main" / "train.txt").open("a") as file:
        file.write("im009\n")
    data = open_boxes(voc)
    assert "im009: is in a set that is learned from and in one that is tested: tested only" in reasons(data)
    assert not set(data.parts["train"]) & set(data.parts["test"])
    assert 9 in data.parts["test"]


def test_without_test_set_val_is_tested(voc: Path) -> None:
    (voc / "ImageSets" / "Main" / "test.txt").unlink()
    data = open_boxes(voc)
    assert data.test_part == "val"
    assert len(data.parts["val"]) == 2


def test_trainval_alone_makes_train(voc: Path) -> None:
    sets = voc / "ImageSets" / "Main"
    (sets / "trainval.txt").write_text((sets / "train.txt").read_text() + (sets / "val.txt").read_text())
    (sets / "train.txt").unlink()
    data = open_boxes(voc)
    assert {name: len(at) for name, at in data.parts.items()} == {"train": 6, "val": 2, "test": 4}


def test_difficult_boxes_keep_their_flag(voc: Path) -> None:
    rewrite(voc, "im001", annotation(96, 72, [("red", (1, 1, 9, 9)), ("red", (20, 20, 40, 40))], difficult=(1,)))
    assert open_boxes(voc).annotations[1].difficult.tolist() == [False, True]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: None, "does not exist"),
        (lambda root: root.mkdir(), "found no images"),
        (
            lambda root: (root.mkdir(), rectangles(0)[0].save(root / "a.png")),
            "1 image, and no boxes; looked for NAME.xml",
        ),
    ],
)
def test_what_is_no_voc_folder_says_what_was_looked_for(tmp_path: Path, make, said: str) -> None:
    make(tmp_path / "x")
    with pytest.raises(InputError, match=said):
        open_boxes(tmp_path / "x")


def test_the_published_blood_cells(shared_data: Path) -> None:
    """Boxes as its readers count them; the two without area are named."""
    data = open_boxes(shared_data / "bccd-voc")
    assert data.counts() == {"Platelets": 361, "RBC": 4153, "WBC": 372}
    assert {name: len(at) for name, at in data.parts.items()} == {"train": 205, "val": 87, "test": 72}
    assert [line["file"] for line in data.problems] == [f"Annotations/BloodImage_{n}.xml" for n in ("00338", "00343")]
    assert reasons(data).count("has a box without area") == 2
