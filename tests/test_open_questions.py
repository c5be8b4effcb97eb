"""The page of open questions holds what the notebook printed, and its figures."""

import base64
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import open_questions  # noqa: E402
import pages  # noqa: E402

OUTPUT = nbformat.v4.new_output


def test_what_is_printed_and_drawn_goes_into_the_page(tmp_path, monkeypatch):
    (tmp_path / "docs/figures").mkdir(parents=True)
    page = tmp_path / "docs/open-questions.md"
    start, end = "<!-- size 2: made by benchmarks/open_questions.py -->", "<!-- end of size 2 -->"
    page.write_text(f"above\n{start}\nold\n{end}\nbelow\n")
    monkeypatch.setattr(open_questions, "ROOT", tmp_path)
    monkeypatch.setattr(open_questions, "PAGE", page)
    cells = [nbformat.v4.new_code_cell(outputs=[OUTPUT("stream", text="scatter 0.3\n")])]
    table = OUTPUT("execute_result", {"text/plain": "rows flips", "text/html": "<table>"})
    cells += [nbformat.v4.new_code_cell(outputs=[table])]
    for name in open_questions.FIGURES:
        png = base64.b64encode(name.encode()).decode()
        drawn = OUTPUT("display_data", {"image/png": png, "text/plain": "<Figure>"})
        cells.append(nbformat.v4.new_code_cell(outputs=[drawn]))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "open-questions-2.ipynb")
    for _ in range(2):  # again from what is there: nothing is doubled
        open_questions.main(["--size", "2", "--out", str(tmp_path)])
        assert page.read_text() == (
            f"above\n{start}\n\n```text\nscatter 0.3\nrows flips\n```\n\n{end}\nbelow\n"
        )
    for name in open_questions.FIGURES:
        assert (tmp_path / f"docs/figures/{name}.png").read_bytes() == name.encode()


def test_a_page_without_the_place_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- speed: made by benchmarks/mlp.py -->\nno end\n")
    with pytest.raises(ValueError, match="end of speed"):
        pages.fill(page, "speed", "text", script="mlp.py")
    assert page.read_text().endswith("no end\n")


def test_the_notebook_has_the_size_that_is_replaced():
    text = open_questions.NOTEBOOK.read_text(encoding="utf8")
    assert text.count("\nSIZE = 1 ") == 1
    assert text.count("plt.subplots") == len(open_questions.FIGURES)
