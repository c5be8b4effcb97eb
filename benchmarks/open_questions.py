"""Run the notebook of the open questions at a larger size, and put what it prints and draws into its page.

python benchmarks/open_questions.py --size 2     some seven minutes of one core

Executed notebooks are kept in the folder `--out`; a size that is there is not run again. Figures of the last size go
to docs/figures, what all sizes print to docs/open-questions.md.
"""

import argparse
import base64
import re
from pathlib import Path

import jupytext
import nbclient
import nbformat

import pages

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks/open-questions.md"
PAGE = ROOT / "docs/open-questions.md"

# Of the figures, in the order in which the notebook draws them.
FIGURES = ("open-questions-plane", "open-questions-exponent", "open-questions-batches")


def run(size: int, out: Path) -> nbformat.NotebookNode:
    """The notebook at a size, executed."""
    kept = out / f"open-questions-{size}.ipynb"
    if kept.exists():
        return nbformat.read(kept, as_version=4)
    text, replaced = re.subn(
        "^SIZE = 1", f"SIZE = {size}", NOTEBOOK.read_text(encoding="utf8"), flags=re.MULTILINE
    )
    assert replaced == 1
    notebook = jupytext.reads(text, fmt="md:myst")
    nbclient.NotebookClient(notebook, timeout=None, kernel_name="python3").execute()
    out.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, kept)
    return notebook


def printed(notebook: nbformat.NotebookNode) -> str:
    """All that the cells print, and the tables they end with."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" not in data:
                texts.append(output.get("text") or data.get("text/plain", ""))
    return "\n".join(text.rstrip() for text in texts if text.strip())


def pictures(notebook: nbformat.NotebookNode) -> list[bytes]:
    """PNG of each figure."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [base64.b64decode(o["data"]["image/png"]) for o in outputs if "image/png" in o.get("data", {})]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs="+", default=[2], help="values of SIZE")
    parser.add_argument("--out", type=Path, default=ROOT / "out", help="folder of the executed notebooks")
    options = parser.parse_args(arguments)
    for size in options.size:
        notebook = run(size, options.out)
        text = f"```text\n{printed(notebook)}\n```"
        pages.fill(PAGE, f"size {size}", text, script="open_questions.py")
        for name, picture in zip(FIGURES, pictures(notebook), strict=True):
            (ROOT / f"docs/figures/{name}.png").write_bytes(picture)
        print("wrote size", size, flush=True)


if __name__ == "__main__":
    main()
