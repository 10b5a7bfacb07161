"""From regions to detections: both ways to features, both heads, what is saved opens equal."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from transformers import ResNetConfig

from withheld.data import rows
from withheld.errors import InputError
from withheld.evaluate.detection import find
from withheld.evaluate.detection.detector import Detector
from withheld.evaluate.detection.find import Detections, kept
from withheld.evaluate.detection.network import RegionClassifier, RegionFeatures, at_side, map_of, side_for
from withheld.evaluate.detection.proposals import SelectiveSearch
from withheld.evaluate.detection.regions import Regions, load_regions
from withheld.evaluate.detection.trial import Pipeline, run_trial
from withheld.image_encoder import ImageEncoder
from withheld.networks.image import fresh_trunk

CPU = torch.device("cpu")


def resnet() -> ImageEncoder:
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], layer_type="basic")
    config.image_size = 32
    return ImageEncoder(fresh_trunk(config, 0), [0.5] * 3, [0.5] * 3, name="resnet").eval()


def test_the_side_is_twice_the_encoders_and_positions_follow(encoder: ImageEncoder) -> None:
    assert side_for(encoder) == 48
    larger = at_side(encoder, 48)
    assert larger.size == 48
    assert larger.trunk.model.embeddings.position_embeddings.shape[1] == 1 + 12 * 12
    assert encoder.size == 24  # a copy was changed
    assert larger(torch.rand(1, 3, 48, 48)).grid == (12, 12)
    same = at_side(encoder, 24)
    image = torch.rand(1, 3, 24, 24)
    torch.testing.assert_close(same(image).pooled, encoder(image).pooled)
    with pytest.raises(InputError, match="not a multiple"):
        at_side(encoder, 50)


def test_a_resnet_gives_the_deepest_map_that_is_fine_enough() -> None:
    large = at_side(resnet(), 128)
    before = {name: value.clone() for name, value in large.trunk.train().state_dict().items()}
    found = map_of(large.trunk)
    assert found.side == 8  # 16 pixels a place: the third stage of four
    assert all(
        torch.equal(value, before[name]) for name, value in large.trunk.state_dict().items()
    )  # no batch was seen
    features = RegionFeatures(large.trunk, "align")
    box = torch.tensor([[[0.1, 0.1, 0.5, 0.6], [0.0, 0.0, 1.0, 1.0]]])
    assert features(torch.rand(1, 3, 128, 128), box).shape == (1, 2, 4 * 4 * 16)
    assert features.width == 4 * 4 * 16
    assert found.layer is not None


@pytest.mark.parametrize("way", ["align", "warped"])
def test_features_of_both_ways(encoder: ImageEncoder, way) -> None:
    fed = Pipeline(48, way).fed(encoder)
    features = RegionFeatures(fed.trunk, way).eval()
    image, box = torch.rand(2, 3, 48, 48), torch.rand(2, 7, 2, 2).sort(dim=2).values.flatten(2)
    found = features(image, box)
    assert found.shape == (2, 7, features.width)
    torch.testing.assert_close(features(image, box[:, 3:5]), found[:, 3:5], atol=1e-5, rtol=1e-4)


def test_a_warped_region_is_what_the_trunk_sees_of_its_crop(encoder: ImageEncoder) -> None:
    """The whole image as a region, with its context cut at the border, is the image itself at the trunk's size."""
    features = RegionFeatures(encoder.trunk, "warped", bins=6).eval()
    image = torch.rand(1, 3, 24, 24)
    found = features(image.repeat_interleave(2, 2).repeat_interleave(2, 3), torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]))
    tokens = encoder.trunk(image).tokens.transpose(1, 2).flatten()
    torch.testing.assert_close(found.flatten(), tokens, atol=1e-5, rtol=1e-4)


def test_gradients_reach_the_trunk(encoder: ImageEncoder) -> None:
    for way in ("align", "warped"):
        network = RegionClassifier(Pipeline(48, way).fed(encoder).trunk, 2, way)  # type: ignore[arg-type]
        for head in (network.label, network.offset):
            torch.nn.init.normal_(head.weight)
        out = network({"item": torch.rand(1, 3, 48, 48), "box": torch.tensor([[[0.1, 0.1, 0.8, 0.9]]])})
        (out["label"][..., 1].sum() + out["offset"][..., 0].sum()).backward()
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, name
                assert parameter.grad.abs().sum() > 0 or "key" in name, name


