"""The same boxes in the layouts of VOC, YOLO and COCO are the same data."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from box_files import as_coco, as_yolo, coco_of
from voc_files import annotation, make_voc, rectangles

from withheld.data.boxes import BoxData, open_boxes
from withheld.data.describe import describe
from withheld.data.source import open_source
from withheld.data.text import open_texts
from withheld.errors import InputError


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> BoxData:
    """12 images; one has a difficult box, one has none."""
    root = make_voc(tmp_path_factory.mktemp("boxes") / "VOC2007")
    (root / "Annotations" / "im001.xml").write_text(annotation(96, 72, []))
    hard = [("red", (1, 1, 9, 9)), ("red", (20, 20, 40.5, 40.25))]
    (root / "Annotations" / "im009.xml").write_text(annotation(96, 72, hard, difficult=(1,)))
    return open_boxes(root)


def alike(data: BoxData, other: BoxData, near: float = 1e-6) -> None:
    """Asserts that two data sets say the same of the same files."""
    assert data.classes == other.classes
    places = {data.path(at).name: at for at in range(len(data))}
    assert sorted(places) == sorted(other.path(at).name for at in range(len(other)))
    for at in range(len(other)):
        one, two = data.annotations[places[other.path(at).name]], other.annotations[at]
        assert (one.width, one.height) == (two.width, two.height)
        np.testing.assert_allclose(one.boxes, two.boxes, atol=near)
        np.testing.assert_array_equal(one.labels, two.labels)
    for part in ("train", "val", "test"):
        named = [sorted(each.path(int(at)).name for at in each.parts[part]) for each in (data, other)]
        assert named[0] == named[1], part


def test_an_image_without_objects_is_one_to_learn_from(voc: BoxData) -> None:
    assert [len(each.boxes) for each in voc.annotations][1] == 0
    assert 1 in voc.parts["train"]


@pytest.mark.parametrize("pattern", ["{kind}/{part}", "{part}/{kind}"])
@pytest.mark.parametrize("named", ["folder", "data.yaml"])
def test_yolo(voc: BoxData, tmp_path: Path, pattern: str, named: str) -> None:
    config = as_yolo(voc, tmp_path / "yolo", pattern)
    found = open_boxes(config if named == "data.yaml" else config.parent)
    alike(found, voc)
    assert not found.problems
    assert not found.notes


@pytest.mark.parametrize("roboflow", [False, True])
def test_coco(voc: BoxData, tmp_path: Path, roboflow: bool) -> None:
    found = open_boxes(as_coco(voc, tmp_path / "coco", roboflow))
    alike(found, voc)
    assert not found.problems
    assert not found.notes
    at = [found.path(at).name for at in range(12)].index("im009.png")
    assert found.annotations[at].difficult.tolist() == [False, True]


def test_published_blood_cells_in_all_layouts(shared_data: Path, tmp_path: Path) -> None:
    """Forty images of each part; shares with six digits, as they are exported."""
    cells = open_boxes(shared_data / "bccd-voc")
    for part, at in cells.parts.items():
        cells.parts[part] = at[:40]
    yolo = open_boxes(as_yolo(cells, tmp_path / "yolo", digits=6))
    coco = open_boxes(as_coco(cells, tmp_path / "coco"))
    alike(coco, yolo, near=1e-3)
    names = {cells.path(at).name: at for at in range(len(cells))}
    assert len(coco) == 120
    for at in range(len(coco)):
        np.testing.assert_allclose(coco.annotations[at].boxes, cells.annotations[names[coco.path(at).name]].boxes)
    assert not coco.problems + yolo.problems


def test_an_independent_reader_agrees(voc: BoxData, tmp_path: Path) -> None:
    coco = pytest.importorskip("faster_coco_eval").COCO
    root = as_coco(voc, tmp_path / "coco")
    found = open_boxes(root / "annotations" / "instances_train2017.json")
    table = coco(json.loads((root / "annotations" / "instances_train2017.json").read_text()))
    names = {table.cats[one]["id"]: table.cats[one]["name"] for one in table.getCatIds()}
    for number in table.getImgIds():
        rows = table.loadAnns(table.getAnnIds(imgIds=[number]))
        at = [found.path(at).name for at in range(len(found))].index(table.imgs[number]["file_name"])
        expected = [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in rows)]
        np.testing.assert_allclose(found.annotations[at].boxes, np.reshape(expected, (-1, 4)))
        classes = [found.classes[label] for label in found.annotations[at].labels]
        assert classes == [names[row["category_id"]] for row in rows]
    assert "70/15/15" in found.notes[0]


def test_boxes_are_of_the_image_as_it_is_seen(tmp_path: Path) -> None:
    """A photograph that says that it lies on its side: 96 x 72 stored, 72 x 96 seen."""
    image, _ = rectangles(0)
    exif = image.getexif()
    exif[0x0112] = 6
    for at in range(3):
        image.save(tmp_path / f"{at}.jpg", exif=exif)
        (tmp_path / f"{at}.txt").write_text("0 0.5 0.25 0.5 0.25\n")
    found = open_boxes(tmp_path)
    assert (found.annotations[0].width, found.annotations[0].height) == (72, 96)
    assert found.annotations[0].boxes.tolist() == [[18, 12, 54, 36]]
    for at in range(3):
        (tmp_path / f"{at}.txt").unlink()
    images = [{"id": at, "file_name": f"{at}.jpg", "width": 72, "height": 96} for at in range(3)]
    rows = [{"id": at, "image_id": at, "category_id": 1, "bbox": [18, 12, 36, 24]} for at in range(3)]
    table = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "boxes.json").write_text(json.dumps(table))
    assert open_boxes(tmp_path).annotations[0].boxes.tolist() == [[18, 12, 54, 36]]
    images[0].update(width=96, height=72)
    (tmp_path / "boxes.json").write_text(json.dumps(table))
    assert (
        "or save it without its EXIF orientation, by which it is turned" in open_boxes(tmp_path).problems[0]["reason"]
    )


def test_of_several_layouts_vocs_is_read_and_it_is_said(voc: BoxData, tmp_path: Path) -> None:
    root = tmp_path / "all"
    shutil.copytree(voc.source.store.root, root)  # type: ignore[attr-defined]
    (root / "labels").mkdir()
    for at in range(12):
        (root / "labels" / f"im{at:03d}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (root / "boxes.json").write_text(json.dumps(coco_of(voc, list(range(12)))))
    found = open_boxes(root)
    assert found.counts() == voc.counts()
    assert found.notes == [
        "boxes lie here in the layouts of VOC and YOLO and COCO: those of VOC were read; name the data.yaml or .json to have others"
    ]
    assert len(open_boxes(root / "boxes.json")) == 12


def test_a_data_yaml_without_labels_beside_a_json(voc: BoxData, tmp_path: Path) -> None:
    """Trainers that read COCO have a data.yaml, too."""
    root = as_coco(voc, tmp_path / "coco")
    (root / "data.yaml").write_text("train: train2017\nval: val2017\nnames: [blue, red]\n")
    alike(open_boxes(root), voc)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_told_of_and_nothing_crashes(voc: BoxData, tmp_path: Path, seed: int) -> None:
    """Bytes changed, cut and doubled in label files, data.yaml and .json."""
    dice = random.Random(seed)
    yolo = as_yolo(voc, tmp_path / "yolo").parent
    coco = as_coco(voc, tmp_path / "coco")
    for root, pattern in ((yolo, "labels/*/*.txt"), (yolo, "data.yaml"), (coco, "annotations/*.json")):
        for path in sorted(root.glob(pattern)):
            whole = path.read_bytes()
            for _ in range(6):
                data = bytearray(whole)
                for _ in range(dice.choice([1, 3, 20])):
                    if data:
                        at = dice.randrange(len(data))
                        data[at : at + dice.choice([0, 1, 9])] = dice.choice(
                            [b"", b"-", b"9" * 30, b"nan", b"1e999", b"[[", b"\xff\x00", b"{", b'"', b"\\ud800", b"*a", b"null"]
                        )  # fmt: skip
                path.write_bytes(bytes(data))
                try:
                    found = open_boxes(root)
                except InputError as error:
                    assert str(error).strip()  # noqa: PT017
                else:
                    for each in found.annotations:
                        assert np.isfinite(each.boxes).all()
                        assert (each.boxes[:, :2] < each.boxes[:, 2:]).all()
                        assert (each.boxes >= 0).all()
                        assert (each.boxes <= [each.width, each.height] * 2).all()
                if pattern != "labels/*/*.txt":
                    path.write_bytes(whole)


@pytest.mark.parametrize("layout", ["VOC", "YOLO", "COCO"])
def test_check_and_labels_say_that_boxes_are_there(voc: BoxData, tmp_path: Path, layout: str) -> None:
    """No folder of a class is one, and train2017 is a part."""
    root, named = tmp_path / "data", {"YOLO": "data.yaml", "COCO": "annotations/instances_train2017.json"}.get(layout)
    if layout == "VOC":
        shutil.copytree(voc.source.store.root, root)  # type: ignore[attr-defined]
    elif layout == "YOLO":
        as_yolo(voc, root)
    else:
        as_coco(voc, root)
    found = describe(root)
    assert found.items == 12
    assert found.parts == ({} if layout == "VOC" else {"test": 4, "train": 6, "val": 2})
    takes = f"withheld finetune RUN --boxes {root} --out MODEL"
    assert f"boxes in {layout} layout lie beside the images: {takes} learns to find objects" in str(found)
    assert "look like labels" not in str(found)
    with pytest.raises(InputError, match=f"labels were asked for.*boxes in {layout} layout lie beside"):
        open_source(root, True)
    if named:
        with pytest.raises(InputError, match=rf"holds no images; it .*--boxes {root}/{named} --out MODEL"):
            open_source(root / named)


def test_pictures_alone_say_nothing_of_boxes(tmp_path: Path) -> None:
    for at in range(3):
        rectangles(at)[0].save(tmp_path / f"{at}.png")
    (tmp_path / "0.txt").write_text("a photo of a cat")
    (tmp_path / "notes.json").write_text('{"images": 3}')
    assert "boxes" not in str(describe(tmp_path)).replace(str(tmp_path), "")


def test_a_list_of_boxes_is_no_list_of_texts(voc: BoxData, tmp_path: Path) -> None:
    root = as_coco(voc, tmp_path / "coco")
    with pytest.raises(
        InputError, match="lists the boxes of images: --boxes of withheld evaluate and finetune takes it"
    ):
        open_texts(root / "annotations" / "instances_train2017.json")
