"""The verdict on detection: the same images for all rows, kept as measured, goes on where it was stopped, one honest sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from withheld.data.boxes import open_boxes
from withheld.errors import InputError
from withheld.evaluate.compare import PRETRAINED, RANDOM, SCRATCH, Row
from withheld.evaluate.detection import verdict as module
from withheld.evaluate.detection.book import Book
from withheld.evaluate.detection.closing import outcome_of, sentence
from withheld.evaluate.detection.contenders import rows_of, table_of
from withheld.evaluate.detection.plan import Plan, counts_for, draw, make_plan, steps_for
from withheld.evaluate.detection.verdict import detection_verdict


def rows(tuned: list[float], scratch: list[float], random: list[float] | None = None, count: int = 20) -> list[Row]:
    found = [Row("fine-tuned", PRETRAINED), Row("from scratch", SCRATCH)]
    for row, values in zip(found, (tuned, scratch), strict=True):
        for seed, value in enumerate(values):
            row.add(count, seed, [value])
            row.add(200, seed, [value + 0.3])
    if random is not None:
        found.append(Row("random frozen", RANDOM))
        for seed, value in enumerate(random):
            found[-1].add(count, seed, [value])
    return found


def test_the_sentence_is_at_the_fewest_images() -> None:
    told = sentence(rows([0.50, 0.52, 0.51], [0.40, 0.41, 0.42]), 200)
    assert told.startswith(
        "With 20 labelled images (10 % of them), by mAP@0.5, pretraining is worth +10.0 points (95 % CI "
    )
    assert "over training from scratch at equal steps, as much as 2.2 times the labelled images" in told
    assert outcome_of(rows([0.50, 0.52, 0.51], [0.40, 0.41, 0.42])) == "better"


def test_no_gain_is_said_plainly() -> None:
    told = sentence(rows([0.40, 0.42, 0.41], [0.42, 0.41, 0.42]), 200)
    assert "pretraining is not better than training from scratch" in told
    assert told.endswith("train from scratch.")
    assert outcome_of(rows([0.40, 0.42, 0.41], [0.42, 0.41, 0.42])) == "worse"


def test_the_same_network_frozen_at_random_is_a_rival() -> None:
    told = sentence(rows([0.50, 0.52, 0.51], [0.40, 0.41, 0.42], [0.55, 0.52, 0.54]), 200)
    assert "not better than the same network frozen at random" in told
    assert "over training from scratch at equal steps it is worth +10.0 points" in told


def test_nothing_measured() -> None:
    assert sentence([], 200).startswith("No verdict")


def test_fewer_images_are_among_more_and_show_every_class(voc) -> None:
    train = voc.parts["train"]
    for seed in range(5):
        draws = [set(draw(voc.annotations, train, 2, count, seed).tolist()) for count in (2, 4, 6)]
        assert draws[0] < draws[1] < draws[2] == set(train.tolist())
        assert {int(label) for at in draws[0] for label in voc.annotations[at].labels} == {0, 1}
    assert len({tuple(draw(voc.annotations, train, 2, 3, seed)) for seed in range(9)}) > 1


def test_shares_that_give_no_new_count_are_dropped_and_said() -> None:
    assert counts_for([10, 50, 100], 205) == ([20, 102, 205], [])
    counts, notes = counts_for([1, 10, 11, 100], 10)
    assert counts == [1, 10]
    assert len(notes) == 2
    assert "1 % of 10" in notes[0]


def test_the_plan_gives_up_the_middle_before_the_ends() -> None:
    rest = dict.fromkeys((20, 100, 200), 1.0)
    wanted = {count: steps_for(count) for count in rest}
    assert make_plan([20, 100, 200], 3, 2, 0.1, rest, 1e6).steps == wanted
    total = 0.2 * sum(wanted.values())
    less = make_plan([20, 100, 200], 3, 2, 0.1, rest, 9 + 3 * 0.6 * total)
    assert list(less.steps) == [20, 100, 200]
    assert "40 % of the steps" in less.left_out[0]
    two = make_plan([20, 100, 200], 3, 2, 0.1, rest, 9 + 3 * 0.35 * total)
    assert list(two.steps) == [20, 200]
    assert "training on 100 images" in two.left_out[0]
    assert list(make_plan([20, 100, 200], 3, 2, 0.1, rest, 3 + 3 * 0.1 * total).steps) == [20]
    none = make_plan([20, 100, 200], 3, 2, 0.1, rest, 1.0)
    assert not none.steps
    assert "no time to train" in none.left_out[0]


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def settings(tmp_path: Path) -> dict:
    pytest.importorskip("cv2.ximgproc")
    return {"shares": (50, 100), "seeds": 2, "steps": 2, "device": "cpu", "results": tmp_path / "run" / "results.jsonl"}


def test_rows_are_measured_kept_and_not_measured_again(encoder, voc_folder, settings, monkeypatch) -> None:
    found = detection_verdict(encoder, voc_folder, **settings)
    cells = [line for line in lines_of(settings["results"]) if line["kind"] == "detection"]
    assert len(cells) == 4 * 2 * 2
    assert {line["row"] for line in cells} == {"linear probe", "random frozen", "fine-tuned", "from scratch"}
    assert {line["metric"] for line in cells} == {"mAP@0.5"}
    assert {line["images"] for line in cells} == {3, 6}
    steps = {(line["row"], line["images"]): line["steps"] for line in cells}
    assert steps["fine-tuned", 3] == steps["from scratch", 3] == 1
    assert steps["fine-tuned", 6] == steps["from scratch", 6] == 2
    assert found.table[0]["seeds"] == [0, 1]
    assert np.isfinite(found.table[0]["half"])
    assert "(50 % of them)" in found.sentence
    folder = settings["results"].parent
    assert (folder / "detector" / "model.json").is_file()
    assert (folder / "pictures" / "detections-00.png").is_file()
    monkeypatch.setattr(module, "run_trial", lambda *_, **__: pytest.fail("measured again"))
    again = detection_verdict(encoder, voc_folder, **settings)
    assert again.sentence == found.sentence
    assert [row["mean"] for row in again.table] == [row["mean"] for row in found.table]


def test_a_stopped_evaluation_goes_on(encoder, voc_folder, settings, monkeypatch) -> None:
    whole = detection_verdict(encoder, voc_folder, **{**settings, "results": None})
    real, count = module.run_trial, 0

    def tired(*args, **kwargs):
        nonlocal count
        count += 1
        if count > 5:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(module, "run_trial", tired)
    with pytest.raises(KeyboardInterrupt):
        detection_verdict(encoder, voc_folder, **settings)
    with settings["results"].open("a") as file:
        file.write('{"kind": "detection", "row": "cut sh')
    monkeypatch.setattr(module, "run_trial", real)
    found = detection_verdict(encoder, voc_folder, **settings)
    assert [row["values"] for row in found.table] == [row["values"] for row in whole.table]


def test_other_weights_are_another_evaluation(voc_folder, settings) -> None:
    from tiny_vit import tiny_encoder

    settings |= {"shares": (100,), "seeds": 1}
    detection_verdict(tiny_encoder(24, 3, seed=1), voc_folder, **settings)
    detection_verdict(tiny_encoder(24, 3, seed=2), voc_folder, **settings)
    cells = [line for line in lines_of(settings["results"]) if line["kind"] == "detection"]
    assert len(cells) == 8
    assert len({line["settings"] for line in cells}) == 2


def test_a_rival_is_fine_tuned_and_named(encoder, voc_folder, settings, tmp_path) -> None:
    from tiny_vit import tiny_encoder

    tiny_encoder(24, 1, seed=5).save(tmp_path / "grey")  # of one channel: gets its own images
    settings |= {"shares": (100,), "seeds": 1, "against": [str(tmp_path / "grey")]}
    found = detection_verdict(encoder, voc_folder, **settings)
    assert found.table[-1]["row"] == f"{tmp_path / 'grey'} fine-tuned"


def test_no_time_at_all_is_said(encoder, voc_folder, settings) -> None:
    settings |= {"steps": None, "minutes": 0.001, "shares": (100,)}
    found = detection_verdict(encoder, voc_folder, **settings)
    assert any("no time to train" in line for line in found.left_out)
    assert {row["row"] for row in found.table} <= {"linear probe", "random frozen"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"shares": ()}, "--shares"), ({"shares": (0,)}, "--shares"), ({"seeds": 0}, "--seeds"), ({"minutes": 0}, "--minutes"),
     ({"steps": 0}, "--steps"), ({"side": 50}, "not a multiple")],
)  # fmt: skip
def test_wrong_settings(encoder, voc_folder, wrong, said) -> None:
    with pytest.raises(InputError, match=said):
        detection_verdict(encoder, voc_folder, device="cpu", **wrong)


def test_an_encoder_of_texts_is_refused(voc_folder, tmp_path) -> None:
    from transformers import BertConfig, BertModel

    model = BertModel(
        BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=40)
    )
    model.save_pretrained(tmp_path / "bert")
    with pytest.raises(InputError):
        detection_verdict(str(tmp_path / "bert"), voc_folder, device="cpu")


def test_a_set_that_cannot_be_tested(encoder, voc_folder, tmp_path) -> None:
    pytest.importorskip("cv2.ximgproc")
    import shutil

    shutil.copytree(voc_folder, tmp_path / "voc")
    sets = tmp_path / "voc" / "ImageSets" / "Main"
    (sets / "test.txt").write_text("")
    (sets / "val.txt").write_text("")
    assert open_boxes(tmp_path / "voc").test_part == "test"  # train was split
    for path in sets.iterdir():
        path.write_text("im000\n" if path.name == "test.txt" else "")
    for at in range(1, 12):
        (tmp_path / "voc" / "JPEGImages" / f"im{at:03d}.png").unlink()
    with pytest.raises(InputError, match="0 images to learn from and 1 to be tested on"):
        detection_verdict(encoder, tmp_path / "voc", device="cpu")


def test_a_plan_by_the_clock_is_kept_with_what_it_left_out(encoder, voc_folder, settings, monkeypatch) -> None:
    from torch import nn

    from withheld.evaluate.detection.trial import Trial

    def quick(*args, seed, head, **kwargs):
        scores = {"mAP@0.5": 0.1 * seed + (head == "svm") / 10, "AP": {"red": 0.5}}
        return Trial(nn.Identity(), [], scores, 0.1)

    monkeypatch.setattr(module, "run_trial", quick)
    monkeypatch.setattr(module._Judge, "_show", lambda *_: None)
    monkeypatch.setattr(module, "make_plan", lambda *_: Plan({3: 5, 6: 9}, 2, ["a tenth of the steps, for time"]))
    settings |= {"steps": None, "minutes": 5.0}
    first = detection_verdict(encoder, voc_folder, **settings)
    monkeypatch.setattr(module, "make_plan", lambda *_: pytest.fail("planned again"))
    again = detection_verdict(encoder, voc_folder, **settings)
    for found in (first, again):
        assert found.left_out == ["a tenth of the steps, for time"]
        assert {row["steps"] for row in found.table if row["row"] == "fine-tuned"} == {5, 9}
        assert all(row["seeds"] == [0, 1] for row in found.table)


def test_a_rival_of_the_same_name_with_other_weights_is_not_averaged_in(tmp_path: Path) -> None:
    for weights, value in (("old", 0.1), ("new", 0.9)):
        book = Book(tmp_path / "results.jsonl", {}, "")
        scores = {"mAP@0.5": value, "AP": {"cat": value}}
        book.write(f"x {weights}", 10, 0, scores, row="x fine-tuned", row_kind="public", head="softmax", steps=5)
    found = rows_of(book, ["x new"], [10], [0])
    (line,) = table_of(book, found, ["x new"], 10)
    assert line["values"] == [found[0].mean(10)] == [0.9]
    assert line["AP"] == {"cat": 0.9}
