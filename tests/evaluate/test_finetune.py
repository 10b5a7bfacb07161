"""Fine-tuning, the model folder, and the labels of the rest."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from tiny_vit import tiny_encoder

import withheld
from withheld.data.image import ImageItems
from withheld.errors import InputError
from withheld.evaluate import finetune as module
from withheld.evaluate.classifier import Classifier, predict, write_labels
from withheld.evaluate.classify import (
    FINE_TUNE,
    AskLabel,
    LightCrop,
    batch_for,
    class_probabilities,
    classifier_objective,
    cross_entropy,
    loop_of,
)
from withheld.evaluate.features import features
from withheld.evaluate.few_label import LinearProbe
from withheld.evaluate.finetune import Known, _told, finetune, held_out
from withheld.learn.gradient import Loop


def easy(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of two classes: dark and light."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return (generator.integers(0, 100, (n, 8, 8)) + 120 * labels[:, None, None]).astype(np.uint8), labels


def classifier_loop(encoder, images, labels, classes: int, *, steps: int, probe=None) -> Loop:
    torch.manual_seed(0)
    items = ImageItems(images, encoder.mean, encoder.std, labels)
    return loop_of(classifier_objective(encoder, classes), items, FINE_TUNE, steps=steps, probe=probe)


def test_a_test_part_that_is_not_tested_is_not_named():
    """A train part of one class teaches nothing, so all labelled items are parted anew."""
    labels, parts = np.array([0] * 20 + [0, 1] * 10), np.array(["train"] * 20 + ["test"] * 20)
    known = Known(np.zeros((40, 1)), labels, ["a", "b"], parts)
    learn, test = held_out(known, seed=0)
    assert "train" in parts[test]
    assert not set(learn) & set(test)
    told = _told(0.5, test, known)
    assert told.startswith(f"accuracy: 50.0 % of {len(test)} labelled items that were held out")
    assert told.endswith(f"; by which items these are it moves by up to {100 / np.sqrt(len(test)):.0f} points")


@pytest.mark.parametrize("part", ["test", "val"])
def test_a_part_for_testing_is_never_learned_from(part):
    """With folders train and val the accuracy is that of val, as in the verdict, and its items teach nothing."""
    labels, parts = np.arange(40) % 2, np.array(["train"] * 28 + [part] * 12)
    known = Known(np.zeros((40, 1)), labels, ["a", "b"], parts)
    learn, test = held_out(known, seed=0)
    assert learn.tolist() == list(range(28))
    assert test.tolist() == list(range(28, 40))
    assert _told(0.5, test, known).startswith(f"accuracy: 50.0 % of 12 items of the {part} part; by which")
    assert "moves" not in _told(0.5, np.resize(test, 200), known)


def test_the_pair_is_item_and_label():
    t = {"item": torch.ones(2, 1, 4, 4), "label": torch.tensor([1, 0])}
    pair = AskLabel()(t)
    assert pair.x is t["item"]
    assert pair.y is t["label"]
    assert AskLabel.asks == ("label",)
    assert torch.equal(AskLabel(lambda item: item * 2)(t).x, t["item"] * 2)


def test_cross_entropy_is_the_mean_of_minus_log_p_and_skips_unknown_labels():
    logits, label = torch.randn(4, 3), torch.tensor([0, 2, -100, 1])
    known = [0, 1, 3]
    expected = -torch.stack([logits[i].softmax(0)[label[i]].log() for i in known]).mean()
    torch.testing.assert_close(cross_entropy(logits, label), expected)


def test_light_crops_keep_the_shape_the_labels_and_with_all_of_the_area_the_image():
    t = {"item": torch.rand(6, 3, 9, 9), "label": torch.arange(6)}
    changed = LightCrop(0.6)(t)
    assert changed["item"].shape == t["item"].shape
    assert changed["label"] is t["label"]
    assert not torch.equal(changed["item"], t["item"])
    whole = LightCrop(1.0, flip=False)(t)["item"]
    torch.testing.assert_close(whole, t["item"], atol=1e-5, rtol=0)
    mirrored = LightCrop(1.0, flip=True)(t)["item"]
    for before, after in zip(t["item"], mirrored, strict=True):
        assert torch.allclose(after, before, atol=1e-5) or torch.allclose(after, before.flip(-1), atol=1e-5)


def test_it_begins_as_the_linear_probe(tiny, digits):
    pixels, labels = digits[0][:60, None], digits[1][:60]
    probe = LinearProbe(10).fit(features(tiny, pixels), labels)
    loop = classifier_loop(tiny, pixels, labels, 10, steps=1, probe=probe)
    found = class_probabilities(loop.objective, loop.items)
    np.testing.assert_allclose(found, probe.probabilities(features(tiny, pixels)), atol=1e-4)


def test_training_changes_a_copy_and_lowers_the_loss(tiny):
    pixels, labels = easy()
    before = tiny.transform(pixels)
    lines: list[dict] = []
    loop = classifier_loop(tiny, pixels[:, None], labels, 2, steps=30)
    loop.run(None, lines.append)
    assert np.array_equal(tiny.transform(pixels), before)
    assert np.mean([line["loss"] for line in lines[-5:]]) < 0.8 * lines[0]["loss"]
    assert (class_probabilities(loop.objective, loop.items).argmax(axis=1) == labels).mean() > 0.95


def test_lower_layers_learn_more_slowly(tiny):
    loop = classifier_loop(tiny, np.zeros((8, 1, 8, 8), np.uint8), np.zeros(8, np.int64), 2, steps=1)
    scales = {round(group["scale"], 4) for group in loop.optimizer.param_groups}
    decay = FINE_TUNE.layer_decay
    assert scales == {1.0, *(round(decay**k, 4) for k in (1, 2, 3))}


def test_the_split_of_the_encoder_decides_what_is_seen():
    class Half:
        def full(self, t):
            return t / 2

    encoder = tiny_encoder()
    encoder.split = Half()  # type: ignore[assignment]
    objective = classifier_objective(encoder, 2)
    t = {"item": torch.ones(1, 1, 8, 8), "label": torch.tensor([0])}
    assert torch.equal(objective.split(t).x, t["item"] / 2)


@pytest.mark.parametrize(("items", "batch"), [(1, 8), (31, 8), (32, 16), (256, 32), (50000, 32)])
def test_few_items_have_small_batches(items, batch):
    assert batch_for(items) == batch


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    heard: list[dict] = []
    out = tmp_path_factory.mktemp("models") / "first"
    finetune(tiny_encoder(), easy(), out, steps=20, listen=heard.append)
    return out, heard


def test_the_model_folder(model):
    out, heard = model
    assert {p.name for p in out.iterdir()} == {"encoder", "head.safetensors", "model.json"}
    card = json.loads((out / "model.json").read_text(encoding="utf-8"))
    assert card["classes"] == ["0", "1"]
    assert card["made"]["held_out"] == 6
    assert card["made"]["labelled"] == 54
    assert 0 <= card["made"]["accuracy"] <= 1
    assert card["made"]["steps"] == 20
    told = [event["text"] for event in heard if event["kind"] == "note"]
    assert "of 6 labelled items that were held out" in told[-1]
    assert sum(event["kind"] == "step" for event in heard) == 20


def test_an_opened_model_predicts(model):
    classifier = Classifier.open(model[0])
    pixels, labels = easy(20, seed=5)
    names, probabilities = classifier.predict(pixels)
    assert probabilities.shape == (20, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (names == labels.astype(str)).mean() > 0.9
    with torch.no_grad():
        direct = classifier(torch.from_numpy(pixels[:, None])).numpy()
    np.testing.assert_allclose(direct, probabilities, atol=1e-5)


def test_a_saved_and_opened_model_is_the_same(model, tmp_path):
    classifier = Classifier.open(model[0])
    again = Classifier.open(classifier.save(tmp_path / "copy"))
    pixels, _ = easy(6)
    assert np.array_equal(classifier.predict(pixels)[1], again.predict(pixels)[1])


def test_a_folder_is_labelled(model, tmp_path):
    pixels, labels = easy(12, seed=3)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    Image.fromarray(pixels[0]).save(tmp_path / "=1+1.png")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    heard: list[dict] = []
    output = tmp_path / "out" / "labels.csv"
    assert predict(model[0], tmp_path, output, listen=heard.append) == 13
    with output.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert table[0].keys() == {"file", "label", "probability"}
    found = {line["file"]: line for line in table}
    assert "'=1+1.png" in found
    assert np.mean([found[f"{i:02}.png"]["label"] == str(labels[i]) for i in range(12)]) > 0.9
    assert all(0.5 <= float(line["probability"]) <= 1 for line in table)
    assert any("1 of 14 images could not be read and was left out: 'broken.png' (" in e.get("text", "") for e in heard)
    assert not list(output.parent.glob("*.tmp"))


def test_cells_that_look_like_formulas_are_defused(tmp_path):
    names = ["=a", "+a", "-a", "@a", "\ta", "a", "é\udc80.png"]
    write_labels(tmp_path / "x.csv", names, ["=b"] * 7, np.full(7, 0.5))
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert [row[0][0] for row in rows[:5]] == ["'"] * 5
    assert rows[5] == ["a", "'=b", "0.5000"]
    assert rows[6][0] == "é\\udc80.png"


def test_the_test_part_is_the_test(tmp_path):
    for part, n in (("train", 20), ("test", 8)):
        for i, (image, label) in enumerate(zip(*easy(n), strict=True)):
            place = tmp_path / "data" / part / f"c{label}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{i}.png")
    heard: list[dict] = []
    out = finetune(tiny_encoder(), tmp_path / "data", tmp_path / "m", steps=2, listen=heard.append)
    made = json.loads((out / "model.json").read_text(encoding="utf-8"))["made"]
    assert (made["labelled"], made["held_out"]) == (20, 8)
    assert any("items of the test part" in e.get("text", "") for e in heard)


def test_few_labels_are_all_learned_from(tmp_path):
    heard: list[dict] = []
    out = finetune(tiny_encoder(), easy(6), tmp_path / "m", epochs=1, listen=heard.append)
    made = json.loads((out / "model.json").read_text(encoding="utf-8"))["made"]
    assert (made["labelled"], made["held_out"], made["accuracy"]) == (6, 0, None)
    assert any("accuracy: not measured" in e.get("text", "") for e in heard)


def test_classes_that_are_written_in_two_ways_are_said(tmp_path):
    heard: list[dict] = []
    pixels, labels = easy(12)
    words = ["cat" if at else "Cat" for at in labels]
    finetune(tiny_encoder(), (pixels, words), tmp_path / "m", steps=1, listen=heard.append)
    assert any("'Cat' and 'cat'" in e.get("text", "") for e in heard)


def test_unlabelled_items_are_left_to_predict(tmp_path):
    from withheld.data.prepared import prepare
    from withheld.data.source import open_source

    pixels, labels = easy(40)
    labels[30:] = -100
    learn, test = held_out(prepare(open_source((pixels, labels), labels=True), 8, 1), seed=0)
    assert len(learn) + len(test) == 30
    assert max(learn.max(), test.max()) < 30
    assert not set(learn) & set(test)


@pytest.mark.parametrize(
    ("length", "steps"),
    [({"steps": 7}, 7), ({"epochs": 3}, 10), ({"minutes": 0.5}, 60), ({}, 101), ({"minutes": 1e-9}, 1)],
)
def test_how_long(length, steps, monkeypatch):
    monkeypatch.setattr(Loop, "seconds_per_step", lambda self, *a: 0.5)
    pixels, labels = easy(54)
    loop = classifier_loop(tiny_encoder(), pixels[:, None], labels, 2, steps=1)
    given = {"minutes": None, "epochs": None, "steps": None, **length}
    expected = round(3 * 54 / loop.recipe.batch_size) if "epochs" in length else steps
    assert module._steps(loop, 54, **given) == expected


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"minutes": 1, "steps": 3}, "one of minutes, epochs and steps"),
        ({"steps": 0}, "steps=0 must be above 0"),
        ({"minutes": -1}, "minutes=-1 must be above 0"),
    ],
)
def test_bad_lengths_are_said(settings, told, tmp_path):
    with pytest.raises(InputError, match=told):
        finetune(tiny_encoder(), easy(), tmp_path / "m", **settings)


def test_bad_data_and_folders_are_said(tmp_path, model):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    with pytest.raises(InputError, match="not an empty folder"):
        finetune(tiny_encoder(), easy(), tmp_path / "full", steps=1)
    with pytest.raises(InputError, match="no labels"):
        finetune(tiny_encoder(), easy()[0], tmp_path / "m", labels=False, steps=1)
    pixels, labels = easy(10)
    with pytest.raises(InputError, match="at least two"):
        finetune(tiny_encoder(), (pixels, labels * 0), tmp_path / "m", steps=1)
    with pytest.raises(InputError, match="is no model"):
        Classifier.open(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="it is a run"):
        Classifier.open(tmp_path)


@pytest.mark.parametrize("damage", ["head.safetensors", "model.json", "encoder/config.json"])
def test_a_damaged_model_is_said(model, tmp_path, damage):
    folder = Classifier.open(model[0]).save(tmp_path / "copy")
    (folder / damage).write_bytes(b"\x00" * 16)
    with pytest.raises(InputError):
        Classifier.open(folder)


def test_a_head_of_another_width_is_said(tiny):
    one = torch.ones(4)
    with pytest.raises(InputError, match=r"must be \(2, 16\)"):
        Classifier(tiny, one, one, torch.ones(2, 4), torch.zeros(2), ["a", "b"])


def test_probabilities_are_softmax_of_the_head(tiny):
    weight, bias = torch.randn(3, 16), torch.randn(3)
    classifier = Classifier(tiny, torch.zeros(16), torch.ones(16) * 2, weight, bias, ["a", "b", "c"])
    x = torch.randn(5, 16)
    torch.testing.assert_close(classifier.of_features(x), F.softmax(x / 2 @ weight.T + bias, dim=1))


def test_real_files(shared_data: Path, tmp_path):
    """Fashion articles: better than chance after a few steps, with the data's own test part."""
    data = shared_data / "fashion-mnist"
    heard: list[dict] = []
    finetune(tiny_encoder(28, 1, 7), data, tmp_path / "m", steps=3, listen=heard.append)
    told = next(e["text"] for e in heard if e.get("text", "").startswith("accuracy"))
    assert "of 10000 items of the test part" in told
    assert float(told.split()[1]) > 20


@pytest.mark.parametrize("method", ["gpt", "elmo", "lstm_lm"])
def test_language_models_of_every_kind_become_models_on_disk(method, tmp_path):
    """They have heads of their own in a verdict, which no model folder holds: all training ended in an error."""
    texts = [f"a {word} film number {i} of many" for i in range(40) for word in ("good", "bad")]
    labels = [word for _ in range(40) for word in ("good", "bad")]
    run = tmp_path / "run"
    withheld.pretrain(method, texts, run, steps=2, size=16, batch_size=4, settings={"held_out": 0.1}, pictures=False)
    model = Classifier.open(finetune(run, (texts, labels), tmp_path / "model", steps=20))
    assert model.settings["accuracy"] == 1.0
    names, probabilities = model.predict(texts)
    assert list(names) == labels
    head = load_file(tmp_path / "model" / "head.safetensors")
    pooled = torch.from_numpy(withheld.load_encoder(tmp_path / "model" / "encoder").transform(texts))
    naive = (((pooled - head["mean"]) / head["scale"]) @ head["weight"].T + head["bias"]).softmax(dim=1)
    np.testing.assert_allclose(probabilities, naive.numpy(), atol=1e-5)
