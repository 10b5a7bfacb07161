"""evaluate --boxes, finetune --boxes and detect, as a user types them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from box_files import as_coco, as_yolo
from voc_files import make_voc

from withheld.data.boxes import open_boxes

pytest.importorskip("cv2.ximgproc")

Typed = Callable[..., Result]


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_voc(tmp_path_factory.mktemp("cli") / "VOC2007")


@pytest.fixture(scope="module")
def encoder(voc: Path, withheld: Typed) -> Path:
    out = voc.parent / "run"
    made = withheld(
        "pretrain", "mae", "--data", voc / "JPEGImages", "--out", out, "--size", 24, "--steps", 2, "--batch-size", 8,
        "--encoder", "vit-nano",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    return out


@pytest.fixture(scope="module")
def model(voc: Path, encoder: Path, withheld: Typed) -> Path:
    out = voc.parent / "model"
    made = withheld("finetune", encoder, "--voc", voc, "--out", out, "--steps", 3, "--device", "cpu")
    assert made.exit_code == 0, made.output
    assert "mAP@0.5: " in made.stderr
    assert "4 images of test (blue " in made.stderr
    assert f"withheld detect {out} photo.jpg -o found.png" in made.stderr
    assert json.loads((out / "model.json").read_text())["made"]["learned"] == 8  # train and val
    return out


def test_one_image(model: Path, voc: Path, withheld: Typed, tmp_path: Path) -> None:
    image = voc / "JPEGImages" / "im009.png"
    done = withheld(
        "detect", model, image, "-o", tmp_path / "out.png", "--boxes", tmp_path / "boxes.json", "--score", 0.0
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "out.png")
    drawn, plain = (np.asarray(Image.open(path).convert("RGB")) for path in (tmp_path / "out.png", image))
    assert drawn.shape == plain.shape
    assert (drawn != plain).any()
    rows = json.loads((tmp_path / "boxes.json").read_text())
    assert rows
    for row in rows:
        assert row["file"] == "im009.png"
        assert row["class"] in ("red", "blue")
        assert 1 <= row["xmin"] <= row["xmax"] <= 96
        assert 1 <= row["ymin"] <= row["ymax"] <= 72
    again = withheld("detect", model, image, "-o", tmp_path / "out.png")
    assert again.exit_code == 2
    assert "exists: choose another name, or --force" in again.stderr
    unsure = withheld("detect", model, image, "-o", tmp_path / "none.png", "--score", 1.0)
    assert "0 objects in 1 image: none has a score of 1 or more; a lower --score" in unsure.stderr


def test_a_folder_with_a_broken_image(model: Path, voc: Path, withheld: Typed, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for at in range(3):
        Image.open(voc / "JPEGImages" / f"im{at:03d}.png").save(photos / f"{at}.png")
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff broken")
    done = withheld("detect", model, photos, "-o", tmp_path / "found")
    assert done.exit_code == 0, done.output
    assert "left out: bad.jpg" in done.stderr
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == ["0.png", "1.png", "2.png", "boxes.csv"]
    header = next(csv.reader((tmp_path / "found" / "boxes.csv").open()))
    assert header == ["file", "class", "score", "xmin", "ymin", "xmax", "ymax"]


def test_images_of_one_name_have_a_picture_each(model: Path, voc: Path, withheld: Typed, tmp_path: Path) -> None:
    """a.bmp was drawn over a.png."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for at, ending in enumerate(("bmp", "png")):
        Image.open(voc / "JPEGImages" / f"im{at:03d}.png").save(photos / f"a.{ending}")
    done = withheld("detect", model, photos, "-o", tmp_path / "found")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "found").glob("*.png")) == ["a.png", "a.png.png"]


def test_the_verdict_and_its_page(encoder: Path, voc: Path, withheld: Typed, tmp_path: Path) -> None:
    (voc / "Annotations" / "ghost.xml").write_text("<annotation/>")
    typed = (
        "evaluate",
        encoder,
        "--voc",
        voc,
        "--shares",
        "50,100",
        "--steps",
        2,
        "--seeds",
        2,
        "--out",
        tmp_path / "e",
    )
    done = withheld(*typed, "--device", "cpu")
    (voc / "Annotations" / "ghost.xml").unlink()
    assert done.exit_code == 0, done.output
    assert "Annotations/ghost.xml: has no image of this name" in done.stderr
    assert (
        done.stdout.strip()
        .splitlines()[-1]
        .startswith("With 3 labelled images (50 % of them), by mAP@0.5, pretraining is")
    )
    assert "COCO AP" in done.stdout
    page = (tmp_path / "e" / "report.html").read_text()
    assert "Finding objects" in page
    assert "6 images (100 %)" in page
    assert page.count("data:image/") >= 4
    assert "ghost.xml" in page
    found = withheld("detect", tmp_path / "e", voc / "JPEGImages" / "im009.png", "-o", tmp_path / "x.png")
    assert found.exit_code == 0, found.output


