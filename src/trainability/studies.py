"""Theory against experiment: what a study is, and which studies there are."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from .claims import Claim

SIZES = ("quick", "standard", "full")


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """A question put to theory and to training, and the answer.

    Attributes
    ----------
    name : str
        Its key in `STUDIES`.
    title, question : str
        One line each.
    answer : str
        The answer first, in a few sentences with numbers and intervals; Markdown.
    runs : dict of str to Dataset
        Prediction and observation on the same axes, one Dataset for each plane; `attrs["title"]` says what it is.
        Written to disk as they are: variables of numbers or strings, attrs that JSON can hold.
    tables : dict of str to DataFrame
        Caption to table; cells are shown as they are, so numbers come rounded or as text with their interval.
    claims : tuple of Claim
    settings : dict
        What was fixed before the comparison: size, seeds, steps, convergence rule, thresholds; JSON.
    notes : str
        What disagrees and why, limits, power; Markdown.
    """

    name: str
    title: str
    question: str
    answer: str
    runs: dict[str, xr.Dataset]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    notes: str = ""

    def __repr__(self) -> str:
        return f"{self.title}\n{self.answer}"


class _Studies(Mapping[str, Callable[..., Study]]):
    """Study functions by name; a module is imported when its function is asked for."""

    def __init__(self, places: dict[str, str]):
        self._places = places

    def __getitem__(self, name: str) -> Callable[..., Study]:
        if name not in self._places:
            raise ValueError(f"study {name!r} is unknown; there are {', '.join(self._places)}")
        module, function = self._places[name].split(":")
        return getattr(import_module(f".{module}", __package__), function)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


# Each is called as f(*, size="quick", stores=None, workers=1, progress=False) and continues from its stores;
# `plot_studies.DRAWINGS` has the function of the same name that draws it.
STUDIES: Mapping[str, Callable[..., Study]] = _Studies(
    {
        "product-map": "study_product_map:product_map_study",
        "exponents": "study_exponents:exponents_study",
        "sharpness": "study_sharpness:sharpness_study",
        "adam": "study_adam:adam_study",
    }
)


def store_of(stores: str | Path | None, name: str) -> Path | None:
    """Store of the map of this name in the folder of a study; None, in memory, without a folder."""
    return Path(stores) / f"{name}.zarr" if stores else None


def check_size(size: str) -> None:
    """Raise ValueError unless `size` is one of `SIZES`."""
    if size not in SIZES:
        raise ValueError(f"size={size!r} is none of {', '.join(SIZES)}; choose one of them")
