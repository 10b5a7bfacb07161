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
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture as Theirs

import withheld
from old_faithful import OLD_FAITHFUL
from withheld import pretraining
from withheld.cli import main
from withheld.errors import InputError
from withheld.networks.evidence import evidence_words


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


def typed(*words, code=0):
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done.output


def test_a_mixture_from_a_table_to_its_report(table, tmp_path):
    out = tmp_path / "run"
    said = typed("pretrain", "mixture", "--data", table, "--out", out, "--set", "components=3")
    assert "'species' holds no numbers (the first: '" in said
    lines = withheld.open_run(out).log()
    assert all(b["loss"] <= a["loss"] + 1e-6 for a, b in itertools.pairwise(lines))
    assert {"smallest_weight", "smallest_determinant"} <= set(lines[-1]["vitals"])
    assert json.loads((out / "status.json").read_text(encoding="utf-8"))["state"] == "done"
    page = (typed("report", out), (out / "report.html").read_text(encoding="utf-8"))[1]
    assert "Components" in page
    assert "missing cells stand at the mean of their column" in page
    assert "The mean of each component (its weight) in every column" in page
    assert "nats an item" in page
    assert "withheld evaluate" not in page
    assert "parameters in the model" in page
    assert ">encoder<" not in page
    rows = (typed("sample", out, "-n", 7, "-o", tmp_path / "rows.csv"), (tmp_path / "rows.csv").read_text())[1]
    assert rows.splitlines()[0] == "a,b,c,d,component"
    assert len(rows.splitlines()) == 8
    assert "exact; 150 items of" in (said := typed("likelihood", out, "--data", table))
    assert "which it learned from" in said  # and is no measure of new items
    (tmp_path / "new.csv").write_text(table.read_text(encoding="utf-8"), encoding="utf-8")
    assert "which it learned from" not in typed("likelihood", out, "--data", tmp_path / "new.csv")
    assert "1 item of" in (said := typed("likelihood", out, "--data", table, "--items", 1))
    assert "nan" not in said
    assert "±" not in said
    json.loads(
        (out / "results.jsonl").read_text(encoding="utf-8").splitlines()[-1],
        parse_constant=lambda word: pytest.fail(f"{word} is no JSON"),
    )
    said = typed("predict", out, table, "-o", tmp_path / "groups.csv")
    assert "rows have their component" in said
    assert "labelled" not in said


def test_a_mixture_is_learned_on_the_cpu_where_the_gpu_has_no_double_precision(table, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "pick_device", lambda device: "mps")  # Apple's
    run = withheld.pretrain("mixture", str(table), tmp_path / "run", steps=2)
    assert run.settings["device"] == "cpu"


