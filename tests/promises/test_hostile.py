"""What strangers may send: models, tokenizers, archives, tables. Refused or harmless; nothing runs or is touched (S1-S14)."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import re
import socket
import stat
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from small_files import encoded, photo

from withheld.data.prepared import prepare
from withheld.data.source import open_source
from withheld.errors import InputError

Tally = Callable[[str, int, int, str], None]
ROOT = Path(__file__).resolve().parents[2]


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.canary),))


@pytest.fixture(autouse=True)
def no_connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Whoever tries to reach an address is noticed."""
    tried: list[Any] = []

    def refuse(self: socket.socket, address: Any) -> None:
        tried.append(address)
        raise OSError("no connection in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield tried
    assert not tried


def pickles(folder: Path, canary: Path) -> dict[str, Path]:
    """Pickles under every name that one could come by: name -> what to open."""
    evil = Evil(canary)
    plain, new = pickle.dumps(evil), io.BytesIO()
    torch.save({"weight": evil}, new)
    array = io.BytesIO()
    np.save(array, np.array([evil], dtype=object), allow_pickle=True)
    many = io.BytesIO()
    np.savez(many, a=np.array([evil], dtype=object))
    config = json.dumps(
        {
            "model_type": "vit",
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "intermediate_size": 32,
        }
    )
    found = {}
    contents = {
        "pytorch_model.bin": new.getvalue(), "model.pt": new.getvalue(), "weights.pth": plain, "last.ckpt": plain,
        "model.safetensors": plain, "encoder.pkl": plain, "tf_model.h5": plain, "model.bin": new.getvalue(),
    }  # fmt: skip
    for name, data in contents.items():
        place = folder / name.replace(".", "-")
        place.mkdir()
        (place / "config.json").write_text(config)
        (place / name).write_bytes(data)
        found[f"encoder {name}"] = place
    for name, data in {
        "array.npy": array.getvalue(),
        "arrays.npz": many.getvalue(),
        "data.pkl": plain,
        "t.npy": plain,
    }.items():
        (folder / name).write_bytes(data)
        found[f"data {name}"] = folder / name
    return found


def open_prepared(where: str) -> Any:
    return prepare(open_source(where), 8)


@pytest.mark.promise("S1")
def test_pickles_in_every_disguise(tmp_path: Path, tally: Tally) -> None:
    from withheld.data.vectors import open_vectors
    from withheld.encoder import Encoder
    from withheld.evaluate.classifier import Classifier
    from withheld.networks.open import open_trunk
    from withheld.networks.text_open import open_text_trunk

    canary = tmp_path / "canary"
    asked = opened = 0
    for name, path in pickles(tmp_path, canary).items():
        ways: list[Callable[[], Any]]
        if name.startswith("encoder"):
            ways = [
                partial(open_trunk, path, size=16, channels=3),
                partial(Encoder.open, path),
                partial(open_text_trunk, str(path), vocabulary=100, length=16, seed=0),
                partial(Classifier.open, path),
            ]
        else:
            ways = [partial(open_vectors, str(path)), partial(open_prepared, str(path))]
        for way in ways:
            asked += 1
            try:
                way()
                opened += 1  # a config without weights may give a fresh network: the pickle beside it was not looked at
            except InputError:
                pass
            assert not canary.exists(), f"{name} was unpickled"
    assert asked > 35
    assert opened <= 8
    tally("S1", asked, asked, "ways to have a pickle opened (12 disguises): none was")


@pytest.mark.promise("S1")
def test_a_pickled_checkpoint_and_a_pickled_item(tmp_path: Path, tally: Tally) -> None:
    from withheld.learn.checkpoint import MANIFEST, _digest, _manifest, load_state

    canary = tmp_path / "canary"
    step = tmp_path / "state" / "step-3"
    step.mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.safetensors", "loop.json"):
        (step / name).write_bytes(pickle.dumps(Evil(canary)))
    (step / MANIFEST).write_text(_manifest({path.name: _digest(path) for path in step.iterdir()}))
    model = torch.nn.Linear(2, 2)
    with pytest.raises(InputError):
        load_state(step, model, torch.optim.AdamW(model.parameters()))
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.jpg", "c.npy", "d.tif"):
        (folder / name).write_bytes(pickle.dumps(Evil(canary)))
    (folder / "good.png").write_bytes(encoded(photo(), "PNG"))
    assert len(prepare(open_source(str(folder)), 8, allow_bad=1.0)) == 1
    assert not canary.exists()
    tally("S1", 5, 5, "pickled checkpoints and items: refused")


UNSAFE = {
    "import pickle": "import pickle",
    "from dill": "from dill import loads",
    "eval": "eval(text)",
    "exec": "exec(text)",
    "builtins.eval": "builtins.eval(text)",
    "os.system": "os.system(text)",
    "shell": "subprocess.run(text, shell=True)",
    "yaml.load": "yaml.load(text)",
    "yaml.load with a loader": "yaml.load(text, Loader=yaml.Loader)",
    "yaml.full_load": "yaml.full_load(text)",
    "torch.load": "torch.load(path)",
    "torch.load, open": "torch.load(path, weights_only=False)",
    "remote code": "AutoModel.from_pretrained(name, trust_remote_code=True)",
    "np.load": "np.load(path, allow_pickle=True)",
    "joblib": "import joblib",
    "extractall": "archive.extractall(folder)",
    "from_pretrained that would ask": "AutoModel.from_pretrained(name)",
    "unpack_archive": "shutil.unpack_archive(path)",
    "mktemp": "tempfile.mktemp()",
    "truncated images": "ImageFile.LOAD_TRUNCATED_IMAGES = True",
}


def unsafe_in(source: str) -> list[str]:
    """Every unsafe thing in a source file, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if {name.split(".")[0] for name in names} & {
                "pickle",
                "dill",
                "cloudpickle",
                "shelve",
                "marshal",
                "joblib",
            }:
                found.append(f"{node.lineno}: {ast.unparse(node)}")
        elif (isinstance(node, ast.Attribute) and node.attr == "LOAD_TRUNCATED_IMAGES") or (
            isinstance(node, ast.Call) and _unsafe_call(node)
        ):
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


def _unsafe_call(node: ast.Call) -> bool:
    name, last = ast.unparse(node.func), ast.unparse(node.func).split(".")[-1]
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name.removeprefix("builtins.") in (
        "eval",
        "exec",
        "compile",
        "__import__",
        "os.system",
        "os.popen",
        "tempfile.mktemp",
    ):
        return True
    if name.startswith("yaml.") and last in ("load", "full_load", "unsafe_load", "load_all"):
        return True
    if last in ("extractall", "unpack_archive", "extract"):
        return True
    if name == "torch.load" and given.get("weights_only") != "True":
        return True
    hub = last == "from_pretrained" and name.split(".")[0].startswith("Auto")
    if hub and given.get("trust_remote_code") != "False" and "model_settings" not in ast.unparse(node):
        return not any(
            "folder" in ast.unparse(argument) or "temporary" in ast.unparse(argument) for argument in node.args
        )
    return any(given.get(key) == "True" for key in ("shell", "trust_remote_code", "allow_pickle"))


@pytest.mark.promise("S1")
@pytest.mark.parametrize("text", UNSAFE.values(), ids=UNSAFE.keys())
def test_the_check_of_the_source_sees_it(text: str) -> None:
    assert unsafe_in(text)


@pytest.mark.promise("S1")
def test_the_source_holds_nothing_unsafe(tally: Tally) -> None:
    files = sorted((ROOT / "src").rglob("*.py"))
    found = {
        str(path.relative_to(ROOT)): wrong for path in files if (wrong := unsafe_in(path.read_text(encoding="utf-8")))
    }
    assert not found, found
    tally("S1", len(files), len(files), f"source files in which an ast check of {len(UNSAFE)} unsafe things finds none")


VIT = {
    "model_type": "vit", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 32,
    "image_size": 16, "patch_size": 4,
}  # fmt: skip
CONFIGS: dict[str, Any] = {
    "auto_map": {**VIT, "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}},
    "auto_map elsewhere": {**VIT, "auto_map": {"AutoModel": "evil/repo--evil.Model"}},
    "attention from a repository": {**VIT, "_attn_implementation": "evil/repo"},
    "attention, other key": {**VIT, "attn_implementation": "evil/repo"},
    "attention, inner key": {**VIT, "_attn_implementation_internal": "evil/repo"},
    "experts from a repository": {**VIT, "_experts_implementation": "evil/repo"},
    "remote code": {**VIT, "trust_remote_code": True},
    "unknown type": {**VIT, "model_type": "evil"},
    "no type": {"hidden_size": 4},
    "type that is no text": {**VIT, "model_type": ["vit"]},
    "a list": [1, 2, 3],
    "terabytes": {**VIT, "hidden_size": 2**20, "intermediate_size": 2**22},
    "a million layers": {**VIT, "num_hidden_layers": 10**6},
    "an endless image": {**VIT, "image_size": 10**7, "patch_size": 1},
    "endless channels": {**VIT, "num_channels": 10**9},
    "negative": {**VIT, "hidden_size": -4},
    "zero heads": {**VIT, "num_attention_heads": 0},
    "text where numbers are": {**VIT, "hidden_size": "os.system('touch x')"},
    "deep": "[" * 100_000,
    "no json": "{]",
    "binary": b"\x80\x04\x95",
    "nan": '{"model_type": "vit", "hidden_size": NaN}',
    "backbone": {**VIT, "model_type": "upernet", "backbone": "evil/repo", "use_pretrained_backbone": True},
    "timm": {**VIT, "model_type": "timm_wrapper", "architecture": "evil/repo"},
}


@pytest.mark.promise("S2")
@pytest.mark.parametrize("kind", CONFIGS)
def test_hostile_configs(kind: str, tmp_path: Path, tally: Tally) -> None:
    """Refused, or opened as if the hostile part was not there; in two seconds, and without a gigabyte."""
    import psutil

    from withheld.networks.open import open_trunk

    content, canary = CONFIGS[kind], tmp_path / "canary"
    (tmp_path / "evil.py").write_text(f"import os; os.mkdir({str(canary)!r})\nclass Config: pass\nclass Model: pass\n")
    data = (
        content
        if isinstance(content, bytes)
        else (content if isinstance(content, str) else json.dumps(content)).encode()
    )
    (tmp_path / "config.json").write_bytes(data)
    before, begun = psutil.Process().memory_info().rss, time.process_time()
    try:
        trunk, _ = open_trunk(tmp_path, size=16, channels=3)
    except InputError:
        pass
    else:
        assert type(trunk.model).__module__.startswith("transformers.")
        assert "evil" not in str(trunk.model.config.to_dict())
    assert time.process_time() - begun < 6
    assert psutil.Process().memory_info().rss - before < 300 << 20
    assert not canary.exists()
    tally("S2", 1, 1, "configs that name code, ask for terabytes or are no config: no code ran, no memory taken")


@pytest.mark.promise("S2")
@pytest.mark.parametrize("kind", ["auto_map", "class", "pickled vocabulary", "processor"])
def test_hostile_tokenizers(kind: str, tmp_path: Path, tally: Tally) -> None:
    from withheld.data.tokenizer import open_tokenizer

    canary = tmp_path / "canary"
    (tmp_path / "evil.py").write_text(f"import os; os.mkdir({str(canary)!r})\nclass Tokenizer: pass\n")
    settings: dict[str, Any] = {
        "auto_map": {
            "auto_map": {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]},
            "tokenizer_class": "Tokenizer",
        },
        "class": {"tokenizer_class": "evil.Tokenizer"},
        "pickled vocabulary": {"tokenizer_class": "TransfoXLTokenizer"},
        "processor": {"processor_class": "evil.Processor", "auto_map": {"AutoProcessor": "evil.Processor"}},
    }[kind]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "vocab.pkl").write_bytes(pickle.dumps(Evil(canary)))
    with pytest.raises(InputError):
        open_tokenizer(tmp_path)
    assert not canary.exists()
    tally("S2", 1, 1, "tokenizers and processors that name code: refused")


def tars(folder: Path) -> dict[str, Path]:
    """Hostile tar files: each holds good.png and something else."""
    good = encoded(photo(), "PNG")

    def pack(name: str, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
        path = folder / f"{name}.tar"
        with tarfile.open(path, "w") as archive:
            first = tarfile.TarInfo("photos/good.png")
            first.size = len(good)
            archive.addfile(first, io.BytesIO(good))
            for info, data in members:
                archive.addfile(info, io.BytesIO(data))
        return path

    def member(
        name: str, kind: bytes = tarfile.REGTYPE, to: str = "", size: int | None = None
    ) -> tuple[tarfile.TarInfo, bytes]:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, to
        info.size = (len(good) if kind == tarfile.REGTYPE else 0) if size is None else size
        info.mode |= stat.S_ISUID
        return info, good

    outside = str(folder / "outside")
    return {
        "up": pack("up", member("../outside.png")),
        "far up": pack("far-up", member("a/../../../../../../outside.png")),
        "absolute": pack("absolute", member("/outside.png")),
        "drive": pack("drive", member("C:\\outside.png")),
        "backslashes": pack("backslashes", member("..\\..\\outside.png")),
        "link to a file": pack("link", member("photos/l.png", tarfile.SYMTYPE, "/etc/passwd")),
        "link to a folder": pack("linked", member("photos/d", tarfile.SYMTYPE, outside), member("photos/d/x.png")),
        "hard link": pack("hard", member("photos/h.png", tarfile.LNKTYPE, "/etc/passwd")),
        "device": pack("device", member("photos/c.png", tarfile.CHRTYPE)),
        "pipe": pack("pipe", member("photos/p.png", tarfile.FIFOTYPE)),
        "twins": pack("twins", member("photos/good.png")),
        "nul": pack("nul", member("photos/a\0.png")),
        "long name": pack("long", member("photos/" + "n" * 5000 + ".png")),
        "nested": pack("nested", member("photos/inner.tar")),
    }


def zips(folder: Path) -> dict[str, Path]:
    """Hostile zip files."""
    good = encoded(photo(), "PNG")

    def pack(name: str, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
        path = folder / f"{name}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("photos/good.png", good)
            for info, data in members:
                archive.writestr(info, data)
        return path

    link = zipfile.ZipInfo("photos/l.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    lying = pack("lying", ("photos/x.png", good * 50))
    data = bytearray(lying.read_bytes())
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"photos/x.png"))
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    lying.write_bytes(bytes(data))
    return {
        "up": pack("up", ("../outside.png", good)),
        "absolute": pack("absolute", ("/outside.png", good)),
        "drive": pack("drive", ("C:/outside.png", good)),
        "link": pack("link", (link, b"/etc/passwd")),
        "bomb": pack("bomb", ("photos/bomb.png", b"\0" * (300 << 20))),
        "lying size": lying,
        "nested": pack("nested", ("photos/inner.zip", good)),
        "many": pack("many", *[(f"photos/{i}.txt", b"") for i in range(3000)]),
    }


@pytest.mark.promise("S3")
def test_hostile_archives(tmp_path: Path, tally: Tally) -> None:
    """The good image is read, or the archive is refused; nothing beside it is read or written."""
    import psutil

    packed = tmp_path / "packed"
    packed.mkdir()
    cases = {**{f"tar, {k}": v for k, v in tars(packed).items()}, **{f"zip, {k}": v for k, v in zips(packed).items()}}
    cache = Path(os.environ["WITHHELD_CACHE"])
    before = set(tmp_path.rglob("*"))
    memory = psutil.Process().memory_info().rss
    for name, path in cases.items():
        try:
            prepared = prepare(open_source(str(path)), 16, allow_bad=1.0)
        except InputError:
            continue
        assert "photos/good.png" in prepared.names or "good.png" in str(prepared.names), name
        stray = [file for file in prepared.names if ".." in file or file.startswith("/") or "outside" in file]
        assert not stray, (name, stray)
    assert set(tmp_path.rglob("*")) == before
    assert not list(Path("/").glob("outside.png"))
    assert not list(cache.rglob("outside*"))
    assert psutil.Process().memory_info().rss - memory < 200 << 20
    tally("S3", len(cases), len(cases), "kinds of hostile archives: nothing outside was read or written")


@pytest.mark.promise("S5")
def test_written_tables_hold_no_formula(tmp_path: Path, tally: Tally) -> None:
    """What a spreadsheet would compute is preceded by a quote."""
    import csv

    from withheld.evaluate.classifier import write_labels

    names = ["=cmd|' C calc'!A0.png", "+1+1.png", "-2+3.png", "@SUM(1).png", "\tx.png", "photos/a.png"]
    write_labels(tmp_path / "l.csv", names, ["=1+1"] * len(names), np.full(len(names), 0.5))
    with open(tmp_path / "l.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    assert len(rows) == len(names)
    for name, label, _ in rows:
        assert name[0] not in "=+-@\t\r"
        assert label == "'=1+1"
    assert rows[-1][0] == "photos/a.png"
    tally(
        "S5",
        len(names),
        len(names),
        "names that a spreadsheet would compute: written with a quote in front",
    )


@pytest.mark.promise("S9")
def test_our_onnx_files_hold_their_weights(tmp_path: Path) -> None:
    """So nobody is asked to read a file that an ONNX names; a name that leads elsewhere is refused by onnx itself."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    weights = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../../../../etc/passwd")
    graph = helper.make_graph([], "g", [], [], initializer=[weights])
    onnx.save_model(helper.make_model(graph), tmp_path / "evil.onnx")
    with pytest.raises(Exception, match=r"(?i)outside|directory|path|external"):
        onnx.load(tmp_path / "evil.onnx", load_external_data=True)
    assert tuple(map(int, onnx.__version__.split(".")[:2])) >= (1, 21)


