"""The report: one HTML file that needs nothing else, and the table of claims in Markdown."""

import base64
import json
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment
from markdown_it import MarkdownIt
from markupsafe import Markup

from . import plot
from ._provenance import provenance
from ._results import LIBRARIES
from .claims import PAPERS, Claim, Verdict
from .plot_studies import DRAWINGS
from .studies import Study


def write_report(studies: Sequence[Study], claims: Sequence[Claim], out: Path, *, size: str) -> Path:
    """Write `report.html`, `claims.md` and `figures/` of studies and claims into a folder.

    Parameters
    ----------
    studies : sequence of Study
    claims : sequence of Claim
        All claims of the table, those of the studies among them.
    out : Path
    size : str
        Named in the command that makes the report again.

    Returns
    -------
    Path
        The HTML file; it refers to no other file and no other machine.
    """
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    pictures = {study.name: _draw(study, figures) for study in studies}
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"markdown": _html, "interval": interval_text, "pretty": _settings}
    template = environment.from_string(files(__package__).joinpath("report.html.jinja").read_text("utf-8"))
    words = "" if size == "quick" else f" --size {size}"
    page = template.render(
        studies=studies,
        claims=claims,
        counts={verdict: sum(claim.verdict is verdict for claim in claims) for verdict in Verdict},
        papers=PAPERS,
        pictures=pictures,
        command=f"trainability validate{words}",
        provenance={**provenance(), "size": size, "python": platform.python_version()}
        | {name: version(name) for name in LIBRARIES}
        | {"machine": f"{platform.system()} {platform.machine()}"},
    )
    (out / "claims.md").write_text(claims_page(claims, size=size), encoding="utf-8")
    path = out / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def claims_page(claims: Iterable[Claim], *, size: str = "quick") -> str:
    """Give the table of claims as a Markdown page, one section for each paper.

    Parameters
    ----------
    claims : iterable of Claim
    size : str, optional
        That the studies among them ran at.

    Examples
    --------
    >>> print(claims_page([]).splitlines()[0])
    # Claims of the papers, measured
    """
    lines = [
        "# Claims of the papers, measured",
        "",
        "Each line is made again by its command. A verdict follows from where the 95 % interval lies relative to "
        "what the claim allows: inside (supported), outside (contradicted), across an end (inconclusive); a "
        "dimension that is noise or unresolved decides nothing. "
        "Processors round differently, and runs beside a boundary then end otherwise: measured numbers move between "
        f"machines, counts of few runs most. Studies ran at the size `{size}`: a larger one narrows the intervals.",
    ]
    claims = list(claims)
    found = Counter(claim.verdict for claim in claims)
    lines += ["", ", ".join(f"{found[verdict]} {verdict}" for verdict in Verdict) + "."]
    for paper, subject in PAPERS.items():
        mine = [claim for claim in claims if claim.paper.startswith(paper)]
        if not mine:
            continue
        lines += ["", f"## {paper}: {subject}", "", _row(_COLUMNS), _row(["---"] * len(_COLUMNS))]
        lines += [
            _row(
                [
                    claim.text,
                    claim.measured,
                    interval_text(claim.interval),
                    f"**{claim.verdict}**",
                    f"`{claim.command}`",
                ]
            )
            for claim in mine
        ]
    return "\n".join(lines) + "\n"


_COLUMNS = ("claim", "measured", "95 % interval", "verdict", "command")


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def interval_text(interval: tuple[float, float] | None) -> str:
    """Words for an interval.

    Examples
    --------
    >>> interval_text((0.123456, 2.0)), interval_text(None)
    ('0.1235 to 2', '–')
    """
    return "–" if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}"


def _draw(study: Study, folder: Path) -> list[dict[str, str]]:
    """Draw a study's pictures, keep each as a file, and return them as data URIs."""
    drawn = []
    pictures = DRAWINGS[study.name](study)
    for picture in pictures:
        path = folder / f"{study.name}-{picture.name}.png"
        plot.save(picture.figure, path)
        data = base64.b64encode(path.read_bytes()).decode()
        drawn.append({"caption": picture.caption, "source": f"data:image/png;base64,{data}"})
    return drawn


def _html(markdown: str) -> Markup:
    """Render Markdown; raw HTML in it stays text."""
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown))


def _settings(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
