"""What `withheld check` tells about a set."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from small_files import encoded, photo, write_images, write_mnist

from withheld.cli import main
from withheld.data import describe as module
from withheld.data.classes import doubtful_classes
from withheld.data.describe import describe
from withheld.data.frames import folders_among
from withheld.data.prepared import prepare
from withheld.data.source import open_source
from withheld.errors import InputError


def test_a_folder_with_everything(class_folders: Path) -> None:
    (class_folders / "train" / "cat" / "copy.jpeg").write_bytes(
        (class_folders / "train" / "cat" / "000.jpeg").read_bytes()
    )
    (class_folders / "test" / "cat" / "near.png").write_bytes(encoded(photo(0), "PNG"))
    (class_folders / "test" / "cat" / "broken.jpg").write_bytes(b"x")
    (class_folders / "train" / "cat" / "grey.png").write_bytes(encoded(photo(50, 90, 90), "PNG", "L"))
    found = describe(class_folders)
    assert found.items == 16
    assert found.looked == 16
    assert not found.sampled
    assert found.parts == {"test": 6, "train": 10}
    assert found.heights == (40, 40, 90)
    assert found.widths == (60, 60, 90)
    assert found.channels == {3: 14, 1: 1}
    assert found.formats == {"JPEG RGB": 13, "PNG RGB": 1, "PNG L": 1}
    assert [line["file"] for line in found.broken] == ["test/cat/broken.jpg"]
    assert found.exact == [("train/cat/000.jpeg", "train/cat/copy.jpeg")]
    assert found.near == [("test/cat/near.png", "train/cat/000.jpeg")]
    assert found.crossing == 1
    assert found.classes == {}
    text = str(found)
    assert "2 folder names look like labels (cat, dog)" in text
    assert "one image in train and one in test" in text
    assert found.suggested_size == 60
    json.dumps(asdict(found))


def test_labels_are_counted_only_when_asked_for(class_folders: Path) -> None:
    found = describe(class_folders, labels=True)
    assert found.classes == {"cat": 6, "dog": 6}
    assert "2 classes of 6 to 6" in str(found)
    assert "look like labels" not in str(found)


def test_large_sets_are_sampled_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path)
    monkeypatch.setattr(module, "MOST_READ", 10)
    found = describe(tmp_path)
    assert (found.items, found.looked) == (40, 10)
    assert found.sampled
    assert "10, a seeded sample" in str(found)
    assert str(describe(tmp_path)) == str(found)
    assert found.suggested_size == 12
    assert found.prepared_bytes == 40 * 144


def test_photographs_and_arrays(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(photo(0, 300, 200)))
    (tmp_path / "b.jpg").write_bytes(encoded(photo(1, 200, 500)))
    found = describe(tmp_path)
    assert found.suggested_size == 96
    assert any("squashed" in warning for warning in found.warnings)
    assert any("224" in warning for warning in found.warnings)
    values = np.random.default_rng(0).normal(size=(4, 9, 9, 5))
    assert describe(values).channels == {5: 4}


def test_nothing_good(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="that can be read, of 1"):
        describe(tmp_path)
    for number in range(9):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    told = CliRunner().invoke(main, ["check", str(tmp_path)])
    assert told.exit_code == 2
    assert "that can be read, of 10" in told.output
    assert "clip" not in told.output


def test_odd_names_are_shown_safely(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    (tmp_path / "a\x1b[31m.jpg").write_bytes(b"x")
    text = str(describe(tmp_path))
    assert "\x1b" not in text
    assert text.isascii()


def test_names_of_every_alphabet_are_told_as_they_are_and_progress_is_told(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    (tmp_path / "K\xf6ln \u65e5\u672c.jpg").write_bytes(b"x")
    told: list[tuple[int, int]] = []
    found = describe(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert "first 'K\xf6ln \u65e5\u672c.jpg': " in str(found)
    assert told[-1] == (4, 4)


def test_what_lies_beside_and_is_not_counted_is_told(tmp_path: Path) -> None:
    write_images(tmp_path, 200)
    for name in ("a.HEIC", "b.heic", "c.mov", "d.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    told = str(describe(str(tmp_path)))
    assert "2 with .heic) are of kinds that are not read here" in told
    assert "clips beside these (1 with .mov) are not counted" in told
    assert "under 1 % of the images looked at are broken" in told


def test_folders_by_date_are_no_classes(tmp_path: Path) -> None:
    for year in ("2019", "2020-05 Seaside", "20210506"):
        write_images(tmp_path / year, 2)
    told = str(describe(str(tmp_path)))
    assert "folders are named by date: evaluate wants a folder per class" in told
    assert "look like labels" not in told
    assert (
        "years or dates ('2019', '2020-05 Seaside', '20210506')"
        in doubtful_classes(["2019", "2020-05 Seaside", "20210506"])[0]
    )
    assert not doubtful_classes(["2019", "cat"]) + doubtful_classes(["1", "2"]) + doubtful_classes(["20190", "20201"])


@pytest.mark.parametrize("masks", ["Annotations/480p/dog", "SegmentationClass"])
def test_masks_beside_images_are_no_images(tmp_path: Path, masks: str) -> None:
    write_images(tmp_path / "DAVIS" / "JPEGImages" / "480p" / "dog", 5)
    write_images(tmp_path / "DAVIS" / masks, 5, first=50)
    found = describe(tmp_path)
    assert found.items == 5
    assert f"5 masks in {masks.split('/')[0]} are not counted and not learned from" in str(found)
    alone = describe(tmp_path / "DAVIS" / masks)
    assert alone.items == 5, "asked for by name, they are images"


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_masks_in_archives_are_no_images_either(tmp_path: Path, kind: str) -> None:
    write_images(tmp_path / "VOC" / "VOC2012" / "JPEGImages", 5)
    write_images(tmp_path / "VOC" / "VOC2012" / "SegmentationClass", 3, first=50)
    packed = Path(shutil.make_archive(str(tmp_path / "voc"), kind, tmp_path / "VOC"))
    found = open_source(packed)
    assert [name.split("/")[1] for name in found.names] == ["JPEGImages"] * 5
    assert len(list(found.stream())) == 5
    assert "3 masks in SegmentationClass are not counted and not learned from" in str(describe(packed))


def test_frames_of_clips_are_told_from_photographs_in_folders(tmp_path: Path) -> None:
    for clip in range(3):
        wide = photo(clip, 40, 80)
        for i in range(12):
            for kind, shown in (("clips", wide[:, 2 * i : 2 * i + 40]), ("classes", photo(100 * clip + i, 40, 40))):
                (tmp_path / kind / f"nr {clip}").mkdir(parents=True, exist_ok=True)
                (tmp_path / kind / f"nr {clip}" / f"{i}.png").write_bytes(encoded(shown, "PNG"))
    said = str(describe(tmp_path / "clips"))
    assert "3 folders look like the frames of a clip (nr 0, ...)" in said
    assert "look like labels" not in said
    assert "1 folder looks like the frames of a clip (.)" in str(describe(tmp_path / "clips" / "nr 0"))
    assert "frames of a clip" not in str(describe(tmp_path / "classes" / "nr 0"))
    assert "3 folder names look like labels" in str(describe(tmp_path / "classes"))
    for kind, named in (
        ("clips", ["nr 0", "nr 1", "nr 2"]),
        ("clips/nr 0", [""]),
        ("classes", []),
        ("classes/nr 0", []),
    ):
        decoded = prepare(open_source(tmp_path / kind), 40, 3)
        assert folders_among(decoded.names, decoded.images, lambda rows: [(40, 40)] * len(rows)) == named, kind
        assert not folders_among(decoded.names, decoded.images, lambda rows: [(40, row) for row in rows])