def test_wide_tables_have_no_full_covariances_unless_asked_for(tmp_path):
    rows = np.random.default_rng(0).normal(size=(120, 30)).astype(np.float32)
    np.save(tmp_path / "wide.npy", rows)
    words = ["pretrain", "mixture", "--data", str(tmp_path / "wide.npy"), "--steps", "5", "--out"]
    done = CliRunner().invoke(main, [*words, str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "covariance=diag: 120 rows are too few for full covariances of 30 columns" in done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["covariance"] == "diag"
    asked = withheld.pretrain("mixture", rows, tmp_path / "full", steps=1, settings={"covariance": "full"})
    assert asked.settings["settings"]["covariance"] == "full"
    typed("predict", tmp_path / "run", tmp_path / "wide.npy", "-o", tmp_path / "groups.csv")
    assert len((tmp_path / "groups.csv").read_text().splitlines()) == 121


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


def test_labels_of_some_rows_name_the_components(table, tmp_path):
    from sklearn.datasets import load_iris

    known = load_iris().target
    words = np.array(["setosa", "versicolor", "virginica"])[known]
    labels = tmp_path / "labels.csv"
    labels.write_text("row,label\n" + "".join(f"{i},{words[i]}\n" for i in range(0, 150, 10)), encoding="utf-8")
    said = typed("pretrain", "mixture", "--data", table, "--labels", labels, "--out", tmp_path / "run")
    assert "15 of 150 rows have labels: setosa, versicolor, virginica" in said
    run = withheld.open_run(tmp_path / "run")
    assert run.settings["settings"] == {"classes": 3}
    assert len(run.objective().means) == 3
    typed("predict", run.folder, table, "-o", tmp_path / "told.csv")
    rows = [line.split(",") for line in (tmp_path / "told.csv").read_text(encoding="utf-8").splitlines()]
    assert rows[0] == ["row", "label", "probability"]
    assert np.mean([row[1] == word for row, word in zip(rows[1:], words, strict=True)]) > 0.95
    everything = withheld.GaussianMixture(tol=1e-5, max_iter=500)
    y = np.where(np.arange(150) % 10, -1, known)
    x = load_iris().data.copy()
    x[x == 5.1] = np.where(np.arange((x == 5.1).sum()) == 0, np.nan, 5.1)
    assert abs(everything.fit(x, y).lower_bound_ + run.log()[-1]["loss"]) < 1e-6


def test_a_column_of_the_table_can_hold_the_labels(table, tmp_path):
    settings = {"components": "auto"}
    run = withheld.pretrain(
        "mixture", str(table), tmp_path / "run", labels="species", settings=settings, pictures=False
    )
    assert run.settings["data"]["classes"] == ["a", "b", "c"]
    assert run.settings["settings"] == {"components": 3, "classes": 3}


def test_as_many_components_as_the_evidence_is_for(tmp_path):
    table = tmp_path / "geyser.csv"
    table.write_text("minutes,wait\n" + "\n".join(f"{a},{b}" for a, b in OLD_FAITHFUL), encoding="utf-8")
    out = tmp_path / "run"
    said = typed("pretrain", "mixture", "--data", table, "--out", out)
    assert "comparing numbers of components by their evidence (--set components=N takes N)" in said
    assert "2 components: their BIC of 2,322.2 is the lowest of 1 to 5" in said  # mclust's -2322.19, the other way up
    run = withheld.open_run(out)
    assert run.settings["settings"]["components"] == 2
    for line in run.settings["evidence"][:4]:
        theirs = Theirs(int(line["components"]), random_state=0, n_init=5, tol=1e-6, max_iter=500).fit(OLD_FAITHFUL)
        assert line["bic"] <= theirs.bic(OLD_FAITHFUL) + 15
        assert line["components"] > 2 or abs(line["bic"] - theirs.bic(OLD_FAITHFUL)) < 0.1
    index = (out / "pictures" / "index.json").read_text(encoding="utf-8")
    assert "lowest of 1 to 5" in index
    assert "2,322.2" in (typed("report", out), (out / "report.html").read_text(encoding="utf-8"))[1]
    before = (out / "run.json").read_bytes()
    typed("pretrain", "mixture", "--data", table, "--out", out, "--resume")
    assert (out / "run.json").read_bytes() == before


def test_groups_of_many_columns_are_found_with_one_covariance(tmp_path):
    """Three clouds of 30 correlated columns, nine deviations apart: 496 more numbers a component are too many for 1,000 rows."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 1000)
    mixed = np.eye(30) + 0.3 * rng.normal(size=(30, 30)) / 30**0.5
    rows = (1.2 * rng.normal(size=(3, 30)))[group] + rng.normal(size=(1000, 30)) @ mixed
    theirs = {
        (count, kind): Theirs(count, covariance_type=kind, random_state=0, n_init=3).fit(rows).bic(rows)
        for count, kind in ((1, "full"), (2, "full"), (3, "full"), (3, "tied"))
    }
    assert min(theirs, key=theirs.get) == (3, "tied")
    assert min((key for key in theirs if key[1] == "full"), key=theirs.get) == (1, "full")
    table, out = tmp_path / "rows.csv", tmp_path / "run"
    np.savetxt(table, rows, delimiter=",", header=",".join(f"c{i}" for i in range(30)), comments="")
    said = typed("pretrain", "mixture", "--data", table, "--out", out)
    assert "3 components" in said
    assert "with one covariance for all of them: with one for each, one component was best" in said
    run = withheld.open_run(out)
    assert run.settings["settings"] == {"components": 3, "covariance": "tied"}
    best = min(line["bic"] for line in run.settings["evidence"])
    assert best == pytest.approx(theirs[3, "tied"], abs=1)
    typed("predict", out, table, "-o", tmp_path / "groups.csv")
    lines = (tmp_path / "groups.csv").read_text(encoding="utf-8").splitlines()[1:]
    found = np.array([int(line.split(",")[1]) for line in lines])
    assert adjusted_rand_score(group, found) > 0.99
    before = (out / "run.json").read_bytes()
    typed("pretrain", "mixture", "--data", table, "--out", out, "--resume")
    assert (out / "run.json").read_bytes() == before
    assert "one component was best" not in typed(
        "pretrain", "mixture", "--data", table, "--out", tmp_path / "full", "--set", "covariance=full"
    )


def test_a_run_begun_when_eight_components_were_the_default_goes_on_with_them(table, tmp_path):
    """Its run.json names no number."""
    settings = {"components": 8, "covariance": "diag", "tolerance": 0.0}
    run = withheld.pretrain("mixture", str(table), tmp_path / "run", steps=3, settings=settings, pictures=False)
    kept = run.settings
    del kept["settings"]["components"], kept["given"]["settings"]["components"]
    (run.folder / "run.json").write_text(json.dumps({**kept, "steps": 5}), encoding="utf-8")
    again = withheld.pretrain("mixture", str(table), run.folder, resume=True, pictures=False)
    assert len(again.objective().means) == 8
    assert [line["step"] for line in again.log()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("words", [["likelihood", "--samples", "2"], ["fidelity", "--items", "4"]])
def test_a_picture_that_cannot_be_read_is_named_with_the_reason(vae, digits, tmp_path, words):
    for i in range(9):
        Image.fromarray(np.load(digits)[i]).save(tmp_path / f"{i}.png")
    (tmp_path / "9.png").write_bytes(b"no picture")
    said = typed(words[0], vae.folder, "--data", tmp_path, *words[1:])
    assert "1 of 10 images could not be read and was left out: '9.png' (is not an image" in said


def test_that_more_were_not_tried_is_said():
    tried = [{"components": n, "bic": 100.0 - n, "aic": 90.0 - n, "rows": 50, "nats": -1.0} for n in range(1, 21)]
    assert "the lowest of 1 to 20 (19: 81.0, 18: 82.0), and more were not tried, on 50 rows" in evidence_words(tried)
    assert "not tried" not in evidence_words(tried[:19])
    assert "its BIC of 99.0 is the lowest of 1 to 1, on 50 rows; AIC would take 1; so no groups" in evidence_words(
        tried[:1]
    )


def test_how_many_were_tried_is_told(tmp_path):
    heard = []
    rows = np.random.default_rng(0).normal(size=(60, 2))
    run = withheld.pretrain("mixture", rows, tmp_path / "run", steps=1, pictures=False, listen=heard.append)
    tried = [(event["done"], event["total"]) for event in heard if event["kind"] == "components"]
    once = [(n, 20) for n in range(len(run.settings["evidence"]))]
    assert tried == once * 2, "one cloud is one component, whether each has a covariance of its own or all have one"


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("a,b\n4,5\n4,5\n4,5\n", ["--set", "components=1"], "column 'a' is constant (4"),
        ("a,b\n1,5\n2,6\n", ["--set", "components=3"], "components=3 for 2 rows"),
        ("a,b\n1,5\n2,inf\n", [], "t.csv:3: column 'b' is infinite"),
        ("a,b\n0,1\n1,0\n0.5,-2\n", ["--set", "kind=bernoulli"], "t.csv:4, column 'b' is -2: a Bernoulli mixture"),
        ("a,b\n1,5\n2,6\n3,8\n", ["--labels", "c"], "--labels c: there is no such file, and no such column"),
        ("a,b\n1,5\n2,6\n3,8\n", ["--set", "components=some"], "takes a whole number or one of auto"),
    ],
)
def test_bad_tables_are_named_by_line_column_and_remedy(tmp_path, text, words, said):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    done = CliRunner().invoke(
        main, ["pretrain", "mixture", "--data", str(tmp_path / "t.csv"), "--out", str(tmp_path / "o"), *words]
    )
    assert done.exit_code == 2
    assert said in done.output


def test_a_constant_column_is_left_out_and_the_rest_of_the_road_goes_on(tmp_path):
    """What check recommends is taken by pretrain, and predict reads the same file."""
    rows = np.random.default_rng(0).normal(size=(60, 2)).round(3)
    rows[::2] += 6
    table = tmp_path / "t.csv"
    lines = [f"{a},{'' if i % 7 else 3},{b}" for i, (a, b) in enumerate(rows)]
    table.write_text("\n".join(["a,k,b", *lines]), encoding="utf-8")
    said = "column 'k' is constant (3) and was left out"
    assert said in typed("check", table)
    assert said in typed("pretrain", "mixture", "--data", table, "--out", tmp_path / "run", "--set", "components=2")
    assert withheld.open_run(tmp_path / "run").settings["data"]["columns"] == ["a", "b"]
    groups = tmp_path / "groups.csv"
    typed("predict", tmp_path / "run", table, "-o", groups)
    told = [line.split(",")[1] for line in groups.read_text(encoding="utf-8").splitlines()[1:]]
    assert len(set(told[::2])) == len(set(told[1::2])) == 1
    assert told[0] != told[1]
    typed("pretrain", "mixture", "--data", table, "--out", tmp_path / "run", "--set", "components=2", "--resume")
    few = tmp_path / "few.csv"
    few.write_text("a,k,b\n1,3,2\n1,3,5\n", encoding="utf-8")
    typed("predict", tmp_path / "run", few, "-o", tmp_path / "few_groups.csv")  # here 'a' is constant, and learned


def test_missing_values_for_mean_field_are_named(table, tmp_path):
    with pytest.raises(InputError, match=r"iris\.csv:2, column 'a' is missing \(NaN\), and mean field takes no"):
        withheld.pretrain("mean_field", str(table), tmp_path / "o")


def test_labels_for_a_method_that_takes_none(table, tmp_path):
    with pytest.raises(InputError, match=r"mean_field learns without labels; mixture takes them"):
        withheld.pretrain("mean_field", str(table), tmp_path / "o", labels="species")


def test_a_table_of_words_alone_shows_one_of_them(tmp_path):
    (tmp_path / "t.csv").write_text("share,price\n7.9%,$3\n8.1%,$4\n", encoding="utf-8")
    said = typed("pretrain", "mixture", "--data", tmp_path / "t.csv", "--out", tmp_path / "o", code=2)
    assert "no column of numbers; its columns are share, price; in 'price' the first: '$3'" in said


def test_components_that_died_stand_in_the_report(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n2,3\n" * 20, encoding="utf-8")
    said = typed("pretrain", "mixture", "--data", tmp_path / "t.csv", "--out", tmp_path / "o", "--set", "components=4")
    assert "components 2, 3 died (counted from 0): no row belongs to them any more" in said
    assert "2 died: no row belongs to them" in (tmp_path / "o" / "pictures" / "index.json").read_text(encoding="utf-8")


def test_charts_number_components_as_predict_does(tmp_path, monkeypatch):
    from withheld.evaluate import mixture_pictures

    figures = []
    draw = mixture_pictures.drawn
    monkeypatch.setattr(mixture_pictures, "drawn", lambda figure: figures.append(figure) or draw(figure))
    few, many = (0, 0), (9, 9)
    rows = np.concatenate(
        [np.random.default_rng(k).normal(at, 0.5, (n, 2)) for k, (at, n) in enumerate([(few, 20), (many, 80)])]
    )
    np.save(tmp_path / "t.npy", rows)
    run = withheld.pretrain("mixture", str(tmp_path / "t.npy"), tmp_path / "run", settings={"components": 2})
    typed("predict", run.folder, tmp_path / "t.npy", "-o", tmp_path / "told.csv")
    told = [line.split(",")[1] for line in (tmp_path / "told.csv").read_text(encoding="utf-8").splitlines()[1:]]
    scatter, _, bars = (figure.axes[0] for figure in figures)  # beside the means of every column
    places = {text.get_text(): text.xy for text in scatter.texts}
    assert np.allclose(places[told[0]], few, atol=0.5)
    assert np.allclose(places[told[-1]], many, atol=0.5)
    assert [tick.get_text() for tick in bars.get_xticklabels()] == [told[-1], told[0]]  # heaviest first


def test_predicting_takes_columns_by_name(table, tmp_path):
    run = withheld.pretrain("mixture", str(table), tmp_path / "run", settings={"components": 3}, pictures=False)
    lines = [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()]
    (tmp_path / "other.csv").write_text(
        "\n".join(",".join([r[2], r[0], r[1], r[3], "1"]) for r in lines), encoding="utf-8"
    )
    for data, name in ((table, "here.csv"), (tmp_path / "other.csv", "there.csv")):
        typed("predict", run.folder, data, "-o", tmp_path / name)
    assert (tmp_path / "here.csv").read_bytes() == (tmp_path / "there.csv").read_bytes()
    (tmp_path / "few.csv").write_text("a,b,c\n1,2,3\n", encoding="utf-8")
    done = CliRunner().invoke(
        main, ["predict", str(run.folder), str(tmp_path / "few.csv"), "-o", str(tmp_path / "x.csv")]
    )
    assert done.exit_code == 2
    assert "there is no column 'd'" in done.output


def test_a_mixture_of_features_takes_what_embed_writes_and_says_so_of_images(digits, vae, tmp_path):
    run = withheld.pretrain(
        "mixture", f"run:{vae.folder}", tmp_path / "run", settings={"components": 2}, pictures=False
    )
    for ending in ("parquet", "npz"):
        typed("embed", vae.folder, digits, "-o", tmp_path / f"f.{ending}")
        typed("predict", run.folder, tmp_path / f"f.{ending}", "-o", tmp_path / f"{ending}.csv")
    assert (tmp_path / "parquet.csv").read_bytes() == (tmp_path / "npz.csv").read_bytes()
    done = CliRunner().invoke(main, ["predict", str(run.folder), str(digits), "-o", str(tmp_path / "x.csv")])
    assert done.exit_code == 2
    assert f"withheld embed {vae.folder} {digits} -o features.parquet" in done.output


def test_an_error_does_not_list_every_pixel(digits, tmp_path):
    (tmp_path / "t.csv").write_text("height,weight\n" + "1.5,2\n3,4\n2,7\n" * 5, encoding="utf-8")
    run = withheld.pretrain(
        "mixture", str(tmp_path / "t.csv"), tmp_path / "run", settings={"components": 1}, pictures=False
    )
    done = CliRunner().invoke(main, ["likelihood", str(run.folder), "--data", str(digits)])
    assert done.exit_code == 2
    assert "there is no column 'height', known: 0:0:0" in done.output
    assert "and 4 more" in done.output


def test_mean_field_and_pixels_and_features_of_a_run(digits, vae, tmp_path):
    settings = {"kind": "bernoulli", "components": 4}
    run = withheld.pretrain("mixture", str(digits), tmp_path / "pixels", settings=settings)
    assert run.settings["data"]["shape"] == [1, 8, 8] or run.settings["data"]["shape"] == (1, 8, 8)
    assert list((run.folder / "pictures").glob("components-*.png"))
    run = withheld.pretrain("mean_field", f"run:{vae.folder}", tmp_path / "features", settings={"components": 4})
    assert len(run.settings["data"]["columns"]) == vae.settings["encoder"]["width"]


def test_a_vae_can_be_seen_sampled_and_measured(vae, digits, tmp_path):
    from withheld.evaluate.fidelity import fidelity
    from withheld.evaluate.generate import NAME_WIDTH
    from withheld.evaluate.latent_pictures import ACROSS, grid

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
        assert "exists: choose another name, or --force" in typed(words[0], vae.folder, *words[1:], "-o", out, code=2)
    typed("traverse", vae.folder, "-o", tmp_path / "traverse.png", "--force")
    with Image.open(tmp_path / "traverse.png") as picture:
        named = np.asarray(picture)
    assert named[:, :NAME_WIDTH].std() > 1  # each row has its dimension at the left
    assert named.shape[1] - NAME_WIDTH == np.asarray(grid(torch.zeros(ACROSS, 1, 8, 8), ACROSS)).shape[1]
    said = typed("likelihood", vae.folder, "--data", digits, "--samples", "20", "--items", "50")
    assert "20 samples" in said
    assert f"50 items of {digits}, which it learned from" in said
    assert vae.results()[-1]["kind"] == "likelihood"
    said_of_few = typed("fidelity", vae.folder, "--data", digits, "--items", "60")
    assert "real against real" in said_of_few
    assert "mostly chance: give data of 1,000 images or more" in said_of_few  # half of them beside the other half
    heard: list[dict] = []
    fidelity(vae, str(digits), 60, listen=heard.append)
    assert {(e["kind"], e["done"], e["total"]) for e in heard} >= {("samples", 60, 60), ("features", 60, 60)}


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


def test_what_is_drawn_of_an_unfinished_run_is_said_to_be_early(quantized, tmp_path):
    """It drew noise without a word; killed before it kept anything, it ended in a traceback."""
    prior = withheld.pretrain("code_prior", f"run:{quantized.folder}", tmp_path / "prior", steps=2, batch_size=16)
    assert "not finished" not in typed("sample", prior.folder, "-n", 3, "-o", tmp_path / "done.png")
    status = prior.folder / "status.json"
    status.write_text(json.dumps({**json.loads(status.read_text()), "state": "stopped", "step": 1}))
    said = typed("sample", prior.folder, "-n", 3, "-o", tmp_path / "early.png")
    assert f"learned so far, early on from noise; {prior.folder} is not finished (step 1 of 2)" in said
    assert f"--out {prior.folder} --resume" in said
    (prior.folder / "model" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"kept no model yet.*not finished"):
        prior.objective()


def test_what_has_no_prior_says_so(quantized, vae, table, tmp_path):
    from withheld.evaluate.generate import sample, traverse
    from withheld.evaluate.generate_text import generate

    with pytest.raises(InputError, match="code_prior"):
        sample(quantized.folder, tmp_path / "x.png")
    with pytest.raises(InputError, match=r"ends in \.png"):
        traverse(vae.folder, tmp_path / "x.jpg")
    groups = withheld.pretrain("mixture", str(table), tmp_path / "groups", steps=1)
    with pytest.raises(InputError, match="z of a row is its component: rows from it: withheld sample"):
        traverse(groups, tmp_path / "x.png")
    with pytest.raises(InputError, match=r"withheld sample RUN.* gpt"):
        generate(vae.folder, "Once")
    with pytest.raises(InputError, match="no codes"):
        withheld.pretrain("code_prior", f"run:{vae.folder}", tmp_path / "p", steps=1)
    with pytest.raises(InputError, match="has no encoder"):
        withheld.pretrain("mixture", str(table), tmp_path / "m", encoder="vit-nano")


def test_pixels_outside_of_0_to_1_are_refused_with_the_remedy():
    from withheld.methods.vae import vae
    from withheld.networks.image import fresh_trunk
    from withheld.networks.recognition import RecognitionConfig

    objective, _ = vae(fresh_trunk(RecognitionConfig("mlp", 8, 1, 2, (8,)), 0), width=8)
    with pytest.raises(InputError, match=r"pixels are from -1 to 3: likelihoods of pixels take 0\.\.1; divide by"):
        objective.fit_parts(torch.tensor([-1.0, 3.0]).repeat(4, 1, 8, 4))


def test_weights_that_the_importance_weighted_bound_does_not_have_are_refused():
    """They were taken without a word, and did nothing."""
    from withheld.methods.vae import vae
    from withheld.networks.image import fresh_trunk
    from withheld.networks.recognition import RecognitionConfig

    trunk = fresh_trunk(RecognitionConfig("mlp", 8, 1, 2, (8,)), 0)
    assert vae(trunk, width=8, importance_samples=5)[0].loss.weighted
    for settings in ({"beta": 4.0}, {"free_bits": 0.1}):
        with pytest.raises(InputError, match="no KL of its own"):
            vae(trunk, width=8, importance_samples=5, **settings)


def test_data_that_is_gone_is_named_with_the_run_and_a_remedy(vae, tmp_path):
    from withheld.evaluate.generate import interpolate, traverse
    from withheld.run import Run

    gone = Run(vae.folder, {**vae.settings, "data": {**vae.settings["data"], "location": str(tmp_path / "gone")}})
    with pytest.raises(InputError, match=r"learned from data that is needed here: .*gone.*put it there again"):
        traverse(gone, tmp_path / "x.png")
    with pytest.raises(InputError, match="name image files instead of 3"):
        interpolate(gone, "3", "4", tmp_path / "x.png")


def test_one_image_is_named_and_not_a_folder_of_them(vae, digits, tmp_path):
    from withheld.evaluate.generate import traverse

    with pytest.raises(InputError, match="images: name one image file"):
        traverse(vae, tmp_path / "x.png", str(digits))


def test_texts_are_no_rows_for_a_mixture(table, tmp_path):
    (tmp_path / "book.txt").write_text("It was a dark night. " * 40)
    groups = withheld.pretrain("mixture", str(table), tmp_path / "groups", steps=1)
    for words in (("predict", groups.folder, tmp_path / "book.txt", "-o", tmp_path / "x.csv"),):
        assert "holds no rows of numbers: give a .csv" in typed(*words, code=2)
