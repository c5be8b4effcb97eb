"""What imports what, how light the package is, and that every public name is documented."""

import ast
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import trainability as tr

SOURCE = Path(tr.__file__).parent
HEAVY = ("torch", "sympy", "matplotlib", "zarr", "numba", "xarray", "scipy", "pandas")


def fresh(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_loads_nothing_heavy():
    code = f"import sys, trainability; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert fresh(code).strip() == "[]"


def test_public_names_arrive_without_torch_until_a_trainer_is_asked_for():
    code = (
        "import sys, trainability as tr; tr.Grid; tr.trainability_map; tr.product_map; tr.phase; "
        "print('torch' in sys.modules); tr.trainers.LinearTransformer; print('torch' in sys.modules)"
    )
    assert fresh(code).split() == ["False", "True"]


def imports_of(path: Path) -> set[str]:
    """Modules of this package that a file imports when it is imported itself."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level:
            names = {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
            beside = path.parent.name == "trainers" and node.level == 1
            found |= {f"trainers/{name}" for name in names} if beside else names
    return found


FILES = {
    p.stem if p.parent == SOURCE else f"trainers/{p.stem}": p
    for p in SOURCE.rglob("*.py")
    if p.stem != "__init__"
}


@pytest.mark.parametrize("name", FILES)
def test_imports_go_one_way(name):
    used = imports_of(FILES[name])
    assert "plot" not in used or name in ("report", "cli", "plot_studies", "plot_study_adam")
    if name.startswith("trainers/"):
        allowed = {"_rng", "_checks", "_threads", "prompt"}
        assert {u for u in used if not u.startswith("trainers/")} <= allowed
    sweep = {"grid", "sweep", "_contract", "_crew", "_filling", "_locks", "_store", "_template", "refinement"}
    if name in sweep:
        assert used <= {"_checks", "_provenance", *sweep}
    if name in ("comparison", "distances", "baselines", "forecasts", "significance", "_question"):
        assert used <= {"_question", "distances"}
    if name in ("maps", "_map"):
        assert used <= {"_map", "_lanes", "_checks"}


def test_imports_have_no_cycle():
    graph = {name: {u for u in imports_of(path) if u in FILES} for name, path in FILES.items()}
    done: set[str] = set()
    while len(done) < len(graph):
        ready = {name for name, used in graph.items() if name not in done and used <= done}
        assert ready, f"import cycle among {sorted(set(graph) - done)}"
        done |= ready


def test_no_public_name_is_hidden_by_a_module_of_the_same_name():
    modules = {m.name for m in pkgutil.iter_modules([str(SOURCE)])}
    assert set(tr.__all__) & modules == {"plot", "trainers"}


@pytest.mark.parametrize("name", sorted(set(tr.__all__) - {"plot", "trainers"}))
def test_public_names_exist_and_are_documented_with_an_example(name):
    thing = getattr(tr, name)
    text = inspect.getdoc(thing)
    assert text
    if inspect.isfunction(thing):
        assert ">>>" in text, f"{name} has no runnable example"
        assert thing.__module__.startswith("trainability.")