def patterns() -> list[tuple[str, int, str]]:
    """Every regular expression of the source that stands there as a text: file, line, pattern."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Call) and ast.unparse(node.func) in {
                f"re.{name}"
                for name in ("compile", "match", "search", "fullmatch", "sub", "split", "findall", "finditer")
            }
            if named and node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                found.append((path.name, node.lineno, node.args[0].value))
    return found


@pytest.mark.promise("S11")
def test_no_pattern_takes_long(tally: Tally) -> None:
    hostile = [
        "a" * 100_000, " " * 100_000, "1" * 100_000, "a " * 50_000, "." * 100_000, "-" * 100_000, "ab" * 50_000 + "!",
        "\n" * 100_000, "0:" * 50_000, "://" * 30_000, "@" * 100_000, "=" * 100_000, "((" * 50_000, "hf_" * 30_000, "A1" * 50_000,
        "é" * 100_000, "_" * 100_000, '"' * 100_000,
    ]  # fmt: skip
    slow, found = [], patterns()
    for name, line, pattern in found:
        expression = re.compile(pattern)
        for text in hostile:
            begun = time.process_time()
            expression.search(text)
            expression.fullmatch(text)
            seconds = time.process_time() - begun
            if seconds > 0.2:
                slow.append((name, line, pattern, text[:5], round(seconds, 2)))
    assert len(found) > 10
    assert not slow, slow
    tally("S11", len(found), len(found), "regular expressions of the source under 0.2 s on 100 kB of hostile text")


@pytest.mark.promise("S12")
def test_links_out_of_the_data_are_not_followed(tmp_path: Path, tally: Tally) -> None:
    from withheld.data.text import open_texts

    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "id.png").write_bytes(encoded(photo(), "PNG"))
    (secret / "key.txt").write_text("the secret words")
    data = tmp_path / "data"
    (data / "in").mkdir(parents=True)
    (data / "in" / "good.png").write_bytes(encoded(photo(1), "PNG"))
    (data / "in" / "good.txt").write_text("plain words here")
    links = {"l.png": secret / "id.png", "folder": secret, "l.txt": secret / "key.txt", "up": "..", "self": "."}
    for name, to in links.items():
        (data / name).symlink_to(to)
    assert open_source(str(data)).names == ["in/good.png"]
    texts = open_texts(str(data))
    assert texts.names == ["in/good.txt"]
    tally("S12", len(links), len(links), "links out of the data and in circles: not followed")


@pytest.mark.promise("S13")
def test_secrets_stay_out_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import withheld

    token = "hf_" + "AbCdEfGhIjKlMnOpQrStUv"
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLE")
    monkeypatch.setattr(sys, "argv", ["withheld", "pretrain", "--data", f"https://me:s3cret@host/x?token={token}"])
    images = (np.random.default_rng(0).random((20, 16, 16, 3)) * 255).astype(np.uint8)
    withheld.pretrain("vae", images, tmp_path / "run", steps=1, batch_size=8, pictures=False, device="cpu")
    text = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    for secret in (token, "s3cret", "wJalrXUtnFEMI"):
        assert secret.encode() not in text


@pytest.mark.slow
@pytest.mark.promise("S14", "audit of what is installed")
def test_no_known_weakness_is_installed(no_connection: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """pip-audit, which asks pypi.org; skipped where it is absent or the network is."""
    import shutil
    import subprocess

    if shutil.which("pip-audit") is None:
        pytest.skip("pip-audit is not installed: pip install pip-audit")
    command = [
        "pip-audit",
        "-r",
        str(ROOT / "constraints.txt"),
        "--no-deps",
        "--disable-pip",
        "--progress-spinner",
        "off",
        "--timeout",
        "20",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode and re.search(r"(?i)connection|resolve|timed out|unreachable|proxy", done.stderr):
        pytest.skip("the network cannot be reached from here")
    assert done.returncode == 0, done.stdout + done.stderr
