"""Theory pages and notebooks run from top to bottom; every claim in them is asserted by their cells."""

import re
from pathlib import Path

import jupytext
import nbclient
import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("theory/*.md"), *ROOT.glob("notebooks/*.md")])
THEORY = [path for path in DOCUMENTS if path.parent.name == "theory"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_document_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = jupytext.read(path)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()


@pytest.mark.parametrize("path", THEORY, ids=lambda path: path.stem)
def test_labels_are_unique_in_their_page(path):
    labels = re.findall(
        r"^\*\*[A-Z][a-z]+\*\* \((eq:[\w-]+)\)", path.read_text(encoding="utf8"), re.MULTILINE
    )
    assert len(labels) == len(set(labels))


def test_citations_of_theory_exist():
    """Every "theory/NN (eq:name)" in the package names a claim that page NN makes."""
    claims = {
        path.stem[:2]: set(re.findall(r"\((eq:[\w-]+)\)", path.read_text(encoding="utf8"))) for path in THEORY
    }
    missing = []
    for source in (ROOT / "src" / "trainability").rglob("*.py"):
        text = source.read_text(encoding="utf8")
        for page, names in re.findall(r"theory/(\d\d) ((?:\(eq:[\w-]+\)(?:, )?)+)", text):
            missing += [
                f"{source.name}: theory/{page} ({name})"
                for name in re.findall(r"eq:[\w-]+", names)
                if name not in claims.get(page, set())
            ]
    assert not missing