@pytest.mark.parametrize("layout", ["YOLO", "COCO"])
def test_boxes_in_other_layouts(encoder: Path, voc: Path, withheld: Typed, tmp_path: Path, layout: str) -> None:
    """A folder of YOLO with a line that is wrong, a .json of COCO."""
    data = open_boxes(voc)
    if layout == "YOLO":
        named = as_yolo(data, tmp_path / "boxes").parent
        (named / "labels" / "train" / "im000.txt").write_text("0 0.5 0.5 0.3 0.3\n9 0.5 0.5 0.3 0.3\n")
        done = withheld(
            "evaluate", encoder, "--boxes", named, "--shares", 100, "--steps", 1, "--seeds", 2, "--out", tmp_path / "e",
            "--device", "cpu",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        assert "labels/train/im000.txt: line 2 has the class 9, and the 2 names are of 0 to 1" in done.stderr
        assert "labelled images (all there are), by mAP@0.5, pretraining is" in done.stdout
        assert "labels/train/im000.txt" in (tmp_path / "e" / "report.html").read_text()
    else:
        named = as_coco(data, tmp_path / "boxes") / "annotations" / "instances_train2017.json"
    made = withheld("finetune", encoder, "--boxes", named, "--out", tmp_path / "m", "--steps", 1, "--device", "cpu")
    assert made.exit_code == 0, made.output
    learned = {"YOLO": 8, "COCO": 5}[layout]  # train and val; of train alone 85 %
    assert json.loads((tmp_path / "m" / "model.json").read_text())["made"]["learned"] == learned
    found = withheld("detect", tmp_path / "m", voc / "JPEGImages" / "im009.png", "-o", tmp_path / "x.png")
    assert found.exit_code == 0, found.output


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("evaluate", "RUN"), "give one of --data LABELLED, --glue DIR"),
        (("evaluate", "RUN", "--voc", "VOC", "--data", "VOC"), "give one of --data LABELLED, --glue DIR"),
        (("evaluate", "RUN", "--voc", "VOC", "--shares", "10,x"), "not a list of percentages"),
        (("evaluate", "RUN", "--voc", "nowhere"), "--boxes nowhere does not exist"),
        (("finetune", "RUN", "--out", "m"), "or --boxes DIR for a detector"),
        (("finetune", "RUN", "--voc", "VOC", "--out", "RUN"), "exists and is not an empty folder"),
        (("finetune", "RUN", "--voc", "VOC", "--out", "m", "--side", "50"), "not a multiple of this encoder's patch"),
        (("detect", "RUN", "VOC", "-o", "x"), "holds no detector: make one with withheld finetune RUN --boxes DIR"),
        (("predict", "MODEL", "VOC/JPEGImages", "-o", "x.csv"), "finds objects: withheld detect"),
        (("detect", "MODEL", "nowhere.png", "-o", "x.png"), "nowhere.png"),
        (("detect", "MODEL", "VOC/JPEGImages/im000.png", "-o", "x.txt"), "ends in .png"),
        (("detect", "MODEL", "VOC/JPEGImages/im000.png", "-o", "x.png", "--boxes", "b.txt"), "ends in .csv or .json"),
    ],
)
def test_what_is_wrong_is_said(
    typed: tuple[str, ...],
    said: str,
    voc: Path,
    encoder: Path,
    model: Path,
    withheld: Typed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for word, path in (("RUN", encoder), ("VOC", voc), ("MODEL", model)):
        typed = tuple(part.replace(word, str(path)) if part.startswith(word) else part for part in typed)
    done = withheld(*typed)
    assert done.exit_code != 0
    assert getattr(done.exception, "exit_code", done.exit_code) == 2
    assert said in f"{done.output} {done.exception}"
