"""Layer by layer: what a layer is, and that the best is not chosen on what is tested."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_vit import tiny_encoder

from withheld.errors import InputError
from withheld.evaluate.layers import BEST, choose_layer, layer_row
from withheld.evaluate.verdict import verdict
from withheld.image_encoder import ImageEncoder
from withheld.networks.open import open_trunk


def images(count: int = 5, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, channels, 32, 32), dtype=np.uint8)


def test_the_blocks_of_a_vit_are_transformers_hidden_states():
    encoder = tiny_encoder(size=32, patch=8)
    found = encoder.transform_layers(images(), batch_size=2)
    assert [layer.shape for layer in found] == [(5, 16)] * 2
    with torch.no_grad():
        t = encoder.normalize(torch.from_numpy(images()))
        hidden = encoder.trunk.model(pixel_values=t, output_hidden_states=True).hidden_states
    for ours, theirs in zip(found, hidden[1:], strict=True):
        np.testing.assert_allclose(ours, theirs[:, 1:].mean(dim=1).numpy(), atol=1e-5)


def test_the_stages_of_a_resnet():
    trunk, _ = open_trunk("resnet-nano", size=32, channels=3)
    encoder = ImageEncoder(trunk, [0.5] * 3, [0.25] * 3).eval()
    found = encoder.transform_layers(images(channels=3), batch_size=2)
    assert [layer.shape for layer in found] == [(5, 48), (5, 96), (5, 192)]
    np.testing.assert_allclose(found[-1], encoder.transform(images(channels=3)), atol=1e-5)


def test_layers_of_texts_leave_the_padding_out():
    from withheld.types import Features

    tokens = torch.randn(2, 4, 3)
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    found = Features(tokens[:, 0], tokens, None, mask, (tokens, 2 * tokens)).pooled_layers(1)
    assert len(found) == 1
    torch.testing.assert_close(found[0][0], 2 * tokens[0, :2].mean(dim=0))
    torch.testing.assert_close(found[0][1], 2 * tokens[1].mean(dim=0))


@pytest.mark.parametrize("method", ["bert", "gpt", "lstm_lm"])
def test_the_last_layer_of_a_text_network_is_what_is_pooled(method):
    from withheld.networks.text import Special
    from withheld.networks.text_open import open_text_trunk
    from withheld.run import default_encoder

    trunk, _ = open_text_trunk(default_encoder(method), vocabulary=40, length=32)
    trunk._special = Special(0, 2, 3, 4, (0, 1, 2, 3, 4))
    t = {"item": torch.randint(5, 40, (3, 12)), "mask": torch.arange(12) < torch.tensor([[12], [6], [3]])}
    with torch.no_grad():
        found = trunk.eval()(t, layers=True)
    layers = found.pooled_layers(trunk.depth)
    assert len(layers) == 2
    torch.testing.assert_close(layers[-1], found.pooled)


def test_the_layer_that_tells_the_label_is_chosen():
    y = np.repeat(np.arange(3), 6)
    noise = np.random.default_rng(0).normal(size=(18, 4))
    assert choose_layer([noise, noise + 4 * np.eye(4)[y], noise[::-1]], y, 3, seed=0) == 1
    assert choose_layer([noise, noise], np.arange(18), 18, seed=0) is None


@pytest.mark.slow
def test_rows_of_a_verdict(digits, tmp_path):
    said = verdict(
        tiny_encoder(), digits, labels_per_class=(1, 4), seeds=2, minutes=0.2, layers="all",
        results=tmp_path / "results.jsonl",
    )  # fmt: skip
    rows = {(score.method, score.labels_per_class): score for score in said.scores}
    layers = [layer_row(i, 2) for i in (1, 2)]
    for count in (1, 4):
        assert all(0 < rows[name, count].value < 1 for name in layers)
    assert (BEST, 1) not in rows, "with one label a class there is nothing to choose by"
    assert "labelled items" in rows[BEST, 4].note
    for at in range(2):
        assert rows[BEST, 4].values[at] in [rows[name, 4].values[at] for name in layers]
    kept = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert layers[0] in {line.get("method") for line in kept}


def test_the_choice_does_not_look_at_tested_items(digits, monkeypatch):
    from withheld.evaluate import layers as module

    seen = []
    real = module.choose_layer
    monkeypatch.setattr(
        module, "choose_layer", lambda x, y, *rest: seen.append((len(x[0]), len(y))) or real(x, y, *rest)
    )
    verdict(tiny_encoder(), digits, labels_per_class=(4,), seeds=2, minutes=0.1, layers="all")
    assert seen == [(40, 40)] * 2


def test_bad_input(digits):
    with pytest.raises(InputError, match="there is all"):
        verdict(tiny_encoder(), digits, layers="last")

    class Plain:
        def transform(self, x):
            return x.reshape(len(x), -1)

    with pytest.raises(InputError, match="needs an encoder of this library"):
        verdict(Plain(), digits, layers="all")


def test_the_page_has_a_curve(tmp_path):
    from withheld.report import write

    lines = []
    for count in (1, 10):
        for layer, value in ((1, 0.3), (2, 0.5), (3, 0.4)):
            lines.append({"method": layer_row(layer, 3), "value": value, "spread": 0.01, "labels_per_class": count})
        lines.append({"method": "linear probe", "value": 0.4, "spread": 0.01, "labels_per_class": count})
    scores = [{"kind": "score", "metric": "accuracy", "seeds": [0, 1], "evaluation": "a", **line} for line in lines]
    (tmp_path / "results.jsonl").write_text("\n".join(map(json.dumps, scores)), encoding="utf-8")
    page = write(tmp_path).read_text(encoding="utf-8")
    assert "Layer by layer" in page
    assert "accuracy by layer" in page
    assert "layer 2 of 3" not in page, "single layers are no rows of the comparison"


def test_many_classes_of_few_labels_are_more_than_are_looked_at():
    """Of 600 classes with 5 labels each, a sample of 2,000 items holds some classes once only."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(600), 5)
    noise = random.normal(size=(3000, 8)).astype(np.float32)
    told = random.normal(size=(600, 8)).astype(np.float32)[labels] + 0.01 * noise
    assert choose_layer([noise, told], labels, 600, seed=0) == 1


def test_an_encoder_of_one_layer_has_no_rows_of_layers(monkeypatch):
    """Word vectors and patch dictionaries had "layer 1 of 1" and "best layer", each the linear probe again."""
    from withheld.evaluate import layers as module

    monkeypatch.setattr(module, "layer_tables", lambda m, subject: [object()])
    m = SimpleNamespace(say=lambda text: None, elapsed=0.0, left_out=[], rows=[])
    module.measure_layers(m, None)
    assert m.rows == []
    assert m.left_out == ['layer by layer: this encoder has one layer, and "linear probe" is of it']
