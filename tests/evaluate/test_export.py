"""What other software computes from an export."""

from __future__ import annotations

import builtins
import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from PIL import Image
from tiny_vit import tiny_encoder

from withheld.cli import main
from withheld.cli.use import clips_fed
from withheld.encoder import Encoder
from withheld.errors import InputError, WithheldError
from withheld.evaluate import export as module
from withheld.evaluate.classifier import Classifier
from withheld.evaluate.export import export, shrink_matrix
from withheld.networks.video import open_video_trunk
from withheld.video_encoder import VideoEncoder


def classifier(encoder: Encoder) -> Classifier:
    torch.manual_seed(0)
    width = encoder.width
    return Classifier(
        encoder, torch.randn(width), torch.rand(width) + 0.5, torch.randn(3, width), torch.zeros(3), list("abc")
    )


@pytest.mark.parametrize("have", [3, 7, 20, 31, 32, 33, 96, 100, 257])
def test_resizing_as_matrices_is_antialiased_interpolation(have):
    t = torch.rand(1, 2, have, have + 5)
    expected = F.interpolate(t, size=(32, 32), mode="bilinear", antialias=True, align_corners=False)
    found = shrink_matrix(have, 32) @ t @ shrink_matrix(have + 5, 32).T
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


@pytest.mark.promise("R24", "to transformers")
def test_transformers_opens_it_with_equal_features(tmp_path):
    from transformers import AutoImageProcessor, AutoModel

    encoder = tiny_encoder(size=16, channels=3)
    out = export(encoder, tmp_path / "hf", "hf")
    again = AutoModel.from_pretrained(out, add_pooling_layer=False).eval()
    encoder.trunk.model.set_attn_implementation(again.config._attn_implementation)
    t = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        ours = encoder.trunk(t).tokens
        theirs = again(pixel_values=t).last_hidden_state[:, 1:]
    assert float((ours - theirs).abs().max()) == 0
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    try:
        processor = AutoImageProcessor.from_pretrained(out)
    except ImportError as error:  # some releases have image processors of torchvision only
        pytest.skip(f"features are equal; no image processor to compare with: {str(error).splitlines()[-1]}")
    processed = processor(pixels, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(processed, encoder.normalize(torch.from_numpy(pixels.transpose(2, 0, 1))[None]))


def test_a_model_stays_a_model(tmp_path):
    made = classifier(tiny_encoder())
    out = export(made, tmp_path / "hf", "hf")
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    np.testing.assert_array_equal(Classifier.open(out).predict(images)[1], made.predict(images)[1])
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["model_type"] == "vit"


class Inverted:
    """A split whose `full` changes what the trunk sees."""

    def full(self, t):
        return -t


def seeing_inverted(seed: int = 99) -> Classifier:
    encoder = tiny_encoder(size=16, channels=3, seed=seed)
    encoder.split = Inverted()  # type: ignore[assignment]
    return classifier(encoder)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    return export(seeing_inverted(), tmp_path_factory.mktemp("onnx") / "new" / "model.onnx", "onnx")


@pytest.mark.promise("R24", "to ONNX")
def test_onnx_takes_any_size_and_applies_full(exported):
    import onnxruntime

    made = seeing_inverted()
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["images"]
    assert [o.name for o in session.get_outputs()] == ["pooled", "tokens", "probabilities"]
    for shape in ((1, 3, 16, 16), (2, 3, 50, 31), (5, 3, 9, 120)):
        images = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
        pooled, tokens, probabilities = session.run(None, {"images": images})
        with torch.no_grad():
            found = made.encoder(torch.from_numpy(images))
            np.testing.assert_allclose(pooled, found.pooled, atol=1e-4)
            np.testing.assert_allclose(tokens, found.tokens, atol=1e-4)
            np.testing.assert_allclose(probabilities, made(torch.from_numpy(images)), atol=1e-4)


@pytest.mark.slow
def test_onnx_of_an_encoder_folder(tmp_path):
    pytest.importorskip("onnxscript")
    out = export(tiny_encoder().save(tmp_path / "encoder"), tmp_path / "e.onnx", "onnx")
    assert out.stat().st_size > 1000
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.promise("R24", "an export that computes something else")
def test_an_export_that_computes_something_else_is_refused(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", lambda network, given, path, **_: shutil.copyfile(exported, path))
    with pytest.raises(WithheldError, match="differs from the library"):
        export(seeing_inverted(seed=1), tmp_path / "e.onnx", "onnx")
    assert not list(tmp_path.iterdir())


def test_onnx_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None)
    with pytest.raises(InputError, match=r'pip install "withheld\[onnx\]"'):
        export(tiny_encoder(), tmp_path / "e.onnx", "onnx")


def test_without_onnx_the_rest_imports(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        assert not name.startswith("onnx"), name
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    importlib.reload(module)


def test_an_unknown_target_is_said(tmp_path):
    with pytest.raises(InputError, match="did you mean 'onnx'"):
        export(tiny_encoder(), tmp_path / "x", "onx")
    with pytest.raises(InputError, match="no encoder"):
        export(tmp_path, tmp_path / "x", "hf")


def color_encoder(split):
    """An encoder of a small convolutional network, of sRGB in 0..1 as the split wants it."""
    from withheld.image_encoder import ImageEncoder
    from withheld.networks.open import open_trunk

    trunk, _ = open_trunk("resnet-nano", size=16, channels=3, seed=3)
    normalized = split.__class__.__name__ != "HideColor"
    mean, std = ([0.4, 0.5, 0.6], [0.2, 0.3, 0.25]) if normalized else ([0.0] * 3, [1.0] * 3)
    return ImageEncoder(trunk, mean, std, split, name="tiny").eval()


def splits_with_full():
    from withheld.splits.color import HideColor
    from withheld.splits.position import RelativePosition

    return [HideColor(), RelativePosition(color="project")]


@pytest.mark.parametrize("split", splits_with_full(), ids=repr)
def test_exports_carry_what_the_encoder_sees(split, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    encoder = color_encoder(split)
    again = Encoder.open(encoder.save(tmp_path / "encoder"))
    moved = Encoder.open(export(encoder, tmp_path / "hf", "hf"))
    session = onnxruntime.InferenceSession(
        str(export(encoder, tmp_path / "e.onnx", "onnx")), providers=["CPUExecutionProvider"]
    )
    images = np.random.default_rng(1).integers(0, 256, (3, 3, 40, 29), dtype=np.uint8)
    with torch.no_grad():
        expected = encoder(torch.from_numpy(images)).pooled.numpy()
        for other in (again, moved):
            np.testing.assert_array_equal(other.eval()(torch.from_numpy(images)).pooled.numpy(), expected)
    found = session.run(None, {"images": images})[0]
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1.0, np.abs(expected).max()))


def test_a_colorization_export_keeps_the_lightness_only(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from withheld.color import lightness, to_srgb
    from withheld.splits.color import HideColor

    encoder = color_encoder(HideColor())
    path = export(encoder, tmp_path / "e.onnx", "onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    color = torch.randint(60, 190, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    blank = torch.zeros(2, 2, 16, 16)
    grey = (to_srgb(torch.cat([lightness(color.float() / 255), blank], dim=1)) * 255).round().byte()
    one, other = (session.run(None, {"images": t.numpy()})[0] for t in (color, grey))
    swapped = session.run(None, {"images": color.flip(1).numpy()})[0]
    scale = np.abs(one).max()
    assert np.abs(one - other).max() < 0.05 * scale, "rounding of the grey to 8 bits only"
    assert np.abs(one - swapped).max() > 0.1 * scale
    card = json.loads((encoder.save(tmp_path / "encoder") / "withheld.json").read_text(encoding="utf-8"))
    assert card["full"] == {"class": "withheld.splits.color:HideColor", "settings": {"channels": 3}}
    assert "L of CIE Lab" in card["full_in_words"]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_python_of_the_recipes_reads_photographs_as_embed_does(channels, tmp_path, monkeypatch):
    """Fine detail, so that whole photographs would have other features; one that lies on its side, one far larger."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    encoder = tiny_encoder(size=16, channels=channels)
    export(encoder, tmp_path / "export.onnx", "onnx")
    random = np.random.default_rng(0)
    sideways = Image.Exif()
    sideways[0x0112] = 6
    for name, shape, exif in (("a.jpg", (150, 210), sideways), ("b.jpg", (1100, 900), Image.Exif())):
        low = Image.fromarray(random.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize(shape[::-1])
        fine = random.integers(-60, 60, (*shape, 3))
        Image.fromarray(np.clip(np.asarray(low) + fine, 0, 255).astype(np.uint8)).save(tmp_path / name, exif=exif)
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).resolve().parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(shown.replace("(path, 64)", f"(path, 16, {channels})"), "recipes.md", "exec"), scope)  # noqa: S102
    expected = encoder.transform([tmp_path / "a.jpg", tmp_path / "b.jpg"])
    np.testing.assert_allclose(scope["features"], expected, atol=1e-4)  # type: ignore[call-overload]
    assert (
        np.abs(scope["session"].run(["pooled"], {"images": whole(tmp_path / "b.jpg", channels)})[0] - expected[1]).max()
        > 1e-3
    )  # type: ignore[attr-defined]
    for said in ("1/8", "EXIF", "reduce", "8 bit"):
        assert said in encoder.card()["how"]


def whole(path, channels):
    """A photograph at its own size, (1, C, H, W)."""
    pixels = np.asarray(Image.open(path).convert("L" if channels == 1 else "RGB"))
    return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1)[None])


def test_a_preset_is_asked_of_no_hub_and_exported_into_no_folder_of_its_name(tmp_path, monkeypatch):
    import huggingface_hub

    from withheld.evaluate.features import embed

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("the hub was asked for a preset"))
    monkeypatch.chdir(tmp_path)
    for name in ("vit-nano-hf", "vit-nano-hf-2"):
        done = CliRunner().invoke(main, ["export", "vit-nano", "--to", "hf"])
        assert done.exit_code == 0, done.output
        assert (tmp_path / name / "config.json").is_file()
    assert not (tmp_path / "vit-nano").exists()
    refused = CliRunner().invoke(main, ["export", "vit-nano-hf", "--to", "onnx", "-o", "model"])
    assert refused.exit_code == 2
    assert "ends in .onnx" in refused.output
    told = []
    embed("vit-nano", np.zeros((2, 16, 16, 3), np.uint8), tmp_path / "x.npz", listen=told.append)
    assert any("has learned nothing" in event.get("text", "") for event in told)


def test_what_an_exported_model_of_clips_is_fed_is_said(tmp_path):
    trunk, _ = open_video_trunk("vit-nano", size=16, frames=4)
    encoder = VideoEncoder(trunk, [0.5] * 3, [0.5] * 3, 12.0)
    assert clips_fed(str(encoder.save(tmp_path / "clips"))) == "4 frames, 12 a second, numbers from 0 to 255"
    assert clips_fed(str(tiny_encoder().save(tmp_path / "images"))) == ""
