"""All studies and claims in one go, interrupted and continued as you like, and their report."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ._results import claim_from, digest, study_from
from .claims import Claim, Verdict, claim_tests
from .report import write_report
from .studies import STUDIES, Study, check_size


@dataclass(frozen=True, kw_only=True, eq=False)
class Validation:
    """What the studies and the claims say.

    Attributes
    ----------
    size : str
    studies : dict of str to Study
    claims : tuple of Claim
        Those that stand by themselves, then those of the studies.
    report : Path
        The HTML file.
    """

    size: str
    studies: dict[str, Study]
    claims: tuple[Claim, ...]
    report: Path

    def __repr__(self) -> str:
        lines = [f"{study.title}: {study.answer}" for study in self.studies.values()]
        found = Counter(claim.verdict for claim in self.claims)
        count = ", ".join(f"{found[verdict]} {verdict}" for verdict in Verdict if found[verdict])
        return "\n\n".join(
            [*lines, f"{len(self.claims)} claims: {count or 'none'}", f"report: {self.report}"]
        )


def validate(
    *,
    size: str = "quick",
    studies: Sequence[str] | None = None,
    out: str | Path = "out/validate",
    workers: int = 1,
    progress: bool | Callable[[int, int], None] = False,
) -> Validation:
    """Run the studies, measure the claims of the papers, and write one HTML report.

    Interrupt it at any moment and call it again: maps continue from their stores, and finished studies and
    claims are read back as long as neither the package nor the settings have changed.

    Parameters
    ----------
    size : "quick", "standard" or "full", optional
        A few minutes on two cores; tens of minutes; a night or a cluster.
    studies : sequence of str, optional
        Names in `trainability.studies.STUDIES`: these alone, and only their own claims. All by default, with
        every claim.
    out : path, optional
        Folder for `report.html`, `claims.md`, `figures`, and what a second call continues from.
    workers : int, optional
        Processes.
    progress : bool or callable, optional
        As in `trainability_map`, for each map.

    Returns
    -------
    Validation

    Raises
    ------
    ValueError
        If the size or a study is unknown.
    OSError
        If `out` cannot be written.

    Examples
    --------
    >>> validate(size="huge")
    Traceback (most recent call last):
        ...
    ValueError: size='huge' is none of quick, standard, full; choose one of them
    """
    check_size(size)
    functions = {name: STUDIES[name] for name in (STUDIES if studies is None else studies)}
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"out={str(out)!r} cannot be written ({error}); choose another folder") from error
    done = {}
    for name, function in functions.items():

        def run(name=name, function=function) -> Study:
            return function(size=size, stores=out / "maps" / size / name, workers=workers, progress=progress)

        done[name] = study_from(out / "results" / size / name, digest(name, size), run)
    alone = claim_tests() if studies is None else {}
    claims = [
        claim_from(out / "results" / "claims" / f"{name}.json", digest(name), test)
        for name, test in alone.items()
    ]
    claims += [claim for study in done.values() for claim in study.claims]
    report = write_report(list(done.values()), claims, out, size=size)
    return Validation(size=size, studies=done, claims=tuple(claims), report=report)
