"""COCO files as they come: as published, as Roboflow writes them, one beside a folder of images; right and broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from box_files import as_coco
from voc_files import make_voc, rectangles

from withheld.data.boxes import BoxData, open_boxes
from withheld.errors import InputError


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    """What a file says of three images of 96 x 72 in `images`; one has no object, and category 9 is of none."""
    (tmp_path / "images").mkdir()
    for at in range(3):
        rectangles(at)[0].save(tmp_path / "images" / f"{at}.png")
    images = [{"id": f"i{at}", "file_name": f"{at}.png", "width": 96, "height": 72} for at in range(3)]
    rows = [
        {"id": 10 + at, "image_id": f"i{at // 2}", "category_id": (1, 90)[at % 2], "bbox": [8 * at, 0.5, 10, 20.25], "iscrowd": 0}
        for at in range(4)
    ]  # fmt: skip
    categories = [{"id": 1, "name": "cat"}, {"id": 90, "name": "toothbrush"}, {"id": 9, "name": "boat"}]
    return {"images": images, "annotations": rows, "categories": categories}


def opened(tmp_path: Path, table: dict[str, Any]) -> BoxData:
    (tmp_path / "boxes.json").write_text(json.dumps(table))
    return open_boxes(tmp_path)


def reasons(data: BoxData) -> str:
    return "\n".join(f"{line['file']}: {line['reason']}" for line in data.problems)


def test_one_file_beside_a_folder_of_images(table: dict[str, Any], tmp_path: Path) -> None:
    data = opened(tmp_path, table)
    assert data.classes == ["cat", "toothbrush"]
    assert [each.boxes.tolist() for each in data.annotations] == [
        [[0, 0.5, 10, 20.75], [8, 0.5, 18, 20.75]],
        [[16, 0.5, 26, 20.75], [24, 0.5, 34, 20.75]],
        [],
    ]
    assert data.annotations[0].labels.tolist() == [0, 1]
    assert "70/15/15" in data.notes[0]
    assert data.notes[1:] == ["1 of 3 classes (boat) are in no box: they are not learned"]
    assert not data.problems
    assert open_boxes(tmp_path / "boxes.json").fingerprint == data.fingerprint


def test_crowds_are_difficult(table: dict[str, Any], tmp_path: Path) -> None:
    table["annotations"][1]["iscrowd"] = 1
    assert opened(tmp_path, table).annotations[0].difficult.tolist() == [False, True]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row.update(bbox=[1, 2, 3]), "annotation 11 of '0.png' has the bbox [1, 2, 3]: give x, y, width and height"),
        (lambda row: row.pop("bbox"), "annotation 11 of '0.png' has the bbox None: give x, y, width and height"),
        (lambda row: row.update(bbox=["1", 2, 3, 4]), "has the bbox ['1', 2, 3, 4]: give x, y, width and height"),
        (lambda row: row.update(bbox=[float("nan"), 2, 3, 4]), "has the box [nan, 2, 3, 4]: give finite numbers"),
        (lambda row: row.update(bbox=[10**400, 2, 3, 4]), "give finite numbers"),
        (lambda row: row.update(bbox=[5, 5, 0, 4]), "has a box without area, [5, 5, 0, 4]: draw it again"),
        (lambda row: row.update(bbox=[5, 5, -2, 4]), "has a box without area, [5, 5, -2, 4]: draw it again"),
        (lambda row: row.update(bbox=[500, 5, 2, 4]), "has a box outside of the image of 96x72, [500, 5, 2, 4]"),
        (lambda row: row.update(category_id=7), "has the category 7, which is not listed: add it, or correct the id"),
        (lambda row: row.update(category_id=[7]), "has the category None, which is not listed"),
        (lambda row: row.update(image_id="i9"), "boxes.json: annotation 11 is of the image 'i9', which is not listed"),
        (lambda row: row.update(category_id=1, bbox=[0, 0.5, 10, 20.25]), "has a box of 'cat' that is there already"),
    ],
)  # fmt: skip
def test_a_bad_annotation_is_named_and_the_rest_goes_on(
    table: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    change(table["annotations"][1])
    data = opened(tmp_path, table)
    assert said in reasons(data)
    assert len(data.problems) == 1
    assert data.problems[0]["reason"].endswith("; it was left out") or "it was left out" in reasons(data)
    assert [len(each.boxes) for each in data.annotations] == [1, 2, 0]


def test_a_box_over_the_border_is_clipped(table: dict[str, Any], tmp_path: Path) -> None:
    table["annotations"][0]["bbox"] = [90, 60, 20, 20]
    data = opened(tmp_path, table)
    assert data.annotations[0].boxes[0].tolist() == [90, 60, 96, 72]
    assert "annotation 10 of '0.png' reaches over the border of 96x72, [90, 60, 20, 20]: it was clipped" in reasons(
        data
    )


@pytest.mark.parametrize(
    ("change", "said", "left"),
    [
        (lambda t: t["images"][1].update(file_name="ghost.png"), "lists the image 'ghost.png', and there is none: add", 2),
        (lambda t: t["images"][1].update(width=640), "image '1.png' was made of an image of 640x72, the image is 96x72", 2),
        (lambda t: t["images"][1].pop("file_name"), "lists an image without id or file_name, {'id': 'i1'", 2),
        (lambda t: t["images"][1].update(file_name="0.png"), "lists the image '0.png' twice: the second was left out", 2),
        (lambda t: t["images"][1].update(id="i0"), "lists two images of the id i0, '0.png' and '1.png'", 2),
        (lambda t: t["images"].append(3), "lists an image without id or file_name, 3", 3),
        (lambda t: t["categories"].append("x"), "has a category without id, 'x'", 3),
        (lambda t: t["annotations"].append(3), "annotation 5 is of the image None, which is not listed", 3),
    ],
)  # fmt: skip
def test_a_bad_entry_is_named_and_the_rest_goes_on(
    table: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str, left: int
) -> None:
    change(table)
    data = opened(tmp_path, table)
    assert said in reasons(data)
    assert len(data) == left


def test_images_without_an_entry_are_left_out_and_said(table: dict[str, Any], tmp_path: Path) -> None:
    rectangles(9)[0].save(tmp_path / "images" / "9.png")
    data = opened(tmp_path, table)
    assert len(data) == 3
    assert "1 image is left out: no .json lists it, or it cannot be used" in data.notes


def test_paths_of_another_machine(table: dict[str, Any], tmp_path: Path) -> None:
    for at, start in enumerate(("/content/data/images/", "..\\images\\", "../../")):
        table["images"][at]["file_name"] = f"{start}{at}.png"
    data = opened(tmp_path, table)
    assert len(data) == 3
    assert not data.problems


def test_images_of_one_name_are_told_by_their_folder(table: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    rectangles(5)[0].save(tmp_path / "more" / "1.png")
    data = opened(tmp_path, table)
    said = "lists the image '1.png', and there are 2 (images/1.png, more/1.png): list them with their folder"
    assert said in reasons(data)
    table["images"][1]["file_name"] = "more/1.png"
    assert "more/1.png" in opened(tmp_path, table).source.names


def test_the_same_name_in_train_and_val(tmp_path: Path) -> None:
    """Two cameras count from 0: each file means the images of its own folder."""
    root = as_coco(open_boxes(make_voc(tmp_path / "VOC2007")), tmp_path / "coco")
    for part, first in (("train", "im000"), ("val", "im006")):
        (root / f"{part}2017" / f"{first}.png").rename(root / f"{part}2017" / "a.png")
        path = root / "annotations" / f"instances_{part}2017.json"
        path.write_text(path.read_text().replace(first, "a"))
    (root / "annotations" / "captions_train2017.json").write_text('{"images": [], "annotations": [{"caption": "a"}]}')
    data = open_boxes(root)
    assert {part: len(at) for part, at in data.parts.items()} == {"train": 6, "val": 2, "test": 4}
    assert {"train2017/a.png", "val2017/a.png"} <= set(data.source.names)
    assert not data.problems


def test_which_file_is_of_which_part(table: dict[str, Any], tmp_path: Path) -> None:
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_text(json.dumps(table))
    with pytest.raises(InputError, match=r"2 \.json files \(one\.json, two\.json\), none named train, val or test"):
        open_boxes(tmp_path)
    (tmp_path / "two.json").rename(tmp_path / "cells_train.json")
    (tmp_path / "val.json").write_text(json.dumps({**table, "images": table["images"][:1]}))
    data = open_boxes(tmp_path)
    assert "one.json: is named neither train, val nor test" in reasons(data)
    assert {part: len(at) for part, at in data.parts.items()} == {"train": 2, "val": 1, "test": 0}
    assert "is in a set that is learned from and in one that is tested: tested only" in reasons(data)
    (tmp_path / "one.json").rename(tmp_path / "train-2.json")
    with pytest.raises(InputError, match=r"cells_train\.json and .*train-2\.json are both of train: name one"):
        open_boxes(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"images": [', "is no whole JSON"),
        ("", "is no whole JSON"),
        ("[1, 2]", "has no list of images and annotations and categories: boxes are read from COCO's files"),
        ('{"images": [], "annotations": 3, "categories": []}', "has no list of annotations: boxes are read"),
        ("[" * 100_000, "nested too deeply"),
        ('{"images": [], "annotations": [], "categories": []}', "none of the images that its .json lists can be used"),
    ],
)
def test_a_json_that_is_none_of_coco(table: dict[str, Any], tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(InputError) as error:
        open_boxes(tmp_path / "boxes.json")
    assert said in str(error.value)


def test_no_image_is_there(table: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "boxes.json").write_text(json.dumps(table))
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    with pytest.raises(
        InputError, match=r"none of the images .*; the first: annotations/boxes\.json: lists .*'0\.png'"
    ):
        open_boxes(tmp_path / "annotations" / "boxes.json")


def test_notes_of_other_tools_are_no_boxes(table: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text('{"categories": [{"id": 0, "name": "cat"}], "info": {}}')  # of Label Studio
    (tmp_path / "0.json").write_text('{"shapes": [], "imagePath": "0.png"}')  # of LabelMe
    (tmp_path / "captions.json").write_text('{"images": [], "annotations": [{"image_id": 1, "caption": "a"}]}')
    (tmp_path / "found.json").write_text('[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]')
    with pytest.raises(InputError, match="3 images, and no boxes"):
        open_boxes(tmp_path)


def test_names_that_are_half_a_character(table: dict[str, Any], tmp_path: Path) -> None:
    table["categories"][0]["name"] = "\ud800"
    assert opened(tmp_path, table).classes == ["?", "toothbrush"]
