"""Commands that set theory beside experiment: `trainability validate`, `trainability claim`."""

import json
from pathlib import Path
from typing import Annotated

import typer


def validate(
    size: Annotated[str, typer.Option(help="quick, standard or full.")] = "quick",
    study: Annotated[list[str] | None, typer.Option(help="A study, repeatable; all by default.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report, and to continue from.")] = Path(
        "out/validate"
    ),
    workers: Annotated[int, typer.Option(help="Processes that train.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Run the studies of theory against experiment, measure the papers' claims, and write one HTML report.

    Run it again after Ctrl-C, or after the machine went down, and it goes on where it stopped. A study named by
    `--study` runs alone, with its own claims only.

    In Python: `trainability.validate`.
    """
    from .validation import validate

    found = validate(size=size, studies=study, out=out, workers=workers, progress=not as_json)
    if not as_json:
        print(found)
        return
    answer = {
        "size": found.size,
        "answers": {name: done.answer for name, done in found.studies.items()},
        "claims": [claim.as_dict() for claim in found.claims],
        "report": str(found.report),
    }
    print(json.dumps(answer))


def claim(
    name: Annotated[str, typer.Argument(help="Name of the claim; lists them if left out.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Measure one claim of the papers, or list those there are.

    Prints the claim, the measurement with its interval, and the verdict: supported, contradicted, inconclusive, or
    out of reach here. Claims that need a study's maps come with `trainability validate`.

    In Python: `trainability.claims.claim_tests()["name"]()`.
    """
    from .claims import claim_tests
    from .report import interval_text

    tests = claim_tests()
    if not name:
        listed = [{"name": test.name, "paper": test.paper, "text": test.text} for test in tests.values()]
        print(
            json.dumps(listed)
            if as_json
            else "\n".join("{name}: {text} ({paper})".format(**c) for c in listed)
        )
        return
    if name not in tests:
        raise ValueError(f"claim {name!r} is unknown; `trainability claim` lists those there are")
    found = tests[name]()
    text = (
        f"{found.verdict}: {found.text} ({found.paper})\n"
        f"measured: {found.measured}\n95 % interval: {interval_text(found.interval)}"
    )
    print(json.dumps(found.as_dict()) if as_json else text)
