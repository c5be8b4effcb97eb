"""The documentation site: every public name stands in the reference once, and the site builds by itself."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import trainability as tr

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def public_names() -> set[str]:
    plots = {
        node.name
        for node in ast.parse((ROOT / "src" / "trainability" / "plot.py").read_text(encoding="utf8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    return (
        {f"trainability.{name}" for name in set(tr.__all__) - {"plot", "trainers"}}
        | {f"trainability.trainers.{name}" for name in tr.trainers.__all__}
        | {f"trainability.plot.{name}" for name in plots}
    )


def test_every_public_name_stands_in_the_reference_once(reference, tmp_path):
    reference.write(ROOT, tmp_path)
    entries = [
        name
        for page in tmp_path.glob("*.rst")
        for name in re.findall(r"^\.\. auto\w+:: ([\w.]+)$", page.read_text(encoding="utf8"), re.MULTILINE)
    ]
    assert len(entries) == len(set(entries))
    assert public_names() <= set(entries)


def test_a_module_without_a_room_is_missed(reference, tmp_path):
    """The control: the page has what the table of the design has, so a module that is not in it shows."""
    for file in ("src/trainability/__init__.pyi", "src/trainability/trainers/__init__.pyi", "docs/design.md"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / file).read_text(encoding="utf8")
        (tmp_path / file).write_text(text.replace("`dynamics` (", "`nothing` ("), encoding="utf8")
    names = {name for listed in reference.rooms(tmp_path).values() for name in listed}
    assert "trainability.orbit" not in names
    assert "trainability.lyapunov_spectrum" in names


def test_every_figure_stands_on_a_page_and_has_its_command():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = "".join(page.read_text(encoding="utf8") for page in pages)
    listed = (ROOT / "docs" / "figures" / "README.md").read_text(encoding="utf8")
    figures = list((ROOT / "docs" / "figures").glob("*.png"))
    assert figures
    for figure in figures:
        assert f"figures/{figure.name})" in shown, figure.name
        assert f"{figure.name}`" in listed, figure.name


@pytest.mark.slow
def test_site_builds_without_warnings_and_fetches_nothing(tmp_path):
    """Without executing: the cells are run by test_documents."""
    pytest.importorskip("furo")
    words = ["-W", "--keep-going", "-q", "-c", "docs", "-d", tmp_path / "trees", ".", tmp_path / "site"]
    subprocess.run(
        [sys.executable, "-m", "sphinx", *words],
        cwd=ROOT,
        check=True,
        env={**os.environ, "DOCS_EXECUTION": "off"},
    )
    inventory = (tmp_path / "site" / "genindex.html").read_text(encoding="utf8")
    assert {name for name in public_names() if f"#{name}" not in inventory} == set()
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text(encoding="utf8")
        fetched = re.findall(r'<(?:script|img|iframe|source)[^>]*\ssrc="([^"]*)"', text)
        fetched += re.findall(r'<link[^>]*rel="(?:stylesheet|preload|icon)"[^>]*href="([^"]*)"', text)
        assert not [where for where in fetched if where.startswith(("http", "//"))], page.name
        assert "@import" not in text
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf8")), style.name
