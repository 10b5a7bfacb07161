"""A whole verdict on digits in seconds, and what can go wrong with one."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_vit import tiny_encoder

from withheld.errors import InputError
from withheld.evaluate import few_label, measure, public, tuned
from withheld.evaluate import labelled as labelled_module
from withheld.evaluate.judged import JudgedTexts
from withheld.evaluate.sentence import AUGMENTED_ROW, FINE_TUNED, MIXTURE, NEIGHBORS, PROBE, RANDOM_ROW, SCRATCH_ROW
from withheld.evaluate.verdict import _shown, verdict
from withheld.learn.gradient import Loop

SELF = {"self-training", "self-training on HOG", "self-training with HOG"}
ROWS = {*SELF, MIXTURE, FINE_TUNED, PROBE, NEIGHBORS, SCRATCH_ROW, RANDOM_ROW, "raw pixels", "HOG"}


def quicken(patch: pytest.MonkeyPatch) -> None:
    """Few steps, timed briefly, and few strengths of a probe to choose from: what these are good for is tested elsewhere."""
    timed = Loop.seconds_per_step
    patch.setattr(Loop, "seconds_per_step", lambda self, least, seconds: timed(self, least, min(seconds, 0.05)))
    patch.setattr(few_label, "GRID", few_label.GRID[1:3])
    patch.setattr(tuned, "steps_for", lambda items: 4)
    patch.setattr(public, "_cached", lambda name: None)


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    quicken(monkeypatch)


def subset(digits, classes: int, each: int):
    pixels, labels = digits
    chosen = np.concatenate([np.flatnonzero(labels == c)[:each] for c in range(classes)])
    return pixels[chosen], labels[chosen]


def folder_of(digits, path: Path, classes: int, each: int) -> Path:
    pixels, labels = subset(digits, classes, each)
    for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        place = path / f"number {label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i}.png")
    return path


@pytest.fixture(scope="module")
def found(digits, tmp_path_factory):
    """One evaluation: the verdict, the lines of its results and what was heard."""
    results = tmp_path_factory.mktemp("run") / "results.jsonl"
    heard: list[dict] = []
    patch = pytest.MonkeyPatch()
    quicken(patch)
    made = verdict(
        tiny_encoder(), subset(digits, 4, 60), labels_per_class=(1, 10, 100), seeds=3, minutes=5, results=results,
        command="withheld evaluate x", listen=heard.append,
    )  # fmt: skip
    patch.undo()
    lines = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    return made, lines, heard, results.parent


def test_every_row_is_measured_at_every_count_the_data_affords(found):
    made, _, _, _ = found
    assert {score.method for score in made.scores} == ROWS
    for method in ROWS:
        assert [s.labels_per_class for s in made.scores if s.method == method] == [1, 10]
    assert any("100 labels per class were left out" in note for note in made.notes)
    for score in made.scores:
        assert 0 <= score.value <= 1
        assert score.seeds == [0, 1, 2]
        assert score.value == pytest.approx(np.mean(score.values))
        assert score.metric == "accuracy"
        assert score.command == "withheld evaluate x"


def test_the_results_are_lines_of_scores_and_one_verdict(found):
    made, lines, _, _ = found
    assert [line["kind"] for line in lines] == ["score"] * len(made.scores) + ["verdict"]
    assert len({line["evaluation"] for line in lines}) == 1
    last = lines[-1]
    assert last["sentence"] == made.sentence
    assert last["outcome"] in ("better", "worse", "unclear")
    assert last["labels_per_class"] == [1, 10]
    assert {"notes", "left_out", "seconds", "data", "errors", "command", "classes", "confusion"} <= set(last)


def test_the_verdict_is_a_sentence(found):
    made, _, _, _ = found
    assert str(made) == made.sentence
    assert made.sentence.startswith("With 10 labels per class, pretraining is")
    assert made.sentence.endswith(".")
    assert made.seconds > 0


def test_fine_tuned_and_from_scratch_have_equal_steps(found):
    made, _, _, _ = found
    steps = {s.method: s.budget["steps"] for s in made.scores if "steps" in s.budget}
    assert steps == {FINE_TUNED: 4, SCRATCH_ROW: 4}


@pytest.mark.slow
def test_from_scratch_with_the_augmentations_of_the_pretraining(monkeypatch, tmp_path):
    """A known answer: what is bright in training is dark in the test, and only random signs could teach that this is nothing."""
    monkeypatch.setattr(tuned, "steps_for", lambda items: 80)
    labels = np.arange(160) % 2
    pixels = np.full((160, 8, 8), 128, np.uint8)
    rise = 90 + np.random.default_rng(0).integers(0, 30, 160)
    pixels[np.arange(160), 6 * labels, 4] = 128 + rise
    pixels[np.arange(160), 6 * labels + 1, 3] = 128 + rise
    for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        place = tmp_path / ("train" if i < 80 else "test") / "ab"[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image if i < 80 else 255 - image).save(place / f"{i}.png")
    encoder = tiny_encoder()
    encoder.mean, encoder.std = [0.5], [0.25]

    def random_sign(t):
        return t * (2 * torch.randint(2, (len(t), 1, 1, 1)) - 1)

    encoder.augment = random_sign
    made = verdict(encoder, tmp_path, labels_per_class=[20], seeds=2, minutes=5)
    scores = {score.method: score for score in made.scores}
    assert scores[AUGMENTED_ROW].budget["steps"] == scores[SCRATCH_ROW].budget["steps"] == 80
    assert scores[AUGMENTED_ROW].seeds == scores[SCRATCH_ROW].seeds == [0, 1]
    assert scores[AUGMENTED_ROW].value > 0.9
    assert scores[SCRATCH_ROW].value < 0.3


def test_an_encoder_without_augmentations_says_so(found):
    made, _, _, _ = found
    assert AUGMENTED_ROW not in {score.method for score in made.scores}
    assert any('"from scratch, augmented": the encoder names no' in text for text in made.left_out)


def test_the_table_has_a_row_a_method(found):
    made, _, _, _ = found
    rows = made.table()
    assert {row["method"] for row in rows} == ROWS
    assert all("±" in row["1"] and "±" in row["10"] for row in rows)


def test_a_notebook_shows_the_table_the_sentence_and_the_notes_and_no_element_of_a_name(found):
    made = copy.copy(found[0])
    made.notes = [*made.notes, "<script>"]
    page = made._repr_html_()
    root = ElementTree.fromstring(f"<all>{page}</all>")  # noqa: S314 - made here
    assert "HOG" in {row[0].text for row in root.iter("tr")}
    assert len(root.findall("table/tr")) == 1 + len(made.table())
    assert root.find("p/b").text == made.sentence
    assert root.findall("ul/li")[-1].text == "<script>"


def test_mistakes_are_the_surest_first_and_drawn(found):
    made, _, _, folder = found
    errors = made.details["errors"]
    assert errors
    assert [e["probability"] for e in errors] == sorted((e["probability"] for e in errors), reverse=True)
    assert all(e["true"] != e["predicted"] for e in errors)
    confusion = np.array(made.details["confusion"])
    assert confusion.shape == (4, 4)
    assert confusion.sum() - np.trace(confusion) >= len(errors)
    assert (folder / "pictures" / "index.json").is_file()


def test_what_happens_is_told(found):
    _, _, heard, _ = found
    kinds = {event["kind"] for event in heard}
    assert {"prepare", "note", "score", "step"} <= kinds
    steps = [event["step"] for event in heard if event["kind"] == "step"]
    assert steps == list(range(1, 4 * 2 * 2 * 3 + 1))
    assert {event["steps"] for event in heard if event["kind"] == "step"} == {48}


def test_the_same_again_is_the_same(digits):
    one, two = (verdict(tiny_encoder(), subset(digits, 3, 20), labels_per_class=[2], seeds=2) for _ in range(2))
    assert [(s.method, s.values) for s in one.scores] == [(s.method, s.values) for s in two.scores]
    assert one.sentence == two.sentence


def test_a_folder_of_a_hundred_files_without_a_test_part(digits, tmp_path):
    data = folder_of(digits, tmp_path / "few", 5, 20)
    (data / "number 0" / "broken.png").write_bytes(b"no image")
    made = verdict(tiny_encoder(), data, seeds=2, minutes=5)
    assert {s.labels_per_class for s in made.scores} == {1, 10}
    said = [note for note in made.notes if "could not be read" in note]
    assert len(said) == 1
    # one of the 101 files is neither learned from nor tested on
    assert said[0].startswith("1 of 100 images could not be read and was left out: 'number 0/broken.png' (")
    assert "number" in made.details["errors"][0]["true"]


def test_a_test_part_is_honored_and_a_small_one_is_said(digits, tmp_path):
    folder_of(digits, tmp_path / "data" / "train", 3, 20)
    folder_of(digits, tmp_path / "data" / "test", 3, 6)
    made = verdict(tiny_encoder(), tmp_path / "data", labels_per_class=[5], seeds=2, minutes=5)
    assert any("18 items only" in note and "which the intervals hold" in note for note in made.notes)
    # the six of each class are also the first of the twenty
    assert any("nearly equal a labelled one" in note for note in made.notes)


def test_other_rows_may_be_tested_on_more(digits, monkeypatch):
    monkeypatch.setattr(labelled_module, "COMMON", 20)
    made = verdict(tiny_encoder(), subset(digits, 4, 60), labels_per_class=[1], seeds=2, minutes=5)
    values = {s.method: s.values for s in made.scores}
    assert all(round(20 * v, 6).is_integer() for v in values[SCRATCH_ROW] + values[RANDOM_ROW])
    assert not all(round(20 * v, 6).is_integer() for v in values["HOG"] + values["raw pixels"])


def test_no_time_leaves_rows_out_and_says_so(digits):
    made = verdict(tiny_encoder(), subset(digits, 3, 30), labels_per_class=[1, 5], seeds=2, minutes=1e-4)
    assert FINE_TUNED not in {s.method for s in made.scores}
    assert any('"fine-tuned" and "from scratch" for time' in text for text in made.left_out)
    assert {'"semi-supervised mixture" for time', '"self-training" for time'} <= set(made.left_out)
    assert {"linear probe", "kNN", "random frozen", "HOG"} <= {score.method for score in made.scores}
    assert "at equal steps" not in made.sentence


def test_slow_encoders_are_tested_less_and_fewer_untrained_ones_are_built(digits, monkeypatch):
    monkeypatch.setattr(labelled_module, "COMMON", 12)
    monkeypatch.setattr(measure, "FROZEN_SHARE", 0.0)
    monkeypatch.setattr(measure, "RANDOM_SHARE", 0.0)
    built = []
    encoder = tiny_encoder()
    fresh = encoder.fresh
    monkeypatch.setattr(encoder, "fresh", lambda seed: built.append(seed) or fresh(seed))
    made = verdict(encoder, subset(digits, 3, 40), labels_per_class=[2], seeds=2, minutes=5)
    by_method = {score.method: score for score in made.scores}
    assert by_method[RANDOM_ROW].note == "untrained networks: 1 for 2 seeds"
    assert built == [0, 0, 1], "one at random, and one from scratch a seed"
    assert any("24 of 36 test items, of all rows but the floors" in text for text in made.left_out)
    assert all(round(12 * v, 6).is_integer() for v in by_method[PROBE].values)
    assert not all(round(12 * v, 6).is_integer() for v in by_method["HOG"].values)


def test_training_that_turns_out_slow_costs_whole_seeds(digits, monkeypatch):
    monkeypatch.setattr(tuned.Tuning, "_late", lambda self, finished: finished >= 2)
    made = verdict(tiny_encoder(), subset(digits, 3, 20), labels_per_class=[1], seeds=4, minutes=5)
    seeds = {score.method: score.seeds for score in made.scores}
    assert seeds[FINE_TUNED] == seeds[SCRATCH_ROW] == [0, 1]
    assert seeds[PROBE] == [0, 1, 2, 3]
    assert any("beyond 2 of 4 seeds: training was slower" in text for text in made.left_out)


def test_training_that_is_hopelessly_slow_is_left_out_after_a_run_and_said(digits, monkeypatch):
    """Two seeds always ran, however long they took; the frozen rows and their verdict stay."""
    ran = []
    cell = tuned.Tuning._cell

    def slow(self, *given):
        ran.append(given)
        cell(self, *given)
        self.measurement.started -= 1000  # as if it had taken so long

    monkeypatch.setattr(tuned.Tuning, "_cell", slow)
    made = verdict(tiny_encoder(), subset(digits, 3, 20), labels_per_class=[1], seeds=4, minutes=5)
    methods = {score.method for score in made.scores}
    assert len(ran) == 1
    assert PROBE in methods
    assert not {FINE_TUNED, SCRATCH_ROW} & methods
    assert any("slower than it had been timed, and two seeds would have ended after" in text for text in made.left_out)
    assert made.details["errors_of"] == PROBE


@pytest.mark.parametrize(
    ("finished", "elapsed", "late"), [(1, 900, False), (2, 500, False), (2, 700, True), (3, 400, False), (3, 600, True)]
)
def test_when_it_is_too_late(finished, elapsed, late):
    class Clock:
        budget = 600

    tuning = tuned.Tuning.__new__(tuned.Tuning)
    tuning.measurement, tuning.began = Clock(), 100
    tuning.measurement.elapsed = elapsed
    assert tuning._late(finished) == late


def test_floors_of_texts_leave_out_label_counts_that_would_take_too_long(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(measure.time, "monotonic", lambda: clock[0])
    few = [SimpleNamespace(train=np.arange(count), test=np.arange(4)) for count in (1, 10, 100)]
    labelled = SimpleNamespace(
        counts=[1, 10, 100], seeds=[0, 1, 2], labels=np.zeros(100, np.int64),
        draws={(len(draw.train), seed): draw for draw in few for seed in range(3)},
    )  # fmt: skip
    table = measure.Table(np.zeros((100, 2)), {i: i for i in range(100)})

    def measured(share, seconds):
        calls.clear()
        m = measure.Measurement(labelled, None, None, {}, 1.0, 0.0, print, lambda row, count: None)

        def classify(x, y, test, seed):
            calls.append(len(y))
            clock[0] += seconds * len(y) ** 0.5
            return np.ones((4, 2))

        return m.frozen(measure.Row("tf-idf", "floor"), lambda seed: table, classify, share=share), m.left_out

    assert list(measured(None, 9.0)[0].right) == [1, 10, 100]
    assert list(measured(0.5, 0.5)[0].right) == [1, 10, 100]
    row, left_out = measured(0.5, 1.0)  # 12 seconds spent, and 30 would be too many: known after one
    assert list(row.right) == [1, 10]
    assert calls.count(100) == 1
    assert left_out == ['"tf-idf" at 100 labels per class, for time']
    assert list(measured(0.5, 2.0)[0].right) == [1, 10], "10, of which the verdict speaks, are measured in any case"
    assert 100 not in calls, "known before: one of 10 took too long"


def test_probes_that_runs_begin_with_are_planned_for(monkeypatch):
    tuning = tuned.Tuning.__new__(tuned.Tuning)
    row = measure.Row(PROBE, "pretrained", budget={1: {"seconds": 2.0}, 10: {"seconds": 4.0}})
    tuning.measurement, tuning.item, tuning.augments = SimpleNamespace(rows=[row]), 0.0, False
    tuning.labelled = SimpleNamespace(largest=10)
    monkeypatch.setattr(tuned.Tuning, "_paces", lambda self, objective: {1: 1.0})
    monkeypatch.setattr(tuned.Tuning, "_learned", lambda self, count: 10)
    assert tuning._pace().cell == pytest.approx(0.1 + 0.6 * 3.0)


def test_one_seed_has_no_interval(digits, tmp_path):
    results = tmp_path / "results.jsonl"
    made = verdict(tiny_encoder(), subset(digits, 3, 30), labels_per_class=[1], seeds=1, minutes=5, results=results)
    assert all(math.isnan(score.spread) for score in made.scores)
    assert "one seed" in made.sentence
    assert {row["1"] for row in made.table()} == {f"{100 * score.value:.1f}" for score in made.scores}
    lines = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert all(line["spread"] is None for line in lines if line["kind"] == "score")


def test_a_public_encoder_is_a_row(digits, tmp_path):
    where = tiny_encoder(size=16, channels=3, seed=3).save(tmp_path / "peer")
    made = verdict(
        tiny_encoder(), subset(digits, 3, 40), labels_per_class=[5], seeds=2, minutes=5, against=[str(where)]
    )
    row = next(s for s in made.scores if "peer" in s.method)
    assert row.note == "at 16 pixels"
    assert not any("public encoder" in text for text in made.left_out)
    assert "no public encoder" not in made.sentence


def test_a_public_encoder_that_takes_too_long_is_left_out(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(public, "SHARE", 0.0)
    where = tiny_encoder(seed=3).save(tmp_path / "peer")
    made = verdict(tiny_encoder(), subset(digits, 3, 40), labels_per_class=[5], seeds=2, against=[str(where)])
    assert any("for time: its features alone need" in text for text in made.left_out)


def test_a_cached_public_encoder_is_taken_by_default(tmp_path, monkeypatch):
    where = tiny_encoder(seed=3).save(tmp_path / "peer")
    monkeypatch.setattr(public, "_cached", lambda name: str(where))
    assert public.rivals([], "some/encoder") == ([("some/encoder", str(where))], [])
    monkeypatch.undo()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert public._cached("nobody/nothing") is None


def test_a_large_public_encoder_is_opened_at_224(tmp_path):
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=518, patch_size=14)
    Dinov2Model(config).save_pretrained(tmp_path / "dino")
    encoder = public.open_rival(str(tmp_path / "dino"))
    assert encoder.size == 224
    assert encoder.transform(np.zeros((1, 3, 224, 224), np.uint8)).shape == (1, 16)


def test_something_with_a_transform_gets_the_frozen_rows(digits):
    class Mean:
        size, channels = 8, 1

        def transform(self, images):
            return images.reshape(len(images), -1, 4).mean(axis=2)

    made = verdict(Mean(), subset(digits, 3, 40), labels_per_class=[5], seeds=3)
    assert {s.method for s in made.scores} == {*SELF, PROBE, NEIGHBORS, MIXTURE, "raw pixels", "HOG"}
    assert any("need an encoder" in text for text in made.left_out)


def test_a_run_that_learned_beats_scratch_on_an_easy_task():
    """An encoder whose features are the labels must be told to be worth something."""
    generator = np.random.default_rng(0)
    labels = np.arange(240) % 3
    pixels = generator.integers(0, 90, (240, 8, 8), dtype=np.uint8)
    pixels[np.arange(240), labels, generator.integers(0, 8, 240)] = 255

    class Knows:
        size, channels = 8, 1

        def transform(self, images):
            return (images[:, 0, :3] == 255).any(axis=2).astype(np.float32)

    made = verdict(Knows(), (pixels, labels), labels_per_class=[10], seeds=3)
    assert made.outcome == "better"
    assert next(s for s in made.scores if s.method == PROBE).value == 1.0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"labels_per_class": []}, "labels-per-class"),
        ({"labels_per_class": [0, 1]}, "whole numbers from 1"),
        ({"seeds": 0}, "--seeds 0"),
        ({"minutes": 0}, "--minutes 0"),
        ({"labels_per_class": [500]}, "no label count is left"),
        ({"against": [" "]}, "--against"),
        ({"against": ["no/such/folder/here"]}, "no/such/folder/here"),
        ({"device": "nonsense"}, "--device nonsense"),
    ],
)
def test_bad_settings_are_said_before_the_work(digits, changes, told):
    with pytest.raises(InputError, match=told):
        verdict(tiny_encoder(), subset(digits, 3, 30), **{"labels_per_class": [1], **changes})


def test_bad_subjects_and_data_are_said(digits, tmp_path):
    with pytest.raises(InputError, match="not int"):
        verdict(3, digits)
    with pytest.raises(InputError, match="no encoder"):
        verdict(tmp_path, digits)
    with pytest.raises(InputError, match="no labels"):
        verdict(tiny_encoder(), digits[0], labels=None)
    with pytest.raises(InputError, match="at least two classes"):
        verdict(tiny_encoder(), subset(digits, 1, 5))


def test_a_diverged_encoder_is_named(digits):
    broken = tiny_encoder()
    with torch.no_grad():
        next(iter(broken.trunk.parameters())).fill_(math.nan)
    with pytest.raises(InputError, match="not finite"):
        verdict(broken, subset(digits, 3, 30), labels_per_class=[1], seeds=2)


def test_ctrl_c_keeps_the_scores(digits, tmp_path, monkeypatch):
    from withheld.learn.gradient import Interrupted

    def stopped(self, *args, **kwargs):
        raise Interrupted(2, 1, False)

    monkeypatch.setattr("withheld.learn.gradient.Loop.run", stopped)
    results = tmp_path / "results.jsonl"
    with pytest.raises(Interrupted, match="scores measured so far") as caught:
        verdict(tiny_encoder(), subset(digits, 3, 30), labels_per_class=[1], seeds=2, results=results)
    assert caught.value.exit_code == 130
    assert len(results.read_text(encoding="utf-8").splitlines()) == 9


def test_of_a_text_that_was_guessed_wrong_whole_words_are_kept():
    text = "a long film " * 60
    judged = SimpleNamespace(judged=JudgedTexts(None), images=np.array([text], object), row_of={3: 0})
    shown = _shown(judged, 3)["text"]
    assert shown.endswith((" film …", " long …", " a …"))
    assert len(shown) < 290
