"""What a verdict says of its items before anything is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.dummy import DummyClassifier

import withheld
from withheld.data.few import affordable
from withheld.evaluate.labelled import Labelled, open_labelled, seen_note
from withheld.evaluate.verdict import _settings_of


def learned_on(subject) -> str | None:
    """Where the data lies that a run learned from, as its verdict asks for it."""
    return _settings_of(subject).get("data", {}).get("location")


def folder_of(path: Path, **counts: int) -> Path:
    random = np.random.default_rng(0)
    for label, count in counts.items():
        (path / label).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(random.integers(0, 256, (16, 16), dtype=np.uint8)).save(path / label / f"{i}.png")
    return path


def opened(data: Path, *counts: int, seeds: int = 2) -> Labelled:
    return open_labelled(data, True, list(counts or (2,)), seeds)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("pretrained")
    data = folder_of(root / "photos", cat=10, dog=10)
    for part in ("train", "test"):
        folder_of(root / "parted" / part, cat=10, dog=10)
    return {
        data.name: (data, withheld.pretrain("mae", str(data), root / f"run of {data.name}", steps=1, pictures=False))
        for data in (data, root / "parted")
    }


def test_tested_items_that_pretraining_saw_are_said(run):
    data, made = run["photos"]
    for subject in (str(made.folder), made.folder / "encoder"):
        (note,) = seen_note(opened(data), learned_on(subject))
        assert note.startswith("pretraining saw 6 of 6 tested items")
    assert seen_note(opened(data), learned_on("facebook/dinov2-small")) == []


def test_a_test_part_was_never_seen(run):
    data, made = run["parted"]
    assert made.settings["data"]["items"] == 20  # the train part
    assert seen_note(opened(data), learned_on(made.folder)) == []


def test_other_data_is_not_the_same(run, tmp_path):
    _, made = run["photos"]
    assert seen_note(opened(folder_of(tmp_path / "photos", cat=10, dog=10)), learned_on(made.folder)) == []


def test_what_always_naming_one_class_has_is_said(tmp_path):
    labelled = opened(folder_of(tmp_path / "photos", cat=90, dog=10))
    (note,) = [note for note in labelled.notes if "whoever always says so" in note]
    test = labelled.labels[labelled.tested(0)]
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros(len(test)), test).score(np.zeros(len(test)), test)
    assert note.startswith(f"{100 * dummy:.0f} % of the tested items are 'cat'")
    even = opened(folder_of(tmp_path / "even", cat=20, dog=20))
    assert not [note for note in even.notes if "whoever" in note]


def test_two_seeds_are_said_to_tell_little(tmp_path):
    photos = folder_of(tmp_path / "photos", cat=20, dog=20)
    assert [note for note in opened(photos, seeds=2).notes if note.startswith("two seeds tell little")]
    assert not [note for note in opened(photos, seeds=3).notes if "seeds" in note]


def test_what_of_a_csv_of_labels_was_left_out_is_said(tmp_path):
    photos = folder_of(tmp_path / "photos", a=20)
    rows = "".join(f"a/{i}.png,{'xy'[i % 2]}\n" for i in range(22))
    (tmp_path / "sheet.csv").write_text(f"picture,which\n{rows}")
    notes = open_labelled(photos, tmp_path / "sheet.csv", [2], 3).notes
    assert "the column 'which' of sheet.csv is taken for the labels" in notes
    assert [note for note in notes if note.startswith("2 of 22 rows of sheet.csv name nothing in the data")]


def test_seeds_that_are_copies_are_said(tmp_path):
    for part, count in (("train", 5), ("test", 200)):
        folder_of(tmp_path / "photos" / part, cat=count, dog=count)
    labelled = opened(tmp_path / "photos", 2, 5, seeds=3)
    assert np.array_equal(labelled.draws[5, 0].train, labelled.draws[5, 2].train)
    (note,) = [note for note in labelled.notes if "same items" in note]
    assert note.startswith("at 5 labels per class")


def test_a_test_part_that_cannot_be_tested_as_such_is_said():
    labels = np.repeat([0, 1], 20)
    parts = np.where(np.arange(40) % 2 == 0, "test", "train")
    labels[parts == "train"] = -100  # labels of the test part alone
    _, sentences = affordable(labels, parts, [2])
    assert any(sentence.startswith("the test part is not tested as such") for sentence in sentences)
    labels = np.repeat([0, 1], 20)
    assert affordable(labels, parts, [2])[1] == []


def test_a_folder_without_labels_is_learned_from(tmp_path):
    """As in STL-10: what is there without labels is what pretraining is for; it has no class and is not tested."""
    for part in ("train", "test"):
        folder_of(tmp_path / "photos" / part, cat=5, dog=5)
    folder_of(tmp_path / "photos", unlabeled=30)
    run = withheld.pretrain("mae", str(tmp_path / "photos"), tmp_path / "run", steps=1, pictures=False)
    assert run.settings["data"]["items"] == 10 + 30
    labelled = opened(tmp_path / "photos", 5)
    assert labelled.classes == ["cat", "dog"]
    assert len(labelled.tested(0)) == len(labelled.learned(0)) == 10
    assert len(labelled.more) == 30


def test_few_labels_with_a_slip_are_tested_on_few_items_of_the_other_classes(tmp_path):
    photos = folder_of(tmp_path / "photos", cat=8, dog=8)
    rows = [
        f"{animal}/{i}.png,{'dgo' if (animal, i) == ('dog', 0) else animal}"
        for animal in ("cat", "dog")
        for i in range(8)
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
    labelled = open_labelled(photos, tmp_path / "labels.csv", [2], 3)
    assert (len(labelled.classes), labelled.known_classes) == (3, 2)  # guessing is right for one in two
    test = len(labelled.tested(0))
    (note,) = [note for note in labelled.notes if note.startswith("every draw is tested on")]
    assert f"on {test} items only: one more or less told right moves its accuracy by {100 / test:.0f} points" in note
    assert not [note for note in opened(folder_of(tmp_path / "more", cat=60, dog=60)).notes if "tested on" in note]