def test_detections_are_clipped_suppressed_and_sorted() -> None:
    box = torch.tensor([[[0.1, 0.1, 0.5, 0.5], [0.12, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9], [0.0, 0.0, 0.1, 0.1]]])
    score = torch.tensor([[[0.9, 0.0], [0.8, 0.7], [0.3, 0.95], [0.0005, 0.0]]])
    offset = torch.zeros(1, 4, 2, 4)
    offset[0, 2, 1] = torch.tensor([30.0, 0.0, 0.0, 0.0])  # moves by three widths, beyond the border
    (found,) = kept(box, score, offset)
    assert [(int(k), round(float(s), 2)) for k, s in zip(found.labels, found.scores, strict=True)] == [
        (0, 0.9),
        (1, 0.7),
        (0, 0.3),
    ]
    np.testing.assert_allclose(found.boxes[0], [0.1, 0.1, 0.5, 0.5], atol=1e-6)
    assert isinstance(found.above(0.5), Detections)
    assert len(found.above(0.5)) == 2


@pytest.mark.parametrize("head", ["softmax", "svm"])
@pytest.mark.parametrize("way", ["align", "warped"])
def test_a_detector_is_saved_and_opened_equal(encoder: ImageEncoder, regions: Regions, tmp_path, head, way) -> None:
    pipeline = Pipeline(48, way)
    fed = pipeline.fed(encoder)
    learn, test = regions.at("train")[:3], regions.at("test")[:2]
    trial = run_trial(
        fed,
        regions,
        learn,
        test,
        pipeline,
        head=head,
        steps=2,
        seed=0,
        scratch=True,
        device=CPU,
        listen=lambda event: None,
    )
    before = trial.network.trunk.state_dict()
    detector = Detector(fed, trial.network, regions.classes, 48, SelectiveSearch(most=77), {"seed": 0})
    detector.save(tmp_path / "d")
    opened = Detector.open(tmp_path / "d")
    assert opened.classes == ["blue", "red"]
    assert opened.search == SelectiveSearch(most=77)
    for one, other in zip(
        trial.found, opened(regions.images[test], [regions.proposals[i] for i in test], lambda event: None), strict=True
    ):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-5)
    if head == "svm":  # the encoder stays as it is
        assert all(torch.equal(value, before[name]) for name, value in fed.trunk.state_dict().items())


def test_a_convolutional_detector_is_saved_and_opened_equal(voc, tmp_path) -> None:
    """Its config need not know a size, and its map is a stage in the middle."""
    pytest.importorskip("cv2.ximgproc")
    pipeline = Pipeline(128)
    fed = pipeline.fed(resnet())
    regions = load_regions(voc, fed, 128, SelectiveSearch(), ("train", "test"), lambda event: None)
    learn, test = regions.at("train")[:2], regions.at("test")[:1]
    trial = run_trial(
        fed, regions, learn, test, pipeline, head="softmax", steps=2, seed=0, scratch=False, device=CPU,
        listen=lambda event: None,
    )  # fmt: skip
    Detector(fed, trial.network, regions.classes, 128, SelectiveSearch()).save(tmp_path / "d")
    opened = Detector.open(tmp_path / "d")
    assert opened.encoder.size == 128
    (again,) = opened(regions.images[test], [regions.proposals[test[0]]], lambda event: None)
    np.testing.assert_allclose(again.scores, trial.found[0].scores, atol=1e-5)
    assert fed.fresh(1).size == 128


def test_what_is_no_detector_says_how_to_make_one(tmp_path) -> None:
    with pytest.raises(InputError, match="withheld finetune RUN --boxes DIR"):
        Detector.open(tmp_path)
    (tmp_path / "model.json").write_text('{"kind": "detector"}')
    with pytest.raises(InputError, match="is damaged"):
        Detector.open(tmp_path)


@pytest.mark.parametrize(("head", "least"), [("svm", 0.8), ("softmax", 0.8)])
def test_colored_rectangles_are_found(encoder: ImageEncoder, regions: Regions, head, least: float) -> None:
    """A control with a known answer: on plain ground an untrained network is enough, with machines or trained for 60 steps."""
    trial = run_trial(
        Pipeline(48).fed(encoder), regions, regions.at("train"), regions.at("test"), Pipeline(48), head=head, steps=60, seed=0,
        scratch=True, device=CPU, listen=lambda event: None,
    )  # fmt: skip
    assert trial.scores["mAP@0.5"] > least


def test_images_of_a_large_set_are_read_few_at_a_time(
    encoder: ImageEncoder, regions: Regions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "COPY_BYTES", 0)
    monkeypatch.setattr(find, "TOGETHER", 2)
    asked: list[int] = []

    class Watched:
        shape, dtype, ndim = regions.images.shape, regions.images.dtype, 4

        def __len__(self) -> int:
            return len(regions.images)

        def __getitem__(self, at: slice | np.ndarray) -> np.ndarray:
            found = regions.images[at]
            asked.append(len(found))
            return found

    pipeline = Pipeline(48)
    test = regions.at("test")
    trial = run_trial(
        pipeline.fed(encoder), dataclasses.replace(regions, images=Watched()), regions.at("train"), test, pipeline,
        head="svm", steps=0, seed=0, scratch=False, device=CPU, listen=lambda event: None,
    )  # fmt: skip
    assert len(trial.found) == len(test) == 4
    assert max(asked) == 2
