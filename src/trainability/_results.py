"""Finished studies and claims on disk, each found again while the package and the settings are those that made it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from ._store import replace_file
from .claims import Claim
from .studies import Study

# Libraries that compute the numbers of the studies; another version may round them otherwise.
LIBRARIES = ("numpy", "scipy", "numba", "torch")


def digest(*settings: str) -> str:
    """Fingerprint of the settings, the package's own sources and data, and the libraries that compute."""
    return hashlib.sha256("\0".join([_package(), *settings]).encode()).hexdigest()


@cache
def _package() -> str:
    """Of the files and not of the commit: a change that is not committed yet is a change."""
    found = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(p for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    found.update("".join(version(name) for name in LIBRARIES).encode())
    return found.hexdigest()


def study_from(folder: Path, stamp: str, make: Callable[[], Study]) -> Study:
    """Return the study kept in `folder` under this stamp, or make it and keep it."""
    kept = _read(folder / "study.json", stamp)
    if kept is None:
        study = make()
        _keep_study(study, folder, stamp)
        return study
    runs = {
        name: xr.open_zarr(folder / f"{name}.zarr", consolidated=False).load() for name in kept.pop("runs")
    }
    tables = {caption: pd.DataFrame(**table) for caption, table in kept.pop("tables").items()}
    claims = tuple(Claim(**values) for values in kept.pop("claims"))
    return Study(**kept, runs=runs, tables=tables, claims=claims)


def _keep_study(study: Study, folder: Path, stamp: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, runs in study.runs.items():
        # zarr's format has no text of fixed length
        texts = {key: {"dtype": object} for key, values in runs.variables.items() if values.dtype.kind == "U"}
        runs.drop_encoding().to_zarr(
            folder / f"{name}.zarr", mode="w", zarr_format=3, consolidated=False, encoding=texts
        )
    values = {name: getattr(study, name) for name in ("name", "title", "question", "answer", "settings")} | {
        "notes": study.notes,
        "runs": list(study.runs),
        "tables": {
            caption: table.to_dict(orient="split", index=False) for caption, table in study.tables.items()
        },
        "claims": [claim.as_dict() for claim in study.claims],
    }
    _write(folder / "study.json", stamp, values)  # last: without it the rest is not there


def claim_from(file: Path, stamp: str, make: Callable[[], Claim]) -> Claim:
    """Return the claim kept in `file` under this stamp, or measure it and keep it."""
    kept = _read(file, stamp)
    if kept is not None:
        return Claim(**kept)
    claim = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    _write(file, stamp, claim.as_dict())
    return claim


def _read(file: Path, stamp: str) -> dict[str, Any] | None:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return values["result"] if values["digest"] == stamp else None


def _write(file: Path, stamp: str, result: dict[str, Any]) -> None:
    replace_file(file, json.dumps({"digest": stamp, "result": result}, indent=1, ensure_ascii=False).encode())
