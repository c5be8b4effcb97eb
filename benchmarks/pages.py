"""Tables that scripts write into pages of the documentation."""

from collections.abc import Iterable, Sequence
from pathlib import Path


def fill(page: Path, script: str, text: str) -> None:
    """Replace what stands between `<!-- table: made by <script> -->` and the next `<!-- end of table -->`."""
    start, end = f"<!-- table: made by {script} -->", "<!-- end of table -->"
    before, found, rest = page.read_text(encoding="utf8").partition(start)
    if not found:
        raise ValueError(f"{page} has no line {start}; put it and {end} where the table belongs")
    after = rest.partition(end)[2]
    page.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", encoding="utf8")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown, a row a line."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
