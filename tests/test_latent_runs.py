"""Runs of latent variable models from data to report, as typed."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

import withheld
from withheld.cli import main
from withheld.errors import InputError


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    from sklearn.datasets import load_digits

    path = tmp_path_factory.mktemp("digits") / "digits.npy"
    images = load_digits().images[:400]
    np.save(path, (images * 255 / 16).astype(np.uint8))
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    lines = [",".join(map(str, row)) + f",{'abc'[k]}" for row, k in zip(x, y, strict=True)]
    path = tmp_path_factory.mktemp("table") / "iris.csv"
    path.write_text("a,b,c,d,species\n" + "\n".join(lines).replace("5.1,", ",", 1), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def vae(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "vae"
    return withheld.pretrain("vae", str(digits), out, steps=30, batch_size=32, settings={"width": 32})


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vq")
    images = (np.random.default_rng(0).random((64, 16, 16, 3)) * 255).astype(np.uint8)
    np.save(folder / "images.npy", images)
    settings = {"codes": 8}
    return withheld.pretrain(
        "vq_vae2", str(folder / "images.npy"), folder / "run", steps=2, batch_size=16, settings=settings
    )


def typed(*words):
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_mixture_from_a_table_to_its_report(table, tmp_path):
    out = tmp_path / "run"
    said = typed("pretrain", "mixture", "--data", table, "--out", out, "--set", "components=3")
    assert "'species' holds no numbers" in said
    lines = withheld.open_run(out).log()
    assert all(b["loss"] <= a["loss"] + 1e-6 for a, b in itertools.pairwise(lines))
    assert {"smallest_weight", "smallest_determinant"} <= set(lines[-1]["vitals"])
    assert json.loads((out / "status.json").read_text(encoding="utf-8"))["state"] == "done"
    page = (typed("report", out), (out / "report.html").read_text(encoding="utf-8"))[1]
    assert "Components" in page
    assert "nats an item" in page
    assert "withheld evaluate" not in page
    rows = (typed("sample", out, "-n", 7, "-o", tmp_path / "rows.csv"), (tmp_path / "rows.csv").read_text())[1]
    assert rows.splitlines()[0] == "a,b,c,d,component"
    assert len(rows.splitlines()) == 8
    assert "exact" in typed("likelihood", out, "--data", table)


def test_a_stopped_mixture_resumes_bit_identical(table, tmp_path):
    from withheld.learn.gradient import Interrupted

    settings = {"components": 3, "tolerance": 0.0}
    whole = withheld.pretrain("mixture", str(table), tmp_path / "whole", steps=12, settings=settings, pictures=False)

    def stop(event):
        if event["kind"] == "step" and event["step"] == 5:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)

    options = {"steps": 12, "settings": settings, "pictures": False}
    with pytest.raises(Interrupted):
        withheld.pretrain("mixture", str(table), tmp_path / "two", listen=stop, **options)
    again = withheld.pretrain("mixture", str(table), tmp_path / "two", resume=True, **options)
    a, b = (load_file(run.folder / "model" / "model.safetensors") for run in (whole, again))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert [line["loss"] for line in whole.log()] == [line["loss"] for line in again.log()]


def test_mean_field_and_pixels_and_features_of_a_run(digits, vae, tmp_path):
    settings = {"kind": "bernoulli", "components": 4}
    run = withheld.pretrain("mixture", str(digits), tmp_path / "pixels", settings=settings)
    assert run.settings["data"]["shape"] == [1, 8, 8] or run.settings["data"]["shape"] == (1, 8, 8)
    assert list((run.folder / "pictures").glob("components-*.png"))
    run = withheld.pretrain("mean_field", f"run:{vae.folder}", tmp_path / "features", settings={"components": 4})
    assert len(run.settings["data"]["columns"]) == vae.settings["encoder"]["width"]


def test_a_vae_can_be_seen_sampled_and_measured(vae, digits, tmp_path):
    sections = {p["section"] for p in json.loads((vae.folder / "pictures" / "index.json").read_text(encoding="utf-8"))}
    assert {"reconstructions", "drawn", "manifold", "traversals", "interpolations", "posterior"} - sections <= {
        "traversals"
    }
    assert {"kl", "active_units", "mutual_information"} <= set(vae.log()[-1]["vitals"])
    for words in (["sample"], ["traverse", "--item", "3"], ["interpolate", "0", "5"]):
        out = tmp_path / f"{words[0]}.png"
        typed(words[0], vae.folder, *words[1:], "-o", out)
        with Image.open(out) as picture:
            assert np.asarray(picture.convert("L")).std() > 1
    said = typed("likelihood", vae.folder, "--data", digits, "--samples", "20", "--items", "50")
    assert "20 samples" in said
    assert vae.results()[-1]["kind"] == "likelihood"
    assert "real against real" in typed("fidelity", vae.folder, "--data", digits, "--items", "60")


def test_the_kept_encoder_opens_again_and_gives_the_posterior_mean(vae, digits):
    encoder = withheld.load_encoder(vae.folder)
    images = np.load(digits)[:5]
    network = vae.objective().network
    t = torch.from_numpy(images[:, None]).float() / 255
    mean, _ = network.infer(t)
    np.testing.assert_allclose(encoder.transform(images), mean.detach().numpy(), atol=1e-5)


def test_the_second_stage_learns_the_codes_of_the_first(quantized, tmp_path):
    prior = withheld.pretrain("code_prior", f"run:{quantized.folder}", tmp_path / "prior", steps=2, batch_size=16)
    assert prior.settings["data"]["length"] == 4 + 16
    typed("sample", prior.folder, "-n", 3, "-o", tmp_path / "drawn.png")
    said = typed("likelihood", prior.folder, "--data", quantized.settings["data"]["location"])
    assert "bits a value" in said


def test_what_has_no_prior_says_so(quantized, vae, table, tmp_path):
    from withheld.evaluate.generate import sample, traverse

    with pytest.raises(InputError, match="code_prior"):
        sample(quantized.folder, tmp_path / "x.png")
    with pytest.raises(InputError, match=r"ends in \.png"):
        traverse(vae.folder, tmp_path / "x.jpg")
    with pytest.raises(InputError, match="no codes"):
        withheld.pretrain("code_prior", f"run:{vae.folder}", tmp_path / "p", steps=1)
    with pytest.raises(InputError, match="has no encoder"):
        withheld.pretrain("mixture", str(table), tmp_path / "m", encoder="vit-nano")
