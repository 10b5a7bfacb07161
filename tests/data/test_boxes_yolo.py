"""YOLO folders as they come: of ultralytics, Roboflow and darknet; right, broken, without names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from box_files import as_yolo
from voc_files import make_voc, rectangles

from withheld.data.boxes import BoxData, open_boxes
from withheld.errors import InputError


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """12 images in images/train, images/val and images/test."""
    root = tmp_path / "yolo"
    as_yolo(open_boxes(make_voc(tmp_path / "VOC2007")), root)
    shutil.rmtree(tmp_path / "VOC2007")
    return root


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Four images of 96 x 72 in images, a line each in labels, no names."""
    root = tmp_path / "flat"
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for at in range(4):
        rectangles(at)[0].save(root / "images" / f"{at}.png")
        (root / "labels" / f"{at}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    return root


def reasons(data: BoxData) -> str:
    return "\n".join(f"{line['file']}: {line['reason']}" for line in data.problems)


def counts(data: BoxData) -> dict[str, int]:
    return {part: len(at) for part, at in data.parts.items()}


def rename(config: Path, old: str, new: str) -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def test_no_names_are_numbers_and_no_parts_are_split(flat: Path) -> None:
    data = open_boxes(flat)
    assert data.classes == ["0"]
    assert data.annotations[0].boxes.tolist() == [[36, 27, 60, 45]]
    assert data.notes[0] == "no data.yaml or classes.txt names the classes: their numbers are their names"
    assert "70/15/15" in data.notes[1]
    assert not data.problems


@pytest.mark.parametrize("place", [".", "labels"])
@pytest.mark.parametrize("name", ["classes.txt", "obj.names"])
def test_names_beside(flat: Path, place: str, name: str) -> None:
    (flat / place / name).write_text("a red one\nblue\n")
    data = open_boxes(flat)
    assert data.classes == ["a red one"]
    assert "1 of 2 classes (blue) are in no box: they are not learned" in data.notes
    assert not data.problems
    assert open_boxes(flat / "images").classes == ["a red one"]  # the folder of the images alone, too


def test_files_that_name_other_classes_are_told_of(flat: Path) -> None:
    (flat / "classes.txt").write_text("red\n")
    (flat / "labels" / "classes.txt").write_text("red\nblue\n")
    data = open_boxes(flat)
    assert data.classes == ["red"]
    assert "labels/classes.txt: names other classes than" in reasons(data)


def test_a_part_alone_has_the_names_of_the_whole(yolo: Path, tmp_path: Path) -> None:
    shutil.rmtree(yolo)
    as_yolo(open_boxes(make_voc(tmp_path / "VOC2007")), yolo, "{part}/{kind}")
    rename(yolo / "data.yaml", "train: train/", "train: ../train/")
    for named in (yolo / "train", yolo / "train" / "images"):
        assert open_boxes(named).classes == ["blue", "red"]
    (yolo / "data.yaml").write_text("train: elsewhere\nnames: [dog, cat]\n")
    assert open_boxes(yolo / "train").classes == ["0", "1"]


def test_labels_beside_the_images(flat: Path) -> None:
    """As darknet and CVAT have them: one folder, obj.data, obj.names and a list of other places."""
    (flat / "obj_train_data").mkdir()
    for path in [*(flat / "images").iterdir(), *(flat / "labels").iterdir()]:
        path.rename(flat / "obj_train_data" / path.name)
    (flat / "images").rmdir()
    (flat / "labels").rmdir()
    (flat / "obj.names").write_text("red\n")
    (flat / "obj.data").write_text("classes = 1\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    (flat / "train.txt").write_text("".join(f"data/obj_train_data/{at}.png\n" for at in range(4)))
    data = open_boxes(flat)
    assert len(data) == 4
    assert data.classes == ["red"]
    assert [line["reason"] for line in data.problems] == ["names no val or test: train was split 70/15/15"]
    (flat / "obj.data").unlink()
    assert open_boxes(flat).fingerprint == data.fingerprint


@pytest.mark.parametrize(
    "names", ["[blue, red]", "{0: blue, 1: red}", "\n  0: blue\n  1: red", "\n- blue\n- 'red'", "{'1': red, '0': blue}"]
)
def test_names_as_list_or_mapping(yolo: Path, names: str) -> None:
    rename(yolo / "data.yaml", '["blue", "red"]', names)
    assert open_boxes(yolo).classes == ["blue", "red"]


def test_names_are_the_words_that_stand_there(yolo: Path) -> None:
    """YAML takes no for false, and 2024-01-01 for a day."""
    rename(yolo / "data.yaml", '["blue", "red"]', "[no, 2024-01-01]")
    assert open_boxes(yolo).classes == ["2024-01-01", "no"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("train: images/", "train: ../images/"),  # as Roboflow writes it
        ("train: images/", "path: /content/datasets/cells\ntrain: images/"),  # another machine
        ("train: images/", "train: /content/datasets/cells/images/"),
        ("train: images/", "path: .\ntrain: ./images/"),
        ("train: images/train", "train: [images/train]"),
    ],
)
def test_paths_of_another_machine(yolo: Path, old: str, new: str) -> None:
    before = open_boxes(yolo)
    rename(yolo / "data.yaml", old, new)
    data = open_boxes(yolo / "data.yaml")
    assert data.fingerprint == before.fingerprint
    assert counts(data) == {"train": 6, "val": 2, "test": 4}
    assert not data.problems


def test_the_data_lies_elsewhere(yolo: Path, tmp_path: Path) -> None:
    """coco8.yaml in the working folder, path: ../datasets/coco8."""
    (tmp_path / "work").mkdir()
    text = (yolo / "data.yaml").read_text()
    (tmp_path / "work" / "cells.yaml").write_text(f"path: ../yolo\n{text}")
    data = open_boxes(tmp_path / "work" / "cells.yaml")
    assert counts(data) == {"train": 6, "val": 2, "test": 4}
    assert data.path(0).is_file()
    assert not data.problems


def test_a_folder_that_is_named_does_not_lead_out_of_itself(yolo: Path, tmp_path: Path) -> None:
    """What is published may name anything; where the data.yaml itself is named it may say where its images are."""
    (yolo / "images" / "val").rename(tmp_path / "elsewhere")
    for path in (yolo / "labels" / "val").iterdir():
        path.rename(tmp_path / "elsewhere" / path.name)
    (yolo / "test.txt").write_text(f"{tmp_path}/elsewhere/im006.png\n{yolo}/images/test/im008.png\n")
    rename(yolo / "data.yaml", "images/val", "../elsewhere")
    rename(yolo / "data.yaml", "images/test", "test.txt")
    data = open_boxes(yolo)
    assert len(data) == 7
    assert "val: '../elsewhere' is not to be found below" in reasons(data)
    assert "or name data.yaml itself where it lies elsewhere" in reasons(data)
    assert f"test.txt: line 1 names '{tmp_path}/elsewhere/im006.png'"[:60] in reasons(data)
    assert len(open_boxes(yolo / "data.yaml")) == 9
    rename(yolo / "data.yaml", '["blue", "red"]', "../elsewhere/im006.txt")
    with pytest.raises(InputError, match="is no file that is there"):
        open_boxes(yolo)


def test_a_path_that_is_not_there_is_said(yolo: Path) -> None:
    rename(yolo / "data.yaml", "test: images/test", "test: images/held_out")
    data = open_boxes(yolo)
    assert "data.yaml: test: 'images/held_out' is not to be found below" in reasons(data)
    assert data.test_part == "val"


def test_where_nothing_is_there_the_folders_beside_are_taken(yolo: Path) -> None:
    for part in ("train", "val", "test"):
        rename(yolo / "data.yaml", f"images/{part}", f"/gone/{part}/pictures")
    data = open_boxes(yolo)
    assert counts(data) == {"train": 6, "val": 2, "test": 4}
    assert data.notes[0] == "nothing that data.yaml names is there: the images beside it were taken"


def test_lists_of_images(yolo: Path) -> None:
    for part in ("train", "val", "test"):
        names = sorted(path.name for path in (yolo / "images" / part).iterdir())
        start = {"train": "./images/train/", "val": "images/val/", "test": f"{yolo}/images/test/"}[part]
        (yolo / f"{part}.txt").write_text("".join(f"{start}{name}\n" for name in names))
        rename(yolo / "data.yaml", f"{part}: images/{part}", f"{part}: {part}.txt")
    with (yolo / "val.txt").open("a") as file:
        file.write("images/val/ghost.png\nnotes.md\n")
    data = open_boxes(yolo)
    assert counts(data) == {"train": 6, "val": 2, "test": 4}
    assert "val.txt: line 3 names 'images/val/ghost.png', and there is no such image: remove the line" in reasons(data)
    assert "val.txt: line 4 names 'notes.md', which is no image" in reasons(data)


def test_the_same_images_to_learn_and_to_test(yolo: Path) -> None:
    """As coco128.yaml has it; scores on images that were learned from say nothing."""
    rename(yolo / "data.yaml", "val: images/val\ntest: images/test", "val: images/train")
    data = open_boxes(yolo)
    assert counts(data) == {"train": 4, "val": 1, "test": 1}
    assert "data.yaml: learns from the images that it tests: they were split 70/15/15" in reasons(data)


def test_train_alone_is_split(yolo: Path) -> None:
    rename(yolo / "data.yaml", "val: images/val\ntest: images/test", "val:\ntest: ")
    data = open_boxes(yolo)
    assert counts(data) == {"train": 4, "val": 1, "test": 1}
    assert "data.yaml: names no val or test: train was split 70/15/15" in reasons(data)


def test_folders_say_the_parts_where_no_file_does(yolo: Path) -> None:
    (yolo / "data.yaml").unlink()
    assert counts(open_boxes(yolo)) == {"train": 6, "val": 2, "test": 4}
    for part in ("train", "val", "test"):
        for kind in ("images", "labels"):
            (yolo / kind / part).rename(yolo / kind / f"{part}2017")
    assert counts(open_boxes(yolo)) == {"train": 6, "val": 2, "test": 4}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 0.25", "line 2 has 4 numbers, '0 0.5 0.5 0.25': a box has five, class, center x"),
        ("0 0.5 0.5 0.25 0.25 0.9", "line 2 has 6 numbers, '0 0.5 0.5 0.25 0.25 0.9': a box has five"),
        ("0 0.5 0.5 0.25 0.25 0.9 0.1 2", "a confidence, an angle or keypoints are not read"),
        ("0 0.5 0.5 0.2 0.2 0.4 0.4 2 0.6 0.6 2", "no the visibility of keypoints"),
        ("0 0.5 0.2 0.725 0.5 0.5 0.8 0.275 0.5", "line 2 has a box that is turned"),
        ("0 0.5 0.5 nan 0.25", "line 2 holds '0 0.5 0.5 nan 0.25': give finite numbers"),
        ("0 0,5 0,5 0,2 0,2", "line 2 holds '0 0,5 0,5 0,2 0,2': all that follows the class are numbers"),
        ("0 48 36 24 18", "line 2 has values outside of 0..1, '0 48 36 24 18': shares of the image are wanted, no pixels"),
        ("0 0.5 -0.5 0.1 0.1", "line 2 has values outside of 0..1"),
        ("0 0.5 0.5 0 0.25", "line 2 has a box without area, '0 0.5 0.5 0 0.25': draw it again"),
        ("red 0.5 0.5 0.25 0.25", "line 2 has the class 'red': give its number, counted from 0"),
        ("-1 0.5 0.5 0.25 0.25", "line 2 has the class '-1': classes are whole numbers from 0"),
        ("1e999 0.5 0.5 0.25 0.25", "line 2 has the class '1e999': give its number"),
        ("7 0.5 0.5 0.25 0.25", "line 2 has the class 7, and the 2 names are of 0 to 1: add its name, or correct the number"),
        ("0 0.5 0.5 0.5 0.5", "line 2 has a box of 'blue' that is there already: remove one of the two"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_and_the_rest_goes_on(yolo: Path, line: str, said: str) -> None:
    (yolo / "labels" / "train" / "im001.txt").write_text(f"0 0.5 0.5 0.5 0.5\n{line}\n\n1 0.5 0.5 0.5 0.5\n")
    data = open_boxes(yolo)
    assert said in reasons(data)
    assert len(data.problems) == 1
    assert data.problems[0]["file"] == "labels/train/im001.txt"
    assert data.problems[0]["reason"].endswith("; it was left out")
    at = [data.path(at).name for at in range(12)].index("im001.png")
    assert data.annotations[at].labels.tolist() == [0, 1]


def test_a_box_over_the_border_is_clipped(flat: Path) -> None:
    (flat / "labels" / "0.txt").write_text("0 0.95 0.5 0.3 0.5\n")
    data = open_boxes(flat)
    np.testing.assert_allclose(data.annotations[0].boxes, [[76.8, 18, 96, 54]])
    assert "line 1 reaches over the border of 96x72, '0 0.95 0.5 0.3 0.5': it was clipped" in reasons(data)


def test_outlines_become_boxes_and_it_is_said(flat: Path) -> None:
    (flat / "labels" / "0.txt").write_text(
        "0 0.25 0.5 0.5 0.25 0.75 0.5\n0 0.5 0.5 1 0.5 1 1 0.5 1\n0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2 0.1 0.1\n"
    )
    data = open_boxes(flat)
    np.testing.assert_allclose(data.annotations[0].boxes, [[24, 18, 72, 36], [48, 36, 96, 72], [9.6, 7.2, 19.2, 14.4]])
    assert "3 boxes were drawn around outlines" in data.notes
    assert not data.problems


def test_keypoints_are_refused_by_the_shape_that_data_yaml_tells(yolo: Path) -> None:
    (yolo / "labels" / "train" / "im001.txt").write_text("0 0.5 0.5 0.2 0.2 0.4 0.4 0.6 0.6\n")
    with (yolo / "data.yaml").open("a") as file:
        file.write("kpt_shape: [2, 2]\n")
    data = open_boxes(yolo)
    said = (
        "im001.txt: line 1 has a box with keypoints, '0 0.5 0.5 0.2 0.2 0.4 0.4 0.6 0.6': keep the first five numbers"
    )
    assert said in reasons(data)


def test_many_bad_lines_are_counted(flat: Path) -> None:
    (flat / "labels" / "0.txt").write_text("x\n" * 5000)
    data = open_boxes(flat)
    assert len(data.problems) == 11
    assert data.problems[-1]["reason"] == "has 4990 more such lines, left out too"


def test_files_that_are_missing_or_too_many(yolo: Path, tmp_path: Path) -> None:
    (yolo / "labels" / "train" / "im000.txt").unlink()
    (yolo / "labels" / "train" / "im001.txt").write_text("")
    (yolo / "labels" / "train" / "im002.txt").write_bytes("0 0.5 0.5 0.1 0.1\n".encode("utf-16"))
    (yolo / "labels" / "train" / "ghost.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (yolo / "labels" / "train" / "classes.txt").write_text("blue\nred\n")
    (yolo / "images" / "train" / "im003.png").write_bytes(b"\x89PNG broken")
    (tmp_path / "secret").write_text("0 s3cret")
    (yolo / "labels" / "train" / "im004.txt").unlink()
    (yolo / "labels" / "train" / "im004.txt").symlink_to(tmp_path / "secret")
    data = open_boxes(yolo)
    told = reasons(data)
    assert "labels/train/ghost.txt: has no image of this name: add the image, or remove the file" in told
    assert "labels/train/im002.txt: is no plain text: save it as UTF-8" in told
    assert "images/train/im003.png: cannot be read" in told
    assert "labels/train/im004.txt: is a link that leads out of the folder" in told
    assert "s3cret" not in told
    assert len(data.problems) == 4
    assert data.notes == [
        "1 image without a label file is left out: an image in which nothing is to be found has an empty one"
    ]
    names = [data.path(at).name for at in range(len(data))]
    assert len(names) == 8
    assert len(data.annotations[names.index("im001.png")].boxes) == 0
    assert names.index("im001.png") in data.parts["train"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("names: [a", "is no YAML that can be read"),
        ("- a\n- b", "a data.yaml is keys and values: train, val and names"),
        ("train: {a: b}\nnames: [a]", "train is a folder, a list of images, or several of these"),
        ("train: images/train\nnames: [[a], b]", "names are one word or more for every class"),
        ("train: images/train\nnames: {a: b}", "names are a list, or numbers from 0 with a name each"),
        ("a: &x [1]\nnames: *x\ntrain: images/train", "write the value out instead of an alias"),
        ("names: [a]\nnames: [b]", "the key 'names' stands twice"),
        ("!!python/object/apply:os.system [ls]", "is no YAML that can be read"),
        ("[" * 500, "nested too deeply"),
        ("names: gone.names\ntrain: images/train", "names 'gone.names' is no file that is there"),
    ],
)
def test_a_data_yaml_that_cannot_be_used(yolo: Path, text: str, said: str) -> None:
    (yolo / "data.yaml").write_text(text)
    with pytest.raises(InputError, match=r"data\.yaml") as error:
        open_boxes(yolo)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: shutil.rmtree(root / "labels"), "12 images, and none has a label file: labels/NAME.txt for images/NAME.jpg"),
        (lambda root: shutil.rmtree(root / "images"), "found no images; YOLO has them in images/train"),
        (lambda root: [path.write_text("") for path in root.glob("labels/*/*.txt")], "no usable box for 12 images"),
        (lambda root: (root / "data.yaml").rename(root / "data.zip"), "is a file, and neither a data.yaml nor a .json"),
    ],
)  # fmt: skip
def test_what_is_no_yolo_folder_says_what_was_looked_for(yolo: Path, make: Callable[[Path], object], said: str) -> None:
    make(yolo)
    named = yolo / "data.zip"
    with pytest.raises(InputError) as error:
        open_boxes(named if named.exists() else yolo)
    assert said in str(error.value)


def test_several_data_sets_want_a_name(yolo: Path, tmp_path: Path) -> None:
    assert open_boxes(tmp_path).fingerprint == open_boxes(yolo).fingerprint  # the folder above will do
    shutil.copytree(yolo, tmp_path / "more")
    with pytest.raises(InputError, match=r"holds 2 data sets .*data\.yaml.*name one"):
        open_boxes(tmp_path)


def test_few_labels_among_many_images_are_found(flat: Path) -> None:
    """Of a sample of the images none may have one."""
    for at in range(4, 300):
        shutil.copy(flat / "images" / "3.png", flat / "images" / f"{at}.png")
    data = open_boxes(flat)
    assert len(data) == 4
    assert (
        "296 images without a label file are left out: an image in which nothing is to be found has an empty one"
        in (data.notes)
    )


def test_captions_beside_images_are_no_boxes(flat: Path) -> None:
    for at in range(4):
        (flat / "labels" / f"{at}.txt").rename(flat / "images" / f"{at}.txt")
        (flat / "images" / f"{at}.txt").write_text("a photo of a cat on a mat\n")
    with pytest.raises(InputError, match=r"4 images, and no boxes; looked for NAME\.xml"):
        open_boxes(flat)
