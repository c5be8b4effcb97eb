"""What scripts write into pages of the documentation."""

from collections.abc import Iterable
from pathlib import Path


def fill(page: Path, name: str, text: str, *, script: str) -> None:
    """Replace what stands between `<!-- <name>: made by <script> -->` and `<!-- end of <name> -->`.

    Raises
    ------
    ValueError
        If the page lacks either line.
    """
    start, end = f"<!-- {name}: made by benchmarks/{script} -->", f"<!-- end of {name} -->"
    before, begun, rest = page.read_text(encoding="utf8").partition(start)
    _, ended, after = rest.partition(end)
    if not (begun and ended):
        raise ValueError(f"{page} has no lines {start} and {end}; put them where the text belongs")
    page.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", encoding="utf8")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown, a row a line."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
