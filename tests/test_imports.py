"""Who may import whom (held here, by reading the source), and what must never stand in it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "withheld"
FILES = sorted(SRC.rglob("*.py"))

# Package or module -> what it may not import, anywhere in its files.
FORBIDDEN = {
    "types": ["splits", "networks", "losses", "methods", "objective", "data", "learn", "evaluate", "report", "cli"],
    "errors": ["types", "splits", "networks", "losses", "methods", "objective", "data", "learn", "evaluate", "report"],
    "objective": ["splits", "networks", "losses", "methods", "data", "learn", "evaluate", "report", "cli", "run"],
    "splits": ["networks", "losses", "methods", "objective", "data", "learn", "evaluate", "report", "cli", "run"],
    "networks": ["splits", "losses", "methods", "objective", "data", "learn", "evaluate", "report", "cli", "run"],
    "losses": ["splits", "networks", "methods", "objective", "data", "learn", "evaluate", "report", "cli", "run"],
    "methods": ["data", "learn", "evaluate", "report", "cli", "run", "encoder", "distributed"],
    "data": ["splits", "networks", "losses", "methods", "objective", "learn", "evaluate", "report", "cli", "run"],
    "learn": ["methods", "splits", "evaluate", "report", "cli", "run"],
    "evaluate": ["methods", "splits", "report", "cli"],
    "report": ["types", "objective", "networks", "learn", "evaluate", "data", "run", "encoder", "methods", "cli"],
    "aloud": ["methods", "splits", "learn", "evaluate", "report", "cli", "run"],
    "narrator": ["methods", "splits", "networks", "learn", "evaluate", "report", "cli", "run"],
    "screen": ["methods", "splits", "networks", "data", "learn", "evaluate", "report", "cli", "run"],
    "distributed": ["methods", "splits", "objective", "data", "learn", "evaluate", "report", "cli", "run"],
}
HEAVY = {"torch", "transformers", "datasets", "sklearn", "skimage", "matplotlib", "pandas", "scipy", "pyarrow"}
LIGHT = ["__init__", "__main__", "errors", "run", "cli", "report", "wording", "aloud", "narrator", "screen"]
MEETS_TORCH_DISTRIBUTED = {"distributed", "learn"}


def imports(tree: ast.AST) -> Iterator[str]:
    """Every imported module, and for `from a import b` both a and a.b, which may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_import_time(tree: ast.Module) -> ast.Module:
    """The tree without function bodies and without `if TYPE_CHECKING:`."""

    class Outer(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.Pass:
            return ast.Pass()

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.Pass:
            return ast.Pass()

        def visit_If(self, node: ast.If) -> ast.AST:
            return ast.Pass() if ast.unparse(node.test).endswith("TYPE_CHECKING") else self.generic_visit(node)

    return Outer().visit(tree)


def part_of(path: Path) -> str:
    """`splits` for src/withheld/splits/image.py, `types` for src/withheld/types.py."""
    inside = path.relative_to(SRC)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return str(path.relative_to(SRC))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_layers(path: Path) -> None:
    forbidden = {f"withheld.{name}" for name in FORBIDDEN.get(part_of(path), [])}
    crossed = {module for module in imports(parse(path)) if ".".join(module.split(".")[:2]) in forbidden}
    assert not crossed, (
        f"{name_of(path)} imports {sorted(crossed)}: see DESIGN in CONTRIBUTING.md, 'Who may import whom'"
    )


@pytest.mark.parametrize("path", [f for f in FILES if part_of(f) in LIGHT], ids=name_of)
def test_light_files_import_nothing_heavy_at_import_time(path: Path) -> None:
    heavy = {m for m in imports(at_import_time(parse(path))) if m.split(".")[0] in HEAVY}
    assert not heavy, f"{name_of(path)} imports {sorted(heavy)} at import time"


@pytest.mark.parametrize("path", [f for f in FILES if part_of(f) == "report"], ids=name_of)
def test_the_report_never_meets_torch(path: Path) -> None:
    met = {m for m in imports(parse(path)) if m.split(".")[0] in {"torch", "transformers"}}
    assert not met


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_one_place_speaks_to_other_processes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = "torch.distributed" in text or "from torch import distributed" in text
    assert not named or part_of(path) in MEETS_TORCH_DISTRIBUTED, (
        "only distributed.py and learn/ name torch.distributed"
    )


@pytest.mark.parametrize("path", FILES, ids=name_of)
@pytest.mark.promise("S1", "source files without pickle, eval, exec, shell, unsafe yaml or remote code")
def test_nothing_unsafe(path: Path) -> None:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = {m.split(".")[0] for m in imports(ast.Module([node], []))}
            assert not modules & {"pickle", "dill", "cloudpickle", "shelve", "marshal"}, f"line {node.lineno}: pickles"
        if isinstance(node, ast.Call):
            wrong = unsafe(node)
            assert not wrong, f"{name_of(path)}:{node.lineno}: {wrong}"


def unsafe(call: ast.Call) -> str:
    """What is wrong with a call, or nothing."""
    name = ast.unparse(call.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"):
        return f"{name}() runs what it is given"
    if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
        return "only yaml.safe_load"
    if name == "torch.load" and given.get("weights_only") != "True":
        return "torch.load without weights_only=True unpickles"
    for key, bad in (("shell", "True"), ("trust_remote_code", "True"), ("allow_pickle", "True")):
        if given.get(key) == bad:
            return f"{key}=True"
    return ""


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_posix_only_at_import_time(path: Path) -> None:
    posix = {"fcntl", "resource", "pwd", "grp", "termios", "posix", "pty"}
    assert not posix & {m.split(".")[0] for m in imports(at_import_time(parse(path)))}


def test_no_file_outgrows_its_concept() -> None:
    long = {name_of(p): n for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 350}
    assert not long, f"a concept may be missing in {long}"


def test_import_is_instant_and_loads_nothing_heavy() -> None:
    code = "import sys, withheld, withheld.cli, withheld.report; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.split(".")[0] for name in ast.literal_eval(done.stdout)}
    assert not loaded & HEAVY
    assert "rich" not in loaded


def test_what_takes_a_second_to_import_is_for_the_measures_of_glue() -> None:
    """scipy.stats, of which a run would want one quantile."""
    users = {path.stem for path in FILES if "scipy.stats" in imports(ast.parse(path.read_text(encoding="utf-8")))}
    assert users == {"glue_metrics"}


def test_every_public_name_is_there() -> None:
    import withheld

    for name in withheld.__all__:
        assert getattr(withheld, name) is not None, name
    assert set(withheld.__all__) == set(dir(withheld))


def test_a_mistyped_public_name_gets_a_hint() -> None:
    import withheld

    with pytest.raises(AttributeError, match="did you mean 'pretrain'"):
        withheld.pretrane  # noqa: B018


def test_all_networks_of_ours_are_told_to_transformers() -> None:
    from withheld.architectures import OURS

    found = {
        node.value.value
        for path in FILES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "model_type"
        and isinstance(node.value, ast.Constant)
    }
    assert found == set(OURS)
